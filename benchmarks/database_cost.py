"""Memory and time of a layer database for ResNet-50, measured in parts.

    python -m benchmarks.database_cost [--resnet_size 50]

Bytes follow from the shapes. Seconds are measured in parts on one thread and scaled up: Gram
matrices are collected on a few random images, every distinct layer shape is solved for a few
output rows at all levels of the error curves.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pandas as pd

if TYPE_CHECKING:
    from envs import LayerRow

__all__ = ["Options", "gram_bytes", "main"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Memory and time of the layer database of a large network.

    Attributes:
        resnet_size: Number of layers of the ResNet for 224 x 224 images.
        images: Images used to measure the collection of Gram matrices.
        rows: Output rows solved per layer shape to measure the time.
        nb_smpls_rg: Images that a real search uses.
    """

    resnet_size: Literal[18, 34, 50] = 50
    images: int = 8
    rows: int = 4
    nb_smpls_rg: int = 512


def gram_bytes(row: LayerRow) -> int:
    """Bytes of a layer's float32 Gram matrices: one of (D, D) for each group."""
    width = row.weights // row.shape[0]
    depthwise = len(row.shape) > 2 and row.shape[1] == 1
    return 4 * (row.shape[0] if depthwise else 1) * width**2


def main(options: Options) -> None:
    """Measure and print."""
    import torch

    from experiments.models.resnet import resnet
    from ws_learner.pruning import layer_table
    from ws_learner.search import collect_grams

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = resnet(options.resnet_size).eval()
    images = torch.randn(options.images, 3, 224, 224)
    layers = layer_table(model, images[:2])
    total = sum(map(gram_bytes, layers))
    print(f"Gram matrices of {len(layers)} layers: {total / 2**20:.0f} MiB")
    begun = time.perf_counter()
    collect_grams(model, [images], layers=layers, seed=0)
    seconds = (time.perf_counter() - begun) * options.nb_smpls_rg / options.images
    print(f"collecting them on {options.nb_smpls_rg} images: about {seconds:.0f} s")
    table = _solving(layers, rows=options.rows)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.1f}"))
    print(f"solving all layers at all levels: about {table['seconds'].sum():.0f} s")


def _solving(layers: tuple[LayerRow, ...], *, rows: int) -> pd.DataFrame:
    """Seconds for the error curves of every distinct shape, all its layers together."""
    import torch

    from ws_learner.config import LEVELS
    from ws_learner.pruning import keep_largest
    from ws_learner.search import LayerRegression

    shapes = Counter((row.shape[0], row.weights // row.shape[0]) for row in layers)
    table = []
    for (outputs, width), count in shapes.items():
        inputs = torch.randn(width + 64, width)
        weight = torch.randn(min(rows, outputs), width)
        solver = LayerRegression(weight, (inputs.T @ inputs)[None])
        solver.solve(keep_largest(weight.abs(), weight.numel() // 4))  # inverts the matrix
        begun = time.perf_counter()
        for level in LEVELS:
            solver.solve(keep_largest(weight.abs(), round(level * weight.numel())))
        once = (time.perf_counter() - begun) * outputs / len(weight)
        table.append(
            {"outputs": outputs, "inputs": width, "layers": count, "seconds": once * count}
        )
    return pd.DataFrame(table).sort_values("seconds", ascending=False)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options, description=__doc__))
