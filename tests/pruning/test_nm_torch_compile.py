"""torch.compile around N:M training: nothing is compiled again while D falls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from experiments.models.vit import vit
from ws_learner.pruning.methods.mdgf import MdgfConfig
from ws_learner.pruning.patterns.pattern import parse_pattern
from ws_learner.pruning.sparsifier import Sparsifier

pytestmark = pytest.mark.slow
STEPS = 12


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
    counters.clear()


def compiled(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    # What is compiled again is decided before a backend sees it.
    return torch.compile(function, backend="aot_eager")


def train(*, whole: bool) -> tuple[nn.Module, list[float], list[int]]:
    """Weights at the end; and after each step D and the number of graphs made so far."""
    torch.manual_seed(0)
    model = vit(image=8, patch=4, width=16, depth=1, heads=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    config = MdgfConfig(pattern=parse_pattern("1:8@ff"), dense=0.0, fine_tune=0.25)
    zeros = config.targets(model)
    sparsifier = Sparsifier(model, config, zeros=zeros, total_steps=STEPS)
    sparsifier.attach(optimizer)
    inputs, targets = torch.randn(8, 3, 8, 8), torch.randint(10, (8,))
    network = model if whole else compiled(model)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss

    do = compiled(step) if whole else step
    values, graphs = [], []
    for _ in range(STEPS):
        values.append(soft_value(model, sparsifier))
        do()
        graphs.append(counters["stats"]["unique_graphs"])
    return sparsifier.finalize(), values, graphs


def soft_value(model: nn.Module, sparsifier: Sparsifier) -> float:
    """D, read off the weights: what pruned ones are multiplied by."""
    name = next(iter(sparsifier.masks))
    shadow = sparsifier.state_dict()[f"latent.{name}"]
    ratio = model.get_parameter(name).detach() / shadow
    pruned = ~sparsifier.masks[name]
    return float(ratio[pruned].median())


def test_a_compiled_network_is_compiled_once() -> None:
    _, values, graphs = train(whole=False)
    assert len({round(value, 6) for value in values}) > STEPS // 2  # D moved
    assert set(graphs) == {1}


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_step_is_compiled_once() -> None:
    model, _, graphs = train(whole=True)
    assert graphs[0] > 0
    assert graphs[1:] == graphs[:-1]  # SGD without momentum has no state that comes later
    plain, _, _ = train(whole=False)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other)
