"""Functions of a user's file reach other processes, also inside a partial or a `MetricSpec`."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
from torch import nn

from ws_learner.core.errors import UserError
from ws_learner.core.pickling import importable, refuse_unpicklable
from ws_learner.training.metric_spec import MetricSpec

WRAPPED: dict[str, Callable[[Any], Any]] = {
    "plain": lambda function: function,
    "partial": lambda function: partial(function, power=2),
    "metric": lambda function: MetricSpec(function, name="error"),
    "both": lambda function: MetricSpec(partial(partial(function), power=2), name="error"),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_the_file_need_not_be_there_on_the_other_side(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a_users_file.py"
    path.write_text("def error(x, y, power=2):\n    return (x - y) ** power\n")
    spec = importlib.util.spec_from_file_location("a_users_file", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["a_users_file"] = module
    try:
        spec.loader.exec_module(module)
        part = WRAPPED[name](module.error)
        with importable([part]):
            sent = cloudpickle.dumps(part)
    finally:
        del sys.modules["a_users_file"]
    assert pickle.loads(sent)(5, 2) == 9


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)


def test_what_cannot_be_sent_is_named_and_what_can_passes() -> None:
    lock, network = threading.Lock(), Plain()
    fine = {"model": network, "loss": nn.functional.cross_entropy, "metric": lambda x, y: x == y}
    refuse_unpicklable(fine, remedy="or stay here")

    def locked(x: Any, y: Any) -> Any:
        with lock:
            return x - y

    with pytest.raises(UserError, match=r"^`loss`: cannot be sent .*lock.*, or stay here$"):
        refuse_unpicklable(fine | {"loss": locked}, remedy="or stay here")
    network.inner.counts = (one for one in range(3))  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"^`model`: cannot be sent .*generator"):
        refuse_unpicklable(fine, remedy="or stay here")


def test_tensors_are_not_written_out_to_see_whether_they_can_be() -> None:
    class Counted(torch.Tensor):
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise AssertionError("the tensor is pickled")

    network = Plain()
    network.register_buffer("large", torch.zeros(3).as_subclass(Counted))
    refuse_unpicklable({"model": network}, remedy="")
