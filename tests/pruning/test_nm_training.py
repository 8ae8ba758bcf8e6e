from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.nm_oracle import Layer, mask_of, soft_value
from ws_learner.core.errors import UserError
from ws_learner.pruning.methods.mdgf import MdgfConfig
from ws_learner.pruning.methods.nm_config import NMConfig
from ws_learner.pruning.methods.sdgf import SdgfConfig
from ws_learner.pruning.methods.shadow_masks import Piece, ShadowMasks
from ws_learner.pruning.methods.srste import SrSteConfig
from ws_learner.pruning.patterns.nm import NM
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.pruning.schedules.nm_phases import Phases
from ws_learner.pruning.sparsifier import Sparsifier

OUT, IN, STEPS, BEGIN, FINE = 5, 16, 24, 4, 18
PHASES = Phases(begin=BEGIN, fine_tune=FINE, total=STEPS)
ONE_OF_FOUR = NM(1, 4)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    return [(torch.randn(6, IN, **options), torch.randn(6, OUT, **options)) for _ in range(STEPS)]


def make(optimizer: str) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layer = nn.Linear(IN, OUT, bias=False, dtype=torch.float64)
    if optimizer == "sgd":
        return layer, torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9)
    return layer, torch.optim.AdamW(layer.parameters(), lr=0.05, weight_decay=0.1)


def attached(config: NMConfig, layer: nn.Module, optimizer: torch.optim.Optimizer) -> Sparsifier:
    sparsifier = Sparsifier(layer, config, ratios={"weight": 0.75}, total_steps=STEPS)
    sparsifier.attach(optimizer)
    return sparsifier


def run(
    layer: nn.Linear,
    optimizer: torch.optim.Optimizer,
    *,
    first: int = 0,
    last: int = STEPS,
    after: Callable[[int], None] = lambda step: None,
) -> None:
    for step, (x, t) in list(enumerate(batches()))[first:last]:
        optimizer.zero_grad()
        ((layer(x) - t).square().sum() / 2).backward()
        optimizer.step()
        after(step + 1)


def sr_ste(oracle: Layer, mask: np.ndarray, grad: np.ndarray, config: Any) -> np.ndarray:
    pruned = 1.0 - mask
    if config.term == "gradient":
        return grad + config.weight * pruned * oracle.weight
    oracle.weight = oracle.weight * (1 - oracle.rate * config.weight * pruned)
    return grad


