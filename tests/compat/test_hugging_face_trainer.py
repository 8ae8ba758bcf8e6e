"""transformers' Trainer with the callback; runs where accelerate is installed (CONTRIBUTING.md)."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from ws_learner.compat.hugging_face import SparsifierCallback
from ws_learner.core import UserError
from ws_learner.pruning import (
    GradualConfig,
    MethodConfig,
    MovementConfig,
    PatternLockConfig,
    Sparsifier,
    SrSteConfig,
    ThresholdMovementConfig,
    found_zeros,
)

pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*"),
]

GRADUAL = GradualConfig(mask_update_step=1, iter_ratio_beg=0.0, iter_ratio_end=0.5)
RATIOS = {"hidden.weight": 0.75}
ZEROS = 96  # of 16 x 8


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        out = self.head(self.hidden(x).relu())[:, 0]
        return {"loss": nn.functional.mse_loss(out, labels), "logits": out}


def examples(count: int = 32) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 8, generator=generator)
    return [{"x": row, "labels": row.sum().relu()} for row in x]


class Watch(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Zeros after every step; stops or fails at a step."""

    def __init__(self, stop: int | None = None, fail: int | None = None) -> None:
        self.zeros: list[int] = []
        self.stop, self.fail = stop, fail

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.zeros.append(int((kwargs["model"].hidden.weight == 0).sum()))
        control.should_training_stop |= state.global_step == self.stop

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.fail:
            raise RuntimeError("power cut")


def trainer(
    folder: Path, *callbacks: TrainerCallback, model: nn.Module | None = None, **changes: Any
) -> Trainer:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 32,
        "num_train_epochs": 2,
        "learning_rate": 0.02,
        "save_steps": 5,
        "logging_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
    }
    return Trainer(
        model=Net() if model is None else model,
        args=TrainingArguments(**settings | changes),
        train_dataset=examples(),
        eval_dataset=examples(8),
        callbacks=list(callbacks),
    )


def gradual(**changes: Any) -> SparsifierCallback:
    return SparsifierCallback(GRADUAL, **{"ratios": RATIOS} | changes)


METHODS: dict[str, tuple[MethodConfig, dict[str, Any]]] = {
    "gradual": (GRADUAL, {"ratios": RATIOS}),
    "global": (
        GradualConfig(mask_update_step=1, scope="global", criterion="snip"),
        {"ratios": {"hidden.weight": 0.5, "head.weight": 0.5}},
    ),
    "movement": (
        MovementConfig(mask_update_step=1, iter_ratio_beg=0.0, iter_ratio_end=0.8),
        {"ratios": RATIOS},
    ),
    "threshold": (
        ThresholdMovementConfig(
            warmup_start_epoch=1,
            warmup_end_epoch=2,
            importance_regularization_factor=0.1,
        ),
        {"layers": ["hidden.weight"]},
    ),
    "srste": (SrSteConfig(fine_tune=0.2), {"ratios": {"hidden.weight": 0.5}}),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_resumed_training_is_the_uninterrupted_one(
    tmp_path: Path, name: str, accumulate: int
) -> None:
    config, given = METHODS[name]
    settings = {"gradient_accumulation_steps": accumulate, "num_train_epochs": 2 * accumulate}
    whole = Watch()
    first = trainer(tmp_path / "a", SparsifierCallback(config, **given), whole, **settings)
    first.train()
    cut, rest = Watch(fail=13), Watch()
    second = trainer(tmp_path / "b", SparsifierCallback(config, **given), cut, **settings)
    with pytest.raises(RuntimeError, match="power cut"):
        second.train()
    third = trainer(tmp_path / "b", SparsifierCallback(config, **given), rest, **settings)
    third.train(resume_from_checkpoint=True)
    assert len(whole.zeros) == 16
    assert cut.zeros[:10] + rest.zeros == whole.zeros
    for (key, one), other in zip(
        first.model.state_dict().items(), third.model.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), key
    if name in ("gradual", "movement"):
        assert all(a <= b for a, b in itertools.pairwise(rest.zeros))
        assert rest.zeros[-1] == ZEROS


def test_the_callback_prunes_as_a_loop_by_hand_does(tmp_path: Path) -> None:
    """No trainer: AdamW, a constant rate, the batches of the Trainer's own loader."""
    config, given = METHODS["movement"]
    settings = {"lr_scheduler_type": "constant", "optim": "adamw_torch", "max_grad_norm": 0.0}
    run = trainer(tmp_path, SparsifierCallback(config, **given), **settings)
    batches: list[dict[str, Tensor]] = []
    run.model.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(dict(kwargs)), with_kwargs=True
    )
    run.train()
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.0)
    sparsifier = Sparsifier(model, config, **given, total_steps=16)
    sparsifier.attach(optimizer)
    for batch in batches:
        optimizer.zero_grad()
        model(**batch)["loss"].backward()
        optimizer.step()
    sparsifier.finalize()
    assert len(batches) == 16
    for key, value in run.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[key])


