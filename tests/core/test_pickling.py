"""Functions of a user's file reach other processes, also inside a partial or a `MetricSpec`."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from ws_learner.core.pickling import importable
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
