"""The layer table: every prunable tensor of a network, in the order of a real forward pass."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from envs.problem import LayerRow
from ws_learner.errors import UserError
from ws_learner.progress import say
from ws_learner.roles import weight_roles

__all__ = ["layer_table", "modules_by_weight", "parameter_of"]

_KINDS: dict[type[nn.Module], str] = {
    nn.Conv1d: "conv1d",
    nn.Conv2d: "conv2d",
    nn.Linear: "linear",
}
_MOST_NAMES = 20


@dataclass(kw_only=True, eq=False)
class _Found:
    """A prunable tensor, the names of all modules that hold it, and its cost per example."""

    parameter: nn.Parameter
    kind: str
    modules: list[str]
    role: str
    macs: int = 0

    @property
    def name(self) -> str:
        return _weight_name(self.modules[0])

    @property
    def names(self) -> list[str]:
        return [name for module in self.modules for name in (_weight_name(module), module)]

    def matches(self, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for name in self.names for pattern in patterns)


def layer_table(
    model: nn.Module,
    inputs: Tensor,
    *,
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
    exempt: Sequence[str] = (),
) -> tuple[LayerRow, ...]:
    """List the weights of all Conv1d, Conv2d and Linear modules, subclasses too.

    One forward pass in eval mode gives order and cost; the model is left as it was. A weight that
    several modules share has one row, at its first use, with the cost of all. A weight that the
    pass does not use comes last, with 0 MACs, and is reported. The head is the Linear called last,
    if no convolution follows it, and every Linear that takes one vector for a whole sentence, the
    earlier ones having taken a vector for each word (BERT's pooler).

    Args:
        model: The network.
        inputs: (B, ...) example inputs on the model's device; only their shape matters.
        include: Which rows to list: shell patterns (`*`, `?`, `[ab]`; `*` crosses dots) for the
            name of the parameter (`layer1.0.conv1.weight`) or of its module (`layer1.0.conv1`).
        exclude: Which of these not to list; such weights are neither pruned nor counted.
        exempt: Which rows to mark as exempt: they stay dense, and are counted.

    Raises:
        UserError: If a pattern matches nothing, or if no row is left.
    """
    found = _find(model)
    _check(model, found, include=include, exclude=exclude, exempt=exempt)
    rows = [
        entry
        for entry in _in_forward_order(model, inputs, found)
        if entry.matches(include) and not entry.matches(exclude)
    ]
    unused = [entry.name for entry in rows if not entry.macs]
    if unused:
        say(f"layer table: the forward pass does not use {_some(unused)}: listed last, 0 MACs")
    return tuple(_row(entry, exempt=entry.matches(exempt)) for entry in rows)


def parameter_of(model: nn.Module, name: str) -> nn.Parameter:
    """Return the parameter that a row of the layer table names.

    Raises:
        UserError: If the model has no such parameter.
    """
    try:
        return model.get_parameter(name)
    except AttributeError:
        names = [known for known, _ in model.named_parameters()]
        raise UserError(f"layer {name!r}: no such parameter{_nearest(name, names)}") from None


def modules_by_weight(model: nn.Module, layers: Sequence[LayerRow]) -> dict[str, nn.Module]:
    """Map the name of each row to the module that holds this weight, in the order of the rows.

    Raises:
        UserError: If the model lacks one of these parameters.
    """
    modules = {}
    for row in layers:
        parameter_of(model, row.name)
        modules[row.name] = model.get_submodule(row.name.rpartition(".")[0])
    return modules


def _find(model: nn.Module) -> list[_Found]:
    """List the prunable tensors in the order of definition."""
    found: dict[int, _Found] = {}
    roles = weight_roles(model)
    # With duplicates: a module or a weight that has two names answers to both.
    for name, module in model.named_modules(remove_duplicate=False):
        kind = next((kind for cls, kind in _KINDS.items() if isinstance(module, cls)), None)
        if kind is None:
            continue
        weight = module._parameters.get("weight")
        if weight is None:
            say(f"layer table: {name} is left out: its weight is computed from other parameters")
        elif isinstance(weight, nn.UninitializedParameter):
            raise UserError(f"layer {name!r}: it is lazy; call the model once before pruning it")
        else:
            role = "".join(roles.get(_weight_name(name), ("ff",)))
            new = _Found(parameter=weight, kind=kind, modules=[], role=role)
            found.setdefault(id(weight), new).modules.append(name)
    return list(found.values())


def _in_forward_order(
    model: nn.Module, inputs: Tensor, found: Sequence[_Found]
) -> Iterable[_Found]:
    """Run the model once, set `macs` and the head's role, and sort by first use."""
    calls: list[_Found] = []
    by_word = False  # whether some Linear has taken a vector for each word

    def counter(entry: _Found) -> Callable[[nn.Module, object, Tensor], None]:
        def count(module: nn.Module, args: object, output: Tensor) -> None:
            # Each output value is one dot product with one output's slice of the weight.
            nonlocal by_word
            entry.macs += output.numel() * entry.parameter[0].numel()
            calls.append(entry)
            if entry.kind == "linear" and by_word and output.dim() == 2:
                entry.role = "head"
            by_word |= entry.kind == "linear" and output.dim() == 3

        return count

    functional = _FunctionalCalls(found, calls)
    with _left_as_it_was(model, inputs), ExitStack() as hooks, torch.no_grad():
        for module, entry in _holders(model, found).items():
            hooks.callback(module.register_forward_hook(counter(entry)).remove)
        model.eval()
        with functional:
            model(inputs)
    for entry, macs in functional.macs.items():  # Swin v2 reads `qkv.weight` without a call
        if not entry.macs:
            entry.macs = macs
    for entry in found:
        entry.macs = round(entry.macs / len(inputs))
    if calls and calls[-1].kind == "linear":
        calls[-1].role = "head"
    return dict.fromkeys([*calls, *found])


class _FunctionalCalls(TorchFunctionMode):
    """Notes uses of weights, and what linear functions of them cost, whoever calls them."""

    def __init__(self, found: Sequence[_Found], calls: list[_Found]) -> None:
        super().__init__()
        self._entries, self._calls = {id(entry.parameter): entry for entry in found}, calls
        self.macs: dict[_Found, int] = {}

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        weight = kwargs.get("weight", args[1] if len(args) > 1 else None)
        entry = self._entries.get(id(weight))
        if entry is not None and func is torch.nn.functional.linear and isinstance(output, Tensor):
            self._calls.append(entry)
            self.macs[entry] = self.macs.get(entry, 0) + output.numel() * entry.parameter.shape[1]
        return output


def _holders(model: nn.Module, found: Sequence[_Found]) -> dict[nn.Module, _Found]:
    """Map each prunable module, once, to its tensor."""
    return {model.get_submodule(name): entry for entry in found for name in entry.modules}


@contextmanager
def _left_as_it_was(model: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Restore train/eval flags, buffers and the random state of PyTorch on leaving."""
    flags = [(module, module.training) for module in model.modules()]
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    try:
        with torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []):
            yield
    finally:
        for module, training in flags:
            module.training = training
        with torch.no_grad():
            for module, name, buffer, values in buffers:
                module._buffers[name] = buffer
                if buffer is not None and values is not None:
                    buffer.copy_(values)


def _row(entry: _Found, *, exempt: bool) -> LayerRow:
    return LayerRow(
        name=entry.name,
        kind=entry.kind,
        role=entry.role,
        shape=tuple(entry.parameter.shape),
        weights=entry.parameter.numel(),
        macs=entry.macs,
        exempt=exempt,
    )


def _check(
    model: nn.Module,
    found: Sequence[_Found],
    *,
    include: Sequence[str],
    exclude: Sequence[str],
    exempt: Sequence[str],
) -> None:
    """Refuse a pattern that matches nothing, and patterns that leave nothing."""
    names = [name for entry in found for name in entry.names]
    for option, patterns in (("include", include), ("exclude", exclude), ("exempt", exempt)):
        for pattern in patterns if found else ():
            if not any(entry.matches([pattern]) for entry in found):
                raise UserError(
                    f"--ws_{option} {pattern!r}: matches no layer{_nearest(pattern, names)}"
                )
    if not any(entry.matches(include) and not entry.matches(exclude) for entry in found):
        looked_at = [
            f"{name or 'the model itself'} ({type(module).__name__})"
            for name, module in model.named_modules()
            if module._parameters
        ]
        wanted = "/".join(cls.__name__ for cls in _KINDS)
        raise UserError(
            f"layer table: nothing to prune. Looked for {wanted} in {_some(looked_at)}; "
            f"--ws_include: {_some(include)}; --ws_exclude: {_some(exclude)}"
        )


def _weight_name(module: str) -> str:
    return f"{module}.weight" if module else "weight"


def _nearest(pattern: str, names: Sequence[str]) -> str:
    """Name the most similar layer or group of layers, to follow a complaint."""
    parts = [name.split(".") for name in names]
    groups = {".".join(part[:end]) + ".*" for part in parts for end in range(1, len(part) - 1)}
    near = difflib.get_close_matches(pattern, [*names, *sorted(groups)], n=1, cutoff=0.0)
    return f"; the nearest is {near[0]!r}" if near else ""


def _some(names: Sequence[str]) -> str:
    """Join the first few names and say how many more there are."""
    more = len(names) - _MOST_NAMES
    text = ", ".join(names[:_MOST_NAMES]) or "nothing"
    return f"{text} and {more} more" if more > 0 else text
