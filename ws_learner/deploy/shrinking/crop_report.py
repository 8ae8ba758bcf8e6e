"""Crop report: removed heads and neurons of each layer, and the speed gained."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ws_learner.core import Inputs, device_of, map_tensors, rows_of, run_model, say, write_text
from ws_learner.deploy.shrinking.crop import Cropped, crop
from ws_learner.deploy.shrinking.cropped_file import save_cropped
from ws_learner.pruning import UnitGroup

__all__ = ["COLUMNS", "crop_run", "latencies", "structured_table"]

COLUMNS = (
    *("group_id", "type", "torch_module", "weight_shape", "pruned_weight_shape", "bias_shape"),
    *("pruned_bias_shape", "head_or_channel_id_to_keep", "module_node_name"),
)
"""Columns of `structured_sparsity.csv`, in order; they are NNCF's."""
_MOST_LISTED = 20
_BATCHES = (1, 32)
_ROUNDS = 15


def structured_table(model: nn.Module, cropped: Cropped) -> pd.DataFrame:
    """One row per layer with shared heads or neurons.

    Args:
        model: As it was before.
        cropped: What became of it.
    """
    rows = []
    for number, kept in enumerate(cropped.kept):
        for member in kept.group.members:
            name = member.weight.rpartition(".")[0]
            before, after = model.get_submodule(name), cropped.model.get_submodule(name)
            shapes = (_shapes(before), _shapes(after))
            rows.append(
                {
                    "group_id": number,
                    "type": kept.group.kind,
                    "torch_module": name,
                    "weight_shape": shapes[0][0],
                    "pruned_weight_shape": shapes[1][0],
                    "bias_shape": shapes[0][1],
                    "pruned_bias_shape": shapes[1][1],
                    "head_or_channel_id_to_keep": _listed(kept.units),
                    "module_node_name": f"{type(model).__name__}/{name.replace('.', '/')}",
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _shapes(layer: nn.Module) -> tuple[str, str]:
    weight, bias = layer.get_parameter("weight"), layer._parameters.get("bias")
    return str(tuple(weight.shape)), str((0,) if bias is None else tuple(bias.shape))


def _listed(units: Sequence[int]) -> str:
    return str(list(units)) if len(units) <= _MOST_LISTED else f"[{len(units)} items]"


def latencies(
    models: Mapping[str, nn.Module], inputs: Inputs, *, rounds: int = _ROUNDS
) -> dict[str, float]:
    """Median seconds of a forward pass of each model, taken in turns so that drift cancels."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        for number in range(rounds + 2):
            for name, model in models.items():
                begun = time.perf_counter()
                run_model(model, inputs)
                if device_of(inputs).type == "cuda":
                    torch.cuda.synchronize()
                if number >= 2:
                    seconds[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in seconds.items()}


def crop_run(
    model: nn.Module,
    inputs: Inputs,
    folder: Path,
    *,
    groups: Sequence[UnitGroup] | None = None,
) -> dict[str, Any]:
    """Crop a finished network, save it in `folder`/cropped, write the table, measure the speed.

    Args:
        model: Masked, on the CPU or not.
        inputs: (B, ...) a batch of the test data, several tensors in a tuple, or keywords in a
            dict; its size is what is timed, and one row of it.
        folder: The run's directory.
        groups: By default those that are found.

    Returns:
        Entries for the summary: parameters and median milliseconds, before and after.
    """
    device = next(model.parameters()).device
    model, inputs = model.eval(), map_tensors(inputs, lambda x: x.to(device))
    two = rows_of(inputs, slice(2))
    cropped = crop(model, (two,) if isinstance(two, Tensor) else two, groups=groups)
    write_text(
        folder / "structured_sparsity.csv", structured_table(model, cropped).to_csv(index=False)
    )
    save_cropped(cropped, folder / "cropped")
    counts = [sum(p.numel() for p in net.parameters()) for net in (model, cropped.model)]
    facts: dict[str, Any] = {
        "units": sum(kept.group.units for kept in cropped.kept),
        "units_removed": cropped.removed,
        "parameters": counts[0],
        "cropped_parameters": counts[1],
        "latency_threads": torch.get_num_threads(),
    }
    for size in _BATCHES:
        found = latencies(
            {"dense": model, "cropped": cropped.model.eval()}, rows_of(inputs, slice(size))
        )
        for name, seconds in found.items():
            facts[f"{name}_ms_batch_{size}"] = round(1000 * seconds, 3)
    say(
        f"cropped: {cropped.removed} heads and neurons of {facts['units']} are gone, "
        f"{counts[0]:,} -> {counts[1]:,} parameters"
    )
    return facts
