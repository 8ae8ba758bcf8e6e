"""Movement pruning at work: gradients, order of events, freezing, resuming, exact targets."""

from __future__ import annotations

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.core.errors import UserError
from ws_learner.pruning.methods.movement import MovementConfig
from ws_learner.pruning.methods.threshold_movement import ThresholdMovementConfig
from ws_learner.pruning.patterns.pattern import BlockPattern, ChannelPattern, Pattern, Unstructured
from ws_learner.pruning.patterns.structured import Member, UnitGroup
from ws_learner.pruning.sparsifier import Sparsifier

LAYERS = ["0.weight", "2.weight"]
STEPS = 5


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 4)).double()


def soft(**changes: object) -> ThresholdMovementConfig:
    settings: dict[str, object] = {
        "warmup_start_epoch": 1,
        "warmup_end_epoch": 3,
        "importance_regularization_factor": 0.5,
        "steps_per_epoch": STEPS,
        "score_lr": 0.05,
    }
    return ThresholdMovementConfig(**(settings | changes))  # type: ignore[arg-type]


def batch(step: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(step)
    inputs = torch.randn(16, 8, generator=draw, dtype=torch.float64)
    return inputs, torch.randint(4, (16,), generator=draw)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, sparsifier: Sparsifier, steps: range
) -> None:
    for step in steps:
        inputs, targets = batch(step)
        loss = functional.cross_entropy(model(inputs), targets) + sparsifier.penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Masked(torch.autograd.Function):
    """W * M forward; backward to W through the mask, to the scores straight through."""

    @staticmethod
    def forward(ctx, weight, scores, mask):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        weight, mask = ctx.saved_tensors
        return grad * mask, grad * weight, None


def parts_of(name: str, shape: torch.Size, pattern: Pattern) -> tuple[int, ...]:
    """Rows and columns that share a score."""
    rows, columns = {"2x4": (2, 4), "1xchannel": (1, shape[-1])}.get(str(pattern), (1, 1))
    return (rows, columns) if name.endswith("weight") else (rows,)