def pattern_at(config: Any, step: int) -> tuple[int, int]:
    """1:4 in two geometric or three stepwise stages over the sparse phase."""
    if not isinstance(config, SdgfConfig) or step >= FINE:
        return 1, 4
    stages = {"geometric": [(4, 16), (2, 8), (1, 4)], "stepwise": [(3, 4), (2, 4), (1, 4)]}
    return stages[config.shape][(step - BEGIN) * 3 // (FINE - BEGIN)]


CONFIGS: dict[str, NMConfig] = {
    "ste": SrSteConfig(pattern=ONE_OF_FOUR, phases=PHASES, weight=0.0),
    "sr-ste": SrSteConfig(pattern=ONE_OF_FOUR, phases=PHASES, weight=0.3),
    "sr-ste decoupled": SrSteConfig(
        pattern=ONE_OF_FOUR, phases=PHASES, weight=0.3, term="decoupled"
    ),
    "linear chain": MdgfConfig(pattern=ONE_OF_FOUR, phases=PHASES, decay="linear", zero_at=0.5),
    "linear ste": MdgfConfig(
        pattern=ONE_OF_FOUR, phases=PHASES, decay="linear", gradient="ste", beta=0.11
    ),
    "exponential chain": MdgfConfig(pattern=ONE_OF_FOUR, phases=PHASES, zero_at=0.6),
    "exponential ste": MdgfConfig(pattern=ONE_OF_FOUR, phases=PHASES, gradient="ste", beta=0.2),
    "step chain": MdgfConfig(pattern=ONE_OF_FOUR, phases=PHASES, decay="step"),
    "geometric": SdgfConfig(pattern=ONE_OF_FOUR, phases=PHASES, stages=3),
    "stepwise": SdgfConfig(pattern=ONE_OF_FOUR, phases=PHASES, shape="stepwise"),
    "both": SdgfConfig(
        pattern=ONE_OF_FOUR, phases=PHASES, stages=3, decay="linear", gradient="chain"
    ),
}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_step_is_the_oracles(name: str, optimizer: str) -> None:
    config: Any = CONFIGS[name]
    layer, torch_optimizer = make(optimizer)
    oracle = Layer(layer.weight.detach().numpy().copy(), optimizer)
    sparsifier = attached(config, layer, torch_optimizer)
    data = batches()

    def factor_at(step: int) -> tuple[np.ndarray, np.ndarray]:
        if step < BEGIN:
            ones = np.ones_like(oracle.weight)
            return ones, ones
        mask = mask_of(oracle.weight, *pattern_at(config, step))
        soft = 0.0
        if isinstance(config, MdgfConfig) and step < FINE:
            soft = soft_value(
                config.decay,
                step - BEGIN,
                length=FINE - BEGIN,
                zero_at=config.zero_at,
                beta=config.beta,
            )
        return mask, mask + soft * (1 - mask)

    def compare(step: int) -> None:
        x, t = data[step - 1]
        mask, factor = factor_at(step - 1)
        grad = oracle.gradient(factor, x.numpy(), t.numpy())
        if isinstance(config, SrSteConfig):
            grad = sr_ste(oracle, mask, grad, config)
        elif isinstance(config, MdgfConfig) and config.gradient == "chain":
            grad = grad * factor
        oracle.update(grad)
        mask, factor = factor_at(step)
        np.testing.assert_allclose(
            layer.weight.detach().numpy(), oracle.weight * factor, rtol=1e-9, atol=1e-12
        )
        if step >= BEGIN:
            np.testing.assert_array_equal(sparsifier.masks["weight"].numpy(), mask)

    run(layer, torch_optimizer, after=compare)
    sparsifier.finalize()
    assert int((layer.weight == 0).sum()) == OUT * IN * 3 // 4


@pytest.mark.parametrize("name", ["sr-ste", "exponential chain", "geometric", "both"])
@pytest.mark.parametrize("stop", [0, 2, 7, 12, 20])
@pytest.mark.parametrize("mask", ["dynamic", "frozen"])
def test_a_resumed_training_is_an_uninterrupted_one(name: str, stop: int, mask: Any) -> None:
    import dataclasses

    config = dataclasses.replace(CONFIGS[name], fine_tune_mask=mask)
    layer, optimizer = make("adamw")
    whole = attached(config, layer, optimizer)
    run(layer, optimizer)
    whole.finalize()

    first, first_optimizer = make("adamw")
    stopped = attached(config, first, first_optimizer)
    run(first, first_optimizer, last=stop)
    saved = copy.deepcopy((first.state_dict(), first_optimizer.state_dict(), stopped.state_dict()))
    for order in ("attach first", "load first"):
        second, second_optimizer = make("adamw")
        with torch.no_grad():
            second.weight.zero_()
        resumed = Sparsifier(second, config, ratios={"weight": 0.75}, total_steps=STEPS)
        if order == "attach first":
            resumed.attach(second_optimizer)
        second.load_state_dict(saved[0])
        second_optimizer.load_state_dict(copy.deepcopy(saved[1]))
        resumed.load_state_dict(saved[2])
        resumed.attach(second_optimizer)
        run(second, second_optimizer, first=stop)
        resumed.finalize()
        assert torch.equal(second.weight, layer.weight)


def test_a_frozen_mask_stays_and_a_dynamic_one_moves() -> None:
    masks: dict[str, list[torch.Tensor]] = {"dynamic": [], "frozen": []}
    for kind, seen in masks.items():
        config = SrSteConfig(
            pattern=ONE_OF_FOUR,
            phases=PHASES,
            weight=0.0,
            fine_tune_mask=kind,  # type: ignore[arg-type]
        )
        layer, optimizer = make("sgd")
        sparsifier = attached(config, layer, optimizer)
        run(
            layer,
            optimizer,
            after=lambda step, seen=seen, s=sparsifier: seen.append(s.masks["weight"].clone()),
        )
    assert all(torch.equal(masks["frozen"][FINE - 1], mask) for mask in masks["frozen"][FINE - 1 :])
    assert torch.equal(masks["frozen"][FINE - 1], masks["dynamic"][FINE - 1])
    assert any(not torch.equal(masks["dynamic"][FINE], m) for m in masks["dynamic"][FINE + 1 :])


def test_names_classes_and_parameters_stay_while_it_trains() -> None:
    model = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 4))
    parameters = {name: id(p) for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    config = MdgfConfig(pattern=NM(2, 4), dense=0.0)
    ratios = {"0.weight": 0.5, "2.weight": 0.5}
    sparsifier = Sparsifier(model, config, ratios=ratios, total_steps=10)
    sparsifier.attach(optimizer)
    x = torch.randn(3, 16)
    for step in range(10):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        assert [type(module) for module in model] == [nn.Linear, nn.GELU, nn.Linear]
        assert {name: id(p) for name, p in model.named_parameters()} == parameters
        assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
        fresh = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 4))
        fresh.load_state_dict(model.state_dict())
        assert torch.equal(fresh(x), model(x))  # what is saved is what is computed
        assert sparsifier.step == step + 1
    assert torch.equal(copy.deepcopy(sparsifier.finalize())(x), model(x))


