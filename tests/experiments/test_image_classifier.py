"""A person's own classifier of images, pruned without writing a file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments import export
from experiments.brought.hugging_face import open_folder
from experiments.brought.network import class_order
from experiments.image_classifier import Options, build
from experiments.run import main
from tests.support.image_folders import CLASSES, save_convnext, save_resnet, save_vit, stripes
from tests.support.timm_import import timm_or_skip
from ws_learner import load_run
from ws_learner.core import UserError
from ws_learner.report import read_table

transformers = pytest.importorskip("transformers")
SHORT = ["--data_workers", "0", "--workers", "0", "--nb_epochs", "1", "--batch_size", "8"]
SHORT += ["--ws_prune_ratio_prtl", "uniform"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stripes(tmp_path_factory.mktemp("images") / "stripes")


def run(model: str, images: Path, folder: Path, *words: str) -> int:
    flags = ["--model", model, "--data_dir", str(images), *SHORT, "--run_dir", str(folder), *words]
    return main(["image_classifier", *flags], runs=folder.parent)


def zeros(state: dict[str, torch.Tensor], *, of: str = "weight") -> int:
    return sum(int((t == 0).sum()) for n, t in state.items() if n.endswith(of) and t.dim() > 1)


def test_a_folder_is_pruned_exported_and_opened_again(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = save_vit(tmp_path / "vit")
    assert run(f"hf:{saved}", images, tmp_path / "run", "--prune_ratio", "0.6") == 0
    said = capsys.readouterr().err
    assert said.count(f"dense weights: hf:{saved}, with its head") == 1
    assert "trained first" not in said

    dense = transformers.AutoModelForImageClassification.from_pretrained(saved)
    after = load_file(tmp_path / "run/model.safetensors")
    assert after.keys() == dense.state_dict().keys()
    prunable = sum(t.numel() for n, t in after.items() if n.endswith("weight") and t.dim() > 1)
    assert zeros(after) == round(0.6 * prunable)

    assert export.main([str(tmp_path / "run"), "--to", "hf"]) == 0
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "run/hf")
    assert type(model).__name__ == "ViTForImageClassification"
    assert [model.config.id2label[i] for i in range(3)] == list(CLASSES)
    assert all(torch.equal(t, after[n]) for n, t in model.state_dict().items())
    prepared = [
        json.loads((f / "preprocessor_config.json").read_text())
        for f in (saved, tmp_path / "run/hf")
    ]
    assert prepared[0] == prepared[1]
    files = [f / "model.safetensors" for f in (saved, tmp_path / "run/hf")]
    assert load_file(files[0]).keys() == load_file(files[1]).keys()
    assert main(["--exec_mode", "eval", "--run_dir", str(tmp_path / "run")]) == 0
    assert type(load_run(tmp_path / "run").model) is type(model)


def test_an_export_never_overwrites_another_folder(images: Path, tmp_path: Path) -> None:
    saved = save_resnet(tmp_path / "resnet")
    assert run(f"hf:{saved}", images, tmp_path / "run") == 0
    dense = (saved / "model.safetensors").read_bytes()
    assert export.main([str(tmp_path / "run"), "--to", "hf", "--out", str(saved)]) == 2
    assert (saved / "model.safetensors").read_bytes() == dense


def test_another_number_of_classes_gets_a_new_head_and_dense_training(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = save_convnext(tmp_path / "convnext", ("cat", "dog"))
    assert run(f"hf:{saved}", images, tmp_path / "run", "--method", "gradual") == 0
    said = capsys.readouterr().err
    line = f"hf:{saved}, a new head for 3 classes, it had 2: the dense network is trained first"
    assert line in said
    assert load_file(tmp_path / "run/model.safetensors")["classifier.weight"].shape == (3, 16)


def test_a_new_head_keeps_every_other_weight(tmp_path: Path) -> None:
    saved = save_vit(tmp_path / "vit", ("cat", "dog", "cow"))
    found = open_folder(saved, CLASSES, head="auto", image_size=None, seed=1)
    dense = transformers.AutoModelForImageClassification.from_pretrained(saved)
    before, after = dense.state_dict(), found.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight"}  # its bias starts at 0, as in the folder
    assert not found.trained
    assert found.model.config.id2label == dict(enumerate(CLASSES))  # type: ignore[union-attr]
    again = open_folder(saved, CLASSES, head="auto", image_size=None, seed=1)
    assert torch.equal(again.model.state_dict()["classifier.weight"], after["classifier.weight"])


def test_targets_follow_the_order_of_the_networks_classes(images: Path, tmp_path: Path) -> None:
    saved = save_vit(tmp_path / "vit", ("Standing", "flat", "LYING"))
    experiment = build(Options(model=f"hf:{saved}", data_dir=images, data_workers=0), seed=0)
    assert experiment.trained
    in_order = save_vit(tmp_path / "same")
    plain = build(Options(model=f"hf:{in_order}", data_dir=images, data_workers=0), seed=0)
    places = {0: 1, 1: 2, 2: 0}  # of flat, lying, standing
    for (x, mine), (y, theirs) in zip(
        experiment.data.test.batches(4), plain.data.test.batches(4), strict=True
    ):
        assert torch.equal(x, y)
        assert mine.tolist() == [places[label] for label in theirs.tolist()]
    assert experiment.data.digest != plain.data.digest


def test_the_run_stands_for_the_weights_and_not_for_their_place(
    images: Path, tmp_path: Path
) -> None:
    first, second = save_vit(tmp_path / "first"), save_vit(tmp_path / "second")
    contents = [
        build(Options(model=f"hf:{folder}", data_dir=images, data_workers=0), seed=0).stands_for
        for folder in (first, second)
    ]
    assert contents[0] == contents[1]
    state = load_file(first / "model.safetensors")
    save_file(
        state | {"classifier.bias": torch.ones(3)}, first / "model.safetensors", {"format": "pt"}
    )
    changed = build(Options(model=f"hf:{first}", data_dir=images, data_workers=0), seed=0)
    assert changed.stands_for != contents[1]
    weights = changed.model.state_dict()
    assert torch.equal(weights["classifier.bias"], torch.ones(3))


@pytest.mark.parametrize("pattern", ["mha", "4x1", "2:4"])
def test_patterns_hold(pattern: str, images: Path, tmp_path: Path) -> None:
    saved = save_vit(tmp_path / "vit")
    more = {"mha": "--prune_ratio 0.2", "2:4": "--location ff,attention --prune_ratio 0.2838"}
    words = ["--pattern", pattern, *more.get(pattern, "").split()]
    assert run(f"hf:{saved}", images, tmp_path / "run", *words) == 0
    state = load_file(tmp_path / "run/model.safetensors")
    weights = {
        n: t for n, t in state.items() if ".layers." in n and n.endswith("weight") and t.dim() == 2
    }
    if pattern == "mha":
        heads = torch.stack(
            [state[f"vit.layers.{i}.attention.q_proj.weight"].view(2, -1) for i in (0, 1)]
        )
        table = read_table(tmp_path / "run/ratios.csv")
        of_a_head = 4 * 8 * 16  # query, key, value and output, 8 of 16 rows or columns each
        wanted = round(0.2 * table["weights"].sum() / of_a_head)
        assert int((heads == 0).all(2).sum()) == wanted
        assert bool(((heads == 0).all(2) | (heads != 0).all(2)).all())
    for weight in weights.values():
        if pattern == "4x1":  # outputs x inputs
            block = weight.view(-1, 4, weight.shape[1])
            assert bool(((block == 0).all(1) | (block != 0).all(1)).all())
        if pattern == "2:4":
            assert (weight.view(-1, 4) == 0).sum(1).tolist() == [2] * (weight.numel() // 4)


@pytest.mark.long
def test_a_search_and_distillation_work(images: Path, tmp_path: Path) -> None:
    saved = save_resnet(tmp_path / "resnet")
    words = ["--ws_prune_ratio_prtl", "optimal", "--num_rollouts", "4", "--ws_nb_rlouts_min", "2"]
    assert run(f"hf:{saved}", images, tmp_path / "run", *words, "--distill") == 0
    assert (tmp_path / "run" / "rollouts.csv").exists()


@pytest.mark.parametrize(
    ("known", "head", "order", "why"),
    [
        (("b", "a"), "auto", (1, 0), "with its head"),
        (("A", "B"), "auto", (0, 1), "with its head"),
        (("LABEL_0", "LABEL_1"), "auto", (0, 1), "it names no classes"),
        (("a", "c"), "auto", None, "none is b"),
        (("a", "c"), "keep", (0, 1), "in the order of the folders"),
        (("a", "b"), "new", None, "as asked for"),
        (("a", "b", "c"), "auto", None, "a new head for 2 classes, it had 3"),
    ],
)
def test_when_a_head_stays(
    known: tuple[str, ...], head: Any, order: tuple[int, ...] | None, why: str
) -> None:
    found, reason = class_order(known, ("a", "b"), head=head)
    assert found == order
    assert why in reason


def test_separators_in_names_make_no_difference() -> None:
    assert class_order(("Tabby cat", "fire-truck"), ("fire_truck", "tabby_cat"), head="auto")[
        0
    ] == (1, 0)


def refused(model: str, images: Path, **options: Any) -> str:
    with pytest.raises(UserError) as told:
        build(Options(model=model, data_dir=images, data_workers=0, **options), seed=0)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_what_is_no_such_folder_is_refused(images: Path, tmp_path: Path) -> None:
    assert "no such folder; nothing is downloaded" in refused("hf:google/vit-base", images)
    (tmp_path / "empty").mkdir()
    assert "no config.json and no model.safetensors" in refused(f"hf:{tmp_path / 'empty'}", images)
    saved = save_vit(tmp_path / "vit")
    assert "does not take images (3, 8, 8): " in refused(f"hf:{saved}", images, image_size=8)
    assert "has 3 classes, the data have 2" in refused_with_two(f"hf:{saved}", tmp_path)
    (saved / "model.safetensors").write_bytes(b"no weights")
    assert "cannot be opened: " in refused(f"hf:{saved}", images)
    assert "hf:DIR" in refused("vit", images)
    assert "is for timm:NAME" in refused(f"hf:{saved}", images, pretrained=True)


def refused_with_two(model: str, folder: Path) -> str:
    return refused(model, stripes(folder / "two", names=("flat", "lying")), head="keep")


def test_a_text_model_and_a_missing_backbone_are_refused(images: Path, tmp_path: Path) -> None:
    saved = save_vit(tmp_path / "vit")
    state = load_file(saved / "model.safetensors")
    part = {n: t for n, t in state.items() if not re.search(r"layers?\.1\.", n)}
    save_file(part, saved / "model.safetensors", {"format": "pt"})
    assert "its weights lack vit.layers.1." in refused(f"hf:{saved}", images)
    (saved / "config.json").write_text('{"model_type": "bert"}')
    assert "knows no classifier of images" in refused(f"hf:{saved}", images)


def test_a_backbone_without_a_head_gets_one(images: Path, tmp_path: Path) -> None:
    saved = save_vit(tmp_path / "vit")
    state = load_file(saved / "model.safetensors")
    part = {n: t for n, t in state.items() if not n.startswith("classifier")}
    save_file(part, saved / "model.safetensors", {"format": "pt"})
    experiment = build(Options(model=f"hf:{saved}", data_dir=images, data_workers=0), seed=0)
    assert not experiment.trained
    assert "a new head, as the folder holds none" in experiment.origin


def test_missing_flags_are_named_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image_classifier"]) == 2
    said = capsys.readouterr().err
    assert "--model: needed; give hf:DIR, a folder saved with save_pretrained, or timm:NAME" in said
    assert "--data_dir: needed; give the folder with train/<class>/" in said


@pytest.mark.slow
def test_timm_by_name(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timm_or_skip()
    assert run("timm:test_resnt", images, tmp_path / "run") == 2
    assert "no such network; did you mean test_resnet" in capsys.readouterr().err
    assert run("timm:test_resnet", images, tmp_path / "run", "--image_size", "32") == 0
    assert "with fresh weights, a new head for 3 classes: the dense" in capsys.readouterr().err
    state = load_file(tmp_path / "run/model.safetensors")
    total = sum(t.numel() for n, t in state.items() if n.endswith("weight") and t.dim() > 1)
    assert zeros(state) == round(0.75 * total)
    assert export.main([str(tmp_path / "run"), "--to", "hf"]) == 2
    assert "is no network of transformers" in capsys.readouterr().err
