"""Settings, data, losses and metrics that are refused before any work, or give way with a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from tests.support.what_works.row import Row, pruned
from ws_learner import DataSplits, Recipe, WeightSparseConfig, split_dataset, top_k_accuracy
from ws_learner.data import Batch

UNIFORM = {"ws_prune_ratio_prtl": "uniform"}
Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Empty:
    """A split without examples."""

    def __len__(self) -> int:
        return 0

    def batches(self, batch_size: int, **_: Any) -> Iterator[Batch]:
        return iter(())


def rows_of_numbers(change: Change | None = None) -> DataSplits:
    """160 rows of 8 numbers of three classes."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(160, 8, generator=draw)
    labels = rows[:, :3].argmax(1)
    if change is not None:
        rows, labels = change(rows, labels)
    return split_dataset(TensorDataset(rows, labels), num_classes=3)


def small_network() -> nn.Sequential:
    """8 -> 16 -> 3."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))


def _fit(folder: Path, *, change: Change | None = None, **given: Any) -> None:
    parts: dict[str, Any] = {"loss": functional.cross_entropy, "metric": top_k_accuracy}
    data = given.pop("data", None) or rows_of_numbers(change)
    pruned(given.pop("model", None) or small_network(), data, folder, **(parts | given))


def _refused(what: str, line: str, **given: Any) -> Row:
    """A row of what is refused before anything is written."""

    def run(folder: Path) -> None:
        try:
            _fit(folder, **given)
        finally:
            assert not (folder / "run").exists()

    area = "training" if "config" in given or "recipe" in given else "outputs and losses"
    return Row(area="data" if "change" in given else area, what=what, run=run, refused=line)


def _empty(name: str, folder: Path) -> None:
    _fit(folder, data=dataclasses.replace(rows_of_numbers(), **{name: Empty()}))


def _broken(value: float, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(torch.arange(len(rows))[:, None] == 77, value, rows), labels


def _labelled(value: int, rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return rows, torch.where(torch.arange(len(labels)) == 77, value, labels)


def _broken_weight(folder: Path) -> None:
    network = small_network()
    with torch.no_grad():
        network[2].weight[0, 0] = torch.nan
    _fit(folder, model=network)


class _Root(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.sqrt()


def _root(folder: Path) -> None:
    torch.manual_seed(0)
    _fit(folder, model=nn.Sequential(nn.Linear(8, 8), _Root(), nn.Linear(8, 3)))


def _ignored(folder: Path) -> None:
    loss = nn.CrossEntropyLoss(ignore_index=7)
    _fit(folder, change=partial(_labelled, 7), loss=loss, config=UNIFORM)


def _one_step(folder: Path) -> None:
    _fit(folder, recipe=Recipe(nb_epochs=0.01, batch_size=16), config=UNIFORM)


def _usual_batch(folder: Path) -> None:
    _fit(folder, recipe=Recipe(nb_epochs=1), config=UNIFORM)


def _words_mixed(folder: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    words = torch.randint(0, 9, (160, 5), generator=draw)
    data = split_dataset(TensorDataset(words, words[:, 0] % 3), num_classes=3)
    network = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Linear(40, 3))
    _fit(folder, data=data, model=network, recipe=Recipe(nb_epochs=1, batch_size=16, mixup=0.2))


def _taken(folder: Path) -> None:
    (folder / "taken").write_text("")
    _fit(folder, config=UNIFORM | {"ws_save_path": folder / "taken" / "x.safetensors"})


class _NeedsTargets(nn.Linear):
    def forward(self, inputs: Tensor, targets: Any = None) -> Any:
        if self.training and targets is None:
            raise TypeError("forward() needs targets in training")
        return super().forward(inputs)


def _stratified(folder: Path) -> None:
    labels = torch.arange(100) % 10 // 9  # one in ten
    data = TensorDataset(torch.randn(100, 2), labels)
    splits = split_dataset(data, num_classes=2, stratify=True)
    for split in (splits.search, splits.select, splits.test, splits.train):
        ones = sum(int(targets.sum()) for _, targets in split.batches(100))
        assert abs(ones - len(split) / 10) <= 1
        assert ones


def _few_rollouts(folder: Path) -> None:
    assert WeightSparseConfig(ws_nb_rlouts=4).ws_nb_rlouts_min == 2


def _written(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.mul_(2), targets)


def _overwriting_metric(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.zero_().argmax(1) == targets).float()


ROWS = (
    Row(area="data", what="rare classes: `split_dataset(..., stratify=True)`", run=_stratified),
    Row(
        area="training",
        what="mixup of word numbers",
        run=_words_mixed,
        refused="the sparse training cannot begin: a step on 8 examples fails",
    ),
    _refused(
        "a teacher with other outputs",
        "use a teacher with the same classes",
        teacher=nn.Linear(8, 5),
        config={"enbl_dst": True},
    ),
    _refused(
        "a network that fails in training mode only",
        "the sparse training cannot begin: a step on 8 examples fails, TypeError",
        model=_NeedsTargets(8, 3),
        recipe=Recipe(nb_epochs=1, batch_size=16),
    ),
    Row(
        area="training",
        what="a file that cannot be written (`ws_save_path`)",
        run=_taken,
        refused="taken is no folder",
    ),
    Row(area="training", what="a training of a single step", run=_one_step),
    Row(area="training", what="fewer examples than the usual batch", run=_usual_batch),
    Row(area="training", what="a search of four rollouts, all else unset", run=_few_rollouts),
    _refused(
        "mask updates further apart than the ramp is long",
        "`mask_update_step` 1000 is longer than the ramp of 3 steps",
        config={"ws_mask_update_step": 1000},
    ),
    _refused(
        "a batch larger than the training split",
        "`batch_size` 500: larger than the training split (96 examples); choose at most 96",
        recipe=Recipe(nb_epochs=1, batch_size=500),
    ),
    *(
        Row(
            area="data",
            what=f"a {name} split without examples",
            run=partial(_empty, name),
            refused=f"the {name} split holds no examples",
        )
        for name in ("train", "search", "select", "test")
    ),
    _refused(
        "NaN in one example",
        "hold NaN or infinity; mend them, such as with torch.nan_to_num, or leave the example out",
        change=partial(_broken, torch.nan),
    ),
    _refused(
        "an infinite value in one example",
        "of the train split hold NaN or infinity",
        change=partial(_broken, torch.inf),
    ),
    _refused(
        "a label as large as the number of outputs",
        "has the label 3, but the network's 3 outputs are for labels 0 to 2",
        change=partial(_labelled, 3),
    ),
    _refused(
        "a negative label",
        "has the label -1, but the network's 3 outputs are for labels 0 to 2",
        change=partial(_labelled, -1),
    ),
    Row(area="data", what="labels that the loss ignores (`ignore_index`)", run=_ignored),
    _refused(
        "a loss of each example (`reduction='none'`)",
        "it must return one number, such as their mean (reduction='mean')",
        loss=nn.CrossEntropyLoss(reduction="none"),
    ),
    _refused(
        "a detached loss",
        "does not depend on the network's outputs by differentiable steps",
        loss=lambda o, t: functional.cross_entropy(o, t).detach(),
    ),
    _refused(
        "a loss that returns a Python number",
        "it must return a tensor of one number, without float() or .item()",
        loss=lambda o, t: float(functional.cross_entropy(o, t)),
    ),
    _refused(
        "a loss that is NaN from the start",
        "`loss`: is nan on the first training examples",
        loss=lambda o, t: functional.cross_entropy(o, t) * torch.nan,
    ),
    _refused(
        "a loss that counts errors (whole numbers)",
        "returns int64; it must return a real number that can be minimised",
        loss=lambda o, t: (o.argmax(1) != t).sum(),
    ),
    _refused(
        "a loss that fails",
        "`loss`: fails on outputs (16, 3) and targets (16,), AttributeError",
        loss=lambda o, t: o.logits,
    ),
    _refused("a loss that changes its arguments", "changes its arguments in place", loss=_written),
    _refused(
        "a metric that changes its arguments",
        "`metric`: changes its arguments in place",
        metric=_overwriting_metric,
    ),
    Row(
        area="network",
        what="a weight of NaN",
        run=_broken_weight,
        refused="the weight 2.weight holds NaN or infinity",
    ),
    Row(
        area="network",
        what="a layer whose outputs are NaN",
        run=_root,
        refused="they become so in 1 (_Root), from inputs and weights that are finite",
    ),
)
