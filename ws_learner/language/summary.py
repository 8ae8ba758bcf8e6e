"""The numbers of a language model's run, as the summary and the report have them."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs import FloatArray
from ws_learner.config import WeightSparseConfig, parse_pattern_spec
from ws_learner.core import choose_device, describe_machine
from ws_learner.language.perplexity import paired_difference, perplexity
from ws_learner.language.settings import LanguageSettings
from ws_learner.language.task import LanguageTask

__all__ = ["losses_csv", "recovery_facts", "summarise"]

_USES = {
    "calibration": "windows whose hidden states the solver sees",
    "search": "windows on which protocols measure what pruning does",
    "test": "the metric at the top; read once, at the end",
}


def summarise(
    task: LanguageTask, config: WeightSparseConfig, *, dense: FloatArray, sparse: FloatArray
) -> dict[str, Any]:
    """Entries of the summary.

    Args:
        task: Network, texts and settings.
        config: Target, protocol and pattern.
        dense: (N,) losses of the dense network on the test windows.
        sparse: (N,) those of the pruned one.
    """
    difference, windows = paired_difference(sparse, dense), task.windows
    count, length = windows.test.shape
    more = {
        "sparse minus dense, 95 % interval over windows": str(difference),
        "perplexity, sparse / dense": f"{np.exp(difference.mean):.4g}",
        "measured on": f"{count} held-out windows of {length} tokens",
        "calibrated on": f"{windows.calibration.numel():,} tokens",
        "layer solver": task.settings.solver,
    }
    if task.dense_note:
        more["dense is"] = task.dense_note
    return {
        "experiment": task.name,
        "learner": "weight-sparse",
        "protocol": config.ws_prune_ratio_prtl,
        "method": task.settings.solver,
        "pattern": str(parse_pattern_spec(config.pattern_spelling)),
        "target_prune_ratio": config.ws_prune_ratio,
        "metric": "perplexity",
        "metric_unit": "",
        "higher_is_better": False,
        "dense_metric": perplexity(dense),
        "sparse_metric": perplexity(sparse),
        "nats_over_dense": difference.mean,
        "nats_over_dense_half_interval": difference.half,
        "more_results": more,
        "split_uses": _USES,
        "split_sizes": {
            "calibration": len(windows.calibration),
            "search": len(windows.search),
            "test": len(windows.test),
        },
        "hardware": describe_machine(choose_device("fp32")),
    }


def recovery_facts(
    settings: LanguageSettings, *, before: FloatArray, after: FloatArray
) -> dict[str, str]:
    """What the report says of recovery.

    Args:
        settings: Minutes, objective, rank.
        before: (N,) losses of the pruned network on the test windows.
        after: (N,) those of the trained one.
    """
    kind = f"LoRA of rank {settings.recover_rank}" if settings.recover_rank else "all weights"
    return {
        "one-shot perplexity, before recovery": f"{perplexity(before):.6g}",
        "recovered minus one-shot": str(paired_difference(after, before)),
        "recovery": f"{settings.recover_minutes:g} minutes, {settings.recover_by}, {kind}",
    }


def losses_csv(dense: FloatArray, sparse: FloatArray) -> str:
    """`windows.csv`: the losses of both networks on each test window."""
    pairs = enumerate(zip(dense.tolist(), sparse.tolist(), strict=True))
    rows = [f"{place},{first!r},{second!r}" for place, (first, second) in pairs]
    return "\n".join(["window,dense,sparse", *rows]) + "\n"
