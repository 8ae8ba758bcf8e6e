"""Splits: every class that offers `batches` offers it with the signature of `Split`."""

from __future__ import annotations

import inspect

import pytest

import ws_learner.compat
import ws_learner.data
from tests.support.every_module import every_module
from ws_learner.compat.lpot.data import LimitedSplit
from ws_learner.data.arrays import ArraySplit
from ws_learner.data.dataset_split import DatasetSplit
from ws_learner.data.device_arrays import DeviceArrays
from ws_learner.data.reading import MemorySplit
from ws_learner.data.splits import Split
from ws_learner.data.tabular import TableSplit
from ws_learner.data.tokens import TokenSplit

SPLITS = (
    *(ArraySplit, DatasetSplit, DeviceArrays, LimitedSplit, MemorySplit, Split, TableSplit),
    TokenSplit,
)


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: split.__name__)
def test_a_split_reads_batches_with_the_signature_of_the_protocol(split: type) -> None:
    assert inspect.signature(split.batches) == inspect.signature(Split.batches)
    assert "__len__" in dir(split)


def test_no_split_is_forgotten() -> None:
    found = {
        kind
        for module in every_module(ws_learner.data, ws_learner.compat)
        for kind in vars(module).values()
        if inspect.isclass(kind)
        and kind.__module__.startswith("ws_learner")
        and hasattr(kind, "batches")
    }
    assert found == set(SPLITS)
