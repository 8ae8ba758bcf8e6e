"""How far outputs are from the dense network's, by what the outputs mean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ws_learner.core import OutputKind, UserError

__all__ = ["divergences", "spread_of"]


def divergences(
    outputs: Tensor,
    dense: Tensor,
    *,
    kind: OutputKind,
    counted: Tensor | None = None,
    spread: float = 1.0,
) -> Tensor:
    """(B,) distance of each example's outputs from the dense network's, at least 0.

    Classes and tokens: the KL divergence of the softmax in nats, averaged over the positions that
    count. Labels: the KL divergence of all labels of a position together, the sum of theirs, in
    nats. Values: squared error / `spread`. Embeddings: the same of directions, at unit length.

    Args:
        outputs: (B, ...).
        dense: Outputs of the dense network, same shape.
        kind: What they mean.
        counted: (B, ...) False at positions that do not count; None counts all.
        spread: Of the dense outputs, see `spread_of`.
    """
    if kind in ("values", "embeddings"):
        squares = (_comparable(outputs, kind) - _comparable(dense, kind)).square()
        return squares.reshape(len(squares), -1).sum(1) / spread
    axis = -1
    if kind == "labels":  # a sigmoid is a softmax against a logit of 0
        outputs, dense = (torch.stack([z, torch.zeros_like(z)], -1) for z in (outputs, dense))
    elif kind == "classes":
        axis = 1
    ours, theirs = functional.log_softmax(outputs, axis), functional.log_softmax(dense, axis)
    each = (theirs.exp() * (theirs - ours)).sum(axis)
    if kind == "labels" and each.dim() > 1:
        each = each.sum(1)
    each = each.reshape(len(each), -1)
    if counted is None:
        return each.mean(1).clamp_min(0)
    weights = counted.reshape(len(each), -1)
    return ((each * weights).sum(1) / weights.sum(1).clamp_min(1)).clamp_min(0)


def spread_of(answers: Sequence[Tensor], *, kind: OutputKind) -> float:
    """Mean squared distance of the dense network's outputs from their mean, over all examples.

    An error of this size is that of a network which answers with the mean for every example, so
    values diverge by 1 - R^2. For kinds other than values and embeddings it is 1.

    Args:
        answers: (B, ...) outputs of each batch.
        kind: What they mean.

    Raises:
        UserError: All examples have the same outputs.
    """
    if kind not in ("values", "embeddings"):
        return 1.0
    if len({answer.shape[1:] for answer in answers}) > 1:  # such as sentences of several lengths
        raise UserError(
            f"`outputs` {kind}: the network's outputs differ in shape from batch to batch, so they "
            "have no common variance; give `ws_reward_signal` accuracy, or pad the inputs"
        )
    rows = torch.cat([_comparable(answer, kind).double().flatten(1) for answer in answers])
    spread = float(rows.var(0, correction=0).sum())
    if not spread > 0:
        raise UserError(
            f"`outputs` {kind}: the dense network gives all {len(rows)} scored examples the same "
            "outputs, so nothing can be compared; train it, or give `ws_reward_signal` accuracy"
        )
    return spread


def _comparable(outputs: Tensor, kind: OutputKind) -> Tensor:
    outputs = outputs.reshape(len(outputs), -1) if outputs.dim() == 1 else outputs
    return functional.normalize(outputs, dim=-1) if kind == "embeddings" else outputs
