"""Networks as files: opened as they were, and refused if they do not follow the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("llvmlite")
pytest.importorskip("transformers")

from tests.support.decode_llama import PROMPT, Words, gpt2, llama
from ws_learner.core import UserError
from ws_learner.deploy import compile_sparse_lm, load_sparse_lm, read_wsr, write_wsr


@pytest.mark.parametrize("dtype", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("kind", [llama, gpt2])
def test_a_file_gives_the_same_tokens(dtype: str, kind: Any, tmp_path: Path) -> None:
    fast = compile_sparse_lm(kind(), Words(20), dtype=dtype)
    fast.save(tmp_path / "a.wsr")
    other = load_sparse_lm(tmp_path / "a.wsr")
    assert other.generate(PROMPT) == fast.generate(PROMPT)
    assert other.encode("C A B") == [2, 0, 1]
    assert other.decode([2, 0]) == fast.decode([2, 0])


def test_a_tokenizer_of_another_network_is_refused() -> None:
    with pytest.raises(UserError, match="tokenizer has 300 tokens and the network 250"):
        compile_sparse_lm(llama(), Words(300))


def changed(path: Path, what: str) -> None:  # noqa: C901  # a table of forgeries
    """Forge a file; the checksum fits."""
    tensors, metadata = read_wsr(path)
    matrix = metadata["matrices"]["0.o"]
    if what == "short":
        tensors["stream 0.o"] = tensors["stream 0.o"][:-1]
    elif what == "masks":
        tensors["stream 0.o"][48] = 255 - tensors["stream 0.o"][48]
        tensors["stream 0.o"][49] = 255
    elif what == "rows":
        matrix["outputs"] += 4
    elif what == "group":
        matrix["group"] = 16
    elif what == "heads":
        metadata["sizes"]["heads"] = 5
    elif what == "epsilon":
        metadata["sizes"]["epsilon"] = float("nan")
    elif what == "blocks":
        metadata["sizes"]["blocks"] = 3
    elif what == "norm":
        tensors["norm last"] = torch.ones(3)
    elif what == "dtype":
        metadata["dtype"] = "fp32"
    elif what == "no sizes":
        metadata["sizes"] = 7
    elif what == "frequencies":
        tensors["frequencies"] = torch.ones(100)
    elif what == "architecture":
        metadata["architecture"] = "gpt2"
    elif what == "positions":
        tensors["positions"] = torch.ones(128 * 48)
    elif what == "missing":
        del tensors["stream 1.down"]
    elif what == "tokenizer":
        metadata["tokenizer"] = "{}"
    write_wsr(path, tensors, metadata=metadata)


@pytest.mark.parametrize(
    "what",
    [
        *("short", "masks", "rows", "group", "heads", "epsilon", "blocks", "norm", "dtype"),
        *("no sizes", "frequencies", "missing", "tokenizer", "architecture"),
        "positions",
    ],
)
def test_forged_files_are_one_error(what: str, tmp_path: Path, network: Any) -> None:
    path = tmp_path / "a.wsr"
    network.save(path)
    changed(path, what)
    with pytest.raises(UserError):
        load_sparse_lm(path)


@pytest.fixture(scope="module")
def network() -> Any:
    return compile_sparse_lm(llama())


def test_another_wsr_file_is_refused(tmp_path: Path) -> None:
    write_wsr(tmp_path / "b.wsr", {"a": torch.ones(3)})
    with pytest.raises(UserError, match="no network for decode"):
        load_sparse_lm(tmp_path / "b.wsr")
