"""Lightning's Trainer with the callback; runs where lightning is installed (CONTRIBUTING.md)."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

pytest.importorskip("lightning.pytorch", reason="the package lightning is not installed")

import lightning.pytorch as L
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint

from ws_learner.compat.lightning import SparsifierCallback
from ws_learner.core import UserError
from ws_learner.pruning import (
    GradualConfig,
    MethodConfig,
    MovementConfig,
    SrSteConfig,
    ThresholdMovementConfig,
)

pytestmark = pytest.mark.filterwarnings("default")

GRADUAL = GradualConfig(mask_update_step=1, iter_ratio_beg=0.0, iter_ratio_end=0.5)
RATIOS = {"hidden.weight": 0.75}
ZEROS = 96  # of 16 x 8


class Net(L.LightningModule):  # type: ignore[misc, name-defined]
    """Sees the number of zeros before each of its optimizer steps."""

    def __init__(self, *, manual: bool = False, worse: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(8, 16), nn.Linear(16, 1)
        self.automatic_optimization, self.worse = not manual, worse
        self.zeros: list[int] = []
        self.judged = 0

    def loss(self, batch: list[Tensor]) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.head(self.hidden(x).relu())[:, 0], y)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        loss = self.loss(batch)
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        self.manual_backward(loss)
        if batch_idx % 2:
            optimizer.step()
            optimizer.zero_grad()
        return None

    def on_train_batch_end(self, *_: Any) -> None:
        self.zeros.append(int((self.hidden.weight == 0).sum()))

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def on_validation_epoch_end(self) -> None:
        self.judged += 1
        self.log("cost", float(self.trainer.global_step) if self.worse else 0.0)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
        if not self.automatic_optimization:
            return optimizer
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Stop(L.Callback):  # type: ignore[misc, name-defined]
    def __init__(self, step: int, *, fail: bool) -> None:
        self.step, self.fail = step, fail

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step and self.fail:
            raise RuntimeError("power cut")

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        trainer.should_stop |= trainer.global_step == self.step and not self.fail


class Resumable(DataLoader[Any]):
    """Goes on within an epoch: Lightning begins a plain loader anew."""

    begin = seen = 0

    def __iter__(self) -> Any:
        begin, self.begin = self.begin, 0
        for number, batch in enumerate(super().__iter__()):
            if number >= begin:
                self.seen = number + 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.begin = state["seen"] % len(self)


def data(rows: int = 32, batch: int = 4) -> Resumable:
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(1))
    return Resumable(TensorDataset(x, x.sum(1).relu()), batch_size=batch)


def trainer(folder: Path, *callbacks: Any, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "default_root_dir": str(folder),
        "max_epochs": 2,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 1,
    }
    return L.Trainer(callbacks=list(callbacks), **settings | changes)


def keeper(folder: Path, **changes: Any) -> ModelCheckpoint:
    settings: dict[str, Any] = {"every_n_train_steps": 5, "save_top_k": -1, "filename": "{step}"}
    return ModelCheckpoint(folder, **settings | changes)


def gradual(**changes: Any) -> SparsifierCallback:
    return SparsifierCallback(GRADUAL, **{"ratios": RATIOS} | changes)


METHODS: dict[str, tuple[MethodConfig, dict[str, Any]]] = {
    "gradual": (GRADUAL, {"ratios": RATIOS}),
    "movement": (
        MovementConfig(mask_update_step=1, iter_ratio_beg=0.0, iter_ratio_end=0.8),
        {"ratios": RATIOS},
    ),
    "threshold": (
        ThresholdMovementConfig(
            warmup_start_epoch=1, warmup_end_epoch=2, importance_regularization_factor=0.1
        ),
        {"layers": ["hidden.weight"]},
    ),
    "srste": (SrSteConfig(fine_tune=0.2), {"ratios": {"hidden.weight": 0.5}}),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("accumulate", "at"), [(1, 8), (1, 10), (2, 10)])
def test_a_resumed_fit_is_the_uninterrupted_one(
    tmp_path: Path, name: str, accumulate: int, at: int
) -> None:
    config, given = METHODS[name]
    settings = {"accumulate_grad_batches": accumulate, "max_epochs": 2 * accumulate}
    whole, cut, rest = Net(), Net(), Net()
    trainer(tmp_path / "a", SparsifierCallback(config, **given), **settings).fit(whole, data())
    callbacks = [SparsifierCallback(config, **given), keeper(tmp_path, every_n_train_steps=at)]
    callbacks.append(Stop(13, fail=True))
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(tmp_path / "b", *callbacks, **settings).fit(cut, data())
    callback = SparsifierCallback(config, **given)
    again = trainer(tmp_path / "b", callback, **settings)
    again.fit(rest, data(), ckpt_path=tmp_path / f"step={at}.ckpt")
    done = at * accumulate
    assert len(whole.zeros) == 16 * accumulate
    assert cut.zeros[:done] + rest.zeros == whole.zeros
    assert callback.sparsifier is not None
    assert callback.sparsifier.step == 16
    for key, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[key]), key
    if name in ("gradual", "movement"):
        assert all(a <= b for a, b in itertools.pairwise(rest.zeros))
        assert rest.zeros[-1] == ZEROS


def test_a_fit_that_was_through_stays_sparse(tmp_path: Path) -> None:
    trainer(tmp_path, gradual(), keeper(tmp_path, every_n_train_steps=16)).fit(Net(), data())
    net = Net()
    trainer(tmp_path, gradual()).fit(net, data(), ckpt_path=tmp_path / "step=16.ckpt")
    assert net.zeros == []
    assert int((net.hidden.weight == 0).sum()) == ZEROS


def test_manual_optimization_needs_the_number_of_steps(tmp_path: Path) -> None:
    net = Net(manual=True)
    with pytest.raises(UserError, match=r"`total_steps`: this training does not say"):
        trainer(tmp_path, gradual()).fit(net, data())
    callback = gradual(total_steps=8)  # two batches a step
    trainer(tmp_path, callback).fit(net, data())
    assert callback.sparsifier is not None
    assert callback.sparsifier.step == 8
    assert int((net.hidden.weight == 0).sum()) == ZEROS
    with pytest.raises(UserError, match=r"ended at step 8, before the ramp's last step 10"):
        trainer(tmp_path, gradual(total_steps=20)).fit(Net(manual=True), data())


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        while True:
            yield torch.ones(8), torch.ones(())


def test_a_fit_without_an_end_must_be_told_one(tmp_path: Path) -> None:
    stop = Stop(12, fail=False)
    with pytest.raises(UserError, match="`total_steps`: this training does not say"):
        trainer(tmp_path, gradual(), stop).fit(Net(), DataLoader(Endless(), batch_size=4))
    with pytest.raises(UserError, match="`total_steps`: this training does not say"):
        trainer(tmp_path, gradual(), stop, max_epochs=-1).fit(Net(), data())
    net = Net()
    trainer(tmp_path, gradual(), max_steps=12).fit(net, DataLoader(Endless(), batch_size=4))
    assert int((net.hidden.weight == 0).sum()) == ZEROS


def test_a_fit_that_stops_early_is_refused_and_can_be_resumed(tmp_path: Path) -> None:
    stop = Stop(5, fail=False)
    with pytest.raises(UserError, match=r"ended at step 5, before .* step 8.*resume"):
        trainer(tmp_path, gradual(), keeper(tmp_path), stop).fit(Net(), data())
    net = Net()
    trainer(tmp_path, gradual()).fit(net, data(), ckpt_path=tmp_path / "step=5.ckpt")
    assert int((net.hidden.weight == 0).sum()) == ZEROS


def test_what_does_not_fit_is_refused_before_the_first_step(tmp_path: Path) -> None:
    net = Net()
    for callback, message in (
        (gradual(total_steps=20), r"`total_steps` 20: this training ends after step 16"),
        (gradual(ratios={"hiden.weight": 0.5}), r"did you mean hidden\.weight"),
        (
            SparsifierCallback(GradualConfig(mask_update_step=25), ratios=RATIOS),
            "longer than the ramp",
        ),
    ):
        with pytest.raises(UserError, match=message):
            trainer(tmp_path, callback).fit(net, data())
    assert net.zeros == []


def test_a_fit_that_goes_on_without_the_callbacks_state_is_refused(tmp_path: Path) -> None:
    net, plain = Net(), trainer(tmp_path, keeper(tmp_path))
    plain.fit(net, data())
    with pytest.raises(UserError, match="`ckpt_path`: this fit goes on"):
        trainer(tmp_path, gradual()).fit(net, data(), ckpt_path=tmp_path / "step=10.ckpt")
    callback = gradual()
    pruned = trainer(tmp_path, callback)
    pruned.fit(net, data())
    pruned.fit_loop.max_epochs = 4
    with pytest.raises(UserError, match="`ckpt_path`: this fit goes on"):
        pruned.fit(net, data())


def test_a_resumed_fit_cannot_change_its_plan(tmp_path: Path) -> None:
    trainer(tmp_path, gradual(), keeper(tmp_path)).fit(Net(), data())
    path, longer = tmp_path / "step=10.ckpt", {"max_epochs": 4}
    with pytest.raises(UserError, match=r"`total_steps` 32: .* had 16; .*total_steps=16"):
        trainer(tmp_path, gradual(), **longer).fit(Net(), data(), ckpt_path=path)
    net = Net()
    trainer(tmp_path, gradual(total_steps=16), **longer).fit(net, data(), ckpt_path=path)
    assert net.zeros == [ZEROS] * 22


@pytest.mark.parametrize("name", ["gradual", "srste"])
def test_the_best_model_is_one_that_is_sparse(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    config, given = METHODS[name]
    best = keeper(tmp_path, every_n_train_steps=None, monitor="cost", save_top_k=1)
    patient = EarlyStopping("cost", patience=2)
    net, callback = Net(worse=True), SparsifierCallback(config, **given)
    run = trainer(tmp_path, patient, best, callback, val_check_interval=2)
    run.fit(net, data(), data(8, 8))
    assert "compare from the end of the pruning's schedule" in capfd.readouterr().err
    first = {"gradual": 8, "srste": 12}[name]  # the first after the schedule
    assert Path(best.best_model_path).name == f"step={first}.ckpt"
    assert run.global_step == first + 4  # patience of two evaluations counts from there
    zeros = {"gradual": ZEROS, "srste": 64}[name]
    found = torch.load(best.best_model_path, weights_only=False)["state_dict"]["hidden.weight"]
    assert int((found == 0).sum()) == int((net.hidden.weight == 0).sum()) == zeros
    run.validate(net, data(8, 8), ckpt_path="best", verbose=False)
    assert "zeros, the pruned one" not in capfd.readouterr().err
    assert int((net.hidden.weight == 0).sum()) == zeros


def test_an_earlier_checkpoint_under_evaluation_is_mentioned(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    net = Net()
    run = trainer(tmp_path, gradual(), keeper(tmp_path))
    run.fit(net, data())
    run.validate(net, data(8, 8), verbose=False)
    assert "zeros, the pruned one" not in capfd.readouterr().err
    run.validate(net, data(8, 8), ckpt_path=tmp_path / "step=5.ckpt", verbose=False)
    share = 1 - (1 - 5 / 8) ** 3  # Zhu & Gupta
    assert f"has {round(share * ZEROS)} zeros, the pruned one {ZEROS}" in capfd.readouterr().err


@pytest.mark.parametrize("before", [False, True])
def test_averaged_weights_end_sparse_and_resume(tmp_path: Path, before: bool) -> None:
    def callbacks() -> list[Any]:
        pair = [EMAWeightAveraging(decay=0.9), gradual()]
        return pair if before else pair[::-1]

    whole, rest = Net(), Net()
    trainer(tmp_path, *callbacks()).fit(whole, data(), data(8, 8))
    assert int((whole.hidden.weight == 0).sum()) == ZEROS
    callbacks_cut = [*callbacks(), keeper(tmp_path), Stop(13, fail=True)]
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(tmp_path, *callbacks_cut).fit(Net(), data(), data(8, 8))
    again = trainer(tmp_path, *callbacks())
    again.fit(rest, data(), data(8, 8), ckpt_path=tmp_path / "step=10.ckpt")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[key]), key


def test_two_callbacks_prune_two_layers_and_resume(tmp_path: Path) -> None:
    def both() -> list[SparsifierCallback]:
        return [gradual(), gradual(ratios={"head.weight": 0.5}, name="head")]

    stop = Stop(7, fail=True)
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(tmp_path, *both(), keeper(tmp_path), stop).fit(Net(), data())
    net = Net()
    trainer(tmp_path, *both()).fit(net, data(), ckpt_path=tmp_path / "step=5.ckpt")
    assert int((net.hidden.weight == 0).sum()) == ZEROS
    assert int((net.head.weight == 0).sum()) == 8


def test_clipped_bfloat16_training_with_the_other_package(tmp_path: Path) -> None:
    other = pytest.importorskip("pytorch_lightning")

    class Other(other.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(8, 1)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return (self.net(batch[0])[:, 0] - batch[1]).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    module = Other()
    run = other.Trainer(
        max_epochs=2,
        accelerator="cpu",
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[SparsifierCallback(GRADUAL, ratios={"net.weight": 0.5})],
    )
    run.fit(module, data())
    assert int((module.net.weight == 0).sum()) == 4


def test_the_pages_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "hugging_face_and_lightning.md"
    _, second, *_ = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    module = Net()
    exec(compile(second, "block", "exec"), {"module": module, "train_dataloaders": data()})
    assert int((module.hidden.weight == 0).sum()) == round(0.9 * 128)
