from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from experiments.cli.flags import parse
from experiments.run import main
from ws_learner.compat.timm.reader import is_timm_nm, parse_timm_nm
from ws_learner.core.errors import UserError
from ws_learner.pruning.schedules.nm_phases import Phases

ROOT = Path(__file__).parents[2]
VIT = ROOT / "experiments" / "configs" / "vit_base_training.yaml"
TINY = str(ROOT / "tests" / "support" / "tiny_vit_experiment.py")
SPARSITY: dict[str, Any] = {
    "sparsity_type": "STRUCTURED_NM",
    "n_sparsity": 2,
    "m_sparsity": 8,
    "decay_type": "LINEAR",
    "decay_coef": 2e-3,
    "epochs": 20,
}


def read(**changes: Any) -> dict[str, Any]:
    given = {k: v for k, v in (SPARSITY | changes).items() if v is not None}
    return parse_timm_nm(yaml.safe_dump(given)).settings


def test_the_seeds_file_becomes_our_settings() -> None:
    command = parse(["--config", str(VIT)])
    ws, run = command.ws, command.run
    assert command.name == "vit_at_cifar10"
    assert (ws.ws_method, ws.mdgf_decay, ws.mdgf_beta) == ("mdgf", "exponential", 1e-4)
    assert (ws.pattern_spelling, ws.ws_prune_ratio_prtl) == ("1:32@ff", "given")
    assert (ws.nm_dense_epochs, ws.nm_fine_tune_epochs) == (0, 0)
    assert (run.nb_epochs, run.batch_size, run.warmup_epochs) == (350, 256, 15)
    assert (run.optimizer, run.weight_decay, run.clip_norm) == ("adamw", 0.01, 1.0)
    assert (run.mixup, run.label_smoothing, run.lrn_rate_min) == (0.5, 0, 1e-7)
    assert run.lrn_rate == pytest.approx(1e-3 * (256 / 4096) ** 0.5)
    assert (command.options.drop, command.options.drop_path) == (0.1, 0.1)


def test_the_command_line_goes_first(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["swin_at_cifar10", "--config", str(VIT), "--ws_pattern", "1:8", "--nb_epochs", "3"]
    command = parse(words)
    assert command.name == "swin_at_cifar10"
    assert command.ws.pattern_spelling == "1:8@ff"
    assert command.run.nb_epochs == 3
    told = capsys.readouterr().err
    assert "vit_base_patch16_224" in told
    assert "no meaning here: dataset, amp" in told


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"sparsity_type": "srste"}, {"ws_method": "srste", "ws_pattern": "2:8"}),
        ({"sparsity_type": "Structure_NM"}, {"ws_method": "mdgf", "mdgf_decay": "linear"}),
        ({"sparsity_type": "structured-nm"}, {"mdgf_beta": 2e-3, "mdgf_gradient": "ste"}),
        ({"decay_type": "step"}, {"ws_method": "mdgf", "mdgf_decay": "step"}),
        ({"decay_type": "Exponential"}, {"mdgf_decay": "exponential"}),
        (
            {"structure_decay_flag": True, "structure_decay_type": "fine"},
            {"ws_method": "sdgf", "sdgf_decay": "geometric", "sdgf_stages": 4},
        ),
        (
            {"structure_decay_flag": True, "structure_decay_type": "SPARSIFY", "decay_type": None},
            {"sdgf_decay": "stepwise", "sdgf_stages": None, "sdgf_mask_decay": "step"},
        ),
        (
            {"structure_decay_flag": True, "structure_decay_stages": 5},
            {"sdgf_stages": 5, "sdgf_mask_decay": "linear"},
        ),
        ({"dense_steps": 0.1, "fine_tune_steps": "25%"}, {"nm_dense_epochs": 2}),
        ({"dense_steps": 0.1, "fine_tune_steps": "25%"}, {"nm_fine_tune_epochs": 5}),
        ({"Dense Epochs": 0.5}, {"nm_dense_epochs": 10}),
        ({"epochs": None, "Total Epochs": 8, "dense_steps": "50%"}, {"nm_dense_epochs": 4}),
        ({"sparsity_loc": "KQFF"}, {"ws_location": "ff,q,k", "ws_qkv_pattern": "2:4"}),
        (
            {"Sparsity Loc": "v", "N Sparsity qkv": 1, "M Sparsity qkv": 4},
            {"ws_location": "v", "ws_qkv_pattern": "1:4"},
        ),
        ({"sparsity_loc": "C"}, {"ws_location": "conv"}),
        ({"sparse_dim": "Col"}, {"ws_sparse_dim": "col"}),
        ({"sparsity_type": "Dense"}, {"learner": "full-prec"}),
        ({"lr": 0.02, "lr_base": 0.1}, {"lrn_rate": 0.02}),
        ({"lr_base": 0.1, "batch_size": 512, "opt": "sgd"}, {"lrn_rate": 0.2}),
        ({"lr_base": 0.1, "batch_size": 1024, "opt": "adamw"}, {"lrn_rate": 0.2}),
    ],
)
def test_every_key(changes: dict[str, Any], wanted: dict[str, Any]) -> None:
    settings = read(**changes)
    assert {key: settings.get(key, "missing") for key in wanted} == wanted


