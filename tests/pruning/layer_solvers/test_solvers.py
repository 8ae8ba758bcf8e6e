"""What every layer solver keeps to: exact counts, the pattern, odd layers, clear errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.solver_layers import random_layer, tensors
from ws_learner.config import SOLVERS
from ws_learner.core import UserError
from ws_learner.pruning import parse_pattern, solve_layer

EVERY = list(SOLVERS)


@settings(max_examples=60, deadline=None)
@given(
    solver=st.sampled_from(EVERY),
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    ratio=st.floats(0, 1),
    compare=st.sampled_from([None, "row", "layer"]),
    seed=st.integers(0, 99),
)
def test_unstructured_zeros_are_exact(
    solver: str, rows: int, columns: int, ratio: float, compare: str | None, seed: int
) -> None:
    weight, gram = tensors(*random_layer(rows, columns, seed=seed))
    solved = solve_layer(
        weight,
        gram,
        solver=solver,
        pattern="unstructured",
        ratio=ratio,
        compare=compare,  # type: ignore[arg-type]
    )
    zeros = round(ratio * rows * columns)
    assert int((~solved.kept).sum()) == zeros
    assert int((solved.weight == 0).sum()) == zeros
    assert torch.equal(solved.weight != 0, solved.kept)


@settings(max_examples=60, deadline=None)
@given(
    solver=st.sampled_from(EVERY),
    pattern=st.sampled_from(["2:4", "1:4", "3:5", "4:8", "4x1", "1x4", "2x3", "2:4col", "n:4"]),
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_patterns_are_kept_to(
    solver: str, pattern: str, rows: int, columns: int, share: float, seed: int
) -> None:
    units = parse_pattern(pattern)
    most = {"1:4": 0.75, "3:5": 0.4, "n:4": 0.75}.get(pattern, 0.5 if ":" in pattern else 1.0)
    weight, gram = tensors(*random_layer(rows, columns, seed=seed))
    solved = solve_layer(weight, gram, solver=solver, pattern=pattern, ratio=share * most)
    zeros = units.feasible((rows, columns), round(share * most * weight.numel()))
    assert int((~solved.kept).sum()) == zeros
    # The pattern's own mask of the result's zeros finds the same zeros: whole units only.
    assert torch.equal(units.mask(solved.kept.float(), zeros, pool="max"), solved.kept)
    assert not bool(solved.weight[~solved.kept].any())


@pytest.mark.parametrize("solver", EVERY)
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4x1"])
def test_scaling_the_gram_matrix_changes_nothing(solver: str, pattern: str) -> None:
    weight, gram = tensors(*random_layer(16, 24, seed=6))
    one = solve_layer(weight, gram, solver=solver, pattern=pattern, ratio=0.5)
    two = solve_layer(weight, gram * 64, solver=solver, pattern=pattern, ratio=0.5)
    assert torch.equal(one.kept, two.kept)
    torch.testing.assert_close(one.weight, two.weight)


@pytest.mark.parametrize("solver", EVERY)
@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "1x4"])
def test_permuting_rows_permutes_the_result(solver: str, pattern: str) -> None:
    weight, gram = tensors(*random_layer(16, 24, seed=7))
    order = torch.tensor(np.random.default_rng(0).permutation(16))
    one = solve_layer(weight, gram, solver=solver, pattern=pattern, ratio=0.5)
    two = solve_layer(weight[order], gram, solver=solver, pattern=pattern, ratio=0.5)
    assert torch.equal(one.kept[order], two.kept)
    torch.testing.assert_close(one.weight[order], two.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", [name for name in EVERY if name != "magnitude"])
def test_inputs_that_were_always_zero_go_first(solver: str) -> None:
    weight, inputs = random_layer(8, 16, seed=8)
    dead = [1, 5, 6, 15]
    inputs[:, dead] = 0
    given_weight, gram = tensors(weight, inputs)
    solved = solve_layer(given_weight, gram, solver=solver, pattern="unstructured", ratio=0.25)
    gone = torch.zeros(16, dtype=torch.bool)
    gone[dead] = True
    assert torch.equal(~solved.kept, gone.expand(8, 16))
    torch.testing.assert_close(solved.weight[:, ~gone], given_weight[:, ~gone])


@pytest.mark.parametrize("solver", EVERY)
@pytest.mark.parametrize("damping", [0.0, 0.01])
@pytest.mark.parametrize("tokens", [1, 3, 15])
def test_singular_gram_matrices(solver: str, damping: float, tokens: int) -> None:
    weight, inputs = random_layer(8, 16, tokens=tokens, seed=9)
    inputs[:, 3] = inputs[:, 2]
    solved = solve_layer(
        *tensors(weight, inputs),
        solver=solver,
        pattern="unstructured",
        ratio=0.5,
        damping=damping,
    )
    assert int((~solved.kept).sum()) == 64
    assert bool(torch.isfinite(solved.weight).all())


@pytest.mark.parametrize("solver", EVERY)
def test_a_layer_without_inputs_is_pruned_by_its_weights(solver: str) -> None:
    weight, _ = tensors(*random_layer(8, 16, seed=10))
    solved = solve_layer(
        weight,
        torch.zeros(16, 16),
        solver=solver,
        pattern="unstructured",
        ratio=0.5,
        compare="row",
    )
    order = weight.abs().argsort(dim=1)
    expected = torch.ones(8, 16, dtype=torch.bool).scatter_(1, order[:, :8], False)
    assert torch.equal(solved.kept, expected)


@pytest.mark.parametrize("solver", EVERY)
def test_types_and_the_given_tensors_are_left_alone(solver: str) -> None:
    weight, gram = tensors(*random_layer(8, 16, seed=11))
    before = weight.clone(), gram.clone()
    solved = solve_layer(weight.bfloat16(), gram, solver=solver, pattern="unstructured", ratio=0.5)
    assert solved.weight.dtype == torch.bfloat16
    solve_layer(weight, gram, solver=solver, pattern="unstructured", ratio=0.5)
    assert torch.equal(weight, before[0])
    assert torch.equal(gram, before[1])


@pytest.mark.parametrize("solver", EVERY)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": 1.5}, "`ratio` 1.5: must be a share"),
        ({"ratio": float("nan")}, "`ratio` nan"),
        ({"damping": -1.0}, "`damping` -1.0: must be 0 or above"),
        ({"compare": "column"}, "`compare` column"),
        ({"pattern": "mha"}, "one layer alone does not tell"),
        ({"pattern": "2:4", "ratio": 0.6}, "has at most 0.5 zeros"),
        ({"gram": torch.eye(3)}, "`gram` of shape"),
        ({"gram": torch.full((8, 8), float("nan"))}, "`gram` holds NaN"),
        ({"weight": torch.zeros(2, 2, 2)}, "`weight` of shape"),
        ({"weight": torch.zeros(4, 8, dtype=torch.int64)}, "must be a floating matrix"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    solver: str, change: dict[str, object], message: str
) -> None:
    settings: dict[str, object] = {"weight": torch.ones(4, 8), "gram": torch.eye(8)}
    settings |= {"pattern": "unstructured", "ratio": 0.5, **change}
    with pytest.raises(UserError, match=message) as caught:
        solve_layer(solver=solver, **settings)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_unknown_solver_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean sparsegpt"):
        solve_layer(
            torch.ones(4, 8),
            torch.eye(8),
            solver="sparsegtp",
            pattern="unstructured",
            ratio=0.5,
        )


def test_the_sweep_refuses_whole_outputs() -> None:
    with pytest.raises(UserError, match="use the solver wanda or closed"):
        solve_layer(
            torch.ones(4, 8), torch.eye(8), solver="sparsegpt", pattern="1xchannel", ratio=0.5
        )
