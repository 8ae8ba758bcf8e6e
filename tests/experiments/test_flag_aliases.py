"""Readable flags and PocketFlow's: one setting, one run, messages in the typed spelling."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from experiments.cli.flag_aliases import ALIASES, canonical_words, spell_message
from experiments.cli.flags import parse
from experiments.run import main
from ws_learner import UserError, WeightSparseConfig
from ws_learner.pruning import GradualConfig

ROOT = Path(__file__).parents[2]
TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
VALUES = {
    "prune_ratio": "0.9",
    "protocol": "lamp",
    "num_rollouts": "33",
    "from_rollouts": "a.csv",
    "goals": "0.5:0.9",
    "policy": "c.safetensors",
    "from_policy": "d.safetensors",
    "patience": "3",
    "search_time": "10m",
    "method": "group_lasso",
    "pattern": "4x1",
    "criterion": "snip",
    "location": "ff",
    "ratios": "b.csv",
}


@pytest.mark.parametrize("alias", sorted(VALUES))
def test_both_spellings_set_the_same(alias: str) -> None:
    readable = parse([f"--{alias}", VALUES[alias]]).settings()
    other = parse([f"--{ALIASES[alias]}={VALUES[alias]}"]).settings()
    assert readable == other
    assert str(readable[ALIASES[alias]]) == VALUES[alias]


def test_a_switch_has_both_spellings_and_can_be_turned_off() -> None:
    assert parse(["--distill"]).ws.enbl_dst
    assert not parse(["--no_distill"]).ws.enbl_dst
    assert [parse(words).ws.ws_keep_zeros for words in ([], ["--keep_zeros"])] == [None, True]
    assert parse(["--no_keep_zeros"]).ws.ws_keep_zeros is False
    bounds = {"max_ratios", "min_ratios", "fixed_ratios"}
    budgets = {"budget", "dtype", "latency_batch", "latency_threads"}  # tests/config/test_budget.py
    assert set(VALUES) | {"distill", "keep_zeros"} | bounds | budgets == set(ALIASES)


@pytest.mark.parametrize("kind", ["max", "min", "fixed"])
def test_bounds_of_single_layers_as_text_or_file(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "bounds.csv"
    file.write_text("layer,prune_ratio\nconv1,0.5\nlayer3.*,0.95\n")
    name, wanted = f"ws_{kind}_ratios", {"conv1": 0.5, "layer3.*": 0.95}
    for words in (
        [f"--{kind}_ratios", "conv1=0.5,layer3.*=0.95"],
        [f"--ws_{kind}_ratios=conv1=0.5,layer3.*=0.95"],
        [f"--{kind}_ratios", str(file)],
    ):
        assert parse(words).settings()[name] == wanted
    config = tmp_path / "config.yaml"
    config.write_text(f"{kind}_ratios:\n  conv1: 0.5\n  layer3.*: 0.95\n")
    assert parse(["--config", str(config)]).settings()[name] == wanted
    with pytest.raises(UserError, match=f"--{kind}_ratios conv1: prune ratio '1.5' must be"):
        parse([f"--{kind}_ratios", "conv1=1.5"])
    with pytest.raises(UserError, match=r"--ratios sets every ratio; leave one out"):
        parse(["--ratios", str(file), "--protocol", "optimal"])


def test_the_run_directory_does_not_depend_on_the_spelling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--nb_epochs", "1", "--seed", "3"]
    for words in (["--prune_ratio", "0.5", "--protocol", "uniform"],
                  ["--ws_prune_ratio", "0.5", "--ws_prune_ratio_prtl", "uniform"]):  # fmt: skip
        assert main([TINY, *few, *words], runs=tmp_path) == 0
    assert "(finished)" in capsys.readouterr().err
    pruned = [run for run in tmp_path.iterdir() if "gradual" in run.name]
    assert len(pruned) == 1
    settings = (pruned[0] / "config.yaml").read_text()
    assert "ws_prune_ratio: 0.5" in settings
    assert "\nprune_ratio:" not in settings


def test_a_config_file_takes_both_spellings_but_not_two_values(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("prune_ratio: 0.6\nws_prune_ratio_prtl: uniform\n")
    assert parse(["--config", str(file)]).ws.ws_prune_ratio == 0.6
    file.write_text("prune_ratio: 0.6\nws_prune_ratio: 0.7\n")
    with pytest.raises(UserError, match="prune_ratio and ws_prune_ratio are one setting"):
        parse(["--config", str(file)])
    file.write_text("prune_ratio: much\n")
    with pytest.raises(UserError, match="config file: prune_ratio much: must be"):
        parse(["--config", str(file)])


def test_one_setting_with_two_values_is_refused() -> None:
    with pytest.raises(UserError, match=r"--prune_ratio 0\.5 and --ws_prune_ratio 0\.6"):
        canonical_words(["--prune_ratio", "0.5", "--ws_prune_ratio", "0.6"])
    with pytest.raises(UserError, match="--distill and --no_enbl_dst: are one setting"):
        canonical_words(["--distill", "--no_enbl_dst"])
    same = canonical_words(["--prune_ratio=0.5", "--ws_prune_ratio", "0.5"])
    assert same == ["--ws_prune_ratio=0.5", "--ws_prune_ratio", "0.5"]


@pytest.mark.parametrize(
    ("words", "setting", "value"),
    [
        ("--prune_ratio 0.5 --ws_prune_ratio 0.50", "ws_prune_ratio", 0.5),
        ("--distill=true --enbl_dst", "enbl_dst", True),
        ("--no_distill --enbl_dst false", "enbl_dst", False),
    ],
)
def test_one_value_in_two_forms_is_accepted(words: str, setting: str, value: float) -> None:
    assert parse(words.split()).settings()[setting] == value


@pytest.mark.parametrize("flag", ["--prune_ratio", "--ws_prune_ratio"])
def test_an_error_uses_the_spelling_that_was_typed(flag: str) -> None:
    with pytest.raises(UserError, match=rf"^{flag} 2: must be a share"):
        parse([flag, "2"])


def test_a_setting_that_was_not_typed_has_the_spelling_of_the_others() -> None:
    text = "`ws_pattern` with `ClusterConfig.workers`=2 and `something_else`"
    assert spell_message([])(text) == "--pattern with -n=2 and `something_else`"
    assert spell_message(["--ws_method", "movement"])(text).startswith("--ws_pattern with")
    assert spell_message(["--ws_method", "x", "--ratios", "f"])(text).startswith("--pattern")
    assert spell_message([])("`SrSteConfig.weight` -1") == "--srste_lambda -1"
    assert spell_message([])("`prune_ratio_exp` -1") == "--ws_prune_ratio_exp -1"


def test_a_python_user_reads_about_arguments() -> None:
    with pytest.raises(UserError, match=r"^`prune_ratio_exp` -1: must be above 0"):
        GradualConfig(prune_ratio_exp=-1)
    with pytest.raises(UserError, match=r"^`ws_prune_ratio` 2: must be a share"):
        WeightSparseConfig(ws_prune_ratio=2)


COMMANDS_OF_OTHERS = {"download.py", "wheel_download.py", "movielens.py"}  # pip's and npm's flags
SHOWN_COMMANDS = {"summary_bars.py", "cards.py", "commands.py"}  # of a report, to be copied


def test_the_library_knows_no_flags() -> None:
    found = []
    for top in ("ws_learner", "agents", "envs"):
        for path in sorted((ROOT / top).rglob("*.py")):
            tree = ast.parse(path.read_text())
            documentation = {
                id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)
            }
            found += [
                f"{path.relative_to(ROOT)}:{node.lineno}: {node.value[:60]}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in documentation
                and re.search(r"(?<![\w-])--[a-z]", node.value)
                and path.name not in COMMANDS_OF_OTHERS | SHOWN_COMMANDS
            ]
    assert found == []


OWN = """
from dataclasses import dataclass
from tests.support.tiny_experiment import Options as Tiny, build as build_tiny