def test_gradients_edited_for_clipping_are_not_edited_again() -> None:
    both = []
    for early in (False, True):
        layer, optimizer = make("sgd")
        sparsifier = attached(CONFIGS["linear chain"], layer, optimizer)
        for x, t in batches()[:12]:
            optimizer.zero_grad(set_to_none=False)
            ((layer(x) - t).square().sum() / 2).backward()
            if early:
                sparsifier.mask_gradients()
                sparsifier.mask_gradients()
            optimizer.step()
        both.append(layer.weight.detach().clone())
    assert torch.equal(*both)


@pytest.mark.parametrize("name", ["sr-ste", "linear chain"])
def test_clipping_sees_the_edited_gradient_once(name: str) -> None:
    seen = []
    for calls in (0, 1, 2):
        layer, optimizer = make("sgd")
        sparsifier = attached(CONFIGS[name], layer, optimizer)
        for x, t in batches()[:12]:
            optimizer.zero_grad()
            ((layer(x) - t).square().sum() / 2).backward()
            for _ in range(calls):
                sparsifier.mask_gradients()
            optimizer.step()
        seen.append(layer.weight.detach().clone())
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


def test_a_step_that_is_left_out_leaves_the_masked_network() -> None:
    layer, optimizer = make("sgd")
    sparsifier = attached(CONFIGS["ste"], layer, optimizer)
    run(layer, optimizer, last=10)
    before = layer.weight.detach().clone()
    x, t = batches()[10]
    optimizer.zero_grad()
    (layer(x) - t).square().sum().backward()
    sparsifier.mask_gradients()  # and then a scaler finds an infinity and skips the step
    assert torch.equal(layer.weight, before)
    assert int((before == 0).sum()) == OUT * IN * 3 // 4


def test_a_closure_runs_the_masked_network() -> None:
    plain, optimizer = make("sgd")
    attached(CONFIGS["sr-ste"], plain, optimizer)
    run(plain, optimizer, last=12)
    layer, closing = make("sgd")
    attached(CONFIGS["sr-ste"], layer, closing)
    for x, t in batches()[:12]:

        def closure(x: torch.Tensor = x, t: torch.Tensor = t) -> torch.Tensor:
            closing.zero_grad()
            loss = (layer(x) - t).square().sum() / 2
            loss.backward()
            return loss

        closing.step(closure)
    assert torch.equal(plain.weight, layer.weight)


