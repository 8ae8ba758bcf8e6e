"""One call: what it prunes, measures, writes, resumes and refuses."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from tests.support.html_pages import parse_page, table_after
from ws_learner import Recipe, UserError, WeightSparseConfig, load_run, prune
from ws_learner.report import read_rollouts

COUNT = 150
INPUTS = torch.randn(COUNT, 6, generator=torch.Generator().manual_seed(0))
LABELS = (INPUTS[:, 0] > 0).long() + (INPUTS[:, 1] > 0).long()
WHOLE = TensorDataset(INPUTS, LABELS)
TRAIN, VALIDATION, TEST = (
    Subset(WHOLE, part) for part in (range(90), range(90, 120), range(120, 150))
)
QUICK = {"ws_nb_rlouts": 4, "ws_nb_rlouts_min": 2}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


def quick(data: Any, **given: Any) -> Any:
    return prune(network(), data, 0.5, **{"epochs": 1, "config": QUICK} | given)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def accuracy(model: nn.Module, data: Dataset[Any]) -> float:
    with torch.no_grad():
        pairs = [data[index] for index in range(len(data))]  # type: ignore[arg-type]
        right = [int(model(x[None]).argmax()) == int(y) for x, y in pairs]
    return sum(right) / len(right)


def test_no_test_is_claimed_without_a_test_set(capsys: pytest.CaptureFixture[str]) -> None:
    result = quick((TRAIN, VALIDATION), report="out/report.md")
    summary = result.summary
    assert summary["measured_on"] == "validation"
    assert summary["sparse_accuracy"] == pytest.approx(accuracy(result.model, VALIDATION))
    assert summary["dense_accuracy"] == pytest.approx(accuracy(network(), VALIDATION))
    report = Path("out/report.md").read_text()
    assert "the validation accuracy is" in report
    assert "There was no test set" in report
    assert "| validation | the metric at the top; read once, at the end" in report
    assert not re.search(r"test accuracy|\(test\)|\| test ", report)
    said = capsys.readouterr().err
    assert "the validation accuracy is" in said
    assert "test of the" not in said


def test_a_test_set_is_read_once_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    result = quick((TRAIN, VALIDATION, TEST), report="out")
    assert result.summary["measured_on"] == "test"
    assert result.summary["sparse_accuracy"] == pytest.approx(accuracy(result.model, TEST))
    assert result.summary["split_sizes"] == {"train": 90, "search": 15, "select": 15, "test": 30}
    report = Path("out/report.md").read_text()
    assert "the test accuracy is" in report
    assert "There was no test set" not in report
    assert "the test accuracy is" in capsys.readouterr().err


def test_the_links_of_a_report_lead_to_the_run() -> None:
    quick((TRAIN, VALIDATION), report="deep/er/my.md", run_dir="run")
    text = Path("deep/er/my.md").read_text()
    links = re.findall(r"\]\(<?([^)>]+)>?\)", text)
    assert "../../run/ratios.csv" in links
    assert any(link.endswith("figures/schedule.svg") for link in links)
    assert all((Path("deep/er") / link).exists() for link in links)


def test_every_run_has_a_report_in_its_folder() -> None:
    result = quick((TRAIN, VALIDATION), run_dir="run")
    text = Path("run/report.md").read_text()
    assert text.startswith("# Sequential: gradual method, optimal ratios")
    assert "| **total** " in text
    page = Path("run/report.html").read_text()
    for path in (result.report("page.html"), load_run("run", model=network()).report("a.html")):
        assert path.read_text() == page
    tree = parse_page(page)
    total = table_after(tree, "layers")[-1]
    assert total[3] == f"{6 * 16 + 16 * 3:,}"
    notices = tree.having("class", "notices")[0].text
    for said in ("adjusted: `ws_mask_update_step`", "`loss`: ", "training: 1 epochs"):
        assert said in notices  # said before the run had a folder
    assert "There was no test set." in notices
    assert ["biases, normalisation and other vectors", "19"] in [
        line[:2] for line in table_after(tree, "dense")
    ]
    assert ["ws_nb_rlouts", "4", "64"] in table_after(tree, "settings")
    assert "torch" in [line[0] for line in table_after(tree, "versions")]


def test_a_run_keeps_the_profiles_of_protocols_without_rollouts() -> None:
    quick((TRAIN, VALIDATION), run_dir="run")
    kept, scored = pd.read_csv("run/protocols.csv"), read_rollouts("run/rollouts.csv")
    assert kept["weights"].tolist() == [96, 48]
    profiles = {name: kept[name].tolist() for name in kept.columns[2:]}
    assert profiles["uniform"] == [48, 24]
    assert {sum(zeros) for zeros in profiles.values()} == {72}
    priors = scored[scored["kind"] == "prior"].filter(like="zeros/").to_numpy().tolist()
    assert priors
    assert all(zeros in profiles.values() for zeros in priors)


def test_the_same_call_reads_the_finished_run_again() -> None:
    first = quick((TRAIN, VALIDATION), report="report.md")
    Path("report.md").unlink()
    (run,) = Path("runs").iterdir()
    (run / "report.md").unlink()  # as in a run of an earlier version
    marks = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    again = quick((TRAIN, VALIDATION), report="report.md")
    assert [*Path("runs").iterdir()] == [run]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")} == marks
    assert again.summary == first.summary
    assert Path("report.md").exists()
    assert (run / "report.md").exists()
    opened = load_run(run, model=network())
    for name, tensor in opened.model.state_dict().items():
        assert torch.equal(tensor, first.model.state_dict()[name])
    quick((TRAIN, VALIDATION), epochs=2)  # another training is another run
    assert len([*Path("runs").iterdir()]) == 2


def test_a_loaders_batch_size_is_the_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    quick((DataLoader(TRAIN, batch_size=18, shuffle=True), DataLoader(VALIDATION, batch_size=7)))
    assert "training: 1 epochs in batches of 18, adamw at 0.003" in capsys.readouterr().err


def test_settings_recipe_and_metric_of_ones_own_are_used() -> None:
    result = prune(
        network(),
        (TRAIN, VALIDATION, TEST),
        0.5,
        recipe=Recipe(nb_epochs=1, batch_size=30),
        config={"ws_pattern": "2:4", "ws_prune_ratio_prtl": "given"},
        loss=nn.CrossEntropyLoss(),
        metric=lambda outputs, targets: (outputs.argmax(1) == targets).double(),
    )
    assert result.summary["pattern"] == "2:4"
    assert result.summary["metric"] == "score"
    weight = result.model[2].weight.detach()
    assert ((weight == 0).reshape(3, 4, 4).sum(2) == 2).all()


def test_a_whole_config_takes_the_ratio_of_the_call() -> None:
    config = WeightSparseConfig(ws_prune_ratio=0.9, ws_prune_ratio_prtl="uniform")
    result = quick((TRAIN, VALIDATION), config=config)
    assert result.summary["protocol"] == "uniform"
    assert result.summary["achieved_prune_ratio"] == 0.5


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"recipe": Recipe(nb_epochs=1), "epochs": 2}, "`epochs`: is part of `recipe`"),
        ({"config": {"ws_patern": "2:4"}}, "`config` ws_patern: is no setting; did you mean"),
        ({"epochs": -1}, "`nb_epochs` -1: must be a number above 0"),
        ({"batch_size": 91}, "`batch_size` 91: larger than the training split (90 examples)"),
        ({"report": "/proc/none/report.md"}, "`report` /proc/none/report.md: cannot be written"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(given: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as caught:
        quick((TRAIN, VALIDATION), **given)
    assert line in str(caught.value)
    assert not Path("runs").exists()


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(UserError, match="`model`: a str is no network"):
        prune("resnet50", (TRAIN, VALIDATION), 0.5)  # type: ignore[arg-type]


class Held(nn.Linear):
    """Holds a lock, which cannot be copied."""

    def __init__(self) -> None:
        super().__init__(6, 3)
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"seed": "a"}, "`seed` 'a': must be a whole number of at least 0"),
        ({"seed": -1}, "`seed` -1: must be a whole number of at least 0"),
        ({"workers": -1}, "`workers` -1: must be a whole number of at least 0"),
        ({"batch_size": 0}, "`batch_size` 0: must be a whole number of at least 1"),
        ({"max_examples": "a"}, "`max_examples` 'a': must be a whole number of at least 1"),
        ({"report": 3}, "`report` 3: must be a path"),
        ({"compute": "cpu"}, "`compute`: is 'cpu'; give choose_device(device='cpu')"),
        ({"cluster": "auto"}, "`cluster`: is 'auto'; give ClusterConfig(workers=4)"),
        ({"teacher": "x"}, "`teacher`: a str is no network"),
        ({"config": 3}, "`config`: is 3; give a WeightSparseConfig, or its fields in a dict"),
        ({"loss": nn.CrossEntropyLoss}, "`loss`: is the class CrossEntropyLoss; give an instance"),
        ({"loss": "ce"}, "`loss` 'ce': must be a function (outputs, targets) -> scalar"),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused_before_any_work(
    given: dict[str, Any], line: str
) -> None:
    with pytest.raises(UserError) as caught:
        quick((TRAIN, VALIDATION), **given)
    assert line in str(caught.value)
    assert not Path("runs").exists()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_networks_that_cannot_be_pruned_as_they_are_are_refused() -> None:
    with torch.device("meta"):
        empty = network()
    script: Any = torch.jit.script
    for model, line in (
        (empty, "0.weight is on the meta device and has no values"),
        (script(network()), "is scripted or traced, which hides its layers"),
        (nn.Sequential(nn.LazyLinear(3)), "it is lazy and has no weights yet"),
        (Held(), "copy.deepcopy of it fails, TypeError: cannot pickle '_thread.lock' object"),
        (nn.Linear, "is the class Linear; give a trained instance of it"),
    ):
        with pytest.raises(UserError) as caught:
            prune(model, (TRAIN, VALIDATION), 0.5)
        assert line in str(caught.value)


def test_a_ratio_of_numpys_own_type_is_a_ratio() -> None:
    result = prune(network(), (TRAIN, VALIDATION), np.float32(0.5), epochs=1, config=QUICK)
    assert result.summary["achieved_prune_ratio"] == 0.5


def test_ratios_of_the_layers_need_no_ratio_of_the_whole() -> None:
    config = {"ws_ratios": {"0": 0.5, "2": 0.25}}
    result = prune(network(), (TRAIN, VALIDATION), None, epochs=1, config=config)
    zeros = [int((result.model[place].weight == 0).sum()) for place in (0, 2)]
    assert zeros == [48, 12]
    with pytest.raises(UserError, match="`prune_ratio` None: give the share of zero weights"):
        prune(network(), (TRAIN, VALIDATION), None)


def test_a_finished_run_gives_its_network_in_evaluation_mode_again() -> None:
    assert not quick((TRAIN, VALIDATION)).model.training
    assert not quick((TRAIN, VALIDATION)).model.training


def test_classes_that_the_loss_ignores_count_in_no_score() -> None:
    labels = torch.randint(3, (120, 4), generator=torch.Generator().manual_seed(0))
    labels[:, 2:] = 255
    words = INPUTS[:120, :1, None].expand(-1, 2, 4).contiguous()
    torch.manual_seed(0)
    model = nn.Conv1d(2, 3, 1)
    parts = [TensorDataset(words[part], labels[part]) for part in (slice(90), slice(90, 120))]
    for loss in (
        nn.CrossEntropyLoss(ignore_index=255),
        lambda outputs, targets: nn.functional.cross_entropy(outputs, targets, ignore_index=255),
    ):
        config = {"ws_prune_ratio_prtl": "uniform"}
        result = prune(model, tuple(parts), 0.5, loss=loss, epochs=1, config=config)
        with torch.no_grad():
            right = (model(words[90:]).argmax(1) == labels[90:])[:, :2].double().mean()
        assert result.summary["dense_accuracy"] == pytest.approx(float(right))
    with pytest.raises(UserError, match=r"a target is 255, .*ignore_index=255"):
        prune(model, tuple(parts), 0.5)


def test_a_budget_takes_the_place_of_the_ratio() -> None:
    settings = {"ws_budget": "params=0.4", "ws_prune_ratio_prtl": "uniform"}
    for config in (settings, WeightSparseConfig(**settings)):  # type: ignore[arg-type]
        result = prune(network(), (TRAIN, VALIDATION), None, epochs=1, config=config)
        matrices = [parameter for parameter in result.model.parameters() if parameter.dim() > 1]
        total = sum(matrix.numel() for matrix in matrices)
        kept = sum(int((matrix != 0).sum()) for matrix in matrices)
        assert kept == int(0.4 * total)
    with pytest.raises(UserError, match="or `ws_budget` in `config`"):
        prune(network(), (TRAIN, VALIDATION), None, epochs=1)
