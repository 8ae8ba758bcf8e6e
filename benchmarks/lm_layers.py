"""Layer solvers on the layers of one block of SmolLM2-135M: error of the outputs, and seconds.

    python -m benchmarks.lm_layers --model DIR --texts DIR

For the folders see `benchmarks.lm_solvers`. The inputs are those of the dense network. The error is
the squared error of the layer's outputs over the calibration tokens, relative to their energy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.lm_walk import block_grams, windows
from ws_learner.config import SOLVERS
from ws_learner.core import write_text
from ws_learner.pruning import relative_error, solve_layer

__all__ = ["Options", "main"]

_CASES = (("unstructured", 0.5), ("unstructured", 0.7), ("2:4", 0.5), ("4:8", 0.5), ("4x1", 0.5))
_LAYERS = {  # layer -> the one whose input is the same
    "self_attn.q_proj": "self_attn.q_proj",
    "self_attn.o_proj": "self_attn.o_proj",
    "mlp.up_proj": "mlp.gate_proj",
    "mlp.down_proj": "mlp.down_proj",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare layer solvers on single layers.

    Attributes:
        model: Hugging Face folder of a Llama-type network with its tokenizer.
        texts: Folder of texts whose names start with a year.
        block: Number of the block.
        tokens: Calibration tokens, in windows of 256.
        out: Folder of the table.
    """

    model: Path
    texts: Path
    block: int = 15
    tokens: int = 4096
    out: Path = Path("experiments/results/lm_solvers")


@torch.no_grad()
def main(options: Options) -> None:
    """Measure, print and write the table."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    count = options.tokens // 256
    tokens = windows(options.texts, tokenizer, "01245689", length=256, count=count)
    model: Any = LlamaForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    grams = block_grams(model.eval(), options.block, tokens)
    lines = [
        f"| layer | shape | pattern | zeros | {' | '.join(SOLVERS)} |",
        f"|---|---|---|---:|{'---:|' * len(SOLVERS)}",
    ]
    for name, watched in _LAYERS.items():
        weight, gram = model.model.layers[options.block].get_submodule(name).weight, grams[watched]
        for pattern, ratio in _CASES:
            cells = []
            for solver in SOLVERS:
                start = time.process_time()
                solved = solve_layer(weight, gram, solver=solver, pattern=pattern, ratio=ratio)
                seconds = time.process_time() - start
                error = relative_error(weight, solved.weight, gram[None])
                cells.append(f"{error:.4f} ({seconds:.2f} s)")
            shape = "x".join(map(str, weight.shape))
            lines.append(f"| {name} | {shape} | {pattern} | {ratio:.0%} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    write_text(options.out / "layers.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
