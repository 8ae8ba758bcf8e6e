r"""Pruned weights under every optimizer of three libraries: zero in training, after, and evaluated?

    python3 -m venv ~/optimizers
    ~/optimizers/bin/pip install -c constraints.txt -e . \
        pytorch-optimizer==4.1.0 schedulefree==1.4.1
    ~/optimizers/bin/python -m benchmarks.optimizers_and_masks --out FOLDER

Each optimizer trains 8 -> 8 -> 8 for twenty steps under each method, half of its weights pruned.
Writes `optimizers.csv`, a line for each pair, and `optimizers.md`, in which optimizers whose lines
are alike share a row. `--only` takes names; a library that is missing is left out. Two minutes.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from ws_learner.core import UserError
from ws_learner.pruning import (
    GradualConfig,
    GroupLassoConfig,
    MdgfConfig,
    MethodConfig,
    MovementConfig,
    PatternLockConfig,
    Sparsifier,
    SrSteConfig,
)

STEPS, LAYERS = 20, ("0.weight", "2.weight")
_RAMP: dict[str, Any] = {"iter_ratio_beg": 0.1, "iter_ratio_end": 0.6, "mask_update_step": 2}
METHODS: dict[str, MethodConfig] = {
    "gradual": GradualConfig(**_RAMP),
    "group_lasso": GroupLassoConfig(alpha=0.05, **_RAMP),
    "movement": MovementConfig(score_lr=0.01, **_RAMP),
    "movement, steps=weights": MovementConfig(steps="weights", **_RAMP),
    "pattern_lock": PatternLockConfig(),
    "srste": SrSteConfig(weight=0.05, dense=0.2),
    "mdgf": MdgfConfig(dense=0.2),
}
_OWN_GROUPS = {"AdaGO", "AdaMuon", "DistributedMuon", "Muon", "MuonClip", "NorMuon"}
_SECOND_ORDER = {"AdaHessian", "SophiaH"}
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "BSAM": {"num_data": 16},
    "Ranger21": {"num_iterations": STEPS},
    "LBFGS": {"lr": 0.1, "max_iter": 3},
}


@dataclass(frozen=True)
class Line:
    """What became of 64 pruned weights."""

    library: str
    optimizer: str
    method: str
    in_training: str
    after_finalize: str = ""
    after_eval: str = ""
    """After the optimizer's own `eval()`, called behind `finalize()`; empty if it has none."""
    mask_copy: str = ""
    """After `sparsifier.mask_copy(model)` behind that."""


def network(seed: int = 0) -> nn.Sequential:
    """8 -> 8 -> 8."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))


def kinds() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Library, name and class of every optimizer that is installed."""
    for name, kind in sorted(vars(torch.optim).items()):
        if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind is not Optimizer:
            yield "torch", name, kind
    for library in ("schedulefree", "pytorch_optimizer"):
        try:
            module = importlib.import_module(library)
        except ImportError:
            continue
        if library == "schedulefree":
            wanted = ["SGDScheduleFree", "AdamWScheduleFree", "RAdamScheduleFree"]
            found = [getattr(module, name) for name in wanted]
        else:
            found = [module.load_optimizer(name) for name in module.get_supported_optimizers()]
        for kind in sorted(found, key=lambda kind: str(kind.__name__)):
            yield library, kind.__name__, kind


def make(library: str, kind: Callable[..., Any], model: nn.Module) -> Any:
    """The optimizer with its defaults, and what it needs beside them."""
    name = kind.__name__
    weights = [model.get_parameter(layer) for layer in LAYERS]
    rest = [p for n, p in model.named_parameters() if n not in LAYERS]
    given: Any = [*weights, *rest]
    if (library == "torch" and name == "Muon") or name == "SpectralSphere":
        given = weights
    elif library != "torch" and name in _OWN_GROUPS:
        given = [{"params": weights, "use_muon": True}, {"params": rest, "use_muon": False}]
    arguments = dict(_ARGUMENTS.get(name, {}))
    takes_model = next(iter(inspect.signature(kind).parameters)) == "model"
    optimizer = kind(model if takes_model else given, **arguments)
    if callable(getattr(optimizer, "eval", None)):
        optimizer.train()
    return optimizer


def loss_of(model: nn.Module, step: int) -> Tensor:
    """Cross entropy of the batch of a step."""
    inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
    targets = (inputs @ torch.linspace(-1, 1, 64).reshape(8, 8).cos()).argmax(1)
    return functional.cross_entropy(model(inputs), targets)


