"""One case of `benchmarks.scale`, in a process of its own: prints its measurements as JSON.

Imports nothing but the packages that are measured, so that it can measure another checkout, too.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["main"]

_EXAMPLES, _BATCH = 512, 128


def main(network: str, operation: str) -> None:
    """Measure an operation on a network of random weights."""
    import torch

    from ws_learner.pruning import layer_table
    from ws_learner.search import CLOSED_FORM  # noqa: F401  (loads what allocations need)

    torch.manual_seed(0)
    began = _resident("VmRSS")
    model, draw = _NETWORKS[network]()
    size = sum(p.numel() for p in model.parameters())
    memory = sum(p.nbytes for p in model.parameters())
    _reset_peak()
    layers = layer_table(model, draw(1))
    table = _resident("VmHWM")
    loaded = _resident("VmRSS")
    facts: dict[str, Any] = {"weights": size, "model": memory, "table": table - began}
    if operation == "database":
        batches = [draw(_BATCH) for _ in range(_EXAMPLES // _BATCH)]
        run: Callable[[], object] = lambda: _database(model, layers, batches)  # noqa: E731
    elif operation in ("prune", "gradual"):
        run = _masks(model, layers, gradual=operation == "gradual")
    else:
        run = lambda: _allocate(model, layers, operation)  # noqa: E731
    facts["before"] = _resident("VmRSS") - began
    facts["state"] = _resident("VmRSS") - loaded
    _reset_peak()
    wall, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    facts["answer"] = run()
    after = resource.getrusage(resource.RUSAGE_SELF)
    facts["seconds"] = time.perf_counter() - wall
    facts["processor"] = after.ru_utime - used.ru_utime + after.ru_stime - used.ru_stime
    facts["peak"], facts["whole"] = _resident("VmHWM") - began, _resident("VmHWM")
    print(json.dumps(facts))


def _database(model: nn.Module, layers: Any, batches: list[Tensor]) -> str:
    import hashlib

    from ws_learner.config import LEVELS
    from ws_learner.core import one_thread

    # Not on the package's face, in this checkout or an older one.
    module = importlib.import_module("ws_learner.search.rollout.layer_database")
    with tempfile.TemporaryDirectory() as folder, one_thread():
        database = module.LayerDatabase.open(
            model,
            lambda: batches,
            layers=layers,
            levels=LEVELS,
            seed=0,
            facts={},
            cache_dir=Path(folder),
        )
        errors: bytes = database.curves()[1].tobytes()
        return hashlib.sha256(errors).hexdigest()[:16]


def _allocate(model: nn.Module, layers: Any, protocol: str) -> str:
    import hashlib

    from ws_learner.config import WeightSparseConfig
    from ws_learner.search import CLOSED_FORM, allocation_context

    config = WeightSparseConfig(ws_prune_ratio=0.9, ws_prune_ratio_prtl=protocol)
    context = allocation_context(model, layers, config, curves=_none)
    return hashlib.sha256(CLOSED_FORM[protocol](context).tobytes()).hexdigest()[:16]


def _masks(model: nn.Module, layers: Any, *, gradual: bool) -> Callable[[], str]:
    import torch

    from ws_learner.pruning import GradualConfig, prune_weights_with_magnitude

    weights = [model.get_parameter(row.name) for row in layers]
    if not gradual:

        def run() -> str:
            prune_weights_with_magnitude(weights, ratio=0.9, pattern="unstructured")
            return str(sum(w.numel() - int(torch.count_nonzero(w)) for w in weights))

        return run
    config = GradualConfig(iter_ratio_beg=0.0, iter_ratio_end=0.5, mask_update_step=5)
    zeros = {row.name: round(0.9 * row.weights) for row in layers}
    method = config.build(model, zeros=zeros, total_steps=40)
    optimizer = torch.optim.SGD(weights, lr=0.1)
    method.attach(optimizer, 0)

    def update() -> str:
        for step in (5, 20):
            method.after_step(optimizer, step)
        return str(sum(w.numel() - int(torch.count_nonzero(w)) for w in weights))

    return update


def _none() -> Any:
    raise RuntimeError("not measured")


def _resnet50() -> tuple[nn.Module, Callable[[int], Tensor]]:
    import torch

    from experiments.models.resnet import resnet

    return resnet(50).eval(), lambda count: torch.randn(count, 3, 224, 224)


def _bert(depth: int = 12) -> tuple[nn.Module, Callable[[int], Tensor]]:
    import torch
    from torch import nn

    from experiments.models.bert import bert

    model = bert("base").eval()
    encoder = model.get_submodule("bert.encoder")
    encoder.layer = nn.ModuleList(list(encoder.get_submodule("layer").children())[:depth])
    return model, lambda count: torch.randint(1000, 30000, (count, 128))


def _billion(depth: int = 60) -> tuple[nn.Module, Callable[[int], Tensor]]:
    import torch
    from torch import nn

    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(depth)))
    model = model.to(torch.bfloat16).to_empty(device="cpu").requires_grad_(True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    return model.eval(), lambda count: torch.randn(count, 4096, dtype=torch.bfloat16)


_NETWORKS: dict[str, Callable[[], tuple[nn.Module, Callable[[int], Tensor]]]] = {
    "resnet50": _resnet50,
    "bert": _bert,
    "bert2": lambda: _bert(2),
    "billion": _billion,
    "half": lambda: _billion(34),  # enough for what is done to more than 1 GiB of weights
}


def _resident(entry: str) -> int:
    """Bytes in memory now (`VmRSS`) or at most since `_reset_peak` (`VmHWM`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"no {entry}: this needs Linux")


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main(*sys.argv[1:3])
