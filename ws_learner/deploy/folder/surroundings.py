"""What a measurement depends on: libraries and machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ws_learner.core import choose_device, describe_machine
from ws_learner.deploy.runtime.codegen.cpu import usable_isas

__all__ = ["machine_facts", "versions"]

_LIBRARIES = (
    *("weight-sparse-learner", "torch", "numpy", "safetensors", "llvmlite"),
    *("onnx", "onnxruntime", "openvino"),
)
_FEATURES = ("avx", "fma", "amx", "sse4", "asimd", "sve")


def versions() -> dict[str, str]:
    """Versions of the libraries that are installed, and Python's."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine_facts() -> dict[str, object]:
    """Processor, its features, its number of cores, and the system."""
    return {
        "cpu": describe_machine(choose_device("fp32", "cpu"))["cpu"],
        "features": _features(),
        "kernels": [isa.name for isa in usable_isas()],
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.machine()}",
    }


def _features() -> list[str]:
    """The processor's vector instructions; empty where the system does not list them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return sorted({word for word in flags.split() if word.startswith(_FEATURES)})
