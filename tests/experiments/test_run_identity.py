"""The precision that `auto` means is part of a run's name, its settings and its identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from experiments.cli.flags import parse
from experiments.cli.run_identity import (
    build_identity,
    default_settings,
    locate_run,
    resolved_settings,
)
from experiments.run import build, main
from tests.support.ray_hosts import ROOT
from ws_learner.core import device as hardware
from ws_learner.core.errors import UserError
from ws_learner.core.plain_yaml import dump_yaml, load_yaml
from ws_learner.core.run_dir import RunDir, identity_hash

TINY = str(ROOT / "tests" / "support" / "tiny_experiment.py")
WORDS = [
    *(TINY, "--ws_prune_ratio", "0.8", "--ws_prune_ratio_prtl", "uniform", "--ws_init", "scratch"),
    *("--nb_epochs", "1", "--ws_mask_update_step", "1"),
]
ABLE, PLAIN = frozenset({"avx512f", "avx512_bf16"}), frozenset({"avx512f"})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Changes this machine's processor; starts with one that knows bf16."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardware.torch.cuda, "is_available", lambda: False)

    def become(flags: frozenset[str]) -> None:
        monkeypatch.setattr(hardware, "_cpu_flags", lambda: flags)

    become(ABLE)
    return become


def name_of(*words: str) -> str:
    command = parse([*WORDS, *words])
    experiment = build(command)
    return identity_hash(build_identity(command, experiment, experiment.sparse_recipe))


def test_auto_has_the_name_of_what_it_means_here(machine) -> None:  # type: ignore[no-untyped-def]
    bf16 = name_of()
    assert bf16 == name_of("--precision", "bf16") != name_of("--precision", "fp32")
    machine(PLAIN)
    assert name_of() == name_of("--precision", "fp32") != bf16
    assert name_of("--precision", "bf16") == bf16


@pytest.mark.long
def test_a_run_is_not_continued_in_another_precision(  # type: ignore[no-untyped-def]
    machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*WORDS, "--run_dir", "run"]) == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["precision"] == "bf16"
    assert main([*WORDS, "--run_dir", "run"]) == 0  # finished, the same kind of machine
    machine(PLAIN)
    capsys.readouterr()
    assert main([*WORDS, "--run_dir", "run"]) == 2
    assert "precision 'bf16' -> 'fp32'" in capsys.readouterr().err
    assert main([*WORDS, "--run_dir", "run", "--precision", "bf16"]) == 0
    assert main([WORDS[0], "--config", "run/config.yaml", "--run_dir", "run"]) == 0


@pytest.mark.long
def test_a_run_begun_when_auto_was_written_down_goes_on_where_it_is(  # type: ignore[no-untyped-def]
    machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(WORDS) == 0
    (new,) = Path("runs").iterdir()
    record = json.loads((new / "identity.json").read_text()) | {"precision": "auto"}
    old = new.with_name(f"{new.name[:-8]}{identity_hash(record)}")
    new.rename(old)
    (old / "identity.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert main(WORDS) == 0
    assert f"run directory: {old} (finished)" in capsys.readouterr().err
    assert list(Path("runs").iterdir()) == [old]
    # Who asks for a precision by name asks for a run of that name.
    assert main([*WORDS, "--precision", "fp32"]) == 0
    assert len(list(Path("runs").iterdir())) == 2


def test_a_search_of_an_earlier_version_is_found_by_the_same_command(machine) -> None:  # type: ignore[no-untyped-def]
    command = parse([TINY, "--protocol", "random", "--precision", "fp32"])
    experiment = build(command)
    identity = build_identity(command, experiment, experiment.sparse_recipe)
    later = {"ws_patience", "ws_nb_jitters", "ws_nb_smpls_slope", "ws_nb_smpls_own"}
    before = {k: v for k, v in identity.items() if k not in later}
    before |= {"ws_nb_rescore": 8, "ws_nb_rlouts": 200, "ws_rlouts_per_round": 8}
    fresh, asked = locate_run(command, "tiny", identity)
    assert fresh.path.name == f"tiny-{identity_hash(identity)}" != f"tiny-{identity_hash(before)}"
    assert asked == identity
    made = RunDir(command.runs / f"tiny-{identity_hash(before)}")
    with made.locked():
        made.claim({}, before)
    found, asked = locate_run(command, "tiny", identity)
    assert found == made
    found.claim({}, asked)  # not refused
    given = parse([TINY, "--protocol", "random", "--precision", "fp32", "--ws_nb_rescore", "2"])
    other = build_identity(given, experiment, experiment.sparse_recipe)
    assert locate_run(given, "tiny", other)[0] != made


def test_of_a_changed_recipe_only_what_differs_is_shown(tmp_path: Path) -> None:
    recipe = {"lrn_rate": 0.1, "nb_epochs": 4.0, "milestones": [0.5, 0.75]}
    made = {"seed": 0, "recipe": recipe, "many": ["a"] * 50, "pruners": [{"kind": "x", "end": 4}]}
    run = RunDir(tmp_path / "run")
    with run.locked():
        run.claim({}, made)
        run.claim({}, made)  # the same again is fine
        asked = {"seed": 0, "recipe": recipe | {"lrn_rate": 0.2, "mixup": 0.3}}
        asked |= {"many": [], "pruners": [{"kind": "x", "end": 5}]}
        with pytest.raises(UserError) as caught:
            run.claim({}, asked)
    first, *changes = str(caught.value).splitlines()
    assert "made with other settings" in first
    assert changes[0].startswith("  many ['a', ")
    assert changes[0].endswith(" -> []")
    assert len(changes[0]) < 100
    assert changes[1:] == [
        "  pruners.0.end 4 -> 5",
        "  recipe.lrn_rate 0.1 -> 0.2",
        "  recipe.mixup None -> 0.3",
    ]


def test_of_another_kind_of_run_no_settings_are_listed(tmp_path: Path) -> None:
    many = {f"ws_{place}": place for place in range(80)}
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.claim(None, {"experiment": "a", "learner": "full-prec"})
    with pytest.raises(UserError, match="holds a dense training of a, not a pruning of a; ") as got:
        run.refuse_other({"experiment": "a", "learner": "weight-sparse"} | many)
    assert "\n" not in str(got.value)


def test_of_other_settings_those_that_were_given_are_listed(tmp_path: Path) -> None:
    made = {"experiment": "a"} | {f"ws_{place:02}": place for place in range(80)}
    asked = {name: value if value == "a" else value + 1 for name, value in made.items()}  # type: ignore[operator]
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    run.claim(None, made)
    with pytest.raises(UserError) as got:
        run.refuse_other(asked, given=("ws_40", "ws_70"))
    assert str(got.value).splitlines()[1:] == [
        "  ws_40 40 -> 41",
        "  ws_70 70 -> 71",
        "  and 78 more",
    ]
    with pytest.raises(UserError) as got:
        run.refuse_other(asked)
    *listed, more = str(got.value).splitlines()[1:]
    assert more == f"  and {80 - len(listed)} more"
    assert len(listed) < 10


def test_settings_differ_from_the_recorded_defaults_only_where_chosen() -> None:
    command = parse(["cnn_at_digits", "--prune_ratio", "0.9", "--seed", "3"])
    made, usual = resolved_settings(command), default_settings(command)
    assert made.keys() - usual.keys() == {"experiment"}
    differ = {name for name in made if name in usual and made[name] != usual[name]}
    assert differ == {"ws_prune_ratio", "seed"}
    assert load_yaml(dump_yaml(usual)) == usual
