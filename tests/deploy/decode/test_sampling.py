"""Sampling in the kernel against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite")
pytest.importorskip("transformers")

from tests.support.decode_llama import PROMPT, llama
from ws_learner.deploy.decode import Sampling, compile_sparse_lm
from ws_learner.deploy.decode.isas import usable_decode_isas
from ws_learner.deploy.decode.sampling import draw_token, kept_weights

NAMES = [isa.name for isa in usable_decode_isas()]
KINDS = [
    {"temperature": 1.0},
    {"temperature": 0.3, "top_k": 7},
    {"temperature": 2.0, "top_p": 0.6},
    {"temperature": 1.3, "top_k": 40, "top_p": 0.9},
    {"temperature": 0.7, "top_k": 1},
    {"temperature": 1.0, "top_p": 1e-6},
    {"temperature": 1.0, "top_k": 10**6, "top_p": 0.999},
    {"temperature": 1e-40},
]


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> Any:
    return compile_sparse_lm(llama(), isa=request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_the_kernel_draws_what_numpy_draws(network: Any, kind: dict[str, Any]) -> None:
    state, draw = network.state(), np.random.default_rng(5)
    network.engine.feed(state, PROMPT)
    sampling = Sampling(**kind)
    for _ in range(20):
        logits = (4 * draw.standard_normal(250)).astype(np.float32)
        logits[:60] = np.rint(logits[:60])  # many are alike
        state.logits[:] = logits
        state.control[2] = logits.argmax()
        weights = kept_weights(logits, sampling)
        edges = np.cumsum(weights) / weights.sum()
        for share in (0.0, *draw.random(5)):
            if share and np.abs(edges - share).min() < 1e-5:
                continue  # float32 may fall on the other side
            assert network.engine.draw(state, sampling, share) == draw_token(
                logits, sampling, share
            )
        left = np.flatnonzero(weights)
        assert network.engine.draw(state, sampling, 1 - 2**-53) in left[-3:]


def test_top_k_and_top_p_leave_what_they_say() -> None:
    logits = np.log(np.float32([0.5, 0.1, 0.25, 0.1, 0.05]))
    assert (kept_weights(logits, Sampling(temperature=1, top_k=2)) > 0).tolist() == [
        *(True, False, True, False, False)
    ]
    alike = kept_weights(logits, Sampling(temperature=1, top_k=3))  # two are third
    assert (alike > 0).tolist() == [True, True, True, True, False]
    mass = kept_weights(logits, Sampling(temperature=1, top_p=0.7))
    assert (mass > 0).tolist() == [True, False, True, False, False]


def test_draws_follow_the_probabilities(network: Any) -> None:
    """A chi-square of 4 groups beyond 25 has a probability below 2e-5."""
    state = network.state()
    network.engine.feed(state, PROMPT)
    state.logits[:] = -100
    state.logits[[3, 50, 100, 249]] = np.log(np.float32([0.4, 0.3, 0.2, 0.1]))
    state.control[2] = 3
    draw, sampling = np.random.default_rng(0), Sampling(temperature=1.0)
    found = [network.engine.draw(state, sampling, draw.random()) for _ in range(2000)]
    counts = np.array([found.count(token) for token in (3, 50, 100, 249)])
    wanted = 2000 * np.array([0.4, 0.3, 0.2, 0.1])
    assert counts.sum() == 2000
    assert ((counts - wanted) ** 2 / wanted).sum() < 25
