"""The command `ws-learner generate`."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("llvmlite")
transformers = pytest.importorskip("transformers")

from experiments.cli.console import main  # noqa: E402
from tests.support.decode_llama import Words, llama  # noqa: E402
from ws_learner.deploy import compile_sparse_lm  # noqa: E402


def test_a_runs_text_is_that_of_its_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, words = llama(vocab_size=20), Words(20)
    model.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path / "network")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words.backend_tokenizer)
    tokenizer.save_pretrained(tmp_path / "network")
    fast = compile_sparse_lm(model, words)
    wanted = fast.decode(fast.generate(fast.encode("C A B"), max_new_tokens=9))
    file = tmp_path / "a.wsr"
    options = ["--prompt", "C A B", "--max_new_tokens", "9"]
    assert main(["generate", str(tmp_path), *options, "--save", str(file)]) == 0
    assert wanted in capsys.readouterr().out
    assert main(["generate", str(file), *options, "--stream"]) == 0
    said = capsys.readouterr()
    assert wanted in said.out
    assert "9 tokens, " in said.out + said.err


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.wsr").write_bytes(b"WSR-0001")
    assert main(["generate", str(tmp_path / "a.wsr"), "--prompt", "a"]) == 2
    assert main(["generate", str(tmp_path), "--prompt", "a", "--temperature", "-1"]) == 2
    said = capsys.readouterr()
    assert "temperature=-1.0" in said.out + said.err