@dataclass(frozen=True)
class Options:
    method: str = "fast"

def build(options, *, seed):
    return build_tiny(Tiny(), seed=seed)
"""


def test_an_option_of_an_experiment_is_not_taken_for_an_alias(tmp_path: Path) -> None:
    file = tmp_path / "own_at_here.py"
    file.write_text(OWN)
    command = parse([str(file), "--method", "slow", "--ws_method", "group_lasso"])
    assert command.options.method == "slow"
    assert command.ws.ws_method == "group_lasso"
    (tmp_path / "c.yaml").write_text("method: slower\nprune_ratio: 0.6\n")
    command = parse([str(file), "--config", str(tmp_path / "c.yaml")])
    assert (command.options.method, command.ws.ws_prune_ratio) == ("slower", 0.6)
    with pytest.raises(UserError, match="--ws_method lasso: no such choice"):
        parse([str(file), "--ws_method", "lasso"])


def test_a_config_key_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("1: 2\n")
    with pytest.raises(UserError, match="the key '1' is no text"):
        parse(["--config", str(file)])


def test_the_last_config_counts(tmp_path: Path) -> None:
    for name, ratio in (("a", 0.6), ("b", 0.7)):
        (tmp_path / f"{name}.yaml").write_text(f"prune_ratio: {ratio}\n")
    words = ["--config", str(tmp_path / "a.yaml"), f"--config={tmp_path / 'b.yaml'}"]
    assert parse(words).ws.ws_prune_ratio == 0.7
