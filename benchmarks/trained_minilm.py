"""Pretrained and pruned MiniLM in the sparse runtime: agreement of outputs, and speed.

    python -m benchmarks.trained_minilm --pattern 4x1 --ratio 0.8
    python -m benchmarks.trained_minilm --weights runs/<run of bert_at_trec>

Without --weights, the encoder's matrices are pruned by magnitude, which does not show accuracy.
It shows that a network of real weights, with rows of uneven density, gives the same outputs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ws_learner.core import UserError, say
from ws_learner.pruning import parse_pattern

__all__ = ["Outcome", "main", "measure", "prune_encoder"]

_WORDS = (999, 30522)  # of BERT's vocabulary, without its marks
_CLASSES = 6


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Results of one measurement.

    Attributes:
        density: Share of nonzero weights in the encoder's matrices.
        sparse_layers: Layers that run by a sparse kernel.
        relative_error: Norm of the difference from the dense outputs over their norm.
        same_class: Share of sentences with the same answer.
        speedup: Times faster than the same network run densely.
    """

    density: float
    sparse_layers: int
    relative_error: float
    same_class: float
    speedup: float


def prune_encoder(model: nn.Module, pattern: str, ratio: float) -> None:
    """Zero the smallest units of every matrix of the encoder."""
    units = parse_pattern(pattern)
    with torch.no_grad():
        for weight in _matrices(model):
            zeros = units.feasible(tuple(weight.shape), round(ratio * weight.numel()))
            weight.mul_(units.mask(weight.abs(), zeros))


def measure(model: nn.Module, words: Tensor, *, dtype: Any = "fp32") -> Outcome:
    """Compile a network of word pieces for `words` (B, L) and compare it with the dense one."""
    from ws_learner.deploy import compile_sparse

    model = model.eval()
    fast = compile_sparse(model, words[:1], dtype=dtype, calibration=[words])
    found = fast.compare_outputs(model, [words])
    report = fast.report()
    live = [weight != 0 for weight in _matrices(model)]
    return Outcome(
        density=sum(int(w.sum()) for w in live) / sum(w.numel() for w in live),
        sparse_layers=int(report["kernel"].str.startswith(("fp32", "int8")).sum()),
        relative_error=found["relative_error"],
        same_class=found["same_class"],
        speedup=fast.speedup,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return 0, or 2 after bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--weights", type=Path, help="a run of bert_at_trec, or its weights")
    parser.add_argument("--pattern", default="4x1", help="of the zeros, without --weights")
    parser.add_argument(
        "--ratio", type=float, default=0.8, help="share of zeros, without --weights"
    )
    parser.add_argument("--dtype", choices=("fp32", "int8", "auto"), default="fp32")
    given = parser.parse_args(argv)
    try:
        outcome = measure(_network(given), _sentences(), dtype=given.dtype)
    except UserError as error:
        say(f"error: {error}")
        return 2
    for name, value in asdict(outcome).items():
        print(f"{name:16} {value:.4g}")
    return 0


def _network(given: argparse.Namespace) -> nn.Module:
    from experiments.cli.dense_weights import load_dense_state
    from experiments.models.sentence_bert import minilm

    torch.manual_seed(0)  # of the classifier, which is not pretrained
    model = minilm(labels=_CLASSES)
    if given.weights is not None:
        model.load_state_dict(load_dense_state(given.weights, flag="--weights "))
    else:
        prune_encoder(model, given.pattern, given.ratio)
    return model


def _sentences() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(*_WORDS, (16, 32), generator=generator)


def _matrices(model: nn.Module) -> list[Tensor]:
    found = [
        m.weight for n, m in model.named_modules() if isinstance(m, nn.Linear) and "encoder" in n
    ]
    if not found:
        raise UserError("this network has no encoder of linear layers")
    return found


if __name__ == "__main__":
    sys.exit(main())
