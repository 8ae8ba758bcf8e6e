"""Experiment files of the user's: neighbours, errors, what travels, what counts in a run's name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.cli import find_own_file
from experiments.cli.build import build
from experiments.cli.find_own_file import neighbour_digests
from experiments.cli.flags import parse
from experiments.cli.own_imports import read_imports
from experiments.cli.ray import own_code as sent
from experiments.cli.ray.own_code import own_code
from experiments.cli.ray.working_dir import staged
from experiments.distributed import main as send
from experiments.run import main
from tests.support.what_works.rows.experiment_files import FILE, NETWORK, SHORT, neighbour, write
from ws_learner.core import RunDir, UserError, sha256_of

ROOT = Path(__file__).parents[2]
IMPORTING = FILE.format(imports="from nets import network")


@pytest.fixture(autouse=True)
def _no_modules_of_other_tests(tmp_path: Path) -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_imports_are_read_without_running(tmp_path: Path) -> None:
    text = """
import json, torch
import first
from pack import second, number
if TYPE_CHECKING:
    import for_types_only
try:
    import perhaps
except ImportError:
    perhaps = None
def later():
    from . import_nothing import never
"""
    text = text.replace("from . import_nothing import never", "import missing.part")
    files = {"mine.py": text, "first.py": "import third", "third.py": "raise SystemExit"}
    files |= {"pack/__init__.py": "from .inner import number", "pack/inner.py": "number = 1"}
    write(tmp_path, files | {"pack/second.py": "", "unused.py": ""})
    found = read_imports(tmp_path / "mine.py")
    names = {str(file.relative_to(tmp_path)) for file in found.files}
    expected = {"mine.py", "first.py", "third.py", "pack/__init__.py", "pack/inner.py"}
    assert names == expected | {"pack/second.py"}
    assert [(one.line, one.name) for one in found.missing] == [(12, "missing.part")]


def test_each_file_has_its_own_neighbour(tmp_path: Path) -> None:
    """In one process, two files of one name with neighbours of one name."""
    widths = {}
    for folder, width in (("a", 3), ("b", 5), ("a", 3)):
        text = FILE.format(imports="import nets\nnetwork = nets.network")
        nets = NETWORK.replace("width)", f"{width})").replace("Linear(width", f"Linear({width}")
        nets = nets.replace(f"def network({width})", "def network(width)")
        write(tmp_path / folder, {"mine.py": text, "nets.py": nets})
        experiment = build(parse([str(tmp_path / folder / "mine.py")]))
        widths[folder] = experiment.model.get_parameter("1.weight").shape[0]
    assert widths == {"a": 3, "b": 5}


def test_an_error_shows_the_files_own_lines_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = NETWORK.replace("    return", "    half = 1 / (width - 8)\n    return")
    write(
        tmp_path, {"mine.py": FILE.format(imports="from nets import network"), "nets.py": network}
    )
    assert main(["mine.py"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: experiment mine.py: build raised ZeroDivisionError: division by zero"
    assert len(lines) == 3
    assert lines[1].startswith("  mine.py:")
    assert lines[2] == "  nets.py:5, in network: half = 1 / (width - 8)"


def test_an_error_in_the_forward_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = NETWORK.replace("width, 2)", "width + 1, 2)").replace(
        "return nn.Sequential", "return Net"
    )
    network += """
class Net(nn.Sequential):
    def forward(self, inputs):
        return super().forward(inputs)
