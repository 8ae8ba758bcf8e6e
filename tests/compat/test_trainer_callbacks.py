"""The callbacks in loops made by hand, with the events of the real ones.

Where the packages are installed, test_hugging_face_trainer.py, test_lightning_trainer.py and
test_accelerate_loop.py run the real ones.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from transformers import TrainerControl, TrainerState
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback

from ws_learner.compat.hugging_face import SparsifierCallback
from ws_learner.core import UserError
from ws_learner.pruning import GradualConfig, MethodConfig, MovementConfig, SrSteConfig

GRADUAL = GradualConfig(mask_update_step=1, iter_ratio_beg=0.0, iter_ratio_end=0.5)
MOVEMENT = MovementConfig(mask_update_step=1, iter_ratio_beg=0.0, iter_ratio_end=0.8)
STEPS, ZEROS = 12, 24  # of 6 x 8 weights


def gradual(**changes: Any) -> SparsifierCallback:
    return SparsifierCallback(GRADUAL, **{"ratios": {"weight": 0.5}} | changes)


class Loop:
    """A Trainer of one layer: events, order and files are those of transformers 5."""

    def __init__(self, folder: Path, *callbacks: SparsifierCallback, **changes: Any) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(8, 6)
        self.args = SimpleNamespace(
            output_dir=str(folder),
            resume_from_checkpoint=None,
            should_save=True,
            load_best_model_at_end=False,
            metric_for_best_model=None,
            logging_first_step=False,
            **{name: "no" for name in ("logging_strategy", "eval_strategy", "save_strategy")},
            eval_delay=0,
        )
        self.args.__dict__.update(changes)
        self.events = CallbackHandler(
            [DefaultFlowCallback(), *callbacks], self.model, None, None, None
        )
        self.state, self.control = TrainerState(), TrainerControl()
        self.zeros: list[int] = []

    def event(self, name: str) -> None:
        getattr(self.events, name)(self.args, self.state, self.control)

    def checkpoint(self, step: int) -> Path:
        folder = Path(self.args.output_dir) / f"checkpoint-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def train(self, *, stop: int = STEPS, end: bool = True, resume: Path | None = None) -> None:
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=STEPS)
        self.events.optimizer = optimizer
        if resume is not None:
            self.state = TrainerState.load_from_json(str(resume / "trainer_state.json"))
            load_model(self.model, resume / "model.safetensors")
            saved = torch.load(resume / "optimizer.pt", weights_only=True)
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
        self.state.max_steps = STEPS
        self.event("on_train_begin")
        self.event("on_epoch_begin")
        while self.state.global_step < stop:
            self.event("on_step_begin")
            seed = torch.Generator().manual_seed(self.state.global_step)
            optimizer.zero_grad()
            self.model(torch.randn(4, 8, generator=seed)).square().mean().backward()
            optimizer.step()
            schedule.step()
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / STEPS
            self.event("on_step_end")
            self.zeros.append(int((self.model.weight == 0).sum()))
            if self.args.metric_for_best_model and self.state.best_metric is None:
                self.state.best_metric = 0.0  # the first is the best
                self.state.best_global_step = self.state.global_step
            self.save(optimizer, schedule)
        if end:
            self.finish()

    def save(self, optimizer: Any, schedule: Any) -> None:
        folder = self.checkpoint(self.state.global_step)
        save_model(self.model, str(folder / "model.safetensors"))
        if self.state.best_global_step:
            best = self.checkpoint(self.state.best_global_step)
            self.state.best_model_checkpoint = str(best)
        states = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        torch.save(states, folder / "optimizer.pt")
        self.state.save_to_json(str(folder / "trainer_state.json"))
        self.event("on_save")

    def finish(self) -> None:
        best = self.state.best_model_checkpoint
        if self.args.load_best_model_at_end and best is not None:
            load_model(self.model, Path(best) / "model.safetensors")
        self.event("on_train_end")


@pytest.mark.parametrize("config", [GRADUAL, MOVEMENT, SrSteConfig()])
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path, config: MethodConfig) -> None:
    whole = Loop(tmp_path / "a", SparsifierCallback(config, ratios={"weight": 0.5}))
    whole.train()
    cut = Loop(tmp_path / "b", SparsifierCallback(config, ratios={"weight": 0.5}))
    cut.train(stop=5, end=False)
    rest = Loop(tmp_path / "b", SparsifierCallback(config, ratios={"weight": 0.5}))
    rest.train(resume=tmp_path / "b" / "checkpoint-5")
    assert cut.zeros + rest.zeros == whole.zeros
    assert whole.zeros[-1] == ZEROS
    assert torch.equal(whole.model.weight, rest.model.weight)
    assert whole.zeros == sorted(whole.zeros)


def test_the_state_must_be_that_of_the_resumed_weights(tmp_path: Path) -> None:
    for name, width in (("a", 0.5), ("b", 0.25)):
        loop = Loop(tmp_path / name, gradual(ratios={"weight": width}))
        loop.train(stop=5, end=False)
    with pytest.raises(UserError, match=r"`resume_from`: .* belongs to other weights"):
        Loop(tmp_path / "a", gradual()).train(resume=tmp_path / "b" / "checkpoint-5")
    with pytest.raises(UserError, match=r"`resume_from`: sparsifier\.pt is not there"):
        Loop(tmp_path / "c", gradual()).train(resume=tmp_path / "a" / "checkpoint-5")
    damaged = tmp_path / "b" / "checkpoint-5" / "sparsifier.pt"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(UserError, match="missing or damaged; resume from an earlier checkpoint"):
        Loop(tmp_path / "b", gradual()).train(resume=tmp_path / "b" / "checkpoint-5")
    loop = Loop(tmp_path / "c", gradual(resume_from=tmp_path / "a" / "checkpoint-5"))
    loop.train(resume=tmp_path / "a" / "checkpoint-5")
    assert loop.zeros[-1] == ZEROS


@pytest.mark.parametrize("config", [GRADUAL, SrSteConfig(fine_tune=0.25)])
def test_the_best_model_is_one_that_is_sparse(tmp_path: Path, config: MethodConfig) -> None:
    settings = {"load_best_model_at_end": True, "metric_for_best_model": "loss"}
    loop = Loop(tmp_path, SparsifierCallback(config, ratios={"weight": 0.5}), **settings)
    loop.train()
    first = 6 if config is GRADUAL else 9
    assert loop.state.best_global_step == first
    assert int((loop.model.weight == 0).sum()) == ZEROS
    saved = torch.load(tmp_path / f"checkpoint-{first}" / "sparsifier.pt", weights_only=True)
    assert torch.equal(loop.model.weight == 0, ~saved["sparsifier"]["mask.weight"])
    lost = Loop(tmp_path, gradual(), **settings)
    lost.train(end=False)
    with pytest.raises(UserError, match="does not have the best model's weights"):
        lost.event("on_train_end")  # the best was not loaded


def test_a_training_that_stops_early_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ended at step 5, before .* step 6.*resume"):
        Loop(tmp_path, gradual()).train(stop=5)
    with pytest.raises(UserError, match="`total_steps` 13: this training ends after step 12"):
        Loop(tmp_path, gradual(total_steps=13)).train()
    with pytest.raises(UserError, match="two SparsifierCallbacks"):
        Loop(tmp_path, gradual(), gradual()).train()


def test_each_trial_of_a_search_has_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "run-0" / "checkpoint-1").mkdir(parents=True)
    callback = gradual()
    loop = Loop(tmp_path / "run-1", callback)
    loop.state.is_hyper_param_search = True
    loop.train(stop=0, end=False)
    loop.args.output_dir, loop.state.global_step = str(tmp_path), 1
    (tmp_path / "run-1" / "checkpoint-1").mkdir(parents=True)
    loop.event("on_save")
    assert (tmp_path / "run-1" / "checkpoint-1" / "sparsifier.pt").is_file()
    assert not (tmp_path / "run-0" / "checkpoint-1" / "sparsifier.pt").exists()
    loop.state.global_step = 2
    with pytest.raises(UserError, match="the checkpoint that was just saved is not there"):
        loop.event("on_save")


@pytest.fixture
def lightning_callback(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The callback, on a stand-in of the package."""
    package, module = ModuleType("lightning"), ModuleType("lightning.pytorch")
    module.Callback = type("Callback", (), {})  # type: ignore[attr-defined]
    package.pytorch = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning", package)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", module)
    monkeypatch.delitem(sys.modules, "ws_learner.compat.lightning", raising=False)
    yield importlib.import_module("ws_learner.compat.lightning").SparsifierCallback
    sys.modules.pop("ws_learner.compat.lightning", None)


