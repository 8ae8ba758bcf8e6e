"""Python blocks of the pages run as they stand, given what their page takes for granted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.support.pages import blocks, given_names, run_block
from ws_learner import GradualConfig, Sparsifier, shrink
from ws_learner.core import LayerChoice
from ws_learner.pruning import layer_table

Names = dict[str, Any]


def loader(count: int = 64) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 1, 8, 8, generator=generator)
    return DataLoader(TensorDataset(inputs, torch.arange(count) % 10), batch_size=32)


def classifier() -> Names:
    given = given_names()
    inputs, targets = next(iter(loader()))
    given["model"](inputs)
    return given | {
        **{"loader": loader(), "train_loader": loader(640), "validation_loader": loader(160)},
        **{"train": loader(640).dataset, "validation": loader(160).dataset},
        **{"test": loader(160).dataset, "inputs": inputs, "targets": targets},
        "example_inputs": inputs,
        "example": inputs,
    }


def two_linear() -> Names:
    class Mlp(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(16, 32), nn.Linear(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc2(self.fc1(x).relu())

    torch.manual_seed(0)
    model = Mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {"model": model, "optimizer": optimizer, "inputs": torch.randn(8, 16)}


def neurons() -> Names:
    from collections import OrderedDict

    torch.manual_seed(0)
    a, b = nn.Linear(16, 64), nn.Linear(64, 4)
    with torch.no_grad():
        a.weight[:48], a.bias[:48] = 0, 0
    mlp = nn.Sequential(OrderedDict([("a", a), ("act", nn.ReLU()), ("b", b)]))
    return {"model": nn.Sequential(OrderedDict([("mlp", mlp)])), "inputs": torch.randn(8, 16)}


def functional() -> Names:
    torch.manual_seed(0)
    model = nn.Linear(32, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return {
        "weights": [model.weight],
        "loss": model(torch.randn(4, 32)).square().mean(),
        "alpha": 0.1,
        "optimizer": optimizer,
        "lr_scheduler": torch.optim.lr_scheduler.ConstantLR(optimizer),
    }


def sparse() -> Names:
    given = classifier()
    model: nn.Module = given["model"]
    with torch.no_grad():
        model.conv.weight[0], model.conv.bias[0] = 0, 0
        model.fc.weight[:, :9] = 0
    return given | {"small": shrink(model, given["inputs"]), "build_the_original": lambda: model}


def in_training() -> Names:
    given = classifier()
    sparsifier = Sparsifier(
        given["model"], GradualConfig(), ratios={"fc.weight": 0.9}, total_steps=4
    )
    sparsifier.attach(given["optimizer"])
    for _ in range(4):
        given["optimizer"].zero_grad()
        given["loss"](given["model"](given["inputs"]), given["targets"]).backward()
        given["optimizer"].step()
    return given | {"sparsifier": sparsifier}


def costs() -> Names:
    torch.manual_seed(0)
    given: Names = {"model": nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))}
    given["inputs"] = given["example_inputs"] = torch.randn(8, 64)
    layers = layer_table(given["model"], given["inputs"])
    choices = [
        [
            LayerChoice(pattern="unstructured", zeros=0),
            LayerChoice(pattern="4x1", zeros=row.weights // 2 // 4 * 4),
            LayerChoice(pattern="4x1", zeros=row.weights // 2 // 4 * 4, dtype="int8"),
        ]
        for row in layers
    ]
    profile = [own[0] for own in choices]
    return given | {
        **{"layers": layers, "choices": choices, "profile": profile, "pruned": given["model"]},
    }


def zeros_of(weight: torch.Tensor) -> int:
    return int((weight == 0).sum())


CASES: dict[tuple[str, str], tuple[Callable[[], Names], Callable[[Names], object]]] = {
    ("budgets", "budget_parts"): (
        classifier,
        lambda left: left["result"].summary["budget_parts"][0]["most"] > 0,
    ),
    ("guide", "sensitivity"): (classifier, lambda left: set(left["found"].ranking)),
    ("guide", "squared_error"): (dict, lambda left: not left["metric"].higher_is_better),
    ("guide", "(train, validation, test)"): (
        classifier,
        lambda left: zeros_of(left["result"].model.fc.weight) > 0,
    ),
    ("movement", "UnitGroup"): (
        neurons,
        lambda left: left["cropped"] is not None,
    ),
    ("movement", "export_onnx"): (two_linear, lambda left: Path("model.onnx").exists()),
    ("neural_compressor", "small.cuts"): (
        lambda: sparse() | {"example_inputs": classifier()["inputs"]},
        lambda left: left["small"].model,
    ),
    ("patterns", "prune_weights_with_magnitude"): (
        functional,
        lambda left: zeros_of(left["weights"][0]) == round(0.9 * 512 / 4) * 4,
    ),
    ("neural_compressor", "load_shrunk"): (
        sparse,
        lambda left: sum(p.numel() for p in left["model"].parameters()) < 40 + 370,
    ),
    ("patterns", "GroupLassoConfig"): (classifier, lambda left: left["sparsifier"] is not None),
    ("runtime", "measure_together"): (
        costs,
        lambda left: left["table"].predict(left["profile"]) > 0,
    ),
    ("runtime", "write_deploy_folder"): (sparse, lambda left: left["record"]["bytes"] > 0),
    ("training_loops", "AveragedModel"): (
        in_training,
        lambda left: zeros_of(left["average"].module.fc.weight) == round(0.9 * 360),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_a_block_runs_as_it_stands(
    case: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, word = case
    (code,) = (block for block in blocks(f"docs/{page}.md") if word in block)
    prepare, holds = CASES[case]
    left = run_block(code, tmp_path, prepare())
    monkeypatch.chdir(tmp_path)
    assert holds(left)
