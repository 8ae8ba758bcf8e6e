"""Frozen, shared and lazy layers, adapters, and loops with two optimizers."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.what_works.row import Row, pruned
from tests.support.what_works.rows.refused_settings import rows_of_numbers, small_network
from ws_learner import Result, top_k_accuracy
from ws_learner.pruning import GradualConfig, Sparsifier, prune_once, remember_zeros

UNIFORM = {"ws_prune_ratio_prtl": "uniform"}


class LoraLinear(nn.Module):
    """A frozen Linear with a trained update of rank 2 (Hu et al. 2021), named as peft names it."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base.out_features, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.base_layer(inputs) + self.lora_B(self.lora_A(inputs))
        return outputs

    def merged(self) -> nn.Linear:
        """The base with the update added."""
        base = copy.deepcopy(self.base_layer)
        with torch.no_grad():
            base.weight += self.lora_B.weight @ self.lora_A.weight
        return base


def with_adapters(network: nn.Sequential) -> nn.Sequential:
    """The network with an adapter at each Linear."""
    return nn.Sequential(*(LoraLinear(m) if isinstance(m, nn.Linear) else m for m in network))


def _fit(network: nn.Module, folder: Path) -> Result:
    data = rows_of_numbers()
    loss = functional.cross_entropy
    return pruned(network, data, folder, loss=loss, metric=top_k_accuracy, config=UNIFORM)


def _one_frozen(folder: Path) -> None:
    network = small_network()
    network[0].requires_grad_(False)
    result = _fit(network, folder)
    assert list(result.ratios["layer"]) == ["2.weight"]
    assert torch.equal(result.model[0].weight, network[0].weight)  # type: ignore[index]


def _all_frozen(folder: Path) -> None:
    network = small_network().requires_grad_(False)
    result = _fit(network, folder)
    for name, weight in result.model.named_parameters():
        kept = weight != 0
        assert torch.equal(weight[kept], network.get_parameter(name)[kept])


def _adapters(folder: Path) -> None:
    network = with_adapters(small_network())
    result = _fit(network, folder)
    assert list(result.ratios["layer"]) == ["0.base_layer.weight", "2.base_layer.weight"]
    trained = result.model.get_parameter("0.lora_B.weight")
    assert not torch.equal(trained, network.get_parameter("0.lora_B.weight"))


def _merge(folder: Path) -> None:
    network = small_network()
    prune_once(network, {"0.weight": 64, "2.weight": 24})
    zeros = remember_zeros(network)
    tuned = with_adapters(network)
    merged = nn.Sequential(*(m.merged() if isinstance(m, LoraLinear) else m for m in tuned))
    assert not (merged[0].weight == 0).any()  # type: ignore[union-attr,operator]
    assert zeros.restore(merged) == {"0.weight": 64, "2.weight": 24}
    assert int((merged[0].weight == 0).sum()) == 64  # type: ignore[union-attr,operator]


def _tied(folder: Path) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    network = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Linear(8, 3))
    result = _fit(network, folder)
    assert list(result.ratios["weights"]) == [64, 24]
    parts = dict(result.model.named_parameters(remove_duplicate=False))
    assert parts["0.weight"] is parts["2.weight"]


def _two_optimizers(folder: Path) -> None:
    network, loss = small_network(), functional.cross_entropy
    optimizers = (
        torch.optim.SGD(network[0].parameters(), lr=0.1),
        torch.optim.Adam(network[2].parameters(), lr=0.01),
    )
    sparsifiers = []
    for name, optimizer in zip(("0.weight", "2.weight"), optimizers, strict=True):
        config = GradualConfig(mask_update_step=1)
        sparsifiers.append(Sparsifier(network, config, ratios={name: 0.5}, total_steps=10))
        sparsifiers[-1].attach(optimizer)
    rows, labels = next(iter(rows_of_numbers().train.batches(32)))
    for _ in range(10):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss(network(rows), labels).backward()
        for optimizer in optimizers:
            optimizer.step()
    for sparsifier in sparsifiers:
        sparsifier.finalize()
    assert [int((network[i].weight == 0).sum()) for i in (0, 2)] == [64, 24]


def _one_sparsifier_for_two(folder: Path) -> None:
    network = small_network()
    ratios = {"0.weight": 0.5, "2.weight": 0.5}
    sparsifier = Sparsifier(network, GradualConfig(), ratios=ratios, total_steps=10)
    sparsifier.attach(torch.optim.SGD(network[0].parameters(), lr=0.1))


def _frozen_in_loop(folder: Path) -> None:
    network = small_network()
    network[0].requires_grad_(False)
    sparsifier = Sparsifier(network, GradualConfig(), ratios={"0.weight": 0.5}, total_steps=10)
    trained = [value for value in network.parameters() if value.requires_grad]
    sparsifier.attach(torch.optim.SGD(trained, lr=0.1))


def _lazy(folder: Path) -> None:
    _fit(nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.Linear(16, 3)), folder)


def _lazy_norm(folder: Path) -> None:
    _fit(nn.Sequential(nn.Linear(8, 16), nn.LazyBatchNorm1d(), nn.Linear(16, 3)), folder)


def _lazy_seen(folder: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(3))
    network(torch.zeros(1, 8))
    _fit(network, folder)


ROWS = (
    Row(area="network", what="a frozen layer: left out, with a line", run=_one_frozen),
    Row(area="network", what="all layers frozen: pruned once, without training", run=_all_frozen),
    Row(area="network", what="LoRA adapters: the frozen base is pruned once", run=_adapters),
    Row(area="training", what="merging LoRA into a sparse network", run=_merge),
    Row(area="network", what="one weight shared by two Linears", run=_tied),
    Row(area="training", what="two optimizers, a Sparsifier for each", run=_two_optimizers),
    Row(
        area="training",
        what="one Sparsifier for the layers of two optimizers",
        run=_one_sparsifier_for_two,
        refused="of two optimizers each takes a Sparsifier of its own",
    ),
    Row(
        area="training",
        what="a Sparsifier on a frozen layer that the optimizer lacks",
        run=_frozen_in_loop,
        refused="0.weight is frozen (requires_grad is False); leave it out of `ratios`",
    ),
    Row(
        area="network",
        what="`nn.LazyLinear` before its first batch",
        run=_lazy,
        refused="(LazyLinear): it is lazy and has no weights yet; call the network once",
    ),
    Row(
        area="network",
        what="`nn.LazyBatchNorm1d` before its first batch",
        run=_lazy_norm,
        refused="(LazyBatchNorm1d): it is lazy and has no weights yet; call the network once",
    ),
    Row(area="network", what="`nn.Lazy*` modules after their first batch", run=_lazy_seen),
)
