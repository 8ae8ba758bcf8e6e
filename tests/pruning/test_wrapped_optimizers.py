"""Wrappers of optimizers, and the step that a gradient scaler leaves out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from ws_learner.core import UserError
from ws_learner.pruning import GradualConfig, PatternLockConfig, Sparsifier
from ws_learner.pruning.wrapped_optimizers import unwrap_optimizer

CONFIG = GradualConfig(mask_update_step=1, iter_ratio_beg=0.0, iter_ratio_end=0.5)


class AccelerateLike(torch.optim.Optimizer):
    """Accelerate's protocol: an Optimizer by type only, without hooks; may leave a step out."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer, self.sync_gradients = optimizer, True

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.optimizer.param_groups

    def step(self, closure: Any = None) -> None:
        if self.sync_gradients:
            self.optimizer.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        if self.sync_gradients:
            self.optimizer.zero_grad(set_to_none)


class LightningLike:
    """Lightning's protocol: the wrapped optimizer's attributes, hooks too, are passed on."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self.__class__ = type("LightningSGD", (type(self), type(optimizer)), {})

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_optimizer"], name)

    def step(self, closure: Any = None) -> Any:
        return self._optimizer.step(closure)


class ApexLike:
    """Neither an Optimizer nor passing anything on."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optim = optimizer

    def step(self) -> None:
        self.optim.step()


def train(model: nn.Module, optimizer: Any, steps: int) -> None:
    for seed in range(steps):
        inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(seed))
        for parameter in model.parameters():
            parameter.grad = None
        model(inputs).square().mean().backward()
        optimizer.step()


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(6, 6)


@pytest.mark.parametrize(
    "wrap",
    [AccelerateLike, LightningLike, ApexLike, lambda inner: ApexLike(AccelerateLike(inner))],
)
def test_a_wrapped_optimizer_is_followed_as_the_optimizer_itself(wrap: Callable[..., Any]) -> None:
    states = []
    for wrapped in (False, True):
        model = linear()
        inner = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        optimizer = wrap(inner) if wrapped else inner
        sparsifier = Sparsifier(model, CONFIG, ratios={"weight": 0.75}, total_steps=10)
        sparsifier.attach(optimizer)
        sparsifier.attach(inner)  # the same one: changes nothing
        train(model, optimizer, 10)
        assert sparsifier.step == 10
        sparsifier.finalize()
        assert int((model.weight == 0).sum()) == 27
        states.append(model.weight.detach())
    assert torch.equal(*states)


def test_accumulated_batches_are_one_step_and_a_skipped_one_is_none() -> None:
    model = linear()
    optimizer = AccelerateLike(torch.optim.SGD(model.parameters(), lr=0.1))
    sparsifier = Sparsifier(model, CONFIG, ratios={"weight": 0.75}, total_steps=10)
    sparsifier.take_over(optimizer)
    for batch in range(8):
        optimizer.sync_gradients = batch % 4 == 3
        model(torch.ones(1, 6)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sparsifier.step == 2


def test_what_has_no_optimizer_inside_is_refused() -> None:
    class Own:
        param_groups: list[Any] = []  # noqa: RUF012

    model = linear()
    sparsifier = Sparsifier(model, CONFIG, ratios={"weight": 0.75}, total_steps=10)
    with pytest.raises(UserError, match="`optimizer` Own: has no step hooks"):
        sparsifier.attach(Own())  # type: ignore[arg-type]
    loop = ApexLike(torch.optim.SGD(model.parameters(), lr=0.1))
    loop.optim = loop  # type: ignore[assignment]
    with pytest.raises(UserError, match="ApexLike"):
        unwrap_optimizer(loop)


def test_a_step_that_the_scaler_skips_does_not_count() -> None:
    model = linear()
    inner = torch.optim.AdamW(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    class Scaled(AccelerateLike):
        def step(self, closure: Any = None) -> None:
            scaler.step(self.optimizer)
            scaler.update()

    optimizer = Scaled(inner)
    sparsifier = Sparsifier(model, CONFIG, ratios={"weight": 0.75}, total_steps=10)
    sparsifier.attach(optimizer)
    for number in range(6):
        before = model.weight.detach().clone()
        scale = torch.inf if number % 3 == 0 else 1.0  # the first and the fourth overflow
        scaler.scale(model(torch.full((1, 6), scale)).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(model.weight, before) == (number % 3 == 0)
    assert sparsifier.step == 4
    assert bool(torch.isfinite(model.weight).all())


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.usefixtures("one_rank")
def test_a_zero_redundancy_optimizer_keeps_no_momentum_of_pruned_weights() -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = linear()
    optimizer = ZeroRedundancyOptimizer(
        model.parameters(), optimizer_class=torch.optim.SGD, lr=0.1, momentum=0.9
    )
    sparsifier = Sparsifier(model, CONFIG, ratios={"weight": 0.75}, total_steps=6)
    sparsifier.attach(optimizer)
    train(model, optimizer, 6)
    assert sparsifier.step == 6
    momentum = optimizer.optim.state[model.weight]["momentum_buffer"]
    pruned = ~sparsifier.masks["weight"]
    assert int(pruned.sum()) == 27
    assert bool((momentum[pruned] == 0).all())
    assert bool((momentum[~pruned] != 0).any())
    sparsifier.finalize()
    assert int((model.weight == 0).sum()) == 27


@pytest.mark.filterwarnings("ignore:FSDP is switching:UserWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("kind", ["FSDP", "FSDP of original parameters", "FSDP2", "ZeRO-3"])
def test_weights_split_over_processes_are_refused(kind: str) -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    model: nn.Module = linear()
    if kind == "FSDP2":
        fully_shard(model)
    elif kind == "ZeRO-3":
        model.get_parameter("weight").ds_id = 0  # type: ignore[attr-defined]
    else:
        original = kind.endswith("parameters")
        cpu = torch.device("cpu")
        model = FullyShardedDataParallel(model, use_orig_params=original, device_id=cpu)
    for name in ("weight", "_fsdp_wrapped_module.weight"):
        if name == "weight" or kind.startswith("FSDP "):
            with pytest.raises(UserError, match="`model`: its weights are split over processes"):
                Sparsifier(model, CONFIG, ratios={name: 0.75}, total_steps=10)


def test_finished_says_when_finalize_would_succeed() -> None:
    model = linear()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = Sparsifier(model, CONFIG, ratios={"weight": 0.75}, total_steps=10)
    sparsifier.attach(optimizer)
    for _ in range(5):
        assert not sparsifier.finished
        with pytest.raises(UserError, match="before the ramp's last step 5"):
            sparsifier.finalize()
        train(model, optimizer, 1)
    assert sparsifier.finished
    sparsifier.finalize()
    lock = Sparsifier(model, PatternLockConfig(), zeros={"weight": 27}, total_steps=1)
    assert lock.finished