def fit(callback: Any, *, begin: int = 0, stop: int = STEPS, saved: Any = None) -> Any:
    """Lightning's events for one epoch; returns trainer, module and checkpoint."""
    torch.manual_seed(0)
    module = nn.Linear(8, 6)
    module.automatic_optimization = True  # type: ignore[assignment]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    judge = SimpleNamespace(monitor="loss", mode="min", best_k_models={"early": 0.0})
    stopping = SimpleNamespace(mode="min", wait_count=7, best_score=torch.tensor(0.0))
    trainer = SimpleNamespace(
        optimizers=[optimizer],
        global_step=begin,
        estimated_stepping_batches=STEPS,
        early_stopping_callbacks=[stopping],
        checkpoint_callbacks=[judge],
    )
    if saved is not None:
        callback.on_load_checkpoint(trainer, module, {"global_step": begin})
        module.load_state_dict(saved["model"])
        callback.load_state_dict(saved["callback"])
        optimizer.load_state_dict(saved["optimizer"])
    callback.on_train_start(trainer, module)
    for index in range(begin, stop):
        callback.on_train_batch_start(trainer, module, None, index)
        seed = torch.Generator().manual_seed(index)
        optimizer.zero_grad()
        module(torch.randn(4, 8, generator=seed)).square().mean().backward()
        optimizer.step()
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, None, index)
        assert (judge.best_k_models == {}) == (index + 1 >= 6)  # the schedule ends at step 6
        assert stopping.wait_count == 0
    states = {"model": module.state_dict(), "optimizer": optimizer.state_dict()}
    return trainer, module, states | {"callback": callback.state_dict()}


