"""What a user types: flags, config files, experiment names, and every kind of bad input."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments import distributed
from experiments.cli.discovery import find_config
from experiments.cli.flag_aliases import ALIASES, readable_name
from experiments.cli.flags import parse
from experiments.cli.help_page import ESSENTIALS
from experiments.cli.ray.sweep_plan import read_plan
from experiments.run import main
from tests.support.lpot import SEED_YAML
from tests.support.nncf import movement, text
from ws_learner.core.errors import UserError

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / "tests" / "support" / "digits_experiment.py")


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 2
    said = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in said if not line.startswith("adjusted: ")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def errors_of(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The lines below `error: N settings need a change:`."""
    assert main(words) == 2
    first, *lines = capsys.readouterr().err.strip().splitlines()
    assert first == f"error: {len(lines)} settings need a change:"
    return lines


@pytest.mark.parametrize(
    "name",
    [
        "resnet_at_cifar10",
        "experiments/resnet_at_cifar10.py",
        "nets/resnet_at_cifar10_run.py",
    ],
)
def test_an_experiment_by_name_path_or_pocketflow_spelling(name: str) -> None:
    command = parse([name, "--learner", "weight-sparse", "--ws_prune_ratio", "0.9"])
    assert command.experiment.__name__ == "experiments.resnet_at_cifar10"
    assert command.ws.ws_prune_ratio == 0.9


def test_the_default_experiment_and_a_file_of_ones_own() -> None:
    assert parse([]).experiment.__name__ == "experiments.resnet_at_cifar10"
    assert parse([DIGITS, "--width", "4"]).options.width == 4


def test_seed_example_lines_parse() -> None:
    line = "resnet_at_ilsvrc12 --resnet_size 34 --ws_prune_ratio_prtl heurist --data_dir d"
    command = parse(line.split())
    assert (command.options.resnet_size, command.ws.ws_prune_ratio_prtl) == (34, "heurist")
    line = "mobilenet_at_ilsvrc12 --mobilenet_version 2 --enbl_dst --data_dir d"
    command = parse(line.split())
    assert command.options.mobilenet_version == 2
    assert command.ws.enbl_dst


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--learner", "weigth-sparse"], ["--learner weigth-sparse", "did you mean weight-sparse"]),
        (["--ws_prune_ratio_prtl", "optmal"], ["optmal", "did you mean optimal", "heurist"]),
        (["resnet_at_cifar"], ["resnet_at_cifar", "did you mean resnet_at_cifar10"]),
        (["--ws_prune_rato", "0.5"], ["--ws_prune_rato", "did you mean --ws_prune_ratio"]),
        (["--ws_prune_ratio", "1.5"], ["--ws_prune_ratio 1.5", "[0, 1]"]),
        (["--ws_prune_ratio", "-0.1"], ["--ws_prune_ratio -0.1", "[0, 1]"]),
        (["--ws_prune_ratio", "nan"], ["--ws_prune_ratio nan", "[0, 1]"]),
        (["--ws_prune_ratio", "half"], ["--ws_prune_ratio", "half"]),
        (
            ["--ws_nb_rlouts", "10", "--ws_nb_rlouts_min", "20"],
            ["--ws_nb_rlouts 10", "--ws_nb_rlouts_min (20)"],
        ),
        (
            ["--ws_iter_ratio_beg", "0.6", "--ws_iter_ratio_end", "0.5"],
            ["--ws_iter_ratio_beg 0.6", "--ws_iter_ratio_end"],
        ),
        (["--seed", "-1"], ["--seed -1", "0 or more"]),
        (["--label_smoothing", "2"], ["--label_smoothing 2:", "[0, 1)"]),
        (["--ws_score_power", "0"], ["--ws_score_power 0:", "above 0"]),
        (["--dense_checkpoint", "nowhere"], ["--dense_checkpoint nowhere", "no such file"]),
        (["--ws_ratios", "nowhere.csv"], ["--ws_ratios nowhere.csv", "no such file"]),
        (["--ws_rollouts", "nowhere.csv"], ["--ws_rollouts nowhere.csv", "no such file"]),
        (["--run_dir", "/dev/null/x"], ["--run_dir /dev/null/x", "no folder"]),
        (["--ws_save_path", "/dev/null/x/y"], ["--ws_save_path /dev/null/x", "no folder"]),
        (["--ws_prune_ratio"], ["--ws_prune_ratio: needs a value"]),
        (["--enbl_dst", "perhaps"], ["--enbl_dst perhaps", "boolean"]),
        (["--workers=2.5"], ["--workers 2.5", "integer"]),
        (["-n=2"], ["-n=2", "./run_distributed.sh"]),
        (["resnet_at_cifar10", "fast"], ["fast: belongs to no flag", "experiment comes first"]),
        (["--ws_mask_update_step", "0"], ["--ws_mask_update_step 0", "at least 1"]),
        (["--ddpg_gamma", "2"], ["--ddpg_gamma 2.0"]),
        (["--workers", "-1"], ["--workers -1", "0 (no processes"]),
        (["--config", "nowhere.yaml"], ["--config nowhere.yaml", "No such file"]),
        (["--exec_mode", "eval"], ["--run_dir"]),
        (
            ["--exec_mode", "eval", "--run_dir", "no/run"],
            ["--run_dir no/run", "no such folder or name of a run"],
        ),
        (["resnet_at_ilsvrc12"], ["--data_dir", "train/<class>/"]),
        (["resnet_at_ilsvrc12", "--data_dir", "nowhere"], ["--data_dir nowhere"]),
        (["--ws_prune_ratio_prtl", "given"], ["--ws_ratios"]),
        # Refused before anything is computed, a search in particular:
        ([DIGITS, "--batch_size", "99999"], ["--batch_size 99999", "the training split"]),
        ([DIGITS, "--ws_mask_update_step", "99999"], ["99999 is longer than the ramp"]),
        ([DIGITS, "--ws_update_frequency", "3"], ["--ws_update_frequency 3", "lower it"]),
        ([DIGITS, "--warmup_epochs", "30"], ["--warmup_epochs 30", "4 epochs", "--nb_epochs"]),
        ([DIGITS, "--ws_include", "nope*"], ["--ws_include 'nope*'", "nearest"]),
        ([DIGITS, "--ws_ratio_max", "0.5"], ["--ws_prune_ratio 0.75", "0.5000", "--ws_ratio_max"]),
    ],
)
def test_bad_input_is_one_line_that_names_flag_value_and_remedy(
    capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]
) -> None:
    line = error_of(capsys, *words)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ws_prune_rato: 0.5", ["ws_prune_rato", "did you mean ws_prune_ratio"]),
        ("ws_prune_ratio: much", ["ws_prune_ratio", "much"]),
        ("ws_prune_ratio: 3", ["--ws_prune_ratio 3", "[0, 1]"]),
        ("- 1", ["must be a table"]),
        ("a: [", ["not YAML"]),
        ("a: !!python/object/apply:os.system [ls]", ["not YAML"]),
    ],
)
def test_bad_config_files(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, parts: list[str]
) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(text)
    line = error_of(capsys, "--config", str(path))
    for part in parts:
        assert part in line


