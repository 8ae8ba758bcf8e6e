"""Damage is noticed: every flipped bit and every cut of what a run writes."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from ws_learner.core import (
    RunDir,
    UserError,
    load_state_file,
    policy_path,
    save_model,
    save_state_file,
)
from ws_learner.core.checksums import reading, sealed, sealed_zip, unsealed

STATE = {"model": {"w": torch.arange(4.0)}, "step": 3}


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


@pytest.mark.long
def test_every_flipped_bit_of_a_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    save_state_file(path, STATE)
    whole = path.read_bytes()
    every = 8 * len(whole)
    for bit in [*range(0, every, 101), *range(every - 8 * 93, every)]:  # the end bit by bit
        path.write_bytes(flipped(whole, bit))
        with pytest.raises(UserError, match=r"s\.pt: damaged .*delete it and run the same command"):
            load_state_file(path)
    path.write_bytes(whole)
    assert torch.equal(load_state_file(path)["model"]["w"], STATE["model"]["w"])  # type: ignore[index]


def test_every_cut_of_a_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    save_state_file(path, STATE)
    whole = path.read_bytes()
    for size in [*range(0, len(whole) - 94, 97), *range(len(whole) - 94, len(whole))]:
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="damaged"):
            load_state_file(path)


def test_a_state_from_before_there_were_checksums_opens(tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    torch.save(STATE, path)
    assert load_state_file(path)["step"] == 3


def test_a_state_stays_a_plain_zip_file(tmp_path: Path) -> None:
    save_state_file(tmp_path / "s.pt", STATE)
    with zipfile.ZipFile(tmp_path / "s.pt") as file:
        assert file.testzip() is None
        assert file.comment.startswith(b"sha256:")
    assert torch.load(tmp_path / "s.pt", weights_only=True)["step"] == 3
    with pytest.raises(ValueError, match="no zip file"):
        sealed_zip(b"PK")


def test_a_sealed_object_is_refused_when_any_entry_changes() -> None:
    value = {"zeros": [1, 2], "name": "x", "seconds": 0.1, "none": None}
    text = json.dumps(sealed(value))
    assert unsealed(json.loads(text), "a.json", "go") == value
    assert unsealed(value, "a.json", "go") == value  # from before there were checksums
    changes = [("1", "3"), ("x", "y"), ("0.1", "0.2"), ("null", "0"), ("zeros", "zerox")]
    for old, new in [*changes, ("sha256", "sha257"), ("all other", "all others")]:
        with pytest.raises(UserError, match=r"a\.json: damaged or changed .*; go"):
            unsealed(json.loads(text.replace(old, new, 1)), "a.json", "go")


@pytest.fixture
def finished(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    save_model(run.model, {"w": torch.arange(8.0)}, {"format": "pt"})
    run.ratios.write_text("layer,weights\nw,8\n")
    run.finish({"learner": "weight-sparse", "sparse_accuracy": 0.5})
    return run


def test_a_finished_run_counts_its_results(finished: RunDir) -> None:
    assert finished.read_summary() == {"learner": "weight-sparse", "sparse_accuracy": 0.5}
    for path in (finished.model, finished.ratios, finished.summary):
        whole = path.read_bytes()
        for bit in range(0, 8 * len(whole), 29):
            path.write_bytes(flipped(whole, bit))
            with pytest.raises(UserError) as caught:
                finished.read_summary()
            assert str(caught.value).startswith(f"{path}: ")
            assert "from a copy" in str(caught.value)
        path.write_bytes(whole)
    finished.read_summary()


@pytest.mark.parametrize("name", ["ratios.csv", "model.safetensors"])
def test_a_missing_result_is_said(finished: RunDir, name: str) -> None:
    assert (finished.path / name).is_file()
    (finished.path / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: is missing from a finished run"):
        finished.read_summary()


def test_a_policy_of_a_damaged_run_is_refused(finished: RunDir) -> None:
    assert policy_path(finished.path) == finished.policy
    finished.ratios.write_text("layer,weights\nw,9\n")
    with pytest.raises(UserError, match=r"ratios\.csv: damaged"):
        policy_path(finished.path)


def test_a_finished_run_from_before_opens(tmp_path: Path) -> None:
    before = Path(__file__).parents[1] / "support" / "before_the_move" / "finished"
    shutil.copytree(before, tmp_path / "run")
    assert RunDir(tmp_path / "run").read_summary()["learner"] == "weight-sparse"


def test_what_reading_raises_is_one_line() -> None:
    for error in (KeyError("a"), ValueError("x\ny" * 999), RecursionError(), OverflowError()):
        with pytest.raises(UserError) as caught, reading("f.pt", "delete it"):
            raise error
        text = str(caught.value)
        assert text.startswith("f.pt: damaged (")
        assert text.endswith("; delete it")
        assert "\n" not in text
        assert len(text) < 200
    with pytest.raises(KeyboardInterrupt), reading("f.pt", "delete it"):
        raise KeyboardInterrupt


def test_torch_reads_the_flipped_bit_that_the_checksum_finds(tmp_path: Path) -> None:
    """Why there is a checksum: torch itself opens such a file."""
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    data = buffer.getvalue()
    place = data.index(torch.arange(4.0).numpy().tobytes())
    changed = torch.load(io.BytesIO(flipped(data, 8 * place + 3)), weights_only=True)
    assert not torch.equal(changed["model"]["w"], STATE["model"]["w"])  # type: ignore[index]
