"""A compiled optimizer step prunes as an ordinary one does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.support.every_method import CASES, STEPS, loss_of, network
from ws_learner.pruning import Sparsifier

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def run(case: str, *, whole: bool) -> tuple[nn.Module, Sparsifier]:
    model = network()
    sparsifier = CASES[case].sparsifier(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    sparsifier.attach(optimizer)
    step = torch.compile(optimizer.step, backend="eager") if whole else optimizer.step
    for number in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, number).backward()
        step()
    assert sparsifier.step == STEPS
    return sparsifier.finalize(), sparsifier


@pytest.mark.parametrize("case", ["gradual", "snip_momentum", "group_lasso", "movement", "srste"])
def test_compiled_as_plain(case: str) -> None:
    plain, compiled = run(case, whole=False), run(case, whole=True)
    for name, weight in plain[0].named_parameters():
        torch.testing.assert_close(weight, compiled[0].get_parameter(name))
    for name, mask in plain[1].masks.items():
        assert torch.equal(mask, compiled[1].masks[name])
