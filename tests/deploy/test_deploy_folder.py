"""Deploy folders: opened in fresh processes, whole or not there, and what they record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.sparse_layers import pruned
from ws_learner.core.errors import UserError
from ws_learner.deploy import load_sparse, write_deploy_folder
from ws_learner.deploy.folder import write

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Bypass(nn.Module):
    """A forward of its own, which only a recorded graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(24, 16), nn.Linear(16, 24)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(torch.tanh(self.first(x)))
        return out


def bypass() -> nn.Module:
    torch.manual_seed(0)
    return pruned(Bypass(), "4x1", 0.75)


def example(rows: int = 1) -> Tensor:
    return torch.randn(rows, 24, generator=torch.Generator().manual_seed(1))


def fresh(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that starts in the folder."""
    return subprocess.run(
        [sys.executable, "-B", *code.split(" ", 1)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("runs") / "deploy"
    record = write_deploy_folder(
        bypass(),
        example(),
        folder,
        budget="macs=0.3",
        predicted_ms=0.25,
        facts={"sparse_metric": 0.9},
    )
    return folder, record


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts no process."""
    monkeypatch.setattr(write, "try_folder", lambda folder, *, threads: "")


@pytest.mark.long
def test_a_fresh_process_computes_what_the_network_does(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    x = example(5)  # another batch size
    np.save(tmp_path / "x.npy", x.numpy())
    code = (
        "-c import load, sys, numpy, torch; network = load.load(); "
        f"x = torch.from_numpy(numpy.load(r'{tmp_path / 'x.npy'}')); "
        f"numpy.save(r'{tmp_path / 'y.npy'}', network(x).numpy()); "
        "print(sorted({name.partition('.')[0] for name in sys.modules} "
        "& {'experiments', 'tests', 'stable_baselines3', 'ray'}))"
    )
    done = fresh(made[0], code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    with torch.no_grad():
        wanted = bypass()(x).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_the_record_is_that_of_the_network(made: tuple[Path, dict[str, Any]]) -> None:
    folder, record = made
    assert json.loads((folder / "deploy.json").read_text()) == record
    assert (record["budget"], record["predicted_ms"], record["sparse_metric"]) == (
        "macs=0.3",
        0.25,
        0.9,
    )
    layers = [part for part in bypass().modules() if isinstance(part, nn.Linear)]
    weights = [part.weight.detach().numpy() for part in layers]
    assert record["weights"] == record["macs_dense"] == sum(w.size for w in weights)
    assert record["zeros"] == sum(int((w == 0).sum()) for w in weights)
    assert record["macs"] == record["weights"] - record["zeros"]
    assert record["bytes"] == (folder / "model.wsr").stat().st_size
    assert (record["engine"], record["dtype"], record["batch"], record["threads"]) == (
        "wsr",
        "fp32",
        1,
        1,
    )
    for one in ("measured_ms", "pytorch_ms"):
        low, high = record[one]["quartiles"]
        assert 0 < low <= record[one]["median"] <= high
    assert record["versions"]["torch"] == torch.__version__
    assert record["machine"]["cpu"]
    saved = np.load(folder / "example.npz")
    np.testing.assert_array_equal(saved["input_0"], example().numpy())
    with torch.no_grad():
        np.testing.assert_allclose(saved["output_0"], bypass()(example()).numpy(), rtol=1e-6)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["deploy"]  # nothing besides


@pytest.mark.long
def test_a_changed_file_is_refused(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in made[0].iterdir():
        folder.joinpath(path.name).write_bytes(path.read_bytes())
    whole = (folder / "model.wsr").read_bytes()
    (folder / "model.wsr").write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    done = fresh(folder, "load.py")
    assert done.returncode
    assert "model.wsr is damaged or another file" in done.stderr
    with pytest.raises(UserError, match="damaged"):
        load_sparse(folder / "model.wsr")
    (folder / "model.wsr").write_bytes(whole)
    saved = dict(np.load(folder / "example.npz"))
    saved["output_0"] = saved["output_0"] * 1.01  # the file is not of this network
    np.savez(folder / "example.npz", **saved)
    done = fresh(folder, "load.py")
    assert done.returncode == 1
    assert "relative error 0.0099, allowed 0.001" in done.stdout


@pytest.mark.usefixtures("untried")
def test_only_an_earlier_deploy_folder_is_replaced(tmp_path: Path) -> None:
    model = pruned(nn.Sequential(nn.Linear(24, 8)), "4x1", 0.5)
    folder = tmp_path / "there"
    folder.mkdir()
    write_deploy_folder(model, example(), folder)  # an empty one is as good as none
    first = (folder / "deploy.json").read_text()
    write_deploy_folder(model, example(3), folder, budget="bytes=1MB")
    assert json.loads((folder / "deploy.json").read_text())["batch"] == 3
    assert json.loads(first)["batch"] == 1
    (folder / "notes.txt").write_text("mine")
    other, file = tmp_path / "other", tmp_path / "file"
    other.mkdir()
    (other / "deploy.json").write_text('{"made_by": "another tool"}')
    file.write_text("")
    for place, says in (
        (folder, "holds notes.txt"),
        (other, "is no deploy folder of ours"),
        (file, "holds file"),
    ):
        with pytest.raises(UserError, match=f"{says} and stays as it is"):
            write_deploy_folder(model, example(), place)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (other / "deploy.json").read_text() == '{"made_by": "another tool"}'


def test_nothing_is_left_of_a_folder_that_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pruned(nn.Sequential(nn.Linear(24, 8)), "4x1", 0.5)
    monkeypatch.setattr(write, "try_folder", lambda folder, *, threads: "")
    write_deploy_folder(model, example(), tmp_path / "deploy")
    before = (tmp_path / "deploy" / "deploy.json").read_bytes()
    monkeypatch.undo()
    broken = "import sys; sys.exit('no such kernel')\n"
    monkeypatch.setattr(write, "loader_text", lambda engine, **facts: broken)
    for name in ("deploy", "new"):
        with pytest.raises(UserError, match=r"fresh process, nothing is left: no such kernel"):
            write_deploy_folder(model, example(), tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["deploy"]
    assert (tmp_path / "deploy" / "deploy.json").read_bytes() == before


class ByValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out if float(out.detach().sum()) > 0 else -out


def test_a_forward_that_no_file_holds_is_refused_with_another_engine(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`engine` wsr: .* choose `engine` onnxruntime"):
        write_deploy_folder(ByValue(), example(), tmp_path / "deploy", shrinks=False)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"engine": "onnx"}, "`engine` onnx"),
        ({"dtype": "int4"}, "`dtype` int4"),
        ({"threads": 0}, "`threads` 0: must be a whole number, at least 1"),
        ({"engine": "torch", "dtype": "int8"}, "torch files are written as fp32"),
        ({"engine": "onnxruntime", "dtype": "auto"}, "written as fp32 or int8"),
        ({"engine": "onnxruntime", "dtype": {"0": "int8"}}, "`dtype` of each layer"),
    ],
)
def test_bad_arguments_are_refused_before_work(
    given: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=says):
        write_deploy_folder(nn.Linear(24, 4), example(), tmp_path / "deploy", **given)
    assert not any(tmp_path.iterdir())


def test_an_engine_that_is_not_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="`engine` openvino: is not installed"):
        write_deploy_folder(nn.Linear(24, 4), example(), tmp_path / "d", engine="openvino")


@pytest.mark.long
def test_onnxruntime_alone_opens_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "deploy"
    record = write_deploy_folder(bypass(), example(), folder, engine="onnxruntime")
    assert record["relative_error"] < 1e-5
    code = (
        "-c import sys; import load, numpy; network = load.load(); "
        "y = network(numpy.load('example.npz')['input_0'])[0]; "
        "assert numpy.allclose(y, numpy.load('example.npz')['output_0'], atol=1e-5); "
        "print(sorted({'torch', 'ws_learner'} & set(sys.modules)))"
    )
    done = fresh(folder, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.long
@pytest.mark.usefixtures("untried")
def test_bytes_may_differ_by_twice_what_they_do_now(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, folder, x = nn.Sequential(nn.Linear(24, 16)), tmp_path / "deploy", example(64)
    data, engine = [example(256)], "onnxruntime"
    record = write_deploy_folder(model, x, folder, engine=engine, dtype="int8", calibration=data)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        wanted = model(x).numpy()
    error = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
    assert record["relative_error"] == pytest.approx(error, rel=1e-3)
    assert record["tolerance"] == pytest.approx(max(1e-3, 2 * error), rel=1e-3)


@pytest.mark.long
@pytest.mark.usefixtures("untried")
def test_the_torch_engine_records_the_network(tmp_path: Path) -> None:
    folder = tmp_path / "deploy"
    record = write_deploy_folder(bypass(), example(2), folder, engine="torch", shrinks=False)
    again = torch.export.load(folder / "model.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(again(example(3)), bypass()(example(3)))
    assert record["sha256"].keys() == {"model.pt2", "example.npz"}
