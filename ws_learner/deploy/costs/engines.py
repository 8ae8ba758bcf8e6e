"""Engines that run a finished network on this machine's processor."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ws_learner.core import UserError, suggest

__all__ = ["ENGINES", "check_engine", "engine_versions", "installed_engines"]

_EXPORT = ("onnx", "onnxscript")
_NEEDS = {
    "wsr": (),
    "torch": (),
    "onnxruntime": (*_EXPORT, "onnxruntime"),
    "openvino": (*_EXPORT, "openvino"),
}
ENGINES = tuple(_NEEDS)
"""`wsr` is ours, see `compile_sparse`."""

_REMEDIES = {
    "onnxruntime": "pip install -e '.[onnx]'",
    "openvino": "pip install openvino onnx onnxscript",
}
_COUNTED = {
    "wsr": ("torch", "llvmlite"),
    "torch": ("torch",),
    "onnxruntime": ("onnxruntime", "torch"),
    "openvino": ("openvino", "torch"),
}


def check_engine(engine: str) -> None:
    """Check that there is such an engine, and that it is installed.

    Raises:
        UserError: Not; the line names what to install.
    """
    if engine not in _NEEDS:
        raise UserError(f"`engine` {engine}: {suggest(str(engine), ENGINES)}")
    missing = _missing(engine)
    if missing:
        raise UserError(
            f"`engine` {engine}: {' and '.join(missing)} cannot be imported; install it with "
            f"{_REMEDIES[engine]}"
        )


def installed_engines() -> tuple[str, ...]:
    """Those that can run here."""
    return tuple(engine for engine in ENGINES if not _missing(engine))


def engine_versions(engine: str) -> dict[str, str]:
    """Versions of the libraries that an engine's speed depends on, by name.

    Our own kernels count by their source, which may change within a version.
    """
    found = {}
    for package in _COUNTED[engine]:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    if engine == "wsr":
        found["kernels"] = _kernel_digest()
    return found


def _missing(engine: str) -> Sequence[str]:
    return [name for name in _NEEDS[engine] if importlib.util.find_spec(name) is None]


@functools.cache
def _kernel_digest() -> str:
    digest = hashlib.sha256()
    for folder in ("runtime", "costs"):  # the kernels, and how they are timed
        for path in sorted((Path(__file__).parents[1] / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
