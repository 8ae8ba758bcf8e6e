"""Protocols: exact totals, PocketFlow's heurist formula, bounds and exemptions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from envs.problem import FloatArray, IntArray, LayerRow
from tests.support.layer_rows import layer_rows
from ws_learner.config.learner import WeightSparseConfig
from ws_learner.core.errors import UserError
from ws_learner.search.bounds import layer_bounds
from ws_learner.search.closed_form import CLOSED_FORM
from ws_learner.search.context import allocation_context

SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=30)


def config(target: float, **more: object) -> WeightSparseConfig:
    return WeightSparseConfig(ws_prune_ratio=target, **more)  # type: ignore[arg-type]


def cheap_profile(
    name: str, layers: tuple[LayerRow, ...], settings: WeightSparseConfig
) -> IntArray:
    """What a protocol makes of the layer table alone: there is no network to look at."""

    def curves() -> tuple[FloatArray, FloatArray]:
        raise AssertionError("this protocol should not measure anything")

    return CLOSED_FORM[name](allocation_context(nn.Identity(), layers, settings, curves=curves))


def test_heurist_is_pocketflows_formula_where_no_bound_binds() -> None:
    sizes = [432, 2304, 4608, 9216, 18432, 36864, 640]
    n = np.array(sizes, dtype=np.float64)
    alpha = 0.75 * n.sum() / (n * np.log(n)).sum()
    got = cheap_profile("heurist", layer_rows(sizes), config(0.75))
    np.testing.assert_allclose(got / n, alpha * np.log(n), atol=1.5 / n.min())
    assert got.sum() == round(0.75 * n.sum())


@pytest.mark.parametrize("target", [0.9, 0.95, 0.98])
def test_heurist_never_exceeds_the_bound_and_redistributes_the_excess(target: float) -> None:
    sizes = [30, 300, 3000, 30000, 300000]
    n = np.array(sizes, dtype=np.float64)
    plain = target * n.sum() / (n * np.log(n)).sum() * np.log(n)
    bound = target + 0.004
    assert plain.max() > bound, "the plain formula should leave the bounds here"
    got = cheap_profile("heurist", layer_rows(sizes), config(target, ws_ratio_max=bound))
    assert (got / n).max() <= bound
    assert got.sum() == round(target * n.sum())
    # Layers below the bound keep the proportions of the formula.
    free = got / n < bound - 1e-3
    factor = (got / n)[free] / np.log(n)[free]
    assert np.ptp(factor) < 1.5 / n[free].min()


@given(SIZES, st.floats(0, 1), st.sampled_from(["uniform", "heurist", "erk"]))
def test_totals_are_exact_whatever_the_layers(
    sizes: list[int], target: float, protocol: str
) -> None:
    settings = config(target, ws_ratio_max=1.0)
    got = cheap_profile(protocol, layer_rows(sizes), settings)
    assert got.sum() == round(target * sum(sizes))
    assert np.all((got >= 0) & (got <= sizes))


def test_uniform_is_uniform() -> None:
    sizes = [1000, 2000, 3000]
    assert cheap_profile("uniform", layer_rows(sizes), config(0.75)).tolist() == [750, 1500, 2250]


def test_exempt_layers_get_nothing_and_the_others_make_up_for_it() -> None:
    sizes = [1000, 2000, 3000]
    for protocol in ("uniform", "heurist", "erk"):
        got = cheap_profile(protocol, layer_rows(sizes, exempt=(0,)), config(0.75))
        assert got[0] == 0
        assert got.sum() == 4500


def test_a_target_that_the_bounds_forbid_is_an_error_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"`ws_prune_ratio` 0.9.*allow 0.0000 to 0.5000"):
        layer_bounds(layer_rows([100]), config(0.9, ws_ratio_max=0.5))


def test_pocketflow_bounds() -> None:
    lower, upper = layer_bounds(layer_rows([10000]), config(0.9, ws_ratio_bounds="pocketflow"))
    assert (lower[0], upper[0]) == (7000, 9666)


def test_targets_0_and_1(capsys: pytest.CaptureFixture[str]) -> None:
    layers = layer_rows([10, 20])
    assert cheap_profile("uniform", layers, config(0.0)).tolist() == [0, 0]
    assert cheap_profile("heurist", layers, config(1.0)).tolist() == [10, 20]
    assert "every weight is pruned" in capsys.readouterr().err