def oracle(steps: int, *, factor: float, last: float, pattern: Pattern) -> dict[str, Tensor]:
    """Plain SGD by the published algorithm, masks made in the forward pass, all by autograd."""
    model = net()
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    parts = {n: parts_of(n, model.get_parameter(n).shape, pattern) for n in names}
    weights = {n: model.get_parameter(n).detach().clone().requires_grad_() for n in names}
    shapes = {
        n: [length // part for length, part in zip(w.shape, parts[n], strict=True)]
        for n, w in weights.items()
    }
    scores = {n: torch.zeros(shapes[n], requires_grad=True) for n in names}
    first, begin, end = math.nan, STEPS, 3 * STEPS
    masks = {n: torch.ones_like(w) for n, w in weights.items()}

    def spread(score: Tensor, name: str) -> Tensor:
        for axis, part in enumerate(parts[name]):
            score = score.repeat_interleave(part, axis)
        return score

    for step in range(steps):
        share = 1 - (1 - min(max(step - begin, 0) / (end - begin), 1)) ** 3
        full = {n: spread(s, n) for n, s in scores.items()}
        if step == begin:
            every = torch.cat([s.detach().flatten() for s in full.values()]).sort().values
            first = float(every[int(len(every) * 0.001)])
        if begin <= step < end:
            for n, s in full.items():
                cap = torch.quantile(s.detach().double(), 0.98)
                masks[n] = (s.detach() > min(first + share * (last - first), float(cap))).double()
        used = {n: Masked.apply(weights[n], full[n], masks[n]) for n in names}
        inputs, targets = batch(step)
        hidden = torch.tanh(functional.linear(inputs, used["0.weight"], used["0.bias"]))
        loss = functional.cross_entropy(
            functional.linear(hidden, used["2.weight"], used["2.bias"]), targets
        )
        if step < end:
            per_layer = [
                0.5
                * sum(
                    math.prod(parts[f"{i}.{kind}"]) * torch.sigmoid(scores[f"{i}.{kind}"]).mean()
                    for kind in ("weight", "bias")
                )
                for i in (0, 2)
            ]
            loss = loss + factor * share * sum(per_layer) / 2
        moving = [*weights.values(), *(scores.values() if step < end else [])]
        for tensor, grad in zip(moving, torch.autograd.grad(loss, moving), strict=True):
            rate = 0.1 if any(tensor is w for w in weights.values()) else 0.05
            tensor.data -= rate * grad
    return {n: (w * masks[n]).detach() for n, w in weights.items()}


@pytest.mark.filterwarnings("ignore:movement. nothing is left")  # of the few rows there are
@pytest.mark.parametrize(
    ("pattern", "factor", "last"),
    [
        (Unstructured(), 0.5, 0.0),
        (BlockPattern(2, 4), 0.01, 0.0),
        (ChannelPattern("outputs"), 0.01, -0.003),
    ],
    ids=str,
)
def test_training_is_that_of_the_published_algorithm(
    pattern: Pattern, factor: float, last: float
) -> None:
    settings = {"pattern": pattern, "importance_regularization_factor": factor}
    model, config = net(), soft(final_importance_threshold=last, **settings)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Sparsifier(model, config, layers=LAYERS, total_steps=20)
    sparsifier.attach(optimizer)
    for steps in (6, 10, 14, 15, 20):
        train(model, optimizer, sparsifier, range(sparsifier.step, steps))
        expected = oracle(steps + 1, factor=factor, last=last, pattern=pattern)
        # The oracle is asked for the masks that its next step would use.
        found = {name: p.detach() for name, p in model.named_parameters()}
        pruned = {name: ~mask for name, mask in sparsifier.masks.items()}
        if steps < 20:
            for name, mask in pruned.items():
                assert torch.equal(found[name][mask], torch.zeros(int(mask.sum())).double())
        exact = oracle(steps, factor=factor, last=last, pattern=pattern)
        alive = {n: ~pruned[n] & (exact[n] != 0) for n in pruned}
        for name, place in alive.items():
            assert torch.allclose(found[name][place], exact[name][place], rtol=1e-5, atol=1e-7)
        if 5 <= steps < 15:
            for name, mask in pruned.items():
                assert torch.equal(mask, expected[name] == 0)
    assert 0 < sparsifier.planned_ratio() <= 1


def test_scores_learn_before_the_warm_up_and_masks_do_not_act() -> None:
    model, twin = net(), net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = Sparsifier(model, soft(), layers=LAYERS, total_steps=20)
    sparsifier.attach(optimizer)
    train(model, optimizer, sparsifier, range(STEPS - 1))
    plain = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    for step in range(STEPS - 1):
        inputs, targets = batch(step)
        plain.zero_grad()
        functional.cross_entropy(twin(inputs), targets).backward()
        plain.step()
    for name, weight in twin.named_parameters():
        assert torch.equal(model.get_parameter(name), weight)
    assert all(v.any() for k, v in sparsifier.state_dict().items() if k.startswith("score."))
    assert sparsifier.readings() == {"prune/threshold": -math.inf, "prune/factor": 0.0}


def test_after_the_warm_up_everything_is_frozen_momentum_too() -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    sparsifier = Sparsifier(model, soft(), layers=LAYERS, total_steps=30)
    sparsifier.attach(optimizer)
    train(model, optimizer, sparsifier, range(3 * STEPS))
    before = copy.deepcopy(sparsifier.state_dict())
    masks = {name: mask.clone() for name, mask in sparsifier.masks.items()}
    assert any(not mask.all() for mask in masks.values())
    for name, mask in masks.items():
        for value in optimizer.state[model.get_parameter(name)].values():
            if value.shape == mask.shape:
                assert not value[~mask].any()
    train(model, optimizer, sparsifier, range(3 * STEPS, 30))
    after = sparsifier.state_dict()
    for name, mask in masks.items():
        assert torch.equal(sparsifier.masks[name], mask)
        assert torch.equal(after[f"score.{name}"], before[f"score.{name}"])
        assert not model.get_parameter(name)[~mask].any()
        assert model.get_parameter(name)[mask].all()
    assert sparsifier.penalty().item() == 0
    assert sparsifier.finalize() is model


@pytest.mark.parametrize("stop", [3, 5, 9, 14, 15, 18])
@pytest.mark.parametrize("hard", [False, True], ids=["threshold", "top-v"])
def test_a_resumed_run_is_the_same_to_the_last_bit(stop: int, hard: bool) -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer, Sparsifier]:
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        if hard:
            config = MovementConfig(iter_ratio_beg=0.1, iter_ratio_end=0.7, mask_update_step=2)
            ratios = dict.fromkeys(LAYERS, 0.6)
            sparsifier = Sparsifier(model, config, ratios=ratios, total_steps=20)
        else:
            sparsifier = Sparsifier(model, soft(), layers=LAYERS, total_steps=20)
        sparsifier.attach(optimizer)
        return model, optimizer, sparsifier

    model, optimizer, sparsifier = start()
    train(model, optimizer, sparsifier, range(20))
    half = start()
    train(*half, range(stop))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in half], file)
    file.seek(0)
    again = start()
    for part, state in zip(again, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(*again, range(stop, 20))
    for name, weight in model.named_parameters():
        assert torch.equal(again[0].get_parameter(name), weight)
    mine, other = sparsifier.state_dict(), again[2].state_dict()
    assert mine.keys() == other.keys()
    assert all(torch.equal(mine[key], other[key]) for key in mine)
    assert again[2].finalize() is again[0]


def test_epochs_are_counted_where_nobody_says_their_length() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Sparsifier(model, soft(steps_per_epoch=None), layers=LAYERS, total_steps=20)
    sparsifier.attach(optimizer)
    told = net()
    other = torch.optim.SGD(told.parameters(), lr=0.1)
    known = Sparsifier(told, soft(), layers=LAYERS, total_steps=20)
    known.attach(other)
    for epoch in range(4):
        sparsifier.epoch_begin()
        for step in range(epoch * STEPS, (epoch + 1) * STEPS):
            assert sparsifier.readings() == known.readings()
            assert sparsifier.planned_ratio() == known.planned_ratio()
            train(model, optimizer, sparsifier, range(step, step + 1))
            train(told, other, known, range(step, step + 1))
            if step + 1 < (epoch + 1) * STEPS:
                same = zip(model.parameters(), told.parameters(), strict=True)
                assert all(torch.equal(one, two) for one, two in same)
    assert 0 < known.planned_ratio() < 1
    train(model, optimizer, sparsifier, range(2))
    with pytest.raises(UserError, match="Scheduling may be incorrect"):
        sparsifier.epoch_begin()


def test_the_warm_up_includes_its_first_step_and_excludes_its_last() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = soft(warmup_start_epoch=1.5, warmup_end_epoch=2.5)
    sparsifier = Sparsifier(model, config, layers=LAYERS, total_steps=20)
    sparsifier.attach(optimizer)
    seen = []
    for step in range(20):
        seen.append(sparsifier.readings())  # as the forward pass of this step has it
        train(model, optimizer, sparsifier, range(step, step + 1))
    finite = [step for step, row in enumerate(seen) if math.isfinite(row["prune/threshold"])]
    assert finite[0] == int(1.5 * STEPS)
    assert seen[finite[0]]["prune/factor"] == 0
    last = [step for step, row in enumerate(seen) if row["prune/factor"] == 0.5]
    assert last[0] == int(2.5 * STEPS)
    assert all(seen[step]["prune/threshold"] == 0 for step in last)


def test_a_step_that_begins_the_training_masks_nothing_untried() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Sparsifier(model, soft(warmup_start_epoch=0), layers=LAYERS, total_steps=20)
    sparsifier.attach(optimizer)
    assert sparsifier.planned_ratio() == 0
    train(model, optimizer, sparsifier, range(1))
    assert 0 < sparsifier.planned_ratio() < 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps_per_epoch": None, "warmup_start_epoch": 0.5}, "must be >= 1 to enable the auto"),
        ({"warmup_start_epoch": 3}, "0 <= warmup_start_epoch < warmup_end_epoch"),
        ({"importance_regularization_factor": -1.0}, "should not be a negative number"),
        ({"score_lr": 0.0}, "`MovementConfig.score_lr`"),
        ({"rule": "any"}, "groups"),
        ({"init_importance_threshold": math.nan}, "init_importance_threshold nan: must be a fin"),
        ({"final_importance_threshold": math.inf}, "final_importance_threshold inf: must be a fi"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        soft(**changes)


def test_misuse_is_refused() -> None:
    with pytest.raises(UserError, match="is an outcome"):
        Sparsifier(net(), soft(), ratios=dict.fromkeys(LAYERS, 0.5), total_steps=20)
    with pytest.raises(UserError, match="layers alone"):
        Sparsifier(net(), MovementConfig(), layers=LAYERS, total_steps=20)
    with pytest.raises(UserError, match="ends at step 15"):
        Sparsifier(net(), soft(), layers=LAYERS, total_steps=12)
    model = net()
    sparsifier = Sparsifier(model, soft(), layers=LAYERS, total_steps=20)
    sparsifier.attach(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(UserError, match="in the warm-up"):
        sparsifier.finalize()
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = soft(final_importance_threshold=-9.0)
    sparsifier = Sparsifier(model, config, layers=LAYERS, total_steps=20)
    sparsifier.attach(optimizer)
    with pytest.warns(UserWarning, match="equal to or greater"):
        train(model, optimizer, sparsifier, range(STEPS))
    given = soft(init_importance_threshold=0.5, final_importance_threshold=0.0)
    with pytest.warns(UserWarning, match="equal to or greater"):
        Sparsifier(net(), given, layers=LAYERS, total_steps=20)


def test_refilled_weights_have_the_values_with_which_they_went() -> None:
    members = (Member(weight="0.weight", axis="outputs"), Member(weight="2.weight", axis="inputs"))
    group = UnitGroup(name="", kind="neurons", units=12, members=members)
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)
    config = soft(rule="any", groups=(group,), importance_regularization_factor=0.1)
    sparsifier = Sparsifier(model, config, layers=LAYERS, total_steps=20)
    sparsifier.attach(optimizer)
    alive = {name: model.get_parameter(name).detach().clone() for name in LAYERS}
    for step in range(3 * STEPS):
        pruned = {name: ~sparsifier.masks[name] for name in LAYERS}
        for name in LAYERS:
            alive[name][~pruned[name]] = model.get_parameter(name).detach()[~pruned[name]]
        train(model, optimizer, sparsifier, range(step, step + 1))
        # A weight dies after the optimizer moved it: what it held then is what is remembered.
        for name, mask in sparsifier.masks.items():
            if name in LAYERS and step < 3 * STEPS - 1:
                died = ~mask & ~pruned[name]
                alive[name][died] = sparsifier.state_dict()[f"retained.{name}"][died]
    back = {name: pruned[name] & sparsifier.masks[name] for name in LAYERS}
    assert any(bool(places.any()) for places in back.values())
    for name, places in back.items():
        weight = model.get_parameter(name).detach()
        assert torch.equal(weight[places], alive[name][places])
        assert (weight[places] != 0).all()


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize(
    "pattern", [Unstructured(), BlockPattern(2, 4), ChannelPattern("outputs")], ids=str
)
def test_top_v_ends_on_the_exact_count(scope: str, pattern: Pattern) -> None:
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    config = MovementConfig(
        iter_ratio_beg=0.1,
        iter_ratio_end=0.7,
        mask_update_step=2,
        pattern=pattern,
        scope=scope,  # type: ignore[arg-type]
    )
    zeros = {"0.weight": 48, "2.weight": 24}
    sparsifier = Sparsifier(model, config, zeros=zeros, total_steps=20)
    sparsifier.attach(optimizer)
    train(model, optimizer, sparsifier, range(20))
    sparsifier.finalize()
    counts = {name: int((model.get_parameter(name) == 0).sum()) for name in zeros}
    assert sum(counts.values()) == 72
    assert scope == "global" or counts == zeros


@pytest.mark.parametrize("pattern", [Unstructured(), BlockPattern(2, 4)], ids=str)
def test_scores_may_start_at_relative_magnitudes(pattern: Pattern) -> None:
    model = net()
    config = MovementConfig(pattern=pattern, mask_update_step=2)
    method = config.build(model, zeros={"0.weight": 48}, total_steps=100)
    sizes = np.abs(model.get_parameter("0.weight").detach().double().numpy())
    high, wide = (2, 4) if isinstance(pattern, BlockPattern) else (1, 1)
    rows, columns = sizes.shape[0] // high, sizes.shape[1] // wide
    blocks = sizes.reshape(rows, high, columns, wide).mean(axis=(1, 3)) / sizes.mean()
    assert method.state_dict()["criterion.0.weight"].numpy() == pytest.approx(blocks)
    zero = MovementConfig(pattern=pattern, mask_update_step=2, start="zero")
    state = zero.build(net(), zeros={"0.weight": 48}, total_steps=100).state_dict()
    assert not state["criterion.0.weight"].any()


def test_top_v_keeps_what_moves_away_from_zero() -> None:
    """Four small weights grow, four large ones shrink; magnitude would keep the large ones."""
    model = nn.Linear(8, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.1] * 4 + [1.0] * 4]))
    goal = torch.tensor([[0.5] * 4 + [0.6] * 4], dtype=torch.float64)
    config = MovementConfig(iter_ratio_beg=0.0, iter_ratio_end=1.0, ramp="oneshot", start="zero")
    sparsifier = Sparsifier(model, config, zeros={"weight": 4}, total_steps=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sparsifier.attach(optimizer)
    for _ in range(10):
        optimizer.zero_grad()
        (model.weight - goal).square().sum().backward()
        optimizer.step()
    sparsifier.finalize()
    assert (model.weight[0, :4] != 0).all()
    assert (model.weight[0, 4:] == 0).all()


def test_relative_steps_are_in_units_of_the_layers_gradients() -> None:
    model, rate = net(), 0.02
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    config = MovementConfig(
        **{"iter_ratio_beg": 0.9, "iter_ratio_end": 1.0, "mask_update_step": 1},
        **{"score_lr": rate, "start": "zero", "steps": "relative"},
    )
    sparsifier = Sparsifier(model, config, ratios=dict.fromkeys(LAYERS, 0.5), total_steps=20)
    groups = len(optimizer.param_groups)
    sparsifier.attach(optimizer)
    assert len(optimizer.param_groups) == groups  # no optimizer moves the scores
    expected = {name: np.zeros(tuple(model.get_parameter(name).shape)) for name in LAYERS}
    for step in range(6):
        inputs, targets = batch(step)
        loss = functional.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        for name in LAYERS:
            weight = model.get_parameter(name)
            assert weight.grad is not None
            moved = weight.grad.numpy() * weight.detach().numpy()
            expected[name] -= rate * moved / np.sqrt(np.mean(moved**2))
        optimizer.step()
    state = sparsifier.state_dict()
    for name in LAYERS:
        np.testing.assert_allclose(state[f"criterion.{name}"].numpy(), expected[name], atol=1e-6)


def test_pruned_weights_score_by_the_value_they_had() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = MovementConfig(
        **{"iter_ratio_beg": 0.0, "iter_ratio_end": 1.0, "mask_update_step": 1},
        **{"score_lr": 0.02, "steps": "relative"},
    )
    sparsifier = Sparsifier(model, config, ratios={"0.weight": 0.9}, total_steps=10)
    sparsifier.attach(optimizer)
    train(model, optimizer, sparsifier, range(8))
    before, pruned = sparsifier.state_dict(), ~sparsifier.masks["0.weight"]
    assert (model.get_parameter("0.weight")[pruned] == 0).all()
    train(model, optimizer, sparsifier, range(8, 9))
    moved = sparsifier.state_dict()["criterion.0.weight"] != before["criterion.0.weight"]
    assert moved[pruned].all()  # zero itself would have earned them nothing


MOVING: dict[str, object] = {
    **{"iter_ratio_beg": 0.0, "iter_ratio_end": 0.75, "mask_update_step": 1},
    "steps": "weights",
}


def moved_weights(steps: int, *, end: int, zeros: dict[str, int]) -> dict[str, Tensor]:
    """Plain SGD on latent weights, gradients by the masked ones, masks by latent magnitude."""
    shadow = {n: p.detach().clone() for n, p in net().named_parameters()}
    masks = {n: torch.ones_like(p) for n, p in shadow.items()}
    for step in range(steps):
        used = {n: (shadow[n] * masks[n]).requires_grad_() for n in shadow}
        inputs, targets = batch(step)
        hidden = torch.tanh(functional.linear(inputs, used["0.weight"], used["0.bias"]))
        outputs = functional.linear(hidden, used["2.weight"], used["2.bias"])
        loss = functional.cross_entropy(outputs, targets)
        grads = torch.autograd.grad(loss, list(used.values()))
        for (n, value), grad in zip(shadow.items(), grads, strict=True):
            value -= 0.1 * (grad if step < end else grad * masks[n])
        if step < end:
            share = 1 - (1 - (step + 1) / end) ** 3
            for n, count in zeros.items():
                order = shadow[n].abs().flatten().argsort(stable=True)
                masks[n] = torch.ones_like(shadow[n])
                masks[n].view(-1)[order[: round(share * count)]] = 0
    return {n: shadow[n] * masks[n] for n in shadow}


@pytest.mark.parametrize("steps", [4, 15, 20])
def test_pruned_weights_move_by_the_gradients_of_masked_ones(steps: int) -> None:
    model, zeros = net(), {"0.weight": 60, "2.weight": 30}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = MovementConfig(**MOVING)  # type: ignore[arg-type]
    sparsifier = Sparsifier(model, config, zeros=zeros, total_steps=20)
    sparsifier.attach(optimizer)
    train(model, optimizer, sparsifier, range(steps))
    expected = moved_weights(steps, end=15, zeros=zeros)
    for name, weight in model.named_parameters():
        np.testing.assert_allclose(weight.detach().numpy(), expected[name].numpy(), atol=1e-12)


@pytest.mark.parametrize("stop", [5, 15, 18])
def test_moving_weights_go_on_where_they_stopped(stop: int) -> None:
    def make() -> tuple[nn.Sequential, torch.optim.Optimizer, Sparsifier]:
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
        config = MovementConfig(**MOVING)  # type: ignore[arg-type]
        sparsifier = Sparsifier(model, config, ratios=dict.fromkeys(LAYERS, 0.7), total_steps=20)
        sparsifier.attach(optimizer)
        return model, optimizer, sparsifier

    once, first, again = make(), make(), make()
    train(*once, range(20))
    train(*first, range(stop))
    for part, saved in zip(again, first, strict=True):
        part.load_state_dict(copy.deepcopy(saved.state_dict()))
    train(*again, range(stop, 20))
    for name, weight in once[0].named_parameters():
        assert torch.equal(again[0].get_parameter(name), weight)
    again[2].finalize()


def test_weights_that_are_the_scores_cannot_start_at_zero() -> None:
    with pytest.raises(UserError, match="the weights are the scores"):
        MovementConfig(steps="weights", start="zero")
