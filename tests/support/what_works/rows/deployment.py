"""Networks of every kind that are made smaller, exported and compiled."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.dead_channels import zero_channels
from tests.support.nets_people_bring.nets import NETS
from tests.support.what_works.row import Row
from ws_learner import (
    NM,
    check_onnx,
    compile_sparse,
    crop,
    export_onnx,
    permute_mlps,
    shrink,
    to_semi_structured,
)

Run = Callable[[Path], None]


def _brought(name: str) -> tuple[nn.Module, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return NETS[name]()


def _called(model: nn.Module, example: Any) -> Any:
    with torch.no_grad():
        return model(example) if isinstance(example, Tensor) else model(*example)


def _goes(name: str, layer: str, *, gone: int = 3, of: int = 12) -> Run:
    """`shrink` removes the dead channels of `layer`; the outputs stay the same."""

    def run(folder: Path) -> None:
        model, example = _brought(name)
        zero_channels(model, layer, slice(0, gone))
        with torch.no_grad():
            model.get_parameter(f"{layer}.bias")[:gone] = 0
        shrunk = shrink(model, example)
        assert shrunk.obstacles == ()
        assert (of, of - gone) in {(cut.before, cut.after) for cut in shrunk.cuts}
        _same(shrunk.model, model, example)

    return run


def _stays(name: str, layer: str, reason: str) -> Run:
    """`shrink` leaves the dead channels of `layer`, says why, and changes nothing."""

    def run(folder: Path) -> None:
        model, example = _brought(name)
        zero_channels(model, layer, slice(0, 3))
        shrunk = shrink(model, example)
        assert reason in " ".join(map(str, shrunk.obstacles))
        assert torch.equal(_called(shrunk.model, example), _called(model.eval(), example))

    return run


def _same(got: nn.Module, wanted: nn.Module, example: Any) -> None:
    outputs, others = (_called(model.eval(), example) for model in (got, wanted))
    torch.testing.assert_close(outputs, others, rtol=1e-4, atol=1e-5)


def _crops(name: str, removed: int) -> Run:
    def run(folder: Path) -> None:
        model, example = _brought(name)
        for block in (0, 1):
            zero_channels(model, f"blocks.{block}.fc2", slice(0, 4), columns=True)
        cropped = crop(model, example)
        assert cropped.removed == removed
        _same(cropped.model, model, example)

    return run


def _permutes(name: str, count: int) -> Run:
    def run(folder: Path) -> None:
        (model, example), (twin, _) = _brought(name), _brought(name)
        assert len(permute_mlps(model, NM(2, 4), example=example)) == count
        _same(model, twin, example)

    return run


def _exports(name: str) -> Run:
    def run(folder: Path) -> None:
        importlib.import_module("onnxscript")
        model, example = _brought(name)
        export_onnx(model, example, folder / "model.onnx")
        assert check_onnx(model, example, folder / "model.onnx") < 1e-5

    return run


def _exported(name: str) -> Run:
    def run(folder: Path) -> None:
        model, example = _brought(name)
        export_onnx(model, example, folder / "model.onnx")

    return run


def _compiles(name: str) -> Run:
    def run(folder: Path) -> None:
        model, example = _brought(name)
        compiled = compile_sparse(model, example)
        _same(compiled, model, example)

    return run


def _without_a_gpu(folder: Path) -> None:
    to_semi_structured(nn.Sequential(nn.Linear(64, 64)))


def _gated(folder: Path) -> None:
    model, example = _brought("chunk and gate")
    with torch.no_grad():
        model.get_parameter("a.weight")[[0, 1, 6, 7]] = 0
        model.get_parameter("a.bias")[[0, 1]] = 0  # tanh(0) closes the gate
    shrunk = shrink(model, example)
    assert shrunk.model.get_parameter("a.weight").shape[0] == 8
    _same(shrunk.model, model, example)


def _scripted(folder: Path) -> None:
    model, example = _brought("a scripted network")
    shrunk = shrink(model, example)
    assert "no layer can be followed to the outputs" in str(shrunk.obstacles[0])
    _same(shrunk.model, model, example)


def _crops_dict(folder: Path) -> None:
    model, example = _brought("MLP with dict outputs and in-place inputs")
    zero_channels(model, "blocks.0.fc2", slice(0, 4), columns=True)
    cropped = crop(model, example)
    assert cropped.removed == 4
    (got,), (wanted,) = (_called(m.eval(), example.clone())["out"] for m in (cropped.model, model))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def _branching(folder: Path) -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.a(x).relu()
            out: Tensor = self.b(hidden if x.sum() > 0 else 3 * hidden)
            return out

    torch.manual_seed(0)
    model = Branching()
    zero_channels(model, "a", slice(0, 3))
    with torch.no_grad():
        model.a.bias[:3] = 2
    shrink(model, torch.rand(4, 6))


def _row(what: str, run: Run, refused: str | None = None) -> Row:
    return Row(area="deployment", what=what, run=run, refused=refused)


ROWS = (
    _row("`shrink`: transposed convolutions", _goes("transposed convolution", "0")),
    _row("`shrink`: U-Net, concatenated skips", _goes("U-Net with concatenated skips", "deep")),
    _row("`shrink`: channels in gated halves (`chunk`)", _gated),
    _row("`shrink`: zero padding", _goes("zero padding", "0")),
    _row("`shrink`: interpolation, `nn.Upsample`", _goes("bilinear upsampling", "0")),
    _row("`shrink`: instance norm", _goes("instance norm", "0")),
    _row("`shrink`: depthwise convolutions", _goes("depthwise convolution", "1")),
    _row("`shrink`: outputs in a tuple, with None", _goes("outputs in a tuple", "a", of=8)),
    _row("`shrink`: a network in `DataParallel`", _goes("DataParallel", "module.0")),
    _row(
        "`shrink`: group norm (the channels stay, a line says why)",
        _stays("group norm", "0", "they pass through GroupNorm"),
    ),
    _row(
        "`shrink`: `F.linear` with a transposed weight (the channels stay, a line says why)",
        _stays("linear by a transposed weight", "a", "a weight outside of its layer"),
    ),
    _row(
        "`shrink`: GLU, pixel shuffle (the channels stay, a line says why)",
        _stays("GLU over channels", "0", "Glu is not known to treat every channel separately"),
    ),
    _row(
        "`shrink`: GRU and LSTM (the channels before them stay, a line says why)",
        _stays("GRU", "a", "they go into GRU"),
    ),
    _row(
        "`shrink`: weight norm, spectral norm (the channels stay, a line says why)",
        _stays("weight norm", "0", "a weight that is computed at each call"),
    ),
    _row(
        "`shrink`: tied weights (the channels stay, a line says why)",
        _stays("tied weights", "encode", "a weight is used by several layers"),
    ),
    _row(
        "`shrink`: scripted networks (they stay, a line says why)",
        _scripted,
    ),
    _row(
        "`shrink`: a forward pass that branches on values",
        _branching,
        "is another network: outputs differ",
    ),
    _row(
        "`crop`: an MLP that knows its width (it stays, others go)",
        _crops("MLP that counts its neurons", 4),
    ),
    _row("`crop`: outputs in a dict, inputs changed in place", _crops_dict),
    _row(
        "`permute_mlps`: a depthwise convolution in an MLP (it stays, a line says why)",
        _permutes("MLP with a depthwise convolution", 1),
    ),
    _row("`export_onnx`: inputs in a dict", _exports("inputs in a dict")),
    _row("`export_onnx`: a bfloat16 network", _exported("bfloat16"), "give model.float()"),
    _row(
        "`export_onnx`: a quantised network",
        _exported("quantised layers"),
        "is quantised; export the float network instead",
    ),
    _row(
        "`export_onnx`: a scripted network",
        _exported("a scripted network"),
        "is scripted or traced; export it before that",
    ),
    _row(
        "`compile_sparse`: weight norm by hooks",
        _compiles("weight norm by hooks"),
        "this model cannot be copied",
    ),
    _row(
        "`to_semi_structured` without a GPU",
        _without_a_gpu,
        "the compressed 2:4 form exists on NVIDIA GPUs from compute capability 8.0 on",
    ),
)