def test_what_is_not_followed_is_listed() -> None:
    text = yaml.safe_dump(
        SPARSITY | {"sparsity_type": "SRSTE", "aa": "rand-m9", "sched": "plateau", "opt": "lion"}
    )
    listed = "; ".join(parse_timm_nm(text).ignored)
    for part in ("decay_type, decay_coef", "aa", "sched plateau", "opt lion"):
        assert part in listed


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"sparsity_loc": "FF", "n_sparsity_qkv": 1, "m_sparsity_qkv": 8},
            "sparsity_loc names none of Q, K, V: n_sparsity_qkv, m_sparsity_qkv",
        ),
        (
            {"structure_decay_flag": False, "structure_decay_type": "fine"},
            "structure_decay_flag is off: structure_decay_type",
        ),
        ({"decay_type": "STEP"}, "decay_type step has no coefficient: decay_coef"),
        (
            {"sparsity_type": "Dense"},
            "Dense prunes nothing: n_sparsity, m_sparsity, decay_type, decay_coef",
        ),
        ({"sparsity_loc": "FFQ", "n_sparsity_qkv": 1}, None),
    ],
)
def test_keys_that_others_leave_without_effect_are_listed(
    changes: dict[str, Any], line: str | None
) -> None:
    listed = parse_timm_nm(yaml.safe_dump(SPARSITY | changes)).ignored
    assert listed == (() if line is None else (line,))


@pytest.mark.parametrize("epochs", [400, 20, 0.05])
def test_shares_stay_shares_of_another_length(
    epochs: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = SPARSITY | {"epochs": 100, "dense_steps": 0.1, "fine_tune_steps": "20%"}
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(content | {"warmup_epochs": 30}))
    words = ["vit_at_cifar10", "--config", str(path), "--nb_epochs", str(epochs)]
    command = parse(words)
    assert command.ws.nm_dense_epochs == pytest.approx(0.1 * epochs)
    assert command.ws.nm_fine_tune_epochs == pytest.approx(0.2 * epochs)
    assert command.run.warmup_epochs == pytest.approx(min(30, 0.3 * epochs))
    assert ("warmup_epochs 30 of 100" in capsys.readouterr().err) == (epochs < 100)
    chosen = parse([*words, "--nm_dense_epochs", "0.01", "--warmup_epochs", "0"])
    assert (chosen.ws.nm_dense_epochs, chosen.run.warmup_epochs) == (0.01, 0)


def test_two_halves_of_an_odd_number_of_steps_fit() -> None:
    phases = Phases.of_epochs(15, steps_per_epoch=5, dense=1.5, fine_tune=1.5)
    assert phases.fine_tune >= phases.begin
    with pytest.raises(UserError):
        Phases.of_epochs(15, steps_per_epoch=5, dense=1.5, fine_tune=2)


def test_all_mistakes_are_reported_at_once() -> None:
    text = "\n".join(
        [
            "n_sparsity: 4",
            "m_sparsity: 4",
            "sparsity_type: banana",
            "decay_type: cubic",
            "dense_steps: 10",
            "fine_tune_steps: 150%",
            "sparsity_loc: FFX",
            "sparse_dim: 3",
            "structure_decay_flag: maybe",
            "decay_coef: -1",
            "n_sparsty_qkv: 3",
            "prune_rate: 0.5",
            "batch_size: many",
            "epochs: 2.5",
        ]
    )
    with pytest.raises(UserError) as caught:
        parse_timm_nm(text)
    lines = str(caught.value).splitlines()
    assert lines[0] == "N:M config: 13 problems"
    numbers = [int(line.split()[1].rstrip(":")) for line in lines[1:]]
    assert sorted(set(numbers)) == [1, *range(3, 15)]
    assert "did you mean n_sparsity_qkv?" in str(caught.value)


def test_other_files_are_not_of_this_dialect() -> None:
    assert is_timm_nm(VIT.read_text())
    assert is_timm_nm("N Sparsity: 2\n")
    assert not is_timm_nm("ws_pattern: '2:4'\n# n_sparsity: 2\n")
    assert not is_timm_nm("pruning:\n  n_sparsity: 2\n")


@pytest.mark.long
def test_a_run_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = SPARSITY | {"epochs": 2, "decay_coef": 0.2, "sparsity_loc": "FFQK"}
    content |= {"fine_tune_steps": "50%", "drop": 0.1, "mixup": 0.2, "clip_grad": 1.0}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(content))
    assert main([TINY, "--config", "c.yaml", "--run_dir", "one"]) == 0
    state = load_file("one/model.safetensors")
    qkv = state["blocks.0.attn.qkv.weight"]
    assert ((qkv[:32] != 0).reshape(-1, 4).sum(1) == 2).all()
    assert (qkv[32:] != 0).all()
    assert ((state["blocks.1.mlp.fc2.weight"] != 0).reshape(-1, 8).sum(1) == 2).all()
    assert (state["blocks.0.attn.proj.weight"] != 0).all()
    summary = json.loads(Path("one/summary.json").read_text())
    assert summary["dense_accuracy"] is None
    assert main([TINY, "--config", "one/config.yaml", "--run_dir", "two"]) == 0
    again = load_file("two/model.safetensors")
    assert all((again[name] == tensor).all() for name, tensor in state.items())
    assert main([TINY, "--exec_mode", "eval", "--run_dir", "one"]) == 0


def test_a_warm_up_that_outlasts_the_training_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--nb_epochs", "2", "--run_dir", str(tmp_path / "run"), "--ws_prune_ratio", "0.5"]
    assert main([TINY, *words, "--warmup_epochs", "15"]) == 2
    assert "--warmup_epochs 15: must be below --nb_epochs 2" in capsys.readouterr().err
