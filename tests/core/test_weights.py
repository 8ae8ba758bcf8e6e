"""A saved network comes back bit for bit, and only into the network it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ws_learner.core.errors import UserError
from ws_learner.core.weights import load_into, load_state, read_metadata, save_model


def _net(width: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten())


def test_round_trip_keeps_every_bit_and_dtype(tmp_path: Path):
    torch.manual_seed(0)
    state = {
        "view": torch.randn(4, 6).t(),
        "half": torch.randn(3).to(torch.bfloat16),
        "count": torch.tensor(7),
        "odd": torch.tensor([float("nan"), -0.0, 1e-45]),
        "empty": torch.empty(0, 3),
    }
    path = tmp_path / "model.safetensors"
    save_model(path, state, {"command": 'run "it" äöü', "seed": "0"})
    back = load_state(path)
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert torch.equal(
            back[name].contiguous().flatten().view(torch.uint8),
            tensor.contiguous().flatten().view(torch.uint8),
        )
    assert read_metadata(path) == {"command": 'run "it" äöü', "seed": "0"}


def test_tied_tensors_are_written_under_both_names(tmp_path: Path):
    shared = torch.arange(6.0)
    save_model(tmp_path / "m.safetensors", {"a": shared, "b": shared, "c": shared[2:4]}, {})
    back = load_state(tmp_path / "m.safetensors")
    assert torch.equal(back["a"], shared)
    assert torch.equal(back["b"], shared)
    assert back["c"].tolist() == [2.0, 3.0]


def test_same_tensors_and_metadata_give_the_same_bytes(tmp_path: Path):
    path, found = tmp_path / "m.safetensors", set()
    for names in ("qwertyuiop", "poiuytrewq") * 3:
        save_model(path, {"b": torch.ones(3), "a": torch.zeros(2, 2)}, {k: k + k for k in names})
        found.add(path.read_bytes())
    assert len(found) == 1


def test_loads_into_its_own_network(tmp_path: Path):
    torch.manual_seed(1)
    saved, other = _net(), _net()
    save_model(tmp_path / "m.safetensors", saved.state_dict(), {})
    load_into(other, tmp_path / "m.safetensors")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_another_networks_file_is_named_and_changes_nothing(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    save_model(path, {**_net(width=6).state_dict(), "head.weight": torch.ones(2)}, {})
    model = nn.Sequential(*_net(), nn.Linear(4, 2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_into(model, path)
    message = str(caught.value)
    assert "\n" not in message
    for part in [
        str(path),
        "missing 3.weight, 3.bias;",
        "unexpected head.weight;",
        "0.weight 6x3x3x3 instead of 5x3x3x3",
        "and 3 more",
    ]:
        assert part in message
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04" + b"\0" * 64, b"\x10" + b"\0" * 40])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    for read in (load_state, read_metadata, lambda p: load_into(_net(), p)):
        with pytest.raises(UserError, match="not a valid safetensors file") as caught:
            read(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path: Path):
    path = tmp_path / "m.safetensors"
    save_model(path, _net().state_dict(), {"a": "b"})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="not a valid safetensors file"):
        load_state(path)


def test_missing_file_and_folder_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        load_state(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="cannot read it"):
        load_state(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "m.safetensors"
    save_model(path, {"a": torch.ones(2)}, {})
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with open("/dev/full", "wb") as device:
            return device.write(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"cannot write .*m\.safetensors.*No space left"):
        save_model(path, {"a": torch.zeros(2)}, {})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]
