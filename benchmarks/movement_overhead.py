"""Overhead of movement sparsity: warm-up over dense training step, on MiniLM's shape.

    python -m benchmarks.movement_overhead [--rounds 15] [--out FILE]

Two copies of a BERT (6 layers, 384 wide, 12 heads, random weights) take turns in one process on
the same batch of 32 sentences of 32 word pieces; only the encoder trains in both. Prints the
median of the pairwise ratios for fine scores with a threshold (masks renewed in every step), for
32x32 blocks with rows and columns, and for top-v (masks renewed every 25 steps). Required: at
most 1.3.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.paired import paired

__all__ = ["main", "measure", "training_step"]

LIMIT = 1.3
TOKENS = 32


def training_step(kind: str, *, batch: int, bf16: bool) -> Callable[[], None]:
    """Make a function that trains by one step, half way up the warm-up.

    Args:
        kind: `dense`, `fine`, `structured` or `top-v`.
        batch: Sentences in a step.
        bf16: Under autocast.
    """
    import torch
    import transformers

    from ws_learner.pruning import BlockPattern, ChannelPattern, Sparsifier

    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    model = transformers.BertForSequenceClassification(config)
    model.bert.embeddings.requires_grad_(False)
    words = torch.randint(1000, 20_000, (batch, TOKENS))
    targets = torch.randint(2, (batch,))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    encoder = model.bert.encoder.named_modules(prefix="bert.encoder")
    names = [f"{name}.weight" for name, m in encoder if isinstance(m, torch.nn.Linear)]
    if kind != "dense":
        settings, layers = _settings(kind, names, BlockPattern(32, 32), ChannelPattern)
        sparsifier = Sparsifier(model, settings, total_steps=1_000, **layers)
        sparsifier.attach(optimizer)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(model(words).logits.float(), targets)
        torch.autograd.backward(loss)
        optimizer.step()

    step()  # past the dense beginning
    return step


def _settings(kind: str, names: list[str], block: Any, channel: Any) -> tuple[Any, dict[str, Any]]:
    """Settings of the method, and what it is asked for."""
    from ws_learner.pruning import MovementConfig, ThresholdMovementConfig

    if kind == "top-v":
        config = MovementConfig(iter_ratio_beg=0.0, iter_ratio_end=1.0, mask_update_step=25)
        return config, {"ratios": dict.fromkeys(names, 0.9)}
    patterns = {}
    if kind == "structured":
        for name in names:
            wide = "intermediate" in name
            own = channel("outputs" if wide else "inputs")
            patterns[name] = block if "attention" in name else own
    soft = ThresholdMovementConfig(
        warmup_start_epoch=0,
        warmup_end_epoch=9,
        importance_regularization_factor=0.1,
        steps_per_epoch=100,
        init_importance_threshold=-1.0,
        patterns=patterns,
    )
    return soft, {"layers": names}


def measure(*, rounds: int, batch: int) -> dict[str, object]:
    """Measure the three ratios; see the module."""
    from ws_learner.core import choose_device

    chosen = choose_device()
    found: dict[str, object] = {"batch": batch, "rounds": rounds, "bf16": chosen.bf16}
    for kind in ("fine", "structured", "top-v"):
        sparse = training_step(kind, batch=batch, bf16=chosen.bf16)
        dense = training_step("dense", batch=batch, bf16=chosen.bf16)
        result = paired(sparse, dense, rounds=rounds, warmup=2)
        found[kind] = {"median": result.median, "low": result.low, "high": result.high}
        print(f"{kind:10} {result} of a dense step", flush=True)
    return found | {"limit": LIMIT}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and print it; returns 1 when a step costs more than the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15, help="pairs of steps (default 15)")
    parser.add_argument("--batch", type=int, default=32, help="sentences a step (default 32)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    options = parser.parse_args(arguments)
    found = measure(rounds=options.rounds, batch=options.batch)
    if options.out:
        from ws_learner.core import write_json

        write_json(options.out, found)
    medians = [row["median"] for row in found.values() if isinstance(row, dict)]
    return int(max(medians) > LIMIT)


if __name__ == "__main__":
    raise SystemExit(main())
