"""Decode of SmolLM2 one token at a time: ours against dense engines, in one process.

    OMP_NUM_THREADS=1 python -m benchmarks.sparse_decode [--rounds 9] [--zeros 0 0.5 0.6 0.7]

Processor time with one thread; each round runs every engine, and ratios are of the same round.
Masks are by magnitude, which is enough for speed and ruins the text. OpenVINO (if it can be
imported) runs the linear layers and the head alone, with norms, attention and cache left out: a
lower bound of its time. Its bytes are dynamic, in groups of 64.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ws_learner.core import say
from ws_learner.deploy import SparseLM, compile_sparse_lm
from ws_learner.language import smollm2_folder

__all__ = ["main"]

TOKENS = 4  # of a timed run
Run = Callable[[], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--zeros", type=float, nargs="+", default=[0.0, 0.5, 0.6, 0.7])
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    import transformers

    loader: Any = transformers.AutoModelForCausalLM
    model = loader.from_pretrained(smollm2_folder(), dtype=torch.float32).eval()
    runs: dict[str, tuple[Run, float]] = {}
    for zeros in given.zeros:
        pruned = _pruned(model, zeros)
        for dtype in ("int8", "int4"):
            fast = compile_sparse_lm(pruned, dtype=dtype, context=576)
            megabytes = fast.engine.network.bytes_per_token / 1e6
            for context in (64, 512):
                name = f"ours {dtype}, {zeros:.0%} zeros, context {context}"
                runs[name] = _ours(fast, context), megabytes
            say(f"compiled {dtype} {zeros:.0%}")
    runs["transformers FP32, context 64"] = _transformers(model), 538.0
    try:
        for bits in (8, 4):
            runs[f"OpenVINO INT{bits}, layers and head alone"] = _openvino(bits), 134.5 * bits / 8
    except ModuleNotFoundError:
        say("OpenVINO cannot be imported: its rows are missing")
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
    bases = [name for name in times if name.startswith(("OpenVINO", "transformers"))]
    lines = ["| engine | MB read | ms, least / median | " + " | ".join(f"x {b}" for b in bases)]
    lines += ["|---|---:|---:|" + "---:|" * len(bases)]
    for name, own in times.items():
        ratios = [f"{np.median(np.array(times[b]) / np.array(own)):.2f}" for b in bases]
        cells = [name, f"{megabytes[name]:.0f}", f"{min(own):.2f} / {np.median(own):.2f}", *ratios]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


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


def _openvino(bits: int) -> Run:
    """Random dense weights in the shapes of SmolLM2; time does not depend on the values."""
    import openvino as ov
    from openvino import opset13 as op

    draw = np.random.default_rng(0)

    def product(x: Any, outputs: int, inputs: int) -> Any:
        if bits == 8:
            values = op.constant(draw.integers(-127, 128, (outputs, inputs), np.int8))
            scale = op.constant(np.full((outputs, 1), 1e-4, np.float32))
            weight = op.multiply(op.convert(values, ov.Type.f32), scale)
        else:
            raw = draw.integers(0, 256, outputs * inputs // 2, np.uint8)
            shape = [outputs, inputs // 64, 64]
            values = op.constant(ov.Tensor(raw, shape, ov.Type.u4))
            eight = op.constant(np.full((outputs, inputs // 64, 1), 8, np.float32))
            scale = op.constant(np.full((outputs, inputs // 64, 1), 1e-3, np.float32))
            centred = op.subtract(op.convert(values, ov.Type.f32), eight)
            whole = np.array([outputs, inputs])
            weight = op.reshape(op.multiply(centred, scale), op.constant(whole), False)
        return op.matmul(x, weight, False, True)

    def cut(x: Any, first: int, last: int) -> Any:
        ends = [op.constant(np.array([n])) for n in (first, last, 1, 1)]
        return op.slice(x, *ends)

    given = op.parameter([1, 576], np.float32)
    hidden = given
    for _ in range(30):
        mixed = cut(product(hidden, 960, 576), 0, 576)
        hidden = op.add(hidden, product(mixed, 576, 576))
        both = product(hidden, 3072, 576)
        gated = op.multiply(op.swish(cut(both, 0, 1536)), cut(both, 1536, 3072))
        hidden = op.add(hidden, product(gated, 576, 1536))
    network = ov.Model([product(hidden, 49152, 576)], [given])
    options = {
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": "64",
    }
    request = ov.Core().compile_model(network, "CPU", options).create_infer_request()
    request.set_input_tensor(ov.Tensor(np.ones((1, 576), np.float32)))

    def run() -> None:
        for _ in range(TOKENS):
            request.infer()

    return run


if __name__ == "__main__":
    raise SystemExit(main())
