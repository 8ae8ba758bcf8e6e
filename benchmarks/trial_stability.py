"""How many kernels a layer gets when it is compiled again and again on a busy machine.

    python -m benchmarks.trial_stability [--times 20] [--busy 2]

Prints, for each layer, how often each kernel was chosen.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ws_learner.core import track
from ws_learner.deploy import compile_sparse

__all__ = ["busy", "chosen", "main"]

_LAYERS = (
    ("int8", (4, 4), (1024, 1024), 128),
    ("fp32", (4, 1), (1536, 384), 64),
    ("int8", (4, 4), (256, 512), 1),
)
"""Type, block, outputs and inputs, tokens; the zeros are 80 %."""


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processors busy."""
    work = [sys.executable, "-c", "while True: sum(range(100_000))"]
    running = [subprocess.Popen(work) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def chosen(
    dtype: str, block: tuple[int, int], shape: tuple[int, int], tokens: int, *, times: int
) -> Counter[str]:
    """How often each kernel is chosen for a layer of random weights."""
    draw = torch.Generator().manual_seed(0)
    layer = nn.Linear(shape[1], shape[0])
    live = torch.rand(shape[0] // block[0], shape[1] // block[1], generator=draw) >= 0.8
    with torch.no_grad():
        layer.weight.mul_(live.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1))
    x = torch.randn(tokens, shape[1], generator=draw)
    found: Counter[str] = Counter()
    for _ in range(times):
        fast = compile_sparse(layer, x, dtype=dtype, calibration=[x])  # type: ignore[arg-type]
        found.update(choice.kernel for choice in fast.choices.values())
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Compile every layer and print what was chosen."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--times", type=int, default=20, help="compilations (default 20)")
    parser.add_argument("--busy", type=int, default=2, help="busy processors (default 2)")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    lines = []
    with busy(given.busy), track("layers", total=len(_LAYERS)) as progress:
        for dtype, block, shape, tokens in _LAYERS:
            found = chosen(dtype, block, shape, tokens, times=given.times)
            name = f"{tokens} x {shape[1]} to {shape[0]}, {dtype} {block[0]}x{block[1]}"
            kernels = ", ".join(f"{kernel}: {count}" for kernel, count in found.most_common())
            lines.append(f"{name}: {kernels}")
            progress.advance(note=name)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
