"""Decode of SmolLM2 one token at a time: ours against dense engines, in one process.

    OMP_NUM_THREADS=1 python -m benchmarks.sparse_decode [--rounds 9] [--zeros 0 0.5 0.6 0.7]

Processor time with one thread; each round runs every engine, and ratios are of the same round.
Masks are by magnitude, which is enough for speed and ruins the text; `decode_perplexity` measures
quality. OpenVINO and ONNX Runtime (where they can be imported) run the linear layers and the head
alone, with norms, attention and cache left out: a lower bound of their time. OpenVINO's bytes are
dynamic, in groups of 64; ONNX Runtime's weights are in groups of 64, its products in bytes.

`--isa NAME` takes a lesser instruction set (`portable`, `avx2`, `avx512`, `avx512vnni`, ...), and
`--threads 2` adds rows with two threads, in time on the clock: processor time adds threads up.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.decode_engines import Run, onnx_runtime, openvino
from ws_learner.core import say
from ws_learner.deploy import SparseLM, compile_sparse_lm
from ws_learner.language import smollm2_folder

__all__ = ["main"]

TOKENS = 4  # of a timed run


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--zeros", type=float, nargs="+", default=[0.0, 0.5, 0.6, 0.7])
    parser.add_argument("--isa", help="instruction set (default: the best)")
    parser.add_argument("--threads", type=int, default=1, help="of further rows")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    import transformers

    loader: Any = transformers.AutoModelForCausalLM
    model = loader.from_pretrained(smollm2_folder(), dtype=torch.float32).eval()
    runs: dict[str, tuple[Run, float]] = {}
    for zeros in given.zeros:
        pruned = _pruned(model, zeros)
        for dtype in ("int8", "int4"):
            fast = compile_sparse_lm(pruned, dtype=dtype, context=576, isa=given.isa)
            megabytes = fast.engine.network.bytes_per_token / 1e6
            for context in (64, 512):
                name = f"ours {dtype}, {zeros:.0%} zeros, context {context}"
                runs[name] = _ours(fast, context), megabytes
            say(f"compiled {dtype} {zeros:.0%}")
    runs["transformers FP32, context 64"] = _transformers(model), 538.0
    for engine, build in (("OpenVINO", openvino), ("ONNX Runtime", onnx_runtime)):
        try:
            for bits in (8, 4):
                one = build(bits, TOKENS)
                runs[f"{engine} INT{bits}, layers and head alone"] = one, 134.5 * bits / 8
        except ModuleNotFoundError:
            say(f"{engine} cannot be imported: its rows are missing")
    if given.threads > 1:
        _compare_threads(model, given)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(given.rounds):
        for name, (run, _) in runs.items():
            start = time.process_time()
            run()
            times[name].append((time.process_time() - start) * 1e3 / TOKENS)
    print(table(times, {name: megabytes for name, (_, megabytes) in runs.items()}))
    return 0


def table(times: dict[str, list[float]], megabytes: dict[str, float]) -> str:
    """Milliseconds a token (least, median), and medians of the ratios of the same rounds."""
    bases = [name for name in times if name.startswith(("OpenVINO", "ONNX", "transformers"))]
    lines = ["| engine | MB read | ms, least / median | " + " | ".join(f"x {b}" for b in bases)]
    lines += ["|---|---:|---:|" + "---:|" * len(bases)]
    for name, own in times.items():
        ratios = [f"{np.median(np.array(times[b]) / np.array(own)):.2f}" for b in bases]
        cells = [name, f"{megabytes[name]:.0f}", f"{min(own):.2f} / {np.median(own):.2f}", *ratios]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _compare_threads(model: Any, given: argparse.Namespace) -> None:
    """Print how many times as fast more threads are, on the clock, at 60 % zeros."""
    for dtype in ("int8", "int4"):
        runs = [
            _ours(
                compile_sparse_lm(
                    _pruned(model, 0.6), dtype=dtype, context=576, isa=given.isa, threads=count
                ),
                64,
            )
            for count in (1, given.threads)
        ]
        ratios = []
        for _ in range(given.rounds):
            seconds = []
            for run in runs:
                start = time.perf_counter()
                run()
                seconds.append(time.perf_counter() - start)
            ratios.append(seconds[0] / seconds[1])
        ratio = f"{np.median(ratios):.2f} (most {max(ratios):.2f})"
        print(f"{dtype}, 60 % zeros: {given.threads} threads are {ratio} times as fast as one")


def _pruned(model: Any, zeros: float) -> Any:
    """A copy with the smallest weights of each linear layer of the blocks set to 0."""
    pruned = copy.deepcopy(model)
    with torch.no_grad():
        for weight in pruned.model.layers.parameters():
            if weight.dim() == 2 and zeros:
                size = weight.abs()
                weight[size <= size.flatten().kthvalue(int(zeros * weight.numel())).values] = 0
    return pruned


def _ours(fast: SparseLM, context: int) -> Run:
    state = fast.state()
    fast.engine.feed(state, list(range(1000, 1000 + context)))

    def run() -> None:
        state.control[0] = context
        for _ in range(TOKENS):
            fast.engine.advance(state, state.best)

    return run


def _transformers(model: Any) -> Run:
    ids = torch.arange(1000, 1064)[None]

    def filled() -> Any:
        with torch.no_grad():
            return model(ids, use_cache=True).past_key_values

    held = {"cache": filled(), "tokens": 0}

    def run() -> None:
        with torch.no_grad():
            for _ in range(TOKENS):
                model(torch.tensor([[5]]), past_key_values=held["cache"], use_cache=True)

    return run


if __name__ == "__main__":
    raise SystemExit(main())