def test_lightnings_events(lightning_callback: Any) -> None:
    whole, cut, rest = (lightning_callback(GRADUAL, ratios={"weight": 0.5}) for _ in range(3))
    trainer, module, _ = fit(whole)
    whole.on_fit_end(trainer, module)
    assert int((module.weight == 0).sum()) == ZEROS
    trainer, early, saved = fit(cut, stop=4)
    with pytest.raises(UserError, match="ended at step 4"):
        cut.on_fit_end(trainer, early)
    trainer, again, _ = fit(rest, begin=4, saved=saved)
    rest.on_fit_end(trainer, again)
    assert torch.equal(module.weight, again.weight)
    with pytest.raises(UserError, match="`ckpt_path`: this fit goes on"):
        fit(lightning_callback(GRADUAL, ratios={"weight": 0.5}), begin=4)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("hugging_face", {"transformers": None}),
        ("lightning", {"lightning": None, "pytorch_lightning": None}),
    ],
)
def test_a_missing_package_is_named(
    name: str, missing: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"ws_learner.compat.{name}", raising=False)
    with pytest.raises(ImportError, match=r"needs .*pip install -e '\.\[trainers\]'"):
        importlib.import_module(f"ws_learner.compat.{name}")


def test_the_library_loads_neither_package() -> None:
    code = (
        "import sys, ws_learner.compat as c, ws_learner.pruning as p;"
        "[getattr(p, name) for name in p.__all__];"
        "import ws_learner.compat.loops.pruning;"
        "print(sorted({'transformers', 'accelerate', 'lightning'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
