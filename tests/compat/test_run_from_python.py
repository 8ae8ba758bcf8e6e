"""Other tools' files run from Python, to the same weights as from the command line."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import ws_learner.deploy
from experiments import resnet_at_ilsvrc12
from experiments.run import main
from tests.support import tiny_experiment, tiny_transformer_experiment, tiny_vit_experiment
from tests.support.lpot import SEED_YAML, SMALL, config, images
from tests.support.nncf import movement, text
from ws_learner import (
    Result,
    UserError,
    WeightSparseConfig,
    WeightSparseLearner,
    read_timm,
    run_lpot,
    run_nncf,
)
from ws_learner.compat import build_lpot_recipe, read_lpot, read_nncf
from ws_learner.core import ComputeDevice, RunDir, choose_device, save_model
from ws_learner.deploy.onnx.export import run_onnx

TIMES = {"train_seconds", "search_seconds", "command", "hardware", "versions", "experiment"}
TIMES |= {"measures", "split_sizes"}


def same(command_line: Path, python: Path, result: Result) -> None:
    """Weights to the byte, tables to the character; the numbers of the summary but for times."""
    for name in ("model.safetensors", "ratios.csv", "metrics.csv"):
        assert (command_line / name).read_bytes() == (python / name).read_bytes(), name
    first, second = (RunDir(run).read_summary() for run in (command_line, python))
    timed = {key for key in first if "ms" in key.split("_") or "speedup" in key} | TIMES
    assert {k: v for k, v in first.items() if k not in timed} == {
        k: v for k, v in second.items() if k not in timed
    }
    assert result.summary == second
    state = load_file(python / "model.safetensors")
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(tensor.cpu(), state[name]), name
    for row in result.ratios.itertuples():
        zeros = int((state[str(row.layer)] == 0).sum())
        assert zeros == round(float(str(row.achieved)) * int(str(row.weights)))


def unchanged(model: nn.Module, before: dict[str, Any]) -> None:
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_lpot_with_the_files_own_training(tmp_path: Path) -> None:
    conf = config(tmp_path / "conf.yaml", images(tmp_path / "images"), SMALL)
    words = ["resnet_at_ilsvrc12", "--resnet_size", "18", "--config", conf, "--data_workers", "0"]
    assert main([*words, "--precision", "fp32", "--run_dir", str(tmp_path / "a")]) == 0
    options = resnet_at_ilsvrc12.Options(
        resnet_size=18, data_dir=tmp_path / "images", data_workers=0
    )
    model = resnet_at_ilsvrc12.build(options, seed=0).model
    before = copy.deepcopy(model.state_dict())
    result = run_lpot(conf, model, run_dir=tmp_path / "b", compute=compute(), workers=0)
    same(tmp_path / "a", tmp_path / "b", result)
    assert "the test accuracy is" in (tmp_path / "b" / "report.md").read_text()
    assert (tmp_path / "b" / "lpot.yaml").read_text() == Path(conf).read_text()
    assert int((result.model.get_parameter("layer1.0.conv1.weight") == 0).sum()) == 35758
    unchanged(model, before)


def compute() -> ComputeDevice:
    return choose_device("fp32")


@pytest.fixture(scope="module")
def approach(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without a training of its own."""
    head, _, tail = SEED_YAML.partition("  train:")
    pruners = "  approach:" + tail.partition("  approach:")[2]
    path = tmp_path_factory.mktemp("lpot") / "approach.yaml"
    path.write_text(head + pruners.replace("layer1.0.conv1.weight", "conv2.weight"))
    return path


