"""Perplexity of compiled language models, by number format.

    OMP_NUM_THREADS=1 python -m benchmarks.decode_perplexity [RUN ...] [--windows 4]

Each RUN is a finished run of `smollm_at_sotu`; dense SmolLM2 comes first. The engine itself is fed
the held-out addresses token by token, so that embedding, head, cache and activations are rounded as
they are in use. A run at 60 %: `./run_local.sh smollm_at_sotu --prune_ratio 0.6`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ws_learner.core import RunDir, as_path, track
from ws_learner.deploy import SparseLM, compile_sparse_lm
from ws_learner.language import open_in_transformers, smollm2_folder
from ws_learner.report import find_run

__all__ = ["main", "perplexity"]

FORMATS: dict[str, dict[str, Any]] = {
    "fp32": {"dtype": "fp32"},
    "int8": {"dtype": "int8"},
    "int4, groups of 64": {"dtype": "int4"},
    "int4, groups of 32": {"dtype": "int4", "group": 32},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="*", help="finished runs of pruned networks")
    parser.add_argument("--windows", type=int, default=4, help="of 256 tokens")
    given = parser.parse_args(argv)
    from experiments.smollm_at_sotu import Options, language_task

    windows = language_task(Options()).windows.test[: given.windows].tolist()
    print("| network | zeros | numbers | MB read | perplexity | x fp32 |")
    print("|---|---:|---|---:|---:|---:|")
    for name in ["dense", *given.runs]:
        model = _opened(name)
        zeros = _zeros(model)
        base = 0.0
        for label, options in FORMATS.items():
            fast = compile_sparse_lm(model, context=len(windows[0]), **options)
            found = perplexity(fast, windows, what=f"{name} {label}")
            base = base or found
            megabytes = fast.engine.network.bytes_per_token / 1e6
            cells = [name, f"{zeros:.0%}", label, f"{megabytes:.0f}", f"{found:.2f}"]
            print("| " + " | ".join([*cells, f"{found / base:.3f}"]) + " |", flush=True)
    return 0


def perplexity(fast: SparseLM, windows: Sequence[Sequence[int]], *, what: str) -> float:
    """Exponential of the mean negative log likelihood of the tokens after each window's first."""
    losses = []
    with track(f"perplexity of {what}", total=len(windows)) as progress:
        for window in windows:
            state = fast.state()
            for token, following in itertools.pairwise(window):
                fast.engine.feed(state, [token])
                logits = state.logits.astype(np.float64)
                peak = logits.max()
                losses.append(peak + np.log(np.exp(logits - peak).sum()) - logits[following])
            progress.advance()
    return float(np.exp(np.mean(losses)))


def _opened(name: str) -> Any:
    if name != "dense":
        return open_in_transformers(RunDir(find_run(as_path(name))))[0]
    import torch
    import transformers

    loader: Any = transformers.AutoModelForCausalLM
    return loader.from_pretrained(smollm2_folder(), dtype=torch.float32).eval()


def _zeros(model: Any) -> float:
    """Share of zeros in the blocks' linear layers."""
    weights = [w for w in model.model.layers.parameters() if w.dim() == 2]
    zeros = sum(int((w == 0).sum()) for w in weights)
    return zeros / sum(int(w.numel()) for w in weights)


if __name__ == "__main__":
    raise SystemExit(main())