def test_a_resumed_run_from_elsewhere_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(tmp_path / "a", gradual(), Watch(fail=7)).train()
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "a" / "checkpoint-5", moved)
    with pytest.raises(UserError, match=r"`resume_from`: sparsifier.pt is not there"):
        trainer(tmp_path / "a", gradual()).train(resume_from_checkpoint=str(moved))
    other = trainer(tmp_path / "a", gradual(), Watch(fail=7), seed=4)
    with pytest.raises(RuntimeError, match="power cut"):
        other.train()
    with pytest.raises(UserError, match=r"`resume_from`: .* belongs to other weights"):
        trainer(tmp_path / "a", gradual()).train(resume_from_checkpoint=str(moved))
    run = trainer(tmp_path / "a", gradual(resume_from=moved))
    run.train(resume_from_checkpoint=str(moved))
    assert int((run.model.hidden.weight == 0).sum()) == ZEROS


def test_a_checkpoint_without_the_callbacks_file_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path).train()
    with pytest.raises(UserError, match="written without this callback"):
        trainer(tmp_path, gradual(), num_train_epochs=3).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"num_train_epochs": 4}, {}, r"`total_steps` 32: .* had 16; give .*total_steps=16"),
        ({}, {"ratios": {"hidden.weight": 0.5}}, r"`zeros, ratios or layers` .* had .*0\.75"),
        (
            {},
            {"method_config": GradualConfig(mask_update_step=2)},
            "`method_config` Gradual.* had",
        ),
    ],
)
def test_a_resumed_training_cannot_change_its_plan(
    tmp_path: Path, settings: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        trainer(tmp_path, gradual(), Watch(fail=7)).train()
    callback = SparsifierCallback(**{"method_config": GRADUAL, "ratios": RATIOS} | arguments)
    with pytest.raises(UserError, match=message):
        trainer(tmp_path, callback, **settings).train(resume_from_checkpoint=True)


def test_a_longer_training_keeps_the_plan_it_is_given(tmp_path: Path) -> None:
    trainer(tmp_path, gradual()).train()
    watch = Watch()
    run = trainer(tmp_path, gradual(total_steps=16), watch, num_train_epochs=4)
    run.train(resume_from_checkpoint=True)
    assert watch.zeros == [ZEROS] * 16  # from the last checkpoint, at step 16, to step 32


def test_a_training_that_stops_early_is_refused_and_can_be_resumed(tmp_path: Path) -> None:
    stopped = trainer(tmp_path, gradual(), Watch(stop=5))
    with pytest.raises(UserError, match=r"ended at step 5, before .* step 8.*resume"):
        stopped.train()
    run = trainer(tmp_path, gradual())
    run.train(resume_from_checkpoint=True)
    assert int((run.model.hidden.weight == 0).sum()) == ZEROS


def test_what_does_not_fit_is_refused_before_the_first_step(tmp_path: Path) -> None:
    watch = Watch()
    for callback, message in (
        (gradual(total_steps=20), r"`total_steps` 20: this training ends after step 16"),
        (gradual(ratios={"hiden.weight": 0.5}), r"did you mean hidden\.weight"),
        (
            SparsifierCallback(GradualConfig(mask_update_step=25), ratios=RATIOS),
            "longer than the ramp",
        ),
    ):
        with pytest.raises(UserError, match=message):
            trainer(tmp_path, callback, watch).train()
    for wrong in ({}, {"ratios": RATIOS, "zeros": {"hidden.weight": 3}}):
        with pytest.raises(UserError, match="give one of `zeros`, `ratios` and `layers`, not"):
            SparsifierCallback(GRADUAL, **wrong)
    for steps in (0, 2.5, True):
        with pytest.raises(UserError, match="`total_steps`"):
            SparsifierCallback(GRADUAL, ratios=RATIOS, total_steps=steps)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="`name` 'sparsifier': two SparsifierCallbacks"):
        trainer(tmp_path, gradual(), gradual(ratios={"head.weight": 0.5}), watch).train()
    assert watch.zeros == []


def test_two_callbacks_prune_two_layers_and_resume(tmp_path: Path) -> None:
    def both() -> list[SparsifierCallback]:
        return [gradual(), gradual(ratios={"head.weight": 0.5}, name="head")]

    with pytest.raises(RuntimeError, match="power cut"):
        trainer(tmp_path, *both(), Watch(fail=7)).train()
    run = trainer(tmp_path, *both())
    run.train(resume_from_checkpoint=True)
    assert int((run.model.hidden.weight == 0).sum()) == ZEROS
    assert int((run.model.head.weight == 0).sum()) == 8


