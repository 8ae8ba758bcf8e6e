"""A loop with accelerate; runs where accelerate is installed (CONTRIBUTING.md)."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("accelerate", reason="the package accelerate is not installed")

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, GradientState, PartialState

from ws_learner.pruning import GradualConfig, MethodConfig, Sparsifier, SrSteConfig

pytestmark = pytest.mark.filterwarnings("default")

GRADUAL = GradualConfig(mask_update_step=1, iter_ratio_beg=0.0, iter_ratio_end=0.5)


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """Accelerate keeps settings for the whole process."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


class Loop:
    """Two batches make a step; a cosine schedule; everything prepared."""

    def __init__(self, config: MethodConfig, *, ratio: float, early: bool) -> None:
        torch.manual_seed(0)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer: Any = torch.optim.AdamW(model.parameters(), lr=0.02)
        self.sparsifier = Sparsifier(model, config, ratios={"0.weight": ratio}, total_steps=8)
        if early:  # on the CPU prepare() moves nothing
            self.sparsifier.attach(optimizer)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
        loader = DataLoader(TensorDataset(x, x.sum(1).relu()), batch_size=4)
        self.model, self.optimizer, self.schedule, self.loader = self.accelerator.prepare(
            model, optimizer, schedule, loader
        )
        self.sparsifier.attach(self.optimizer)
        self.accelerator.register_for_checkpointing(self.sparsifier)
        self.zeros: list[int] = []

    def run(self, begin: int = 0, end: int = 16, save: Path | None = None) -> None:
        for number, (x, y) in enumerate(self.loader):
            if not begin <= number < end:
                continue
            with self.accelerator.accumulate(self.model):
                loss = (self.model(x)[:, 0] - y).square().mean()
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.schedule.step()
                self.optimizer.zero_grad()
            if number % 2:
                self.zeros.append(int((self.model[0].weight == 0).sum()))
        if save is not None:
            self.accelerator.save_state(str(save))


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(
    ("config", "ratio"), [(GRADUAL, 0.75), (SrSteConfig(), 0.5)], ids=["gradual", "srste"]
)
def test_a_resumed_loop_is_the_uninterrupted_one(
    tmp_path: Path, config: MethodConfig, ratio: float, early: bool
) -> None:
    whole = Loop(config, ratio=ratio, early=early)
    whole.run()
    assert whole.sparsifier.step == 8
    cut = Loop(config, ratio=ratio, early=early)
    cut.run(end=6, save=tmp_path)
    rest = Loop(config, ratio=ratio, early=early)
    rest.accelerator.load_state(str(tmp_path))
    assert rest.sparsifier.step == 3
    rest.run(begin=6)
    assert cut.zeros + rest.zeros == whole.zeros
    for loop in (whole, rest):
        loop.sparsifier.finalize()
        assert int((loop.model[0].weight == 0).sum()) == round(128 * ratio)
    assert torch.equal(whole.model[0].weight, rest.model[0].weight)
    if config is GRADUAL:
        assert whole.zeros == sorted(whole.zeros)
        assert whole.zeros[-1] == 96


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_does_not_count(fused: bool) -> None:
    Accelerator(cpu=True)
    torch.manual_seed(0)
    model = nn.Linear(8, 8)
    inner = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = AcceleratedOptimizer(inner, scaler=scaler)
    sparsifier = Sparsifier(model, GRADUAL, ratios={"weight": 0.75}, total_steps=4)
    sparsifier.attach(optimizer)
    for number in range(6):
        before = model.weight.detach().clone()
        scale = torch.inf if number in (1, 3) else 1.0
        scaler.scale(model(torch.full((1, 8), scale)).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.equal(model.weight, before) == (number in (1, 3))
    assert sparsifier.step == 4
    sparsifier.finalize()
    assert int((model.weight == 0).sum()) == 48


def test_the_pages_example_runs() -> None:
    page = Path(__file__).parents[2] / "docs" / "hugging_face_and_lightning.md"
    *_, third = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    model = nn.Sequential(OrderedDict(hidden=nn.Linear(8, 16)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    names: dict[str, Any] = {"model": model, "optimizer": optimizer}
    names["loader"] = DataLoader(TensorDataset(torch.randn(8, 8)))

    def train() -> None:
        for _ in range(50):
            for (x,) in names["loader"]:
                with names["accelerator"].accumulate(names["model"]):
                    names["accelerator"].backward(names["model"](x).square().mean())
                    names["optimizer"].step()
                    names["optimizer"].zero_grad()

    names["train"] = train
    exec(compile(third.replace("...  #", "train()  #"), "block", "exec"), names)
    assert names["sparsifier"].step == 200
    assert int((model.hidden.weight == 0).sum()) == round(0.9 * 128)