def test_what_cannot_be_is_refused() -> None:
    layer, optimizer = make("sgd")
    with pytest.raises(UserError, match="LBFGS"):
        attached(CONFIGS["ste"], layer, torch.optim.LBFGS(layer.parameters()))
    sparsifier = attached(CONFIGS["exponential chain"], layer, optimizer)
    run(layer, optimizer, last=FINE - 1)
    with pytest.raises(UserError, match="before the final pattern"):
        sparsifier.finalize()
    with pytest.raises(UserError, match="N:M patterns"):
        Sparsifier(
            layer,
            SrSteConfig(pattern=parse_pattern("4x1")),
            ratios={"weight": 0.5},
            total_steps=9,
        )
    with pytest.raises(UserError, match="no sparse phase"):
        Phases.of_epochs(10, steps_per_epoch=5, dense=1, fine_tune=2)


def test_an_exponential_that_never_ends_is_reported() -> None:
    phases = Phases(begin=0, fine_tune=STEPS, total=STEPS)
    config = MdgfConfig(pattern=ONE_OF_FOUR, phases=phases, beta=0.01)
    layer, optimizer = make("sgd")
    sparsifier = attached(config, layer, optimizer)
    run(layer, optimizer)
    with pytest.warns(UserWarning, match="never trained under its final mask"):
        sparsifier.finalize()
    assert int((layer.weight == 0).sum()) == OUT * IN * 3 // 4
    config = MdgfConfig(pattern=ONE_OF_FOUR, phases=phases, beta=1.0)
    layer, optimizer = make("sgd")
    sparsifier = attached(config, layer, optimizer)
    run(layer, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sparsifier.finalize()


def test_n_follows_the_number_of_zeros_where_the_pattern_leaves_it_open() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = SrSteConfig(pattern=parse_pattern("n:8"), dense=0.0)
    ratios = {"0.weight": 7 / 8, "1.weight": 3 / 8}
    sparsifier = Sparsifier(model, config, ratios=ratios, total_steps=4)
    sparsifier.attach(optimizer)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(3, 16)).square().mean().backward()
        optimizer.step()
    sparsifier.finalize()
    kept = [(layer.weight != 0).reshape(-1, 8).sum(1).unique().tolist() for layer in model]
    assert kept == [[1], [5]]


@pytest.mark.parametrize("apart", [False, True])
def test_masks_of_all_layers_at_once_are_those_of_each(apart: bool) -> None:
    """Neighbours with one pattern, slices between them, ragged rows, columns; alike or not."""
    torch.manual_seed(0)
    shapes = {"a": (6, 16), "b": (4, 24), "qkv": (12, 16), "c": (3, 16), "odd": (5, 10)}
    weights = {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}
    if apart:  # a kernel cannot lie in one memory with matrices
        weights["conv"] = nn.Parameter(torch.randn(4, 8, 1, 1))
    pieces = [
        *(Piece(name, slice(0, shapes[name][0]), NM(1, 8)) for name in ("a", "b", "c", "odd")),
        Piece("qkv", slice(0, 4), NM(1, 8)),
        Piece("qkv", slice(4, 8), NM(2, 4, columns=True)),
        *([Piece("conv", slice(0, 4), NM(1, 8))] if apart else []),
    ]
    live = ShadowMasks(weights, pieces)
    assert all(bool(mask.all()) for mask in live.masks.values())
    with torch.no_grad():
        for weight in weights.values():
            weight.copy_(torch.randn_like(weight))
    live.remember()
    live.update_masks([piece.target for piece in pieces])
    for piece in pieces:
        weight = weights[piece.name].detach()[piece.rows].flatten(1).double().numpy()
        turned = weight.T if piece.target.columns else weight
        expected = mask_of(turned, piece.target.n, piece.target.m)
        expected = expected.T if piece.target.columns else expected
        found = live.masks[piece.name][piece.rows].flatten(1)
        np.testing.assert_array_equal(found.numpy(), expected)
        assert torch.equal(live.keep[piece.name][piece.rows].flatten(1), found.float())
    assert bool(live.masks["qkv"][8:].all())
    shadow = {name: weight.detach().clone() for name, weight in weights.items()}
    live.apply(0.25)
    for name, weight in weights.items():
        expected = torch.where(live.masks[name], shadow[name], 0.25 * shadow[name])
        torch.testing.assert_close(weight.detach(), expected)
    live.restore()
    assert all(torch.equal(weights[name].detach(), shadow[name]) for name in weights)