class Judge(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Makes the evaluations say what they should: the earlier, the better."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kwargs["metrics"]["eval_cost"] = float(state.global_step)


@pytest.mark.parametrize("name", ["gradual", "srste", "movement"])
def test_the_best_model_is_one_that_is_sparse(tmp_path: Path, name: str) -> None:
    config, given = METHODS[name]
    settings = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "cost",
        "greater_is_better": False,
        "save_total_limit": 2,
    }
    callback = SparsifierCallback(config, **given)
    patient = EarlyStoppingCallback(early_stopping_patience=2)
    run = trainer(tmp_path, Judge(), patient, callback, **settings)
    run.train()
    first = {"gradual": 8, "srste": 12, "movement": 12}[name]  # the first after the schedule
    assert run.state.best_global_step == first
    assert run.state.global_step == first + 2  # patience counts from there
    weight = run.model.hidden.weight
    assert int((weight == 0).sum()) == ({"srste": 64}.get(name, ZEROS))
    best = torch.load(tmp_path / f"checkpoint-{first}" / "sparsifier.pt", weights_only=True)
    assert torch.equal(weight == 0, ~best["sparsifier"]["mask.hidden.weight"])


def test_evaluations_in_between_see_the_sparse_network(tmp_path: Path) -> None:
    run = trainer(tmp_path, gradual(), eval_strategy="epoch", eval_on_start=True)
    run.train()
    losses = [entry["eval_loss"] for entry in run.state.log_history if "eval_loss" in entry]
    assert len(losses) == 3
    assert losses[-1] == pytest.approx(run.evaluate()["eval_loss"])


class Average(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Exponential moving average of the weights, put into the network at the end."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for name, value in kwargs["model"].state_dict().items():
            self.values.setdefault(name, value.clone()).lerp_(value, 0.1)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kwargs["model"].load_state_dict(self.values)


class Replace(TrainerCallback):  # type: ignore[misc, unused-ignore]
    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kwargs["model"].hidden.weight = nn.Parameter(torch.ones(16, 8))


def test_averaged_weights_end_sparse(tmp_path: Path) -> None:
    average, callback = Average(), gradual()
    run = trainer(tmp_path, average, callback)
    run.train()
    weight, averaged = run.model.hidden.weight, average.values["hidden.weight"]
    assert int((weight == 0).sum()) == ZEROS
    assert callback.sparsifier is not None
    kept = callback.sparsifier.masks["hidden.weight"]
    assert torch.equal(weight[kept], averaged[kept])
    with pytest.raises(UserError, match="has another parameter there"):
        trainer(tmp_path, Replace(), gradual()).train()


def test_a_sparse_network_stays_sparse_or_is_mentioned(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, gradual())
    run.train()
    zeros = run.model.hidden.weight == 0
    assert "zero already" not in capfd.readouterr().err
    tuned = trainer(
        tmp_path, SparsifierCallback(PatternLockConfig(), zeros=found_zeros), model=run.model
    )
    tuned.train()
    assert torch.equal(tuned.model.hidden.weight == 0, zeros)
    assert "zero already" not in capfd.readouterr().err
    trainer(tmp_path, gradual(), model=run.model).train()
    assert "75% of the weights to prune are zero already" in capfd.readouterr().err


def test_a_second_training_with_the_same_trainer_begins_anew(tmp_path: Path) -> None:
    watch = Watch(fail=5)
    run = trainer(tmp_path, gradual(), watch)
    with pytest.raises(RuntimeError, match="power cut"):
        run.train()
    watch.fail = None
    for _ in range(2):
        run.train()
        assert int((run.model.hidden.weight == 0).sum()) == ZEROS


def test_a_bert_is_pruned_and_saved(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=8,
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    words = [{"input_ids": torch.arange(1, 6) * (1 + k % 3), "labels": k % 2} for k in range(32)]
    run = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path), max_steps=8, report_to="none", use_cpu=True, disable_tqdm=True
        ),
        train_dataset=words,
        callbacks=[SparsifierCallback(GRADUAL, ratios={name: 0.9})],
    )
    run.train()
    run.save_model(str(tmp_path / "out"))
    again = BertForSequenceClassification.from_pretrained(tmp_path / "out")
    assert int((again.get_parameter(name) == 0).sum()) == round(0.9 * 128)


def test_the_pages_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "hugging_face_and_lightning.md"
    first, *_ = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    args = TrainingArguments(
        output_dir="out", num_train_epochs=8, use_cpu=True, report_to="none", disable_tqdm=True
    )
    names: dict[str, Any] = {"model": Net(), "args": args, "train_dataset": examples()}
    exec(compile(first, "block", "exec"), names)
    saved = load_file(tmp_path / "sparse" / "model.safetensors")
    assert int((saved["hidden.weight"] == 0).sum()) == round(0.9 * 128)