def test_lpot_with_ones_data_and_a_teacher(approach: Path, tmp_path: Path) -> None:
    own = str(Path(tiny_experiment.__file__))
    made = tiny_experiment.build(tiny_experiment.Options(), seed=0)
    save_model(tmp_path / "dense.safetensors", made.model.state_dict(), {"format": "pt"})
    words = [own, "--config", str(approach), "--dense_checkpoint"]
    words += [str(tmp_path / "dense.safetensors"), "--enbl_dst", "--precision", "fp32"]
    assert main([*words, "--run_dir", str(tmp_path / "a")]) == 0
    recipe = build_lpot_recipe(read_lpot(approach), made.data, made.sparse_recipe)
    parts: dict[str, Any] = {
        "loss": made.loss,
        "metric": made.metric,
        "config": WeightSparseConfig(enbl_dst=True),
        "run_dir": tmp_path / "b",
        "compute": compute(),
    }
    result = run_lpot(read_lpot(approach), made.model, made.data, recipe=recipe, **parts)
    for changes, line in (
        ({"recipe": dataclasses.replace(recipe, lrn_rate=0.5)}, r"recipe\.lrn_rate .* -> 0\.5"),
        ({"config": WeightSparseConfig(enbl_dst=True, tempr_dst=2.0)}, "lpot.tempr_dst 4.0 -> 2.0"),
        ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, r"loss\.code"),
    ):
        other: dict[str, Any] = {"recipe": recipe, **parts, **changes}
        with pytest.raises(UserError, match=line):
            run_lpot(read_lpot(approach), made.model, made.data, **other)
    same(tmp_path / "a", tmp_path / "b", result)
    assert result.summary["distilled"]
    weight = result.model.get_parameter("conv2.weight")
    assert int((weight == 0).sum()) == round(0.97 * weight.numel())