def test_settings_survive_the_round_trip_through_a_config_file(tmp_path: Path) -> None:
    words = ["--ws_prune_ratio", "0.9", "--ws_exempt", "fc*", "conv1*", "--enbl_dst", "--seed", "3"]
    command = parse([DIGITS, "--width", "6", *words])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(command.settings()))
    again = parse([DIGITS, "--config", str(path)])
    assert again.settings() == command.settings()
    assert again.ws.ws_exempt == ("fc*", "conv1*")
    # A flag on the command line wins over the file.
    assert (
        parse([DIGITS, "--config", str(path), "--ws_prune_ratio", "0.5"]).ws.ws_prune_ratio == 0.5
    )


def test_the_pocketflow_preset_and_a_flag_over_it() -> None:
    command = parse(["--preset", "pocketflow", "--ws_nb_iters_ft", "10"])
    assert command.ws.ws_prune_ratio_prtl == "ddpg"  # its agent, without our models
    assert command.ws.ws_rg_solver == "adam"
    assert command.ws.ws_mask_update_step == 500
    assert command.ws.ws_nb_iters_ft == 10


def test_all_conflicts_are_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--ws_prune_ratio 2 --ws_nb_rlouts 3 --ws_nb_rlouts_min 9 --ddpg_gamma 7 --seed -4"
    lines = errors_of(capsys, *words.split(), "--warmup_epochs", "3", "--nb_epochs", "2")
    flags = [line.split()[0] for line in lines]
    assert sorted(flags) == sorted(
        ["--ws_prune_ratio", "--ws_nb_rlouts", "--ddpg_gamma", "--seed", "--warmup_epochs"]
    )
    lines = errors_of(capsys, "--ws_prune_rato", "1", "--nb_epoch", "3")
    assert ["did you mean" in line for line in lines] == [True, True]
    lines = errors_of(capsys, "--ws_prune_ratio", "half", "--nb_epochs", "few")
    assert [line.split(":")[0].strip() for line in lines] == [
        "--ws_prune_ratio half",
        "--nb_epochs few",
    ]
    lines = errors_of(capsys, "--dense_checkpoint", "a.pt", "--ws_rollouts", "b.csv")
    assert len(lines) == 2


