"""Networks, labels and ratios that people give to `prune`, the one call."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from tests.support.what_works.row import Area, Row
from ws_learner import prune

_INPUTS = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
_LABELS = (_INPUTS[:, 0] > 0).long()
_WHOLE = TensorDataset(_INPUTS, _LABELS)


class _Broken(Dataset[Any]):
    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> Any:
        if index == 50:
            raise OSError("50.jpg is truncated")
        return _WHOLE[index]


class _Locked(nn.Linear):
    def __init__(self) -> None:
        super().__init__(6, 2)
        self.lock = threading.Lock()


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))


def _meta() -> nn.Module:
    with torch.device("meta"):
        return _network()


def _script() -> Any:
    script: Any = torch.jit.script
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated, and people have such networks
        return script(_network())


def _run(
    folder: Path, *, model: Any = None, data: Any = _WHOLE, ratio: Any = 0.5, **more: Any
) -> Any:
    config = more.pop("config", {"ws_prune_ratio_prtl": "uniform"})
    network = _network() if model is None else model
    return prune(network, data, ratio, epochs=1, config=config, run_dir=folder / "run", **more)


def _void(folder: Path) -> None:
    targets = torch.randint(3, (24, 4, 4), generator=torch.Generator().manual_seed(0))
    targets[:, 0] = 255
    images = torch.randn(24, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    parts = tuple(TensorDataset(images[part], targets[part]) for part in (slice(16), slice(16, 24)))
    model = nn.Conv2d(1, 3, 3, padding=1)
    found = _run(folder, model=model, data=parts, loss=nn.CrossEntropyLoss(ignore_index=255))
    with torch.no_grad():
        right = (model(images[16:]).argmax(1) == targets[16:])[:, 1:].double().mean()
    assert abs(found.summary["dense_accuracy"] - float(right)) < 1e-6


def _own_ratios(folder: Path) -> None:
    found = _run(folder, ratio=None, config={"ws_ratios": {"0": 0.5, "2": 0.25}})
    assert [int((found.model[place].weight == 0).sum()) for place in (0, 2)] == [48, 8]


def _numpy_ratio(folder: Path) -> None:
    assert _run(folder, ratio=np.float32(0.5)).summary["achieved_prune_ratio"] == 0.5


def _refused(area: Area, what: str, line: str, **given: Callable[[], Any]) -> Row:
    def run(folder: Path) -> None:
        _run(folder, **{name: value() for name, value in given.items()})

    return Row(area=area, what=f"`prune` with {what}", run=run, refused=line)


ROWS: tuple[Row, ...] = (
    Row(
        area="outputs and losses",
        what="`prune` with pixels of no class, 255, that the loss ignores: no score counts them",
        run=_void,
    ),
    Row(area="training", what="`prune` with ratios of the layers alone", run=_own_ratios),
    Row(area="training", what="`prune` with a ratio of type `numpy.float32`", run=_numpy_ratio),
    _refused(
        "network",
        "a network on the meta device",
        "0.weight is on the meta device and has no values",
        model=_meta,
    ),
    _refused(
        "network",
        "a scripted network",
        "is scripted or traced, which hides its layers; prune the network that it was made from",
        model=_script,
    ),
    _refused(
        "network",
        "a network that holds a lock",
        "copy.deepcopy of it fails, TypeError: cannot pickle '_thread.lock' object",
        model=_Locked,
    ),
    _refused(
        "data",
        "a list of data sets",
        "a list of 2 data sets or loaders; give a tuple (train, validation)",
        data=lambda: [_WHOLE, _WHOLE],
    ),
    _refused(
        "data",
        "a pandas frame",
        "a DataFrame does not say which columns are inputs",
        data=lambda: pd.DataFrame(np.zeros((40, 3))),
    ),
    _refused(
        "data",
        "an example that cannot be read",
        "fails, OSError: 50.jpg is truncated; mend it, or leave it out with a Subset",
        data=_Broken,
    ),
    _refused(
        "training",
        "`compute='cuda'`",
        "`compute`: is 'cuda'; give choose_device(device='cpu')",
        compute=lambda: "cuda",
    ),
)
