"""Observe every use of a network's weights in a forward pass, whatever module it is in.

A module that is called is known by its hook. All other uses are seen as the products and
convolutions that PyTorch computes: `functional.linear` with another module's weight, the parts of
an attention, `x @ weight`, experts in `torch.bmm` or `einsum`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ws_learner.pruning.layers.convolution_windows import Convolution
from ws_learner.pruning.layers.matrix_use import Rows, rows_of
from ws_learner.pruning.layers.module_uses import Call, Use, has_own_forward
from ws_learner.pruning.layers.tracked_weights import Operand, TrackedWeights
from ws_learner.pruning.layers.watched import Watched
from ws_learner.pruning.patterns.layout import Layout

__all__ = ["WeightUses"]

_aten = torch.ops.aten
_PRODUCTS = {  # positions of the two factors
    _aten.mm.default: (0, 1),
    _aten.bmm.default: (0, 1),
    _aten.addmm.default: (1, 2),
    _aten._addmm_activation.default: (1, 2),
    _aten.baddbmm.default: (1, 2),
    _aten.mv.default: (0, 1),
    _aten.addmv.default: (1, 2),
}
_CONVOLUTIONS = (_aten.convolution.default, _aten._convolution.default)
_LOOK_UPS = (_aten.embedding.default, _aten._embedding_bag.default)
_COPIES = (
    _aten.clone.default,
    _aten._to_copy.default,
    _aten.index.Tensor,
    _aten.index_select.default,
)


class WeightUses(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Calls `report` at every use, in their order; `with` starts and ends it.

    Attributes:
        changed: Names of weights that a module changes before it uses them.
        touched: Names of weights that any operation reads, whether it can be followed or not.
    """

    def __init__(
        self, model: nn.Module, weights: Sequence[Watched], report: Callable[[Use], None]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model, self._report = model, report
        self._watched = {weight.name: weight for weight in weights}
        self._tracked = TrackedWeights({w.name: w.parameter for w in weights})
        self._inside: dict[str, list[Call]] = {}  # calls of modules under way
        self._attending = 0
        self._busy = False
        self.changed: set[str] = set()
        self.touched: set[str] = set()

    @contextmanager
    def observing(self) -> Iterator[None]:
        """Observe forward passes; PyTorch's fused attention, which hides uses, is off."""
        fused = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with ExitStack() as hooks, self:
                for module, weights in self._called().items():
                    first = module.register_forward_pre_hook(self._enter(weights))
                    last = module.register_forward_hook(
                        self._leave(weights), with_kwargs=True, prepend=True
                    )  # before hooks that change the output
                    hooks.callback(first.remove)
                    hooks.callback(last.remove)
                for module in self._model.modules():
                    if isinstance(module, nn.MultiheadAttention):
                        hooks.callback(module.register_forward_pre_hook(self._attend).remove)
                        hooks.callback(module.register_forward_hook(self._attended).remove)
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)

    def forget(self) -> None:
        """Between two forward passes: release copies of weights."""
        self._tracked.clear()

    def _called(self) -> dict[nn.Module, list[Watched]]:
        found: dict[nn.Module, list[Watched]] = {}
        for weight in self._watched.values():
            for module in weight.modules:
                found.setdefault(module, []).append(weight)
        return found

    def _attend(self, *_: Any) -> None:
        self._attending += 1

    def _attended(self, *_: Any) -> None:
        self._attending -= 1

    def _enter(self, weights: Sequence[Watched]) -> Callable[..., None]:
        def enter(module: nn.Module, *_: Any) -> None:
            for weight in weights:
                call = Call(own_forward=has_own_forward(module))
                self._inside.setdefault(weight.name, []).append(call)

        return enter

    def _leave(self, weights: Sequence[Watched]) -> Callable[..., None]:
        def leave(module: nn.Module, args: tuple[Any, ...], named: Any, output: Any) -> None:
            calls = [self._inside[weight.name].pop() for weight in weights]
            for weight, call in zip(weights, calls, strict=True):
                if not call.used and weight.kind != "recurrent":
                    self.changed.add(weight.name)
            self._busy = True
            try:
                for use in calls[0].uses(module, weights, [*args, *named.values()], output):
                    self._report(use)
            finally:
                self._busy = False

        return leave

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        if not self._busy:
            self._busy = True
            try:
                self._look(func, args, kwargs or {}, output)
            finally:
                self._busy = False
        return output

    def _look(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        every = [*args, *kwargs.values()]
        shown = [(at, found) for at, x in enumerate(every) if (found := self._tracked.find(x))]
        for part in every:  # such as weights that are joined
            for one in part if isinstance(part, list | tuple) else ():
                if found := self._tracked.find(one):
                    self._mark(found)
        if not func.is_view:
            for at, operand in shown:
                self._seen(func, args, output, operand=operand, at=at)

    def _seen(
        self, func: Any, args: Sequence[Any], output: Any, *, operand: Operand, at: int
    ) -> None:
        """An operation whose argument number `at` shows a weight."""
        if at in _PRODUCTS.get(func, ()):
            left, right = (args[place] for place in _PRODUCTS[func])
            weight = self._watched[operand.name]
            rows = rows_of(weight, operand, left, right, first=at == _PRODUCTS[func][0])
            rows = rows and replace(rows, time_first=bool(self._attending))
            macs = left.numel() * (right.shape[-1] if right.dim() > 1 else 1)
            self._used(operand, macs, rows.inputs if rows else None, rows)
        elif "grouped_mm" in str(func) and at == 1:
            self._grouped(operand, args[0], args[2] if len(args) > 2 else None)
        elif func in _LOOK_UPS and at == 0:
            self._used(operand, 0, None, None)
        elif func in _CONVOLUTIONS and at == 1:
            self._convolved(operand, args, output)
        elif func in _COPIES and at == 0 and isinstance(output, Tensor):
            self._tracked.copied(operand, output, _picking(func, args[1:]))
        else:
            self._other(operand, output)

    def _grouped(self, operand: Operand, inputs: Tensor, ends: object) -> None:
        """A product of a stack, whose matrices read consecutive rows up to their `ends`."""
        if not isinstance(ends, Tensor) or inputs.dim() != 2 or operand.tensor.dim() != 3:
            self._mark(operand)
            return
        start = 0
        for matrix, end in zip(operand.tensor, ends.tolist(), strict=True):
            own = inputs[start:end]
            if len(own):
                rows = rows_of(
                    self._watched[operand.name], operand.of(matrix), own, matrix, first=False
                )
                self._used(operand, own.numel() * matrix.shape[-1], own, rows)
            start = end

    def _other(self, operand: Operand, output: Any) -> None:
        """An operation that is no product: it changes the weight, or computes with it."""
        results = output if isinstance(output, tuple | list) else [output]
        tensors = [x for x in results if isinstance(x, Tensor) and x.is_floating_point()]
        same = [x for x in tensors if x.shape == operand.tensor.shape]
        self.touched.add(operand.name)
        if same:
            self._tracked.made(operand, same[0])
        elif tensors:
            self._mark(operand)

    def _mark(self, operand: Operand) -> Call | None:
        """Note a use; returns the call that it is within, which reports it."""
        calls = self._inside.get(operand.name)
        self.touched.add(operand.name)
        if operand.changed:
            self.changed.add(operand.name)
        if not calls:
            return None
        calls[-1].used = True
        return calls[-1]

    def _used(
        self, operand: Operand, macs: int, inputs: Tensor | None, reads: Convolution | Rows | None
    ) -> None:
        call, weight = self._mark(operand), self._watched[operand.name]
        use = Use(weight=weight, macs=macs, inputs=inputs, reads=reads)
        if call is None:
            self._report(use)
        elif call.own_forward:
            call.products.append(use)

    def _convolved(self, operand: Operand, args: Sequence[Any], output: Tensor) -> None:
        inputs, kernel, weight = args[0], operand.tensor, self._watched[operand.name]
        stride, padding, dilation, transposed, extra, groups = args[3:9]
        axes = "io" if transposed else "oi"
        if not weight.layout.known:
            weight.layout = Layout(axes, groups)
        whole = kernel.shape == weight.parameter.shape
        fits = whole and weight.layout == Layout(axes, groups)
        reads = Convolution.of_numbers(
            kernel.shape[2:],
            stride,
            padding,
            dilation,
            groups,
            transposed=extra if transposed else None,
        )
        macs = (inputs if transposed else output).numel() * kernel[0].numel()
        self._used(operand, macs, inputs if fits else None, reads if fits else None)


def _picking(func: Any, rest: Sequence[Any]) -> Callable[[Tensor], Tensor]:
    """What a copy takes: everything, or what its other arguments select."""
    if "index" not in str(func):
        return lambda positions: positions
    chosen = tree_map(lambda x: x.cpu() if isinstance(x, Tensor) else x, list(rest))
    return lambda positions: func(positions, *chosen)
