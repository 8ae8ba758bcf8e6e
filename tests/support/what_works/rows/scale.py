"""Large networks, by tiny ones that are treated as large."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import torch
from torch import nn
from torch.utils.data import TensorDataset

from tests.support.what_works.row import Row, pruned
from ws_learner import DataSplits, split_dataset, top_k_accuracy
from ws_learner.pruning.methods import packed_masks, stored_masks
from ws_learner.pruning.patterns import mask
from ws_learner.search.rollout import spilled_database


def _data() -> DataSplits:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(160, 12, generator=draw)
    return split_dataset(TensorDataset(inputs, (inputs.mean(1) > 0).long()), num_classes=2)


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 2))


def _prune(folder: Path, network: nn.Module | None = None, **config: str) -> None:
    pruned(
        _network() if network is None else network,
        _data(),
        folder,
        loss=nn.functional.cross_entropy,
        metric=top_k_accuracy,
        config=config,
    )


def _searched_on_disk(folder: Path) -> None:
    with mock.patch.object(spilled_database, "SPILLED", 0):
        _prune(folder)


def _updated_one_layer_at_a_time(folder: Path) -> None:
    with ExitStack() as large:
        for module, name in ((stored_masks, "_MANY"), (packed_masks, "_LARGE"), (mask, "_LARGE")):
            large.enter_context(mock.patch.object(module, name, 0))
        _prune(folder, ws_prune_ratio_prtl="uniform")


def _by_thresholds(folder: Path) -> None:
    for name in ("lamp", "global"):
        _prune(folder / name, ws_prune_ratio_prtl=name)


def _full_disk(folder: Path) -> None:
    with (
        mock.patch.object(spilled_database, "SPILLED", 0),
        mock.patch("shutil.disk_usage", return_value=mock.Mock(free=1 << 20)),
        mock.patch.dict("os.environ", WS_DATA_DIR=str(folder / "cache")),
    ):
        _prune(folder)


ROWS = (
    Row(
        area="network",
        what="searches of networks whose layer database is larger than 128 MiB: it stays on disk",
        run=_searched_on_disk,
    ),
    Row(
        area="network",
        what="`lamp` and `global` on networks of any size: no copy of the scores",
        run=_by_thresholds,
    ),
    Row(
        area="training",
        what="gradual pruning of more than 1 GiB of weights: one layer at a time",
        run=_updated_one_layer_at_a_time,
    ),
    Row(
        area="network",
        what="a search on a disk without room for the layer database",
        run=_full_disk,
        refused="free some, or let the environment variable `WS_DATA_DIR` name a folder on "
        "another disk",
    ),
)
