"""Files that anyone could write: sizes, kernels and attributes that no save of ours makes."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.models.resnet_cifar import resnet_cifar
from tests.support.dead_channels import with_random_norms, zero_channels
from ws_learner.core import UserError, save_model, write_json
from ws_learner.core.weights import load_state, read_metadata
from ws_learner.deploy import (
    compile_sparse,
    load_cropped,
    load_shrunk,
    load_sparse,
    save_shrunk,
    shrink,
)
from ws_learner.deploy.runtime.wsr_file import read_wsr, write_wsr
from ws_learner.deploy.shrinking import shrunk_file

HUGE = 1 << 39
"""Values of a tensor of 2 TiB."""


def wsr(path: Path, tensors: Any, metadata: Any = None, data: bytes = b"") -> None:
    """A file with a right checksum around any header."""
    header = json.dumps({"tensors": tensors, "metadata": metadata or {}}).encode()
    body = b"WSR-0001" + len(header).to_bytes(8, "little") + header + data
    path.write_bytes(body + hashlib.sha256(body).digest())


PLAIN = {"shape": [2, 4], "dtype": "float32", "at": 0, "size": 32, "coding": {}}
CODED = {"shape": [4, 4], "values": "fp32", "block": [1, 1], "low": 1, "live": 1, "bits": 1}
CODED |= {"parts": [1, 1]}
SPARSE = {"shape": [4, 4], "dtype": "float32", "at": 0, "size": 6, "coding": CODED}
BAD_PLAIN: list[dict[str, Any]] = [
    {"shape": [HUGE]},
    {"shape": [HUGE], "size": 4 * HUGE},
    {"shape": [0, HUGE * HUGE]},
    {"shape": [-2, -4]},
    {"shape": [True, 8]},
    {"shape": "24"},
    {"shape": [1] * 80},
    {"dtype": "object"},
    {"dtype": None},
    {"at": -8},
    {"at": 8},
    {"at": 1e9},
    {"size": 31},
    {"size": -1},
    {"coding": 3},
    {"coding": {"shape": [2, 4]}},
]
BAD_CODED: list[dict[str, Any]] = [
    {"shape": [1 << 20, 1 << 19], "live": 0, "bits": 0, "low": 0},
    {"shape": [4, 5]},
    {"values": "fp99"},
    {"values": "int8"},
    {"block": [3, 3]},
    {"block": 4},
    {"low": 63},
    {"low": -1},
    {"live": 17},
    {"live": -1},
    {"bits": 99},
    {"parts": [9, 9]},
    {"parts": [-1, 3]},
    {"parts": 2},
]


@pytest.mark.parametrize("change", BAD_PLAIN, ids=repr)
def test_a_plain_tensor_that_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    wsr(tmp_path / "f.wsr", {"w": PLAIN}, data=bytes(32))
    assert read_wsr(tmp_path / "f.wsr")[0]["w"].shape == (2, 4)
    wsr(tmp_path / "f.wsr", {"w": PLAIN | change}, data=bytes(32))
    with pytest.raises(UserError, match=r"f\.wsr: does not follow the format"):
        read_wsr(tmp_path / "f.wsr")


@pytest.mark.parametrize("change", BAD_CODED, ids=repr)
def test_a_coded_tensor_that_is_none(tmp_path: Path, change: dict[str, Any]) -> None:
    data = bytes([0, 0b1000_0000]) + b"\0\0\x80\x3f"  # a gap of 0 * 2 + 1, then 1.0
    wsr(tmp_path / "f.wsr", {"w": SPARSE}, data=data)
    wanted = torch.zeros(16)
    wanted[1] = 1
    assert torch.equal(read_wsr(tmp_path / "f.wsr")[0]["w"].flatten(), wanted)
    entry = SPARSE | {"coding": CODED | change}
    entry["shape"] = change.get("shape", [4, 4])
    if change.get("shape") == [4, 5]:
        entry["shape"] = [4, 4]
    wsr(tmp_path / "f.wsr", {"w": entry}, data=data)
    with pytest.raises(UserError, match=r"f\.wsr: does not follow the format"):
        read_wsr(tmp_path / "f.wsr")


@pytest.mark.parametrize("header", [[], 3, {"tensors": []}, {"tensors": {"w": 3}}])
def test_a_header_that_is_none(tmp_path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    for length in (len(text), 1 << 40):
        body = b"WSR-0001" + length.to_bytes(8, "little") + text
        (tmp_path / "f.wsr").write_bytes(body + hashlib.sha256(body).digest())
        with pytest.raises(UserError, match="does not follow the format"):
            read_wsr(tmp_path / "f.wsr")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wsr") / "m.wsr"
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 5))
    with torch.no_grad():
        model[0].weight[:, 4:] = 0
    compile_sparse(model, torch.randn(4, 24), dtype="int8").save(path)
    return path


def _set(*place: str, value: Any) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    def change(facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        *above, last = place
        for name in above:
            facts = facts[name]
        facts[last] = value

    return change


FORGED = {
    "dtype": _set("dtype", value="fp99"),
    "dense": _set("dense", value=3),
    "wrapped": _set("wrapped", value="no"),
    "bytes": _set("bytes", value=[]),
    "speedup": _set("speedup", value="fast"),
    "sources": _set("sources", value={}),
    "scale": _set("sources", "0", value=[float("inf"), 3]),
    "zero point": _set("sources", "0", value=[0.1, 256]),
    "no list": _set("sources", "0", value=3),
    "choices": _set("choices", value=None),
    "choice": _set("choices", "0", value={}),
    "kernel": _set("choices", "0", "kernel", value=3),
    "shape": _set("choices", "0", "shape", value=[HUGE, 24]),
    "other inputs": _set("choices", "0", "shape", value=[4, 25]),
    "density": _set("choices", "0", "density", value=9),
    "architecture": _set("architecture", value=3),
    "class": _set("architecture", "parts", "0", "class", value="Bilinear"),
    "size": _set("architecture", "parts", "0", "settings", "out_features", value=HUGE),
    "negative size": _set("architecture", "parts", "0", "settings", "in_features", value=-1),
    "argument": _set("architecture", "parts", "0", "settings", "device", value="cuda"),
}


@pytest.mark.parametrize("name", FORGED)
def test_facts_of_a_compiled_network(compiled: Path, tmp_path: Path, name: str) -> None:
    tensors, facts = read_wsr(compiled)
    facts = copy.deepcopy(facts)
    FORGED[name](facts, tensors)
    write_wsr(tmp_path / "f.wsr", tensors, metadata=facts)
    with pytest.raises(UserError, match=r"f\.wsr"):
        load_sparse(tmp_path / "f.wsr")


@pytest.mark.parametrize("isa", ["none", "x87"])
def test_kernels_of_another_kind(compiled: Path, tmp_path: Path, isa: str) -> None:
    tensors, facts = read_wsr(compiled)
    spec = {"isa": isa, "dot": "fma", "rows": 1, "inputs": 1, "group": 1, "vectors": 1}
    facts["choices"]["0"] |= {"spec": spec, "kernel": "fp32 1x1 fma 1x1"}
    write_wsr(tmp_path / "f.wsr", tensors, metadata=facts)
    with pytest.raises(UserError, match="names no kernel of ours"):
        load_sparse(tmp_path / "f.wsr")


def test_a_kernel_of_images_is_no_linear_layers(compiled: Path, tmp_path: Path) -> None:
    tensors, facts = read_wsr(compiled)
    spec = {"isa": "avx2", "dot": "fma", "rows": 1, "inputs": 1, "group": 1, "vectors": 1}
    spec |= {"layout": "channels", "source": "f32", "result": "f32", "activation": "none"}
    facts["choices"]["0"] |= {"spec": spec, "kernel": "fp32 1x1 fma 1x1"}
    write_wsr(tmp_path / "f.wsr", tensors, metadata=facts)
    with pytest.raises(UserError, match="is for another kind of layer"):
        load_sparse(tmp_path / "f.wsr")


def test_scales_that_are_none(compiled: Path, tmp_path: Path) -> None:
    tensors, facts = read_wsr(compiled)
    for scales in (
        torch.ones(3),
        torch.full((16,), float("nan")),
        torch.ones(16, 1),
        torch.ones(()),
    ):
        forged = {**tensors, "0.weight": torch.ones(16, 24).to(torch.int8)}
        forged["0.weight\0scales"] = scales
        write_wsr(tmp_path / "f.wsr", forged, metadata=facts)
        with pytest.raises(UserError, match="scales"):
            load_sparse(tmp_path / "f.wsr")


def _shrunk(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> None:
    """A file with a right digest, whose facts or tensors are changed."""
    state, metadata = load_state(path), read_metadata(path)
    about = json.loads(metadata["shrunk"])
    change(about, state)
    text = json.dumps(about)
    save_model(path, state, {"shrunk": text, "digest": shrunk_file._digest(state, text)})


def _drop(about: dict[str, Any], state: dict[str, Tensor]) -> None:
    del state["fc.weight"]


def _add(about: dict[str, Any], state: dict[str, Tensor]) -> None:
    state["fc.more"] = torch.zeros(3)


def _grow(about: dict[str, Any], state: dict[str, Tensor]) -> None:
    state["fc.bias"] = torch.zeros(99)


def _flatten(about: dict[str, Any], state: dict[str, Tensor]) -> None:
    state["fc.weight"] = state["fc.weight"].flatten()


def _retype(about: dict[str, Any], state: dict[str, Tensor]) -> None:
    state["fc.weight"] = state["fc.weight"].long()


SHRUNK = {
    "another attribute": _set("sizes", "fc", "forward", value=3),
    "a hook": _set("sizes", "fc", "_forward_hooks", value=3),
    "a method": _set("sizes", "", value={"eval": 1}),
    "no number": _set("sizes", "fc", "out_features", value="many"),
    "a truth": _set("sizes", "fc", "out_features", value=True),
    "no size": _set("sizes", "fc", "out_features", value=0),
    "a larger size": _set("sizes", "fc", "out_features", value=10**6),
    "another size than the tensor's": _set("sizes", "conv1", "out_channels", value=1),
    "an unknown module": _set("sizes", "nowhere", value={"out_features": 1}),
    "no sizes": _set("sizes", value=[]),
    "no shapes": _set("original", value={"fc.weight": "wide"}),
    "split": _set("split", value="yes"),
    "a missing tensor": _drop,
    "one too many": _add,
    "a grown tensor": _grow,
    "another number of sides": _flatten,
    "another type": _retype,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shrunk") / "s.safetensors"
    torch.manual_seed(0)
    model = with_random_norms(resnet_cifar(8))
    zero_channels(model, "layer1.0.conv1", slice(0, 7))
    save_shrunk(shrink(model, torch.randn(2, 3, 8, 8)), path)
    assert load_shrunk(resnet_cifar(8), path) is not None
    return path


@pytest.mark.parametrize("name", SHRUNK)
def test_a_shrunk_network_is_left_alone(name: str, small: Path, tmp_path: Path) -> None:
    shutil.copyfile(small, tmp_path / "s.safetensors")
    _shrunk(tmp_path / "s.safetensors", SHRUNK[name])
    fresh = resnet_cifar(8)
    state = {key: value.clone() for key, value in fresh.state_dict().items()}
    modules = {key: dict(vars(module)) for key, module in fresh.named_modules()}
    with pytest.raises(UserError, match=r"s\.safetensors: .*"):
        load_shrunk(fresh, tmp_path / "s.safetensors")
    assert all(torch.equal(state[key], value) for key, value in fresh.state_dict().items())
    assert {key: dict(vars(module)) for key, module in fresh.named_modules()} == modules


@pytest.mark.parametrize("units", [[0, 99], [-1], [1, 1], [1, 0], "many", [0.5]])
def test_units_of_a_cropped_network(units: Any, tmp_path: Path) -> None:
    members = [{"weight": "fc1.weight", "axis": "outputs"}]
    group = {"name": "", "kind": "neurons", "units": 8, "members": members}
    write_json(
        tmp_path / "cropped.json", {"version": 1, "kept": [{"group": group, "units": units}]}
    )
    with pytest.raises(UserError, match="not a side file"):
        load_cropped(tmp_path, nn.Sequential())


@pytest.mark.parametrize("text", ["[]", "3", '{"kept": 3}', '{"kept": [{}]}', "{"])
def test_a_side_file_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "cropped.json").write_text(text)
    with pytest.raises(UserError, match=r"cropped\.json: not"):
        load_cropped(tmp_path, nn.Sequential())


@pytest.mark.long
@pytest.mark.parametrize("name", ["pipeline", "AutoConfig", "logging", "", "nothing"])
def test_a_config_names_networks_only(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    write_json(tmp_path / "cropped.json", {"version": 1, "kept": []})
    write_json(tmp_path / "config.json", {"model_type": "bert", "architectures": [name]})
    with pytest.raises(UserError, match="transformers has no network"):
        load_cropped(tmp_path)


@pytest.mark.long
def test_a_config_of_a_network_far_larger_than_its_weights(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    save_model(tmp_path / "model.safetensors", {"w": torch.zeros(2)}, {})
    write_json(tmp_path / "cropped.json", {"version": 1, "kept": []})
    config = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 1 << 30}
    write_json(tmp_path / "config.json", config)
    with pytest.raises(UserError, match="describes a network of"):
        load_cropped(tmp_path)
