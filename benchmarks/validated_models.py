"""Exact block sparsity of every config of the table of validated models, on random weights.

`python -m benchmarks.validated_models [NAME ...]`: the networks are built without
memory, each tensor a config names is drawn, pruned to the config's target and counted, one at a
time. No data are needed; it does not measure accuracy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.core import UserError, say, suggest, track

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

__all__ = ["CONFIGS", "block_sparsity", "main", "network_of"]

CONFIGS = Path(__file__).parents[1] / "experiments" / "configs"


def network_of(name: str) -> nn.Module:
    """The network a config is for, with shapes but no values."""
    import torch

    from experiments.models.bert import bert
    from experiments.models.dlrm import dlrm
    from experiments.models.resnet import resnet
    from experiments.models.resnext import resnext101
    from experiments.models.ssd_resnet34 import ssd_resnet34

    spans = name.endswith("squad")
    builders: dict[str, Callable[[], nn.Module]] = {
        "bert_mini": lambda: bert("mini", spans=spans),
        "bert_large": lambda: bert("large", spans=spans),
        "bert_one": lambda: bert("base", spans=True),
        "dlrm": dlrm,
        "resnet50": lambda: resnet(50),
        "ssd_resnet34": ssd_resnet34,
        "resnext101": resnext101,
    }
    with torch.device("meta"):
        return next(build for key, build in builders.items() if name.startswith(key))()


def block_sparsity(name: str, *, seed: int = 0) -> pd.DataFrame:
    """Prune every tensor that the config `name` names; see `report.tensors.tensor_table`.

    A column `wanted` is added: the zeros that are nearest to the target and whole units.

    Raises:
        UserError: There is no such config.
    """
    import pandas as pd
    import torch

    from ws_learner.compat import build_plans, read_lpot
    from ws_learner.pruning import magnitude, tensor_table

    names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    if name not in names:
        raise UserError(f"config {name}: not found; {suggest(name, names)}")
    model = network_of(name)
    (plan,) = build_plans(read_lpot(CONFIGS / f"{name}.yaml"), model)
    generator, frames = torch.Generator().manual_seed(seed), []
    with track(name, total=len(plan.names)) as progress:
        for tensor in plan.names:
            weight = torch.randn(model.get_parameter(tensor).shape, generator=generator)
            weight.masked_fill_(weight == 0, 1.0)  # one in some hundred million is drawn as 0
            zeros = round(plan.target * weight.numel())
            zeros = plan.pattern.feasible(tuple(weight.shape), zeros)
            weight *= plan.pattern.mask(magnitude(weight), zeros)
            frame = tensor_table({tensor: weight}, pattern=plan.pattern)
            frames.append(frame.assign(wanted=zeros, target=plan.target, pattern=str(plan.pattern)))
            progress.advance()
    return pd.concat(frames, ignore_index=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row per config; return the exit code: 0, or 2 after bad input."""
    from tabulate import tabulate

    chosen = list(sys.argv[1:] if argv is None else argv)
    rows = []
    try:
        for name in chosen or sorted(path.stem for path in CONFIGS.glob("*.yaml")):
            frame = block_sparsity(name)
            weights, zeros = int(frame["weights"].sum()), int(frame["zeros"].sum())
            blocks = (frame["block_sparsity"] * frame["weights"]).sum() / weights
            first = frame.iloc[0]
            numbers = (f"{zeros:,}", f"{zeros / weights:.4%}", f"{blocks:.4%}")
            what = (first["pattern"], f"{first['target']:.2%}", len(frame), f"{weights:,}")
            rows.append((name, *what, *numbers))
    except UserError as error:
        say(f"error: {error}")
        return 2
    heads = [
        "config",
        "pattern",
        "target",
        "tensors",
        "weights",
        "zeros",
        "sparsity",
        "units pruned",
    ]
    sys.stdout.write(tabulate(rows, headers=heads, tablefmt="github", disable_numparse=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