def test_lpot_says_what_is_missing(approach: Path, tmp_path: Path) -> None:
    made = tiny_experiment.build(tiny_experiment.Options(), seed=0)
    with pytest.raises(UserError, match=r"no `train:`; add it, or give data, loss, recipe"):
        run_lpot(approach, made.model, run_dir=tmp_path / "a")
    parts: dict[str, Any] = {"loss": made.loss, "recipe": made.sparse_recipe}
    with pytest.raises(UserError, match="teacher: nothing distils"):
        run_lpot(
            approach, made.model, made.data, teacher=made.model, run_dir=tmp_path / "a", **parts
        )
    short = dataclasses.replace(made.sparse_recipe, nb_epochs=1)
    with pytest.raises(UserError, match="the last epoch trained is 0"):
        run_lpot(
            approach, made.model, made.data, loss=made.loss, recipe=short, run_dir=tmp_path / "a"
        )
    with pytest.raises(UserError, match="cannot be read"):
        run_lpot(tmp_path / "none.yaml", made.model)
    loaderless = tmp_path / "loaderless.yaml"
    lines = SEED_YAML.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if "dataloader:" in line)
    last = next(i for i, line in enumerate(lines) if "criterion:" in line)
    loaderless.write_text("".join(lines[:first] + lines[last:]))
    with pytest.raises(UserError, match="batch size is unknown; give recipe"):
        run_lpot(loaderless, made.model, made.data, run_dir=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def nncf_file(folder: Path, *more: dict[str, Any], structured: bool) -> Path:
    params = {"warmup_start_epoch": 1, "warmup_end_epoch": 3}
    params |= {"importance_regularization_factor": 0.2, "enable_structured_masking": structured}  # type: ignore[dict-item]
    part = movement(params=params, ignored_scopes=["{re}classifier"])
    part["sparse_structure_by_scopes"] = [
        {"mode": "block", "sparse_factors": [6, 6], "target_scopes": "{re}attn"},
        {"mode": "per_dim", "axis": 0, "target_scopes": "{re}fc1"},
        {"mode": "per_dim", "axis": 1, "target_scopes": "{re}fc2"},
    ]
    path = folder / "movement.json"
    path.write_text(text(part, *more))
    return path


def test_nncf_structured_distilled_and_quantised(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    distillation = {"algorithm": "knowledge_distillation", "type": "softmax", "temperature": 2.0}
    quantization = {"algorithm": "quantization", "preset": "mixed", "overflow_fix": "enable"}
    path = nncf_file(tmp_path, distillation, quantization, structured=True)
    made = tiny_transformer_experiment.build(tiny_transformer_experiment.Options(), seed=0)
    save_model(tmp_path / "dense.safetensors", made.model.state_dict(), {"format": "pt"})
    words = [str(Path(tiny_transformer_experiment.__file__)), "--config", str(path)]
    words += ["--dense_checkpoint", str(tmp_path / "dense.safetensors"), "--precision", "fp32"]
    assert main([*words, "--run_dir", str(tmp_path / "a")]) == 0
    before = copy.deepcopy(made.model.state_dict())
    parts: dict[str, Any] = {"loss": made.loss, "metric": made.metric}
    parts |= {"recipe": made.sparse_recipe, "compute": compute(), "run_dir": tmp_path / "b"}
    with pytest.raises(UserError, match=r"masking and quantization: .* give deploy=ws_learner"):
        run_nncf(path, made.model, made.data, **parts)
    assert not (tmp_path / "b").exists()
    result = run_nncf(path, made.model, made.data, deploy=ws_learner.deploy, **parts)
    same(tmp_path / "a", tmp_path / "b", result)
    assert result.summary["units_removed"] > 0
    assert "the test accuracy is" in (tmp_path / "b" / "report.md").read_text()
    for name in ("nncf.json", "structured_sparsity.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    inputs, _ = next(made.data.test.batches(32))
    first, second = (run_onnx(tmp_path / r / "model_int8.onnx", [inputs]) for r in ("a", "b"))
    assert torch.equal(first[0], second[0])
    for file in (tmp_path / "a" / "cropped").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "cropped" / file.name).read_bytes()
    unchanged(made.model, before)


def test_nncf_without_anything_to_deploy(tmp_path: Path) -> None:
    path = nncf_file(tmp_path, structured=False)
    made = tiny_transformer_experiment.build(tiny_transformer_experiment.Options(), seed=0)
    parts: dict[str, Any] = {"loss": made.loss, "metric": made.metric, "compute": compute()}
    recipe = dataclasses.replace(made.sparse_recipe, nb_epochs=4)
    result = run_nncf(
        read_nncf(path), made.model, made.data, recipe=recipe, run_dir=tmp_path / "run", **parts
    )
    assert 0 < result.summary["sparsified_layers_prune_ratio"] < 1
    assert not (tmp_path / "run" / "cropped").exists()
    other = dataclasses.replace(recipe, nb_epochs=5)
    with pytest.raises(UserError, match=r"recipe\.nb_epochs 4 -> 5"):
        run_nncf(path, made.model, made.data, recipe=other, run_dir=tmp_path / "run", **parts)


YAML = """\
model: some_net
epochs: 6
n_sparsity: 2
m_sparsity: 4
sparsity_type: structured_NM
sparsity_loc: FF
decay_type: linear
decay_coef: 0.02
dense_steps: 0.1
fine_tune_steps: 0.2
batch_size: 32
opt: adamw
lr: 0.002
weight_decay: 0.01
sched: cosine
warmup_epochs: 1
seed: 3
drop: 0.1
"""


@pytest.mark.parametrize("epochs", [None, 4])
def test_timm(epochs: int | None, tmp_path: Path) -> None:
    path = tmp_path / "nm.yaml"
    path.write_text(YAML)
    words = [str(Path(tiny_vit_experiment.__file__)), "--config", str(path)]
    words += ["--nb_epochs", str(epochs)] if epochs else []
    assert main([*words, "--precision", "fp32", "--run_dir", str(tmp_path / "a")]) == 0
    file = read_timm(path) if epochs is None else read_timm(str(path)).with_epochs(epochs)
    assert file.seed == 3
    made = tiny_vit_experiment.build(
        tiny_vit_experiment.Options(drop=file.options["drop"]), seed=file.seed
    )
    result = WeightSparseLearner(
        made.model,
        made.data,
        loss=made.loss,
        metric=made.metric,
        recipe=file.recipe(made.sparse_recipe),
        run_dir=tmp_path / "b",
        config=file.config(),
        compute=compute(),
        seed=file.seed,
        workers=0,
        facts={"dense_accuracy": None},  # as of a network that starts from fresh weights
    ).fit()
    same(tmp_path / "a", tmp_path / "b", result)


def test_timm_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_timm(tmp_path / "none.yaml")
    path = tmp_path / "dense.yaml"
    path.write_text("sparsity_type: Dense\nepochs: 3\n")
    with pytest.raises(UserError, match="prunes nothing"):
        read_timm(path).config()