"""
    write(
        tmp_path, {"mine.py": FILE.format(imports="from nets import network"), "nets.py": network}
    )
    assert main(["mine.py", *SHORT]) == 2
    shown = capsys.readouterr().err
    assert "the network fails on the first training examples" in shown
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in shown
    assert "nets.py:9, in forward: return super().forward(inputs) (in torch/" in shown
    assert "Traceback" not in shown
    assert "experiments/" not in shown
    monkeypatch.setenv("WS_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        main(["mine.py", *SHORT])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("nowhere/mine.py", "no such file (it would be "),
        ("notes.txt", "is no Python file"),
        ("folder", "is a folder"),
        ("other", "did you mean other.py?"),
        ("resnet_at_cifar1", "did you mean resnet_at_cifar10?"),
    ],
)
def test_a_wrong_name_says_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, {"notes.txt": "", "folder/a.py": "", "other.py": ""})
    with pytest.raises(UserError) as caught:
        parse([name])
    assert str(caught.value).startswith(f"experiment {name}: ")
    assert part in str(caught.value)


def test_a_relative_import_outside_a_package(tmp_path: Path) -> None:
    write(tmp_path, {"mine.py": "from .nets import network\n", "nets.py": NETWORK})
    with pytest.raises(UserError, match=r"mine\.py:1.*relative import needs an __init__\.py"):
        parse([str(tmp_path / "mine.py")])


def test_what_is_imported_counts_in_the_name_of_a_run(tmp_path: Path) -> None:
    file = neighbour(tmp_path)
    before = neighbour_digests(parse([str(file)]).experiment)
    assert before == {"nets.py": sha256_of(file.parent / "nets.py")}
    (file.parent / "nets.py").write_text(NETWORK + "\n# changed\n")
    assert neighbour_digests(parse([str(file)]).experiment) != before


def test_a_folder_travels_without_what_is_no_code(tmp_path: Path) -> None:
    file = neighbour(tmp_path)
    write(file.parent, {"labels.json": "{}", "runs/one/model": "", ".git/config": ""})
    write(file.parent, {"env/pyvenv.cfg": "", "env/lib/big.py": "", "experiments/other.py": ""})
    assert set(own_code(file)) == {"experiment.py", "nets.py", "labels.json"}


def test_of_a_large_folder_only_the_imports_travel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = neighbour(tmp_path)
    (file.parent / "data.bin").write_bytes(bytes(5000))
    monkeypatch.setattr(sent, "LIMIT", 4000)
    assert set(own_code(file)) == {"experiment.py", "nets.py"}
    assert "only the 2 files that experiment.py imports are sent" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--include .*: is more than .* too much to send"):
        own_code(file, [file.parent])


def test_included_folders_lie_at_the_top_of_a_job(tmp_path: Path) -> None:
    file = neighbour(tmp_path)
    write(tmp_path, {"more/extra.py": "", "pack/__init__.py": "", "pack/part.py": ""})
    words = [str(file), "--include", str(tmp_path / "more"), str(tmp_path / "pack"), "--seed", "1"]
    include = parse(words).run.include
    with staged(words, include=include) as (folder, rewritten):
        assert rewritten == ["experiment.py", "--seed", "1", "--include", "."]
        assert (folder / "extra.py").is_file()
        assert (folder / "pack" / "part.py").is_file()
    write(tmp_path, {"more/nets.py": "other = 1"})
    with pytest.raises(UserError, match="would lie at one place"), staged(words, include=include):
        pass


def test_a_job_starts_in_its_folder(tmp_path: Path) -> None:
    """A new interpreter with nothing but what was sent builds the experiment."""
    file = neighbour(tmp_path)
    with staged([str(file)]) as (folder, words):
        program = "import sys; from experiments.cli.flags import parse; parse(sys.argv[1:])"
        done = subprocess.run(
            [sys.executable, "-c", program, *words, "--width", "4"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": "."},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr


def test_a_moved_file_is_named_only_if_it_is_the_same(tmp_path: Path) -> None:
    file = neighbour(tmp_path)
    run = RunDir(tmp_path / "runs" / "one")
    run.path.mkdir(parents=True)
    (run.path / "identity.json").write_text(f'{{"file": "{sha256_of(file)}"}}')
    settings = {"experiment": "elsewhere/experiment.py"}
    with pytest.raises(UserError, match="which is not there any more; looked in") as caught:
        find_own_file.find_run_experiment(run, settings)
    assert str(tmp_path) in str(caught.value)
    file.rename(tmp_path / "experiment.py")
    with pytest.raises(UserError, match=rf"--experiment {tmp_path}/experiment\.py of export"):
        find_own_file.find_run_experiment(run, settings)
    (tmp_path / "experiment.py").write_text("other = 1")
    with pytest.raises(UserError, match="not there any more"):
        find_own_file.find_run_experiment(run, settings)


@pytest.mark.long
def test_worker_processes_find_the_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates are scored in another process, from another folder than the file's."""
    file = neighbour(tmp_path)
    (file.parent / "nets.py").write_text(
        NETWORK.replace("nn.Sequential(", "Net(") + "\nclass Net(nn.Sequential):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    words = [str(file), "--num_rollouts", "2", "--protocol", "random", "--workers", "1"]
    words += ["--dense_checkpoint", "dense.safetensors"]
    from ws_learner.core import save_model

    save_model("dense.safetensors", build(parse([str(file)])).model.state_dict(), {})
    assert main([*words, "--precision", "fp32", "--run_dir", "run"]) == 0
    assert (tmp_path / "run" / "rollouts.csv").is_file()


@pytest.mark.ray
def test_a_local_ray_finds_the_neighbour(tmp_path: Path) -> None:
    """In a process of its own: Ray's workers inherit the folders of the driver that starts it."""
    file = neighbour(tmp_path)
    program = f"""
import ray
from experiments.cli.flags import parse
from ws_learner.config import ClusterConfig
from ws_learner.training import ray_session

parse([{str(file)!r}])
with ray_session(ClusterConfig(workers=1)):
    wide = ray.remote(lambda: __import__("nets").network(6)[1].out_features)
    print("width", ray.get(wide.remote()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "width 6" in done.stdout, done.stderr


def test_a_neighbour_that_moved_is_not_remembered(tmp_path: Path) -> None:
    file = neighbour(tmp_path)
    parse([str(file)])
    (file.parent / "nets.py").rename(tmp_path / "nets.py")
    other = tmp_path / "other" / "experiment.py"
    other.parent.mkdir()
    other.write_text(file.read_text())
    with pytest.raises(UserError, match="imports nets, which is not found in"):
        parse([str(other)])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ((), "imports nowhere_to_be_found, which is not found in"),
        (("--sweep", "plan.yaml"), "--sweep plan.yaml: prune_rato: no such setting"),
        (("--include", "nowhere"), "--include nowhere: no such folder"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_sent(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    part: str,
) -> None:
    """The cluster does not exist, so whoever asks it first would say so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    lines = "    import nowhere_to_be_found\n    recipe ="
    write(tmp_path, {"mine.py": IMPORTING.replace("    recipe =", lines), "nets.py": NETWORK})
    write(tmp_path, {"plan.yaml": "space: {prune_rato: [0.5]}"})
    assert send(["-n=1", "mine.py", *words]) == 2
    shown = capsys.readouterr().err
    assert part in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.parametrize("place", ["", "src/"])
def test_modules_of_the_project_above_are_found(tmp_path: Path, place: str) -> None:
    write(tmp_path, {"pyproject.toml": "", f"{place}nets.py": NETWORK, "work/mine.py": IMPORTING})
    found = read_imports(tmp_path / "work" / "mine.py")
    assert tmp_path / place / "nets.py" in found.files
    (tmp_path / "pyproject.toml").unlink()
    assert [one.name for one in read_imports(tmp_path / "work" / "mine.py").missing] == ["nets"]
