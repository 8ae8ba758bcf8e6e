"""Pruning by epochs: LPOT's published schedule in exact arithmetic, counts, lasso, locks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ws_learner.compat.lpot.epoch_pruner import EpochPlan, EpochPruner
from ws_learner.core.errors import UserError
from ws_learner.pruning.functional import add_group_lasso
from ws_learner.pruning.patterns.pattern import parse_pattern


def oracle(e: int, s: int, end: int, i: Fraction, t: Fraction, f: int) -> Fraction:
    """LPOT 1.13's formula in rationals, and on target from the last epoch on."""
    if e < s:
        return Fraction(0)
    if e >= end:
        return t
    return i + (t - i) * ((e - s + 1) // f) * f / (end - s + 1)


@given(
    start=st.integers(0, 4),
    length=st.integers(0, 9),
    every=st.integers(1, 4),
    shares=st.tuples(st.integers(0, 100), st.integers(0, 100)),
)
def test_the_schedule_is_lpots_and_ends_on_target(
    start: int, length: int, every: int, shares: tuple[int, int]
) -> None:
    low, high = (Fraction(share, 100) for share in sorted(shares))
    plan = EpochPlan(
        names=("weight",),
        start_epoch=start,
        end_epoch=start + length,
        initial=float(low),
        target=float(high),
        frequency=every,
    )
    for epoch in range(start + length + 3):
        wanted = oracle(epoch, start, start + length, low, high, every)
        # An interval longer than the ramp cannot overshoot: the formula's floor is then 0.
        assert plan.sparsity(epoch, 0, None) == pytest.approx(float(wanted), abs=1e-12)


def test_the_published_tables() -> None:
    plan = EpochPlan(names=("w",), end_epoch=4, target=0.6, frequency=2)
    # 0.48 is where LPOT stays for ever; here the last update is on target.
    assert [round(plan.sparsity(e, 0, None), 4) for e in range(6)] == [
        0,
        0.24,
        0.24,
        0.48,
        0.6,
        0.6,
    ]
    plan = EpochPlan(names=("w",), start_epoch=1, end_epoch=3, target=0.97)
    assert [round(plan.sparsity(e, 0, None), 4) for e in range(4)] == [0, 0.3233, 0.6467, 0.97]


@given(
    batches=st.integers(1, 40),
    tenths=st.integers(1, 9),
    start=st.integers(0, 2),
    length=st.integers(0, 3),
)
def test_a_frequency_below_one_is_a_share_of_an_epoch_at_least_one_batch(
    batches: int, tenths: int, start: int, length: int
) -> None:
    plan = EpochPlan(
        names=("w",), start_epoch=start, end_epoch=start + length, target=0.9, frequency=tenths / 10
    )
    places = [(e, b) for e in range(start, start + length + 1) for b in range(batches)]
    levels = [plan.sparsity(e, b, batches) for e, b in places]
    every, span = max(1, round(tenths / 10 * batches)), (length + 1) * batches
    wanted = [0.9 * min(1, Fraction(n // every * every + every, span)) for n in range(span)]
    last = (span - 1) // every * every if length else 0  # a single epoch prunes at once
    wanted[last:] = [0.9] * (span - last)
    np.testing.assert_allclose(levels, np.array(wanted, dtype=float), rtol=1e-12)
    assert plan.sparsity(start + length + 1, 0, batches) == 0.9


@given(
    pattern=st.sampled_from(["unstructured", "4x1", "2x1", "2:4", "1xchannel"]),
    target=st.integers(0, 50),
    seed=st.integers(0, 5),
)
def test_exact_counts_at_any_time_and_no_parameter_replaced(
    pattern: str, target: int, seed: int
) -> None:
    torch.manual_seed(seed)
    model = nn.Linear(16, 12)
    weight, units = model.weight, parse_pattern(pattern)
    plan = EpochPlan(names=("weight",), end_epoch=3, target=target / 100, pattern=units)
    pruner = EpochPruner(model, [plan])
    for epoch in range(5):
        pruner.epoch_begin(epoch)
        wanted = units.feasible((12, 16), round(plan.sparsity(epoch, 0, None) * 192))
        assert int((model.weight == 0).sum()) == wanted
    assert model.weight is weight
    pruner.finish()


def test_sparsity_zero_prunes_nothing_and_equal_weights_do_not_over_prune() -> None:
    model = nn.Linear(10, 10)
    nn.init.ones_(model.weight)
    pruner = EpochPruner(model, [EpochPlan(names=("weight",), target=0.0)])
    pruner.epoch_begin(0)
    assert int((model.weight == 0).sum()) == 0
    pruner = EpochPruner(model, [EpochPlan(names=("weight",), target=0.37)])
    pruner.epoch_begin(0)
    assert int((model.weight == 0).sum()) == 37


def test_pruned_weights_stay_zero_under_momentum_and_decay() -> None:
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    pruner = EpochPruner(
        model, [EpochPlan(names=("weight",), start_epoch=1, end_epoch=1, target=0.5)]
    )
    for epoch in range(3):
        pruner.epoch_begin(epoch)
        for step in range(4):
            pruner.batch_begin(step)
            model(torch.randn(5, 8)).square().mean().backward()
            pruner.before_step()
            optimizer.step()
            pruner.after_step()
            optimizer.zero_grad()
            assert int((model.weight == 0).sum()) == (32 if epoch else 0)


def test_group_lasso_of_an_open_n_of_m_feels_the_whole_group() -> None:
    weight = torch.tensor([[3.0, 4.0, 0.0, 0.0]], requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    add_group_lasso(weight, 1.0, pattern=parse_pattern("n:4"))
    torch.testing.assert_close(weight.grad, torch.tensor([[0.6, 0.8, 0.0, 0.0]]))


@pytest.mark.parametrize("pattern", ["2x1", "4x1", "unstructured"])
def test_group_lasso_adds_the_gradient_of_the_blocks_norms(pattern: str) -> None:
    torch.manual_seed(1)
    model = nn.Linear(6, 8, bias=False).double()
    model.weight.data[:4, 0] = 0
    plan = EpochPlan(names=("weight",), alpha=0.006, pattern=parse_pattern(pattern), end_epoch=9)
    pruner = EpochPruner(model, [plan])
    model.weight.grad = torch.zeros_like(model.weight)
    pruner.before_step()
    got = model.weight.grad.numpy()
    height = {"2x1": 2, "4x1": 4, "unstructured": 1}[pattern]
    weight = model.weight.detach().numpy()
    norms = np.sqrt((weight.reshape(8 // height, height, 6) ** 2).sum(1)).repeat(height, 0)
    with np.errstate(invalid="ignore"):
        wanted = np.where(norms > 0, 0.006 * weight / norms, 0.0)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=0)


def test_a_lock_keeps_the_zeros_there_are_and_makes_no_others() -> None:
    torch.manual_seed(2)
    model = nn.Linear(8, 8)
    model.weight.data[torch.rand(8, 8) < 0.6] = 0
    zeros = model.weight.detach() == 0
    pruner = EpochPruner(model, [EpochPlan(names=("weight",), kind="lock", target=0.9)])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for epoch in range(3):
        pruner.epoch_begin(epoch)
        pruner.batch_begin(0)
        model(torch.randn(5, 8)).square().mean().backward()
        pruner.before_step()
        optimizer.step()
        pruner.after_step()
    pruner.finish()
    assert torch.equal(model.weight.detach() == 0, zeros)


def test_sensitivity_prunes_what_the_loss_does_not_feel() -> None:
    torch.manual_seed(3)
    model = nn.Linear(6, 4, bias=False)
    nn.init.constant_(model.weight, 0.01)
    model.weight.data[:, 3:] = 5.0  # large, but its inputs are always zero
    plan = EpochPlan(names=("weight",), kind="sensitivity", start_epoch=1, end_epoch=1, target=0.5)
    pruner = EpochPruner(model, [plan])
    inputs = torch.cat([torch.randn(9, 3), torch.zeros(9, 3)], 1)
    (model(inputs) - 1).square().mean().backward()
    pruner.epoch_begin(0)
    pruner.before_step()
    pruner.after_step()
    pruner.epoch_begin(1)
    assert torch.equal(model.weight.detach() == 0, torch.tensor([[False] * 3 + [True] * 3] * 4))


def test_a_training_that_ends_too_early_and_a_name_twice_are_errors() -> None:
    model = nn.Linear(8, 8)
    pruner = EpochPruner(model, [EpochPlan(names=("weight",), end_epoch=3, target=0.5)])
    pruner.epoch_begin(0)
    with pytest.raises(UserError, match=r"weight: 8 of 32 zeros.*end_epoch is 3"):
        pruner.finish()
    twice = [EpochPlan(names=("weight",)), EpochPlan(names=("weight",))]
    with pytest.raises(UserError, match="pruned twice"):
        EpochPruner(model, twice)


def test_state_goes_on_where_it_was() -> None:
    def run(model: nn.Module, pruner: EpochPruner, epochs: range) -> None:
        for epoch in epochs:
            pruner.epoch_begin(epoch)
            for batch in range(4):
                pruner.batch_begin(batch)
                with torch.no_grad():
                    model.weight += 0.1 * torch.sin(17.0 * model.weight + epoch + batch)
                pruner.after_step()

    plan = EpochPlan(names=("weight",), end_epoch=2, target=0.75, frequency=0.3)
    torch.manual_seed(4)
    whole = nn.Linear(8, 8)
    part = nn.Linear(8, 8)
    part.load_state_dict(whole.state_dict())
    run(whole, EpochPruner(whole, [plan], batches=4), range(4))
    first = EpochPruner(part, [plan], batches=4)
    run(part, first, range(1))
    fresh = nn.Linear(8, 8)
    second = EpochPruner(fresh, [plan], batches=4)
    fresh.load_state_dict(part.state_dict())
    second.load_state_dict(first.state_dict())
    run(fresh, second, range(1, 4))
    assert torch.equal(fresh.weight, whole.weight)
