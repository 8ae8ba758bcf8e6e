"""`compile_sparse`: the same outputs, a choice for every layer, a file, other processors."""

from __future__ import annotations

import copy
import gc
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.support.joined import chains_of
from tests.support.small_bert import SmallBert
from tests.support.sparse_layers import pruned
from ws_learner.core.errors import UserError
from ws_learner.deploy.runtime import compile_sparse, load_sparse, read_wsr
from ws_learner.deploy.runtime import load as files
from ws_learner.deploy.runtime import selection as choice
from ws_learner.deploy.runtime.autotune import fastest
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.modules import LayerData, Replaced
from ws_learner.deploy.runtime.quantisation import InputScale


@pytest.fixture
def sparse_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the last candidate win every trial, so that no clock decides what is tested."""

    def last(runs: dict[str, object], base: str, **_: object) -> object:
        from ws_learner.deploy.runtime.autotune import TimedTrial

        names = [n for n in runs if n.startswith(("int8", "compiled"))] or list(runs)
        if not any(n.startswith(("int8", "compiled")) for n in runs):
            names = [n for n in runs if n.startswith("fp32")] or names
        return TimedTrial(
            winner=names[-1], speedup=2.0, seconds={n: float(n == base) for n in runs}
        )

    monkeypatch.setattr(choice, "fastest", last)
    monkeypatch.setattr("ws_learner.deploy.runtime.acceptance.fastest", _compiled_wins)


def _compiled_wins(runs: dict[str, object], base: str, **_: object) -> object:
    from ws_learner.deploy.runtime.autotune import TimedTrial

    return TimedTrial(winner="compiled", speedup=2.0, seconds={n: 1.0 + (n == base) for n in runs})


def mlp() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 5)]
    return pruned(nn.Sequential(*layers), "4x4", 0.8)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-5) -> None:
    a, b = a.detach(), b.detach()
    assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


needs_kernels = pytest.mark.skipif(not usable_isas(), reason="no generated kernels here")


@pytest.mark.long
@needs_kernels
def test_fp32_outputs_are_the_models(sparse_wins: None) -> None:
    model, x = mlp(), torch.randn(7, 3, 40)
    before = copy.deepcopy(model.state_dict())
    fast = compile_sparse(model, x)
    for batch in (x, torch.randn(1, 40), torch.randn(0, 40), torch.randn(131, 40)):
        assert fast(batch).shape == model(batch).shape
        if batch.numel():
            close(fast(batch), model(batch))
    report = fast.report()
    assert list(report["layer"]) == ["0", "2", "4"]
    assert report["kernel"].str.startswith("fp32").all()
    density = [float((model[i].weight != 0).double().mean()) for i in (0, 2, 4)]
    assert list(report["density"]) == pytest.approx(density)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@pytest.mark.long
@needs_kernels
def test_int8_is_near_and_bytes_pass_between_layers(sparse_wins: None) -> None:
    model, data = mlp(), [torch.randn(64, 40) for _ in range(3)]
    fast = compile_sparse(model, data[0], dtype="int8", calibration=[(x, 0) for x in data])
    (chain,) = chains_of(fast.model)
    assert [kernel.spec.source for kernel in chain.kernels] == ["f32", "tile", "tile"]
    assert [kernel.spec.result for kernel in chain.kernels] == ["tile", "tile", "f32"]
    wanted, got = model(data[1]).detach(), fast(data[1])
    error = float((wanted - got).norm() / wanted.norm())
    assert error < 0.03
    assert 0 < fast.agreement["relative_error"] < 0.03
    equal = float((fast.model(data[0]).argmax(1) == model(data[0]).argmax(1)).double().mean())
    assert equal > 0.9
    scores = fast.compare(model, [(x, model(x).argmax(1)) for x in data], same_class)
    assert scores["fp32"] == 1.0
    assert scores["compiled"] > 0.9


def same_class(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(1) == targets).float()


@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
@pytest.mark.parametrize("name", ["dense", "dense onednn", "dense int8", "torch csr"])
def test_rivals_compute_the_layer(name: str, activation: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(30, 37)
    weight, bias = torch.randn(21, 37) * (torch.rand(21, 37) < 0.4), torch.randn(21)
    source = InputScale.of_range(float(x.min()), float(x.max()))
    data = LayerData(weight=weight.numpy(), bias=bias.numpy(), activation=activation, source=source)
    run = data.rival(name)
    if run is None:
        pytest.skip("not in this build of PyTorch")
    wanted = x.double() @ weight.double().t() + bias.double()
    after = {"relu": torch.relu, "gelu": nn.functional.gelu}.get(activation, lambda y: y)
    wanted = after(wanted)
    error = float((run(x).double() - wanted).norm() / wanted.norm())
    assert error < (0.02 if name == "dense int8" else 1e-5)


@needs_kernels
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(12, 20, 1),
        nn.Conv2d(12, 20, 1, stride=2, bias=False),
        nn.Conv2d(12, 20, 3, padding=1),
        nn.Conv2d(12, 20, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(2, 1)),
    ],
    ids=["1x1", "strided", "3x3", "dilated"],
)
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_convolutions(sparse_wins: None, layer: nn.Module, dtype: str) -> None:
    torch.manual_seed(1)
    model = pruned(nn.Sequential(layer, nn.ReLU()), "4x4", 0.7)
    x = torch.randn(3, 12, 9, 11)
    fast = compile_sparse(model, x, dtype=dtype, calibration=[x])  # type: ignore[arg-type]
    assert isinstance(fast.model[0], Replaced)
    close(fast(x), model(x), 1e-5 if dtype == "fp32" else 0.03)


@pytest.mark.long
def test_a_layer_that_is_not_faster_stays_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = mlp(), torch.randn(8, 40)
    slow = lambda runs, base, **_: fastest({base: runs[base]}, base)  # noqa: E731
    monkeypatch.setattr(choice, "fastest", slow)
    fast = compile_sparse(model, x)
    assert set(fast.report()["kernel"]) == {"dense"}
    assert type(fast.model[0]) is nn.Linear
    assert torch.equal(fast(x), model(x))


@pytest.mark.long
def test_a_slower_whole_stays_dense(
    sparse_wins: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def dense_wins(runs: dict[str, object], base: str, **_: object) -> object:
        from ws_learner.deploy.runtime.autotune import TimedTrial

        return TimedTrial(winner=base, speedup=1.0, seconds={n: 1.0 + (n != base) for n in runs})

    monkeypatch.setattr("ws_learner.deploy.runtime.acceptance.fastest", dense_wins)
    model, x = mlp(), torch.randn(8, 40)
    fast = compile_sparse(model, x)
    assert torch.equal(fast(x), model(x))
    assert set(fast.report()["kernel"]) == {"dense"}
    fast.save(tmp_path / "m.wsr")
    assert torch.equal(load_sparse(tmp_path / "m.wsr")(x), model(x))


@pytest.mark.long
@needs_kernels
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_saved_and_loaded_is_the_same(sparse_wins: None, tmp_path: Path, dtype: str) -> None:
    model, x = mlp(), torch.randn(50, 40)
    fast = compile_sparse(model, x, dtype=dtype, calibration=[x])  # type: ignore[arg-type]
    fast.save(tmp_path / "m.wsr")
    again = load_sparse(tmp_path / "m.wsr")
    assert torch.equal(again(x), fast(x))
    assert again.report().equals(fast.report())
    stored = read_wsr(tmp_path / "m.wsr")[0]["0.weight"].dtype
    assert stored == (torch.int8 if dtype == "int8" else torch.float32)


@needs_kernels
def test_another_processor_chooses_anew(
    sparse_wins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = mlp(), torch.randn(50, 40)
    compile_sparse(model, x, dtype="int8", calibration=[x]).save(tmp_path / "m.wsr")
    monkeypatch.setattr(files, "cpu_key", lambda: "another")
    asked: list[tuple[int, ...]] = []
    own = choice.fastest

    def counted(runs: dict[str, object], base: str, **words: object) -> object:
        asked.append(tuple(runs))
        return own(runs, base, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(choice, "fastest", counted)
    again = load_sparse(tmp_path / "m.wsr")
    assert len(asked) == 3
    close(again(x), model(x), 0.05)


@pytest.mark.long
def test_a_network_with_its_own_forward_needs_its_owner(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = pruned(SmallBert(), "4x1", 0.8)
    words = torch.randint(0, 20, (3, 6))
    fast = compile_sparse(model, words)
    close(fast(words), model(words))
    fast.save(tmp_path / "m.wsr")
    with pytest.raises(UserError, match=r"load_sparse\(path, model\)"):
        load_sparse(tmp_path / "m.wsr")
    torch.manual_seed(9)
    again = load_sparse(tmp_path / "m.wsr", SmallBert())
    close(again(words), model(words))
    with pytest.raises(UserError, match="another network"):
        load_sparse(tmp_path / "m.wsr", mlp())


@pytest.mark.long
@needs_kernels
def test_transformer_layers_of_pytorch(sparse_wins: None) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    model = pruned(nn.Sequential(layer), "4x1", 0.5)
    x = torch.randn(2, 5, 32)
    with torch.no_grad():
        close(compile_sparse(model, x)(x), model(x))


@pytest.mark.long
@needs_kernels
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_a_layer_used_twice(sparse_wins: None, dtype: str) -> None:
    torch.manual_seed(3)
    again, rectify = nn.Linear(32, 32), nn.ReLU()
    model = pruned(nn.Sequential(again, rectify, again, rectify, nn.Linear(32, 4)), "4x4", 0.5)
    x = torch.randn(40, 32)
    fast = compile_sparse(model, x, dtype=dtype, calibration=[x])  # type: ignore[arg-type]
    assert isinstance(fast.model[0], Replaced)
    assert fast.model[0] is fast.model[2]
    with torch.no_grad():
        close(fast(x), model(x), 1e-5 if dtype == "fp32" else 0.05)


def test_bad_options() -> None:
    x = torch.randn(2, 40)
    with pytest.raises(UserError, match="`dtype` int4"):
        compile_sparse(mlp(), x, dtype="int4")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="threads 0"):
        compile_sparse(mlp(), x, threads=0)
    with pytest.raises(UserError, match=r"no nn\.Linear"):
        compile_sparse(nn.ReLU(), x)
    with pytest.raises(UserError, match="no batch"):
        compile_sparse(mlp(), x, dtype="int8", calibration=[])


@pytest.mark.long
@needs_kernels
def test_two_threads_call_one_model_and_nothing_leaks(sparse_wins: None) -> None:
    model, x = mlp(), torch.randn(33, 40)
    fast = compile_sparse(model, x, dtype="int8", calibration=[x], threads=2)
    wanted, wrong = fast(x), []

    def calls(count: int) -> None:
        for _ in range(count):
            if not torch.equal(fast(x), wanted):
                wrong.append(1)

    def run(count: int) -> int:
        callers = [threading.Thread(target=calls, args=(count,)) for _ in range(2)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        gc.collect()
        return _resident()

    run(500)
    before = run(500)
    assert run(5000) - before < 4 << 20  # bytes, over 10,000 calls
    assert not wrong


def _resident() -> int:
    import resource

    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.long
def test_without_llvmlite_pytorch_serves() -> None:
    code = """
import sys; sys.modules["llvmlite"] = None
import json, torch; from torch import nn
from tests.support.sparse_layers import pruned
from ws_learner.deploy.runtime import compile_sparse
torch.manual_seed(0)
model = pruned(nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 8)), "4x1", 0.9)
x = torch.randn(16, 512)
fast = compile_sparse(model, x, dtype="int8", calibration=[x])
error = float((fast(x) - model(x)).norm() / model(x).norm())
print(json.dumps([error, list(fast.report()["kernel"])]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    error, kernels = json.loads(done.stdout)
    assert error < 0.03
    assert set(kernels) <= {"dense", "dense onednn", "dense int8", "torch csr"}
    assert "no generated kernels here" in done.stderr
