"""Digests of code and networks: stable where nothing changed, other where behaviour changes."""

from __future__ import annotations

import copy
import functools
import importlib.util
import logging
import operator
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ws_learner.core import ValueDigest, forward_digest, state_digest, value_digest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import functools, json, torch
from torch import nn
from ws_learner.core import forward_digest, value_digest

SCALE, NAMES = 2.0, {"a", "b", "c", "d"}

def helper(x):
    return x * SCALE if "a" in NAMES else x

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act = nn.Linear(3, 4), lambda x: helper(x).relu()
        self.names = {"x", "y", "z"}
        self.part = functools.partial(torch.clamp, min=0)
    def forward(self, x):
        return self.part(self.act(self.first(x)))

def closed(k):
    return lambda o, t: k * (o - t).square().mean()

net = Net()
print(json.dumps([forward_digest(net), value_digest(closed(3)), value_digest(nn.MSELoss()),
                  value_digest(functools.partial(helper)), value_digest({"p", "q", "r"})]))
"""


def test_two_processes_agree(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    shown = {
        subprocess.run(
            [sys.executable, str(path)],
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(shown) == 1
    assert "0x" not in shown.pop()


def module_of(text: str, folder: Path) -> ModuleType:
    """Import a file, as another version of the user's own."""
    path = folder / "own.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("own", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)
    finally:
        sys.dont_write_bytecode = before
    return module


OWN = """
import torch
from torch import nn
WEIGHT = torch.ones(2)

def helper(x):
    return 2 * x

class Base(nn.Module):
    scale = 1.0
    def forward(self, x):
        return helper(x) * self.scale

class Net(Base):
    pass

def loss(o, t):
    # a comment
    return (WEIGHT * helper(o - t)).mean()
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2 * x", "3 * x"),  # in a helper that both call
        ("return helper(x) * self.scale", "return helper(x) + self.scale"),
        ("scale = 1.0", "scale = 1.5"),
        ("torch.ones(2)", "torch.zeros(2)"),
        (".mean()", ".sum()"),
    ],
)
def test_a_change_of_code_is_seen(old: str, new: str, tmp_path: Path) -> None:
    first, second = (module_of(text, tmp_path) for text in (OWN, OWN.replace(old, new)))
    same = module_of("\n\n" + OWN.replace("# a comment", "# another one"), tmp_path)
    digests = [
        (forward_digest(module.Net()), value_digest(module.loss))
        for module in (first, second, same)
    ]
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]


def closing(value: Any) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets) * value

    return loss


class Scorer:
    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs() ** self.power

    def score(self, outputs: Tensor) -> Tensor:
        return outputs**self.power


class Slotted:
    __slots__ = ("power",)

    def __init__(self, power: float) -> None:
        self.power = power


PAIRS: list[tuple[Any, Any]] = [
    (lambda x: x + 1, lambda x: x - 1),
    (lambda x, k=1: x * k, lambda x, k=2: x * k),
    (closing(1), closing(2)),
    (closing(torch.ones(3)), closing(torch.zeros(3))),
    (closing(np.ones(3)), closing(np.zeros(3))),
    (closing(closing(1)), closing(closing(2))),
    (functools.partial(F.cross_entropy, label_smoothing=0.1), F.cross_entropy),
    (
        functools.partial(F.cross_entropy, label_smoothing=0.1),
        functools.partial(F.cross_entropy, label_smoothing=0.2),
    ),
    (functools.cache(closing(1)), functools.cache(closing(2))),
    (operator.itemgetter(1), operator.itemgetter(2)),
    (F.max_pool2d, F.adaptive_max_pool2d),
    (torch.relu, torch.sigmoid),
    (Scorer(1.0), Scorer(2.0)),
    (Scorer(1.0).score, Scorer(2.0).score),
    (Slotted(1.0), Slotted(2.0)),
    (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)),
    (nn.CrossEntropyLoss(weight=torch.ones(2)), nn.CrossEntropyLoss(weight=torch.zeros(2))),
    (torch.zeros(4), torch.zeros(2, 2)),
    (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
    ([1, 2], [2, 1]),
    ("1", 1),
    (True, 1),
]


@pytest.mark.parametrize(("one", "two"), PAIRS, ids=map(str, range(len(PAIRS))))
def test_behaviour_that_differs_has_another_digest(one: Any, two: Any) -> None:
    assert value_digest(one) != value_digest(two)
    for value in (one, two):
        digest = ValueDigest()
        assert digest.of(value)[:16] == value_digest(value)
        assert digest.opaque == set()


def test_copies_and_recreated_functions_are_equal() -> None:
    assert value_digest(closing(2)) == value_digest(closing(2))
    assert value_digest(Scorer(2.0)) == value_digest(copy.deepcopy(Scorer(2.0)))
    assert value_digest({"a": 1, "b": 2}) == value_digest({"b": 2, "a": 1})


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def test_a_forward_counts_without_its_weights() -> None:
    plain, other = net(), net()
    with torch.no_grad():
        other[0].weight.zero_()  # type: ignore[union-attr, operator]
    assert forward_digest(plain) == forward_digest(other)
    assert state_digest(plain) != state_digest(other)
    assert value_digest(plain) != value_digest(other)
    assert forward_digest(net().eval()) == forward_digest(net().train())
    assert forward_digest(torch.compile(plain, backend="eager")) == forward_digest(plain)  # type: ignore[arg-type]


def variants() -> dict[str, nn.Module]:
    """Networks with the same state_dict and another forward."""
    made: dict[str, nn.Module] = {"plain": net()}
    made["order"] = nn.Sequential(net()[0], nn.ReLU(), net()[1])
    made["act"] = nn.Sequential(net()[0], net()[1], nn.GELU())
    made["stride"] = net()
    made["stride"][0].stride = (2, 2)  # type: ignore[index]
    made["eps"] = net()
    made["eps"][1].eps = 0.1  # type: ignore[index]
    made["hook"] = net()
    made["hook"].register_forward_hook(lambda module, inputs, output: output * 2)
    made["own forward"] = net()
    made["own forward"].forward = lambda x: x  # type: ignore[method-assign]
    made["frozen"] = net()
    made["frozen"][0].weight.requires_grad_(False)  # type: ignore[index]
    made["buffer"] = net()
    made["buffer"].register_buffer("shift", torch.ones(1), persistent=False)
    made["other buffer"] = net()
    made["other buffer"].register_buffer("shift", torch.zeros(1), persistent=False)
    return made


def test_forwards_that_differ_have_other_digests() -> None:
    digests = {name: forward_digest(network) for name, network in variants().items()}
    assert len(set(digests.values())) == len(digests)
    assert digests == {name: forward_digest(network) for name, network in variants().items()}


def test_what_cannot_be_digested_is_named() -> None:
    digest = ValueDigest()
    one, two = digest.of(closing(threading.Lock())), digest.of(closing(threading.Lock()))
    assert one == two
    assert digest.opaque == {"_thread.lock"}
    assert value_digest(logging.getLogger("a")) == value_digest(logging.getLogger("b"))


def test_cycles_end() -> None:
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    held: list[Any] = [even]
    held.append(held)
    assert value_digest(held) == value_digest(held)
    assert value_digest(even) != value_digest(odd)
