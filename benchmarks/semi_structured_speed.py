"""Speed of 2:4 linear layers on a GPU's sparse tensor cores, with the widths of ViT-B's MLP.

    python -m benchmarks.semi_structured_speed [--images 32] [--rounds 20]

A dense and a converted layer with the same 2:4 weight take turns in float16, some calls at a time.
Prints the median of the pairwise ratios, dense time over sparse time: above 1 the sparse layer is
faster. Needs a CUDA device.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.paired import PairedResult, paired

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["main", "measure"]

_TOKENS = 197  # of one image, ViT-B/16
_LAYERS = ((768, 3072), (3072, 768))
_CALLS = 20  # timed together


def measure(inputs: int, outputs: int, *, tokens: int, rounds: int) -> PairedResult:
    """Time of a dense layer over that of the converted one, and both give the same outputs.

    Args:
        inputs: Width of a token before the layer.
        outputs: And after it.
        tokens: Rows of the batch.
        rounds: Pairs measured.

    Raises:
        UserError: There is no such GPU, see `to_semi_structured`.
        AssertionError: The outputs differ by more than float16 explains.
    """
    import torch
    from torch import nn

    from ws_learner.deploy import to_semi_structured
    from ws_learner.pruning import NM

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    linear = nn.Linear(inputs, outputs, device=device)
    with torch.no_grad():
        linear.weight.mul_(NM(2, 4).whole_mask(linear.weight.abs()))
    layer = nn.Sequential(linear)
    sparse, dense = copy.deepcopy(layer), layer.half()
    to_semi_structured(sparse)
    x = torch.randn(tokens, inputs, device=device, dtype=torch.float16)
    with torch.inference_mode():
        torch.testing.assert_close(sparse(x), dense(x), rtol=1e-2, atol=1e-2)
        return paired(
            _repeated(dense, x), _repeated(sparse, x), rounds=rounds, synchronize=_synchronize
        )


def _repeated(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    def work() -> None:
        for _ in range(_CALLS):
            layer(x)

    return work


def _synchronize() -> None:
    import torch

    torch.cuda.synchronize()


def main(arguments: list[str] | None = None) -> int:
    """Measure both layers and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=32, help="of 197 tokens each (default 32)")
    parser.add_argument("--rounds", type=int, default=20, help="pairs measured (default 20)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    options = parser.parse_args(arguments)
    rows = []
    print("| layer | tokens | dense / 2:4 | quartiles |\n|---|---:|---:|---:|")
    for inputs, outputs in _LAYERS:
        tokens = options.images * _TOKENS
        found = measure(inputs, outputs, tokens=tokens, rounds=options.rounds)
        print(
            f"| {inputs} to {outputs} | {tokens} | {found.median:.2f} | "
            f"{found.low:.2f} to {found.high:.2f} |"
        )
        rows.append({"inputs": inputs, "outputs": outputs, "tokens": tokens, "ratio": found.median})
    if options.out:
        from ws_learner.core import write_json

        write_json(options.out, rows)
    return 0


if __name__ == "__main__":
    from experiments.cli.exit_codes import run_with_exit_code

    raise SystemExit(run_with_exit_code(main))
