"""Encoder layers that run natively: found by structure, the same outputs, and left alone else."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.compiled_nets import let_sparse_win
from tests.support.encoders import (
    Block,
    Causal,
    Eager,
    Encoder,
    PreNorm,
    Scaled,
    WordMask,
    Wrapped,
)
from tests.support.sparse_layers import pruned
from ws_learner.deploy.runtime import (
    compile_sparse,
    fused_encoder,
    load_sparse,
    read_wsr,
    write_wsr,
)
from ws_learner.deploy.runtime.autotune import TimedTrial
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.encoder_program import EncoderProgram
from ws_learner.deploy.runtime.compiled import CompiledModel
from ws_learner.deploy.runtime.quantisation import InputScale, quantise_weight

if not usable_isas():
    pytest.skip("no generated kernels here", allow_module_level=True)

BOTH = ["blocks.0", "blocks.1"]


@pytest.fixture(autouse=True)
def native_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock decides what is tested."""
    let_sparse_win(monkeypatch)

    def fused(runs: dict[str, object], base: str, **_: object) -> TimedTrial:
        return TimedTrial(winner="fused", speedup=2.0, seconds=dict.fromkeys(runs, 1.0))

    monkeypatch.setattr(fused_encoder, "fastest", fused)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Inputs that native code was given."""
    seen: list[Tensor] = []
    own = EncoderProgram.__call__

    def noted(self: EncoderProgram, x: Tensor, mask: Tensor | None, **words: Any) -> Tensor:
        seen.append(x)
        return own(self, x, mask, **words)

    monkeypatch.setattr(EncoderProgram, "__call__", noted)
    return seen


def net(kind: type[Block], pattern: str = "4x1") -> nn.Module:
    torch.manual_seed(0)
    return pruned(Encoder(kind), pattern, 0.6)


def sentences(batch: int, length: int, *, padding: bool = False) -> Tensor:
    draw = torch.Generator().manual_seed(batch * length)
    words = torch.randint(1, 50, (batch, length), generator=draw)
    if padding:
        for row in range(batch):
            words[row, length - 1 - row % (length - 1) :] = 0
    return words


def same(fast: nn.Module, model: nn.Module, words: Tensor) -> None:
    with torch.no_grad():
        wanted = model(words)
    assert torch.allclose(fast(words), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", [Block, WordMask, Wrapped])
@pytest.mark.parametrize("padding", [False, True], ids=["bare example", "padded example"])
def test_any_batch_length_and_padding(
    kind: type[Block], padding: bool, calls: list[Tensor]
) -> None:
    model = net(kind)
    fast = compile_sparse(model, sentences(2, 9, padding=padding))
    assert fast.fused == BOTH
    for batch, length, padded in ((1, 32, False), (3, 7, False), (3, 7, True), (2, 70, True)):
        calls.clear()
        same(fast, model, sentences(batch, length, padding=padded))
        assert [tuple(x.shape) for x in calls] == [(batch, length, 32)] * 2
    same(fast, model, torch.zeros(0, 5).long())


@pytest.mark.parametrize("kind", [Eager, Causal, Scaled, PreNorm])
def test_what_is_no_such_layer_runs_as_it_did(kind: type[Block], calls: list[Tensor]) -> None:
    model = net(kind)
    fast = compile_sparse(model, sentences(2, 9))
    assert fast.fused == []
    same(fast, model, sentences(3, 8))
    assert not calls


def test_calls_unlike_the_known_one_run_part_by_part(calls: list[Tensor]) -> None:
    model = net(Block)
    fast = compile_sparse(model, sentences(2, 9))
    block: Any = fast.model.blocks[0]  # type: ignore[union-attr, index]
    own: Any = model.blocks[0]  # type: ignore[union-attr, index]
    x, per_head = torch.randn(2, 9, 32), torch.rand(2, 2, 9, 9) < 0.8
    calls.clear()
    with torch.no_grad():
        for words in ({"mask": per_head}, {"extra": 3}, {"mask": torch.randn(9, 9)}):
            assert torch.allclose(block(x, **words), own(x, **words), atol=1e-5)
        assert not calls
        assert torch.allclose(block(x, None), own(x, None), atol=1e-5)
        assert len(calls) == 1
        apart = x.transpose(0, 1).contiguous().transpose(0, 1)
        assert torch.allclose(block(apart, None), own(x, None), atol=1e-5)


def test_hooks_inside_go_on_seeing_and_changing(calls: list[Tensor]) -> None:
    model = net(Block)
    fast = compile_sparse(model, sentences(2, 9))
    for part in (fast.model, model):
        part.blocks[1].up.register_forward_hook(lambda m, x, y: y * 2)  # type: ignore[union-attr, index]
    calls.clear()
    same(fast, model, sentences(2, 9))
    assert len(calls) == 1


def test_parts_that_are_changed_later_are_run(calls: list[Tensor]) -> None:
    model = net(Block)
    fast = compile_sparse(model, sentences(2, 9))
    for part in (fast.model, model):
        part.blocks[0].up = nn.Identity()  # type: ignore[union-attr, index]
        part.blocks[0].down = nn.Identity()  # type: ignore[union-attr, index]
    same(fast, model, sentences(2, 9))


def test_a_file_fuses_them_again_at_the_first_call(tmp_path: Path, calls: list[Tensor]) -> None:
    model = net(Block)
    fast = compile_sparse(model, sentences(2, 9, padding=True))
    fast.save(tmp_path / "m.wsr")
    again = load_sparse(tmp_path / "m.wsr", net(Block))
    assert again.fused == BOTH
    twin = copy.deepcopy(again)
    for own in (again, twin):
        calls.clear()
        words = sentences(3, 8, padding=True)
        assert torch.equal(own(words), fast(words))
        assert len(calls) == 4  # of both networks
    tensors, facts = read_wsr(tmp_path / "m.wsr")
    del facts["fused"]  # as earlier versions wrote it
    write_wsr(tmp_path / "old.wsr", tensors, metadata=facts)
    old = load_sparse(tmp_path / "old.wsr", net(Block))
    assert old.fused == []
    same(old, model, sentences(3, 8, padding=True))


def test_the_first_call_in_two_threads(tmp_path: Path, calls: list[Tensor]) -> None:
    model = net(Block)
    compile_sparse(model, sentences(2, 9)).save(tmp_path / "m.wsr")
    again, found = load_sparse(tmp_path / "m.wsr", net(Block)), []
    jobs = [
        threading.Thread(target=lambda n=n: found.append((n, again(sentences(2, n)))))  # type: ignore[misc]
        for n in (5, 9, 12)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    calls.clear()
    for length, got in found:
        with torch.no_grad():
            assert torch.allclose(got, model(sentences(2, length)), atol=1e-5)
    same(again, model, sentences(2, 9))
    assert len(calls) == 2


def test_a_copy_runs_natively(calls: list[Tensor]) -> None:
    model = net(Block)
    fast = copy.deepcopy(compile_sparse(model, sentences(2, 9)))
    calls.clear()
    same(fast, model, sentences(3, 8, padding=True))
    assert len(calls) == 2


class Rounded(nn.Module):
    """A linear layer with its weight and input as bytes, exactly."""

    def __init__(self, layer: nn.Linear, source: InputScale) -> None:
        super().__init__()
        weight, scales = quantise_weight(layer.weight.detach().numpy())
        self.whole = torch.from_numpy(weight * scales[:, None].astype(np.float64))
        self.bias, self.source = layer.bias.detach(), source

    def forward(self, x: Tensor) -> Tensor:
        bytes_ = torch.from_numpy(self.source.quantise(x.detach().numpy())).double()
        return (
            ((bytes_ - self.source.zero) * self.source.scale) @ self.whole.T + self.bias
        ).float()


@pytest.mark.long
@pytest.mark.parametrize("pattern", ["4x4", "16x4"])
def test_bytes_are_those_of_rounded_layers(pattern: str, calls: list[Tensor]) -> None:
    model, data = net(Block, pattern), [sentences(4, 12, padding=True)]
    fast = compile_sparse(model, data[0], dtype="int8", calibration=data)
    assert fast.fused == BOTH
    assert fast.report()["kernel"].str.startswith("int8").all()
    wanted = copy.deepcopy(model)
    for name, own in fast.datas.items():
        parent, _, attribute = name.rpartition(".")
        assert own.source is not None
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        setattr(wanted.get_submodule(parent), attribute, Rounded(layer, own.source))
    words = sentences(3, 9, padding=True)
    calls.clear()
    with torch.no_grad():
        exact, rounded = model(words), wanted(words)
    got = fast(words)
    assert len(calls) == 2
    # A sum next to the middle of two bytes may be rounded the other way: a few in a thousand.
    assert float((got - rounded).norm() / rounded.norm()) < 2e-3
    assert float((got - exact).norm() / exact.norm()) < 0.03


@pytest.mark.long
def test_hugging_faces_bert(calls: list[Tensor]) -> None:
    pytest.importorskip("transformers")
    from experiments.models.sentence_bert import build_classifier

    torch.manual_seed(0)
    model = pruned(build_classifier((2, 32, 2, 64), 3), "4x1", 0.6)
    words = torch.randint(1000, 30522, (3, 12), generator=torch.Generator().manual_seed(0))
    fast = compile_sparse(model, words[:1])
    assert fast.fused == ["bert.encoder.layer.0", "bert.encoder.layer.1"]
    words[0, 5:], words[1, 9:] = 0, 0  # padding
    calls.clear()
    same(fast, model, words)
    assert len(calls) == 2
    assert isinstance(fast, CompiledModel)
