"""Rows of `sparse_inference`: measurements, settings, and target ratios."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["CONVOLUTIONS", "PARTS", "TRAINED", "Row", "rows", "trained_rows"]

PARTS = ("layer", "mlp", "gemv", "conv", "bert", "minilm", "dlrm")
CONVOLUTIONS = {  # (in, out, size, kernel)
    f"{net} {shape[0]}-{shape[1]} {shape[2]}x{shape[2]}, {shape[3]}x{shape[3]}": shape
    for net, shape in (
        ("ResNet-50", (64, 256, 56, 1)),
        ("ResNet-50", (512, 128, 28, 1)),
        ("ResNet-50", (256, 1024, 14, 1)),
        ("ResNet-50", (2048, 512, 7, 1)),
        ("ResNet-50", (128, 128, 28, 3)),
        ("ResNet-50", (256, 256, 14, 3)),
        ("MobileNet-v2", (32, 192, 28, 1)),
        ("MobileNet-v2", (192, 64, 14, 1)),
        ("MobileNet-v2", (576, 96, 14, 1)),
        ("MobileNet-v2", (320, 1280, 7, 1)),
    )
}
TRAINED = "MiniLM, 6 layers, 32 words, trained weights"
_FEW_CONVOLUTIONS = ("ResNet-50 256-1024 14x14, 1x1", "MobileNet-v2 320-1280 7x7, 1x1")
_RATIOS = (0.5, 0.7, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement.

    Attributes:
        part: Which table it stands in.
        case: The layer or network.
        dtype: `fp32` or `int8`.
        pattern: Of the zeros.
        sparsity: Share of zeros.
        wanted: Target ratio (minimum), by column.
        quick: Whether it belongs to the small selection.
        threads: Of every engine.
        amx: Whether AMX may be used.
    """

    part: str
    case: str
    dtype: str
    pattern: str
    sparsity: float
    wanted: dict[str, float] = field(default_factory=dict, compare=False)
    quick: bool = field(default=False, compare=False)
    threads: int = 1
    amx: bool = True

    @property
    def key(self) -> tuple[str, ...]:
        """Key of the row in a table of results."""
        kind = (self.part, self.case, self.dtype, self.pattern, f"{self.sparsity:g}")
        return (*kind, str(self.threads), str(self.amx))


def rows(parts: Iterable[str], *, full: bool, threads: int, amx: bool) -> list[Row]:
    """The rows of these parts in one setting; the small selection unless `full`."""
    makers = {"layer": _layer, "mlp": _mlp, "gemv": _gemv, "conv": _conv}
    makers |= {"bert": _bert, "minilm": _minilm, "dlrm": _dlrm}
    found = []
    for part in parts:
        for case, dtype, pattern, ratio, wanted, quick in makers[part]():
            row = Row(
                part=part,
                case=case,
                dtype=dtype,
                pattern=pattern,
                sparsity=ratio,
                wanted=wanted,
                quick=quick,
                threads=threads,
                amx=amx,
            )
            found += [row] * (full or quick)
    return found


def trained_rows(pattern: str, sparsity: float, *, threads: int, amx: bool) -> list[Row]:
    """Rows of a MiniLM that was trained sparse: its zeros are what they are."""
    return [
        Row(
            part="minilm",
            case=TRAINED,
            dtype=dtype,
            pattern=pattern,
            sparsity=round(sparsity, 3),
            threads=threads,
            amx=amx,
        )
        for dtype in ("fp32", "int8")
    ]


_Made = Iterator[tuple[str, str, str, float, dict[str, float], bool]]


def _layer() -> _Made:
    quick = {
        ("fp32", "1x1", 0.9),
        ("fp32", "4x1", 0.8),
        ("int8", "4x4", 0.9),
        ("int8", "16x4", 0.9),
    }
    wanted = {("fp32", "4x1", 0.8): {"x_fp32": 4.5}, ("int8", "4x4", 0.9): {"x_int8": 6.0}}
    shapes = {"fp32": ("1x1", "2x1", "4x1", "16x4"), "int8": ("1x4", "4x4", "16x4")}
    for dtype, patterns in shapes.items():
        for pattern in patterns:
            for ratio in _RATIOS:
                key = (dtype, pattern, ratio)
                yield "128 x 768 to 3072", *key, wanted.get(key, {}), key in quick


def _mlp() -> _Made:
    wanted = {"x_int8": 4.0, "x_torch_fp32": 16.0}
    for case, ratios in (
        ("FFN 128 x 768-3072-768", (0.8, 0.85, 0.9)),
        ("MLP 512 x 3 of 1024", (0.85,)),
    ):
        for dtype, pattern in (("fp32", "4x1"), ("int8", "4x4"), ("int8", "16x4")):
            for ratio in ratios:
                hard = dtype == "int8" and ratio == 0.85
                yield case, dtype, pattern, ratio, wanted if hard else {}, ratio == 0.85


def _gemv() -> _Made:
    for dtype, patterns in (("fp32", ("1x1", "4x1", "16x4")), ("int8", ("4x4", "16x4"))):
        for pattern in patterns:
            for ratio in (0.8, 0.9):
                quick = (pattern, ratio) == ("16x4", 0.9)
                yield "1 x 1024 to 4096", dtype, pattern, ratio, {}, quick


def _conv() -> _Made:
    for case in CONVOLUTIONS:
        for pattern in ("1x1", "4x1"):
            for ratio in (0.8, 0.9):
                quick = case in _FEW_CONVOLUTIONS and (pattern, ratio) == ("4x1", 0.9)
                yield case, "fp32", pattern, ratio, {}, quick


def _bert() -> _Made:
    wanted = {"x_torch_fp32": 8.0, "x_int8": 2.0}
    for layers in (2, 12):
        for dtype, pattern in (("fp32", "4x1"), ("int8", "4x4"), ("int8", "16x4")):
            for ratio in (0.8, 0.9):
                hard = (pattern, ratio) == ("4x4", 0.8)
                quick = layers == 2 and ratio == 0.8
                case = f"BERT-base, {layers} layers, 128 words"
                yield case, dtype, pattern, ratio, wanted if hard else {}, quick


def _minilm() -> _Made:
    for dtype, pattern in (("fp32", "4x1"), ("int8", "4x4"), ("int8", "16x4")):
        for ratio in (0.8, 0.9):
            yield "MiniLM, 6 layers, 32 words", dtype, pattern, ratio, {}, pattern == "4x4"


def _dlrm() -> _Made:
    online = {"x_int8": 1.5}
    wanted = {2048: {"x_fp32": 5.5, "x_int8": 1.6}, 64: online, 16: online, 1: online}
    for batch in (2048, 512, 64, 16, 1):
        yield f"DLRM, batch {batch}", "int8", "16x4", 0.85, wanted.get(batch, {}), batch != 512