@pytest.mark.long
@pytest.mark.parametrize("words", [["-h"], ["--help_all"]])
def test_help_needs_no_torch(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from experiments.run import main\n"
        f"try:\n    main({words})\n"
        "except SystemExit as stop:\n    assert stop.code == 0\n"
        "print('HEAVY', [m for m in ('torch', 'ray', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "HEAVY []" in done.stdout
    for flag in ("--ws_prune_ratio", "--resnet_size", "--run_dir", "--nb_epochs"):
        assert flag in done.stdout


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as stop:
        parse(words)
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.long
def test_the_long_help_has_every_flag_and_the_short_one_fits_a_screen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    everything = help_of(capsys, DIGITS, "--help-all")
    assert help_of(capsys, DIGITS, "--help_all") == everything
    shown = re.findall(r"^  --(\w+)", everything, flags=re.MULTILINE)
    assert len(shown) == len(set(shown))
    settings = set(parse([DIGITS]).settings()) - {"experiment"}
    settings |= {"config", "quiet", "name", "tag", "track"}
    assert set(shown) == {readable_name(name) for name in settings}
    assert all(f"(also --{name})" in " ".join(everything.split()) for name in ALIASES.values())
    short = help_of(capsys, DIGITS, "-h")
    assert len(short.splitlines()) <= 60
    assert set(re.findall(r"^  --(\w+)", short, flags=re.MULTILINE)) == {
        *map(readable_name, ESSENTIALS),
        "width",
    }
    hidden = len(set(shown)) - len(ESSENTIALS) - 1
    assert f"--help_all lists {hidden} more flags" in short


def test_every_setting_of_the_seed_has_its_name() -> None:
    names = {
        *("ws_save_path", "ws_prune_ratio", "ws_prune_ratio_prtl", "ws_nb_rlouts"),
        *("ws_nb_rlouts_min", "ws_reward_type", "ws_lrn_rate_rg", "ws_nb_iters_rg"),
        *("ws_lrn_rate_ft", "ws_nb_iters_ft", "ws_nb_iters_feval", "ws_prune_ratio_exp"),
        *("ws_iter_ratio_beg", "ws_iter_ratio_end", "ws_mask_update_step"),
        *("enbl_dst", "loss_w_dst", "tempr_dst"),
    }
    assert names <= set(parse([]).settings())


def test_unknown_setting_of_an_option_is_refused_by_the_config_reader() -> None:
    with pytest.raises(UserError, match="resnet_size"):
        parse(["--resnet_size", "21"])


def documented_commands(script: str) -> list[str]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = [line for page in pages for line in page.read_text().splitlines()]
    commands = [line.split("#")[0].strip() for line in lines if line.startswith(script)]
    return sorted({command for command in commands if not command.endswith("-h")})


def written_out(command: str, folder: Path) -> list[str]:
    """The words of a documented command, with files that are there."""
    conf, nncf = folder / "conf.yaml", folder / "movement.json"
    conf.write_text(SEED_YAML)
    nncf.write_text(text(movement()))
    for name, path in (("runs/<one>", folder), (" conf.yaml", conf), (" movement.json", nncf)):
        command = command.replace(name, f" {path}" if name.startswith(" ") else str(path))
    return shlex.split(command.replace("DIR", str(folder)))[1:]


@pytest.mark.parametrize("command", documented_commands("./run_local.sh"))
def test_documented_commands_parse(command: str, tmp_path: Path) -> None:
    assert parse(written_out(command, tmp_path)).experiment.Options is not None


@pytest.mark.parametrize("command", documented_commands("./run_distributed.sh"))
def test_documented_distributed_commands_parse(command: str, tmp_path: Path) -> None:
    words = written_out(command, tmp_path)
    if words[0] in (*distributed.SUBCOMMANDS, "serve"):
        assert words[1:] == ([] if words[0] in ("status", "serve") else ["RUN"])
        return
    own, rest = distributed._parser().parse_known_args(words)
    assert own.n >= 1
    assert parse(rest).experiment.Options is not None
    assert own.sweep is None or read_plan(find_config(own.sweep)).space


def test_a_bare_name_is_a_config_that_comes_with_the_project_unless_a_file_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = parse(["--config", "vit_base_training.yaml"])
    assert command.name == "vit_at_cifar10"
    Path("vit_base_training.yaml").write_text("ws_prune_ratio: 0.25\n")
    command = parse(["--config", "vit_base_training.yaml"])
    assert (command.name, command.ws.ws_prune_ratio) == ("resnet_at_cifar10", 0.25)
    with pytest.raises(UserError, match=r"elsewhere/vit_base_training\.yaml: cannot be read"):
        parse(["--config", "elsewhere/vit_base_training.yaml"])