def train_step(model: nn.Module, optimizer: Any, number: int, *, closure: bool) -> None:
    """A step of a plain loop, or with a closure where the optimizer asks for one."""
    graph = type(optimizer).__name__ in _SECOND_ORDER

    @torch.enable_grad()
    def evaluate() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, number)
        loss.backward(create_graph=graph)  # type: ignore[no-untyped-call]
        return loss

    if closure:
        optimizer.step(evaluate)
    else:
        evaluate()
        optimizer.step()


def needs_closure(library: str, kind: Callable[..., Any]) -> bool:
    """Whether `step()` without a closure is refused."""
    optimizer = make(library, kind, model := network())
    try:
        train_step(model, optimizer, 0, closure=False)
    except NotImplementedError:
        raise
    except Exception:
        return True
    return False


def share(model: nn.Module, masks: dict[str, Tensor]) -> str:
    """`exact`, or how many of the pruned weights are zero."""
    pruned = [model.get_parameter(name).detach()[~mask] for name, mask in masks.items()]
    total, zero = sum(p.numel() for p in pruned), sum(int((p == 0).sum()) for p in pruned)
    return "exact" if total == zero else f"{zero} of {total}"


def measure(library: str, kind: Callable[..., Any], method: str, *, closure: bool) -> Line:
    """Train one network under one optimizer and one method."""
    name, model, config = kind.__name__, network(), METHODS[method]
    zeros = dict.fromkeys(LAYERS, 32)
    if method == "pattern_lock":
        for layer in LAYERS:
            model.get_parameter(layer).data[:, ::2] = 0
    optimizer = make(library, kind, model)
    sparsifier = Sparsifier(model, config, zeros=zeros, total_steps=STEPS)
    seen = "exact"
    try:
        sparsifier.attach(optimizer)
        for number in range(STEPS):
            train_step(model, optimizer, number, closure=closure)
            if method != "mdgf" or sparsifier.planned_ratio():  # its masks fade in
                now = share(model, sparsifier.masks)
                seen = seen if now == "exact" else now
        sparsifier.finalize()
    except UserError as error:
        return Line(library, name, method, f"refused: {error}")
    except Exception as error:  # the optimizer's own
        return Line(library, name, method, f"{type(error).__name__}: {error}"[:100])
    masks = sparsifier.masks
    after = share(model, masks)
    if not callable(getattr(optimizer, "eval", None)):
        return Line(library, name, method, seen, after)
    try:
        optimizer.eval()
    except Exception as error:  # its own: SPlus looks for a state of every parameter
        return Line(library, name, method, seen, after, f"{type(error).__name__}: {error}"[:100])
    evaluated = share(model, masks)
    sparsifier.mask_copy(model)
    return Line(library, name, method, seen, after, evaluated, share(model, masks))


def lines_of(library: str, kind: Callable[..., Any]) -> list[Line]:
    """One line for each method, or one that says why there is none."""
    try:
        closure = needs_closure(library, kind)
        if closure:
            train_step(model := network(), make(library, kind, model), 0, closure=True)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        return [Line(library, kind.__name__, "", f"does not train alone: {why}")]
    return [measure(library, kind, method, closure=closure) for method in METHODS]


def table(lines: list[Line]) -> str:
    """Markdown; optimizers whose lines are alike share a row."""
    alike: dict[tuple[tuple[str, ...], ...], list[str]] = defaultdict(list)
    rows: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
    for line in lines:
        values = tuple(str(value) for value in list(asdict(line).values())[2:])
        rows[line.library, line.optimizer].append(values)
    for (library, name), results in rows.items():
        alike[tuple(results)].append(f"{name} ({library})")
    text = [
        "| optimizers | method | in training | finalize | eval() | mask_copy |",
        "|---" * 6 + "|",
    ]
    for found, names in sorted(alike.items(), key=lambda item: -len(item[1])):
        methods: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for value in found:
            methods[value[1:]].append(value[0])
        first = ", ".join(names)
        for result, which in methods.items():
            what = "all" if len(which) == len(METHODS) else ", ".join(which)
            text.append(f"| {first} | {what} | {' | '.join(result)} |")
            first = ""
    return "\n".join(text) + "\n"


def main() -> None:
    """Train every pair and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=())
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for library, name, kind in kinds():
        if not options.only or name in options.only:
            lines += lines_of(library, kind)
    with (options.out / "optimizers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(Line.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(asdict(line) for line in lines)
    (options.out / "optimizers.md").write_text(table(lines))


if __name__ == "__main__":
    main()
