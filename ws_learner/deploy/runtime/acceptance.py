"""Acceptance test of a compiled network: same outputs as the dense one, and faster."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ws_learner.core import UserError, say
from ws_learner.deploy.other_inputs import first_difference, other_inputs
from ws_learner.deploy.runtime.autotune import fastest
from ws_learner.deploy.runtime.compiled import CompiledModel
from ws_learner.deploy.runtime.fused_layer import FusedLayer, fused_layers
from ws_learner.deploy.runtime.graph import Inputs, arguments, call, copied
from ws_learner.deploy.runtime.modules import Replaced
from ws_learner.deploy.runtime.selection import DENSE

__all__ = ["accept_or_reject", "in_row_order", "without_nesting"]

_MOST_ERROR = 1e-3  # of floats, relative; sums in another order differ by 1e-6


def accept_or_reject(
    result: CompiledModel, dense: nn.Module, inputs: Inputs, batches: Sequence[Inputs]
) -> None:
    """Compare outputs and times; go back to the dense network where it is better.

    What runs here are copies: running a network may change its buffers, and more.

    Args:
        result: Compiled, and never run.
        dense: The original in evaluation mode, never run; `result` may keep it.
        inputs: The example.
        batches: Calibration data; none where only floats were allowed.
    """
    twin, original = result.twin(), copied(dense, share=True)
    try:
        with _exactly(twin):
            error = twin.compare_outputs(original, [inputs])["relative_error"]
        if error > _MOST_ERROR:
            say(
                f"compiled: outputs differ by {error:.1g} even with dense layers, so the model's "
                "forward is not determined by its layers; keeping the dense model"
            )
            result.stay_dense(dense, wrong=True)
            return
        found = _second_look(twin, original, inputs, bytes_=bool(batches))
        if found:
            say(f"compiled: {found}; keeping the dense model")
            result.stay_dense(dense, wrong=True)
            return
        result.agreement = twin.compare_outputs(original, batches or [inputs])
    except UserError:
        say("compiled: the outputs hold no tensor to compare with the dense model's")
    if batches:
        say(f"compiled: outputs differ from FP32 by {result.agreement}")
    if not _is_faster(result, twin, original, inputs):
        result.stay_dense(dense)
        result.agreement = {}
        return
    for own, tried in zip(_replaced(result), _replaced(twin), strict=True):
        own.take_kernel(tried)


def _second_look(
    twin: CompiledModel, original: nn.Module, inputs: Inputs, *, bytes_: bool
) -> str | None:
    """Compare on inputs of other values and batch sizes, without rounding to bytes."""

    def compiled(given: Inputs) -> object:
        return call(twin, given)

    def dense(given: Inputs) -> object:
        return call(original, given)

    with _exactly(twin):  # the example itself was compared before
        found = first_difference(dense, compiled, inputs, inputs_of=_but_the_example)
    return found if found or bytes_ else first_difference(dense, compiled, inputs)


def _but_the_example(example: Inputs) -> Iterator[tuple[str, Inputs]]:
    return itertools.islice(other_inputs(example), 1, None)


def _replaced(compiled: CompiledModel) -> list[Replaced]:
    parts = [m for m in compiled.model.modules() if isinstance(m, Replaced)]
    for module in compiled.model.modules():
        steps = module.__dict__.get("fused_steps", ())
        parts += [step for step in steps if isinstance(step, Replaced)]
    return parts


@contextmanager
def _exactly(compiled: CompiledModel) -> Iterator[None]:
    """Let every replaced layer be computed by PyTorch's dense one: nothing is rounded."""
    parts: list[Replaced | FusedLayer] = [*_replaced(compiled), *fused_layers(compiled.model)]
    for part in parts:
        part.exact = True
    try:
        yield
    finally:
        for part in parts:
            part.exact = False


def _is_faster(
    result: CompiledModel, twin: CompiledModel, original: nn.Module, inputs: Inputs
) -> bool:
    places, words = arguments(inputs)
    runs: dict[str, Callable[[], object]] = {
        DENSE: lambda: call(original, inputs),
        "compiled": lambda: twin(*places, **words),
    }
    trial = fastest(runs, DENSE, threads=result.threads)
    result.speedup = trial.seconds[DENSE] / trial.seconds["compiled"]
    if trial.seconds["compiled"] <= trial.seconds[DENSE]:
        return True
    say(f"compiled: {result.speedup:.2f} times as fast as dense: the model stays dense")
    return False


def without_nesting(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode, with PyTorch's encoders handing on plain tensors."""
    model = copied(model).eval()
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    return model


def in_row_order(model: nn.Module) -> nn.Module:
    """The model with its weights in row-major memory, in place.

    Networks that were trained in `channels_last` lie otherwise. Their remaining PyTorch layers
    would then answer in that order, and each of our kernels would copy its input.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if nn.parameter.is_lazy(tensor):
            continue
        if not tensor.is_contiguous() and tensor.layout == torch.strided:
            tensor.data = tensor.data.contiguous()
    return model
