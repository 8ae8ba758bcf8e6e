"""`compile_sparse`: replace layers by sparse kernels where these are faster."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ws_learner.core import UserError, say, suggest
from ws_learner.deploy.runtime.acceptance import accept_or_reject, in_row_order, without_nesting
from ws_learner.deploy.runtime.candidates import largest_block
from ws_learner.deploy.runtime.chain import align, sequences
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.codegen.openmp import openmp
from ws_learner.deploy.runtime.compiled import CompiledModel
from ws_learner.deploy.runtime.fused_encoder import fuse_layers
from ws_learner.deploy.runtime.graph import (
    Inputs,
    Site,
    call,
    check_weights,
    checked,
    copied,
    find_sites,
    layer_data,
    own,
    watch,
    with_holder,
)
from ws_learner.deploy.runtime.modules import LayerData
from ws_learner.deploy.runtime.norm_folding import attach_norms, find_norms
from ws_learner.deploy.runtime.number_formats import (
    Dtype,
    LayerDtypes,
    check_dtype,
    formats_of,
)
from ws_learner.deploy.runtime.pooling import speed_up_pools
from ws_learner.deploy.runtime.quantisation import Calibration
from ws_learner.deploy.runtime.range_choice import chosen_ranges
from ws_learner.deploy.runtime.selection import (
    KernelChoice,
    build,
    may_be_bytes,
    select_kernel,
)
from ws_learner.deploy.runtime.sequential_fusion import join
from ws_learner.deploy.runtime.static_ranges import warn_of_static_ranges

__all__ = [
    "assemble",
    "check_threads",
    "compile_sparse",
    "hold_trials",
    "say_limits",
    "torch_threads",
]

_BATCHES = 32


def compile_sparse(
    model: nn.Module,
    example_inputs: Inputs,
    *,
    dtype: Dtype | LayerDtypes = "fp32",
    calibration: Iterable[Any] | None = None,
    calibration_method: Calibration = "auto",
    threads: int = 1,
) -> CompiledModel:
    """Replace linear layers and convolutions by the fastest kernel found for each.

    Every layer is timed on the inputs that `example_inputs` give it: sparse kernels of each block
    shape that its zeros allow, PyTorch's dense layer, and its dense INT8 layer. What is not at
    least 5 % faster than the dense layer stays dense; so does the whole model if it is not faster.

    Args:
        model: Not changed; run in evaluation mode, on the CPU.
        example_inputs: One tensor, several in a sequence, or keywords, of the batch size that
            matters. Other batch sizes work with the same kernels.
        dtype: `fp32`; `int8`, where bytes may be used wherever they are faster; or `auto`, where
            only if a layer's output moves by at most 2 %. Or names of layers (or of their weights)
            to `fp32` or `int8`, for each its own; a layer that is not named is `fp32`.
        calibration: Inputs like `example_inputs`, or (inputs, targets) pairs, at most 32 of which
            are read to find the range of activations; without it the example is all there is.
            Not read for `fp32`.
        calibration_method: `minmax`, `percentile` (99.99 % of a sample, both ends), or `auto`,
            whichever of them moves the network's outputs on the calibration inputs less.
        threads: That kernels use; PyTorch's own layers follow `torch.set_num_threads`.

    Raises:
        UserError: An option or a layer's name is not known, the model has no layer that could be
            replaced, or its weights are not float32 on the CPU.
    """
    check_dtype(dtype, model)
    if calibration_method not in (methods := get_args(Calibration)):
        near = suggest(calibration_method, methods)
        raise UserError(f"calibration_method {calibration_method}: {near}")
    check_threads(threads)
    say_limits(threads)
    example_inputs = checked(example_inputs, "example_inputs")
    dense = in_row_order(without_nesting(model))
    if any(map(nn.parameter.is_lazy, dense.parameters())):
        call(dense, own(example_inputs))  # gives lazy layers their tensors
    wrapped = not list(dense.children())
    named = copied(dense, share=True)  # trials run it
    work = with_holder(named)
    sites = find_sites(work)
    if not sites:
        raise UserError("compile_sparse: no nn.Linear or ungrouped nn.Conv2d in this model")
    check_weights(sites)
    norms = find_norms(work, sites, example_inputs)
    attach_norms(work, sites, norms)
    formats = formats_of(dtype, named, sites)
    bytes_ = [site for site in sites if formats[site.name] != "fp32"]
    batches = _batches(calibration, example_inputs) if bytes_ else []
    seen = chosen_ranges(work, bytes_, batches, calibration_method) if batches else {}
    samples = _samples(work, sites, example_inputs)
    if not samples:
        raise UserError("example_inputs: no layer is given anything by them; give a whole batch")
    datas = {s.name: layer_data(s, seen.get(s.name)) for s in sites if s.name in samples}
    with torch_threads(threads):
        allowed = {n: may_be_bytes(datas[n], samples[n], formats[n]) for n in datas}
        choices = hold_trials(sites, datas, samples, allowed=allowed, threads=threads)
        chosen = {n for n, choice in choices.items() if choice.in_bytes}
        scales = {n: scale for n in chosen if (scale := datas[n].source) is not None}
        warn_of_static_ranges(work, sites, scales, batches)
        root = with_holder(copied(dense, share=True))
        result = CompiledModel(
            root, choices=choices, datas=datas, threads=threads, dtype=dtype, wrapped=wrapped
        )
        result.bytes_allowed, result.norms = allowed, norms
        places = find_sites(root)
        attach_norms(root, places, norms)
        assemble(root, places, datas, choices, threads=threads)
        result.fused = fuse_layers(root, own(example_inputs), datas, choices, threads=threads)
        accept_or_reject(result, dense, example_inputs, batches)
    return result


def hold_trials(
    sites: Sequence[Site],
    datas: dict[str, LayerData],
    samples: dict[str, Tensor],
    *,
    allowed: Mapping[str, bool],
    threads: int,
) -> dict[str, KernelChoice]:
    """Choose for every layer; layers alike in shape, pattern and density share a trial.

    `allowed` says which may be multiplied in bytes, see `may_be_bytes`.
    """
    known: dict[tuple[Any, ...], KernelChoice] = {}
    choices = {}
    for site in sites:
        if site.name not in datas:
            continue
        data, sample = datas[site.name], samples[site.name]
        live = round(data.live.density, 2)
        int8 = allowed.get(site.name, False)
        after = data.factor is not None, data.activation
        like = (data.weight.shape, tuple(sample.shape), live, after, data.geometry, int8)
        choice = known.get(like)
        # A shared kernel must fit this layer's own zeros as well.
        if choice is None or choice.pattern != largest_block(data.live):
            choice = select_kernel(data, site.dense, sample, int8=int8, threads=threads)
            known[like] = choice
        choices[site.name] = choice
    align(sites, datas, choices, samples, threads=threads)
    return choices


def assemble(
    root: nn.Module,
    sites: Sequence[Site],
    datas: dict[str, LayerData],
    choices: dict[str, KernelChoice],
    *,
    threads: int,
) -> None:
    """Put the chosen modules in place; in a Sequential, what follows each other becomes one.

    Max pooling between them gets faster, too.
    """
    speed_up_pools(root)
    runs, made = list(sequences(sites, choices)), {}
    for site in sites:
        if site.name in choices:
            # What calls a layer of a Sequential by itself does not mean its activation.
            alone = replace(datas[site.name], activation="none")
            module = build(alone, choices[site.name], threads=threads)
            if module is not None:
                site.put(module)
                made[site.name] = module
    join(sites, runs, datas, choices, made, threads=threads)


def _samples(model: nn.Module, sites: Sequence[Site], inputs: Inputs) -> dict[str, Tensor]:
    """The first input of every layer that the model uses."""
    found: dict[str, Tensor] = {}

    def see(site: Site, x: Tensor) -> None:
        if x.numel() and x.dtype == torch.float32:  # others, as under autocast, stay dense
            found.setdefault(site.name, x.detach().clone())

    with watch(sites, see):
        call(model, inputs)
    return found


def _batches(calibration: Iterable[Any] | None, example: Inputs) -> list[Inputs]:
    if calibration is None:
        say("compile_sparse: no calibration data: ranges come from the example inputs only")
        return [example]
    if isinstance(calibration, Tensor | Mapping):
        calibration = [calibration]
    if not isinstance(calibration, Iterable):
        raise UserError(f"calibration {calibration}: give batches of inputs, a DataLoader say")
    taken = itertools.islice(calibration, _BATCHES)
    found = [checked(_inputs_of(item, example), "calibration") for item in taken]
    if not found:
        raise UserError("calibration: holds no batch; give inputs like the example's")
    return found


def _inputs_of(item: Any, example: Inputs) -> Inputs:
    """Drop the targets of an (inputs, targets) pair."""
    if isinstance(item, (list, tuple)):
        alike = isinstance(example, (list, tuple)) and len(item) == len(example)
        if len(item) and (not alike or not isinstance(item[0], Tensor)):
            first: Inputs = item[0]
            return first
    inputs: Inputs = item
    return inputs


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch use as many threads as the kernels, for a fair comparison."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_threads(threads: int) -> None:
    """Check the number of threads."""
    if not isinstance(threads, int) or threads < 1:
        raise UserError(f"threads {threads}: give a whole number, at least 1")
    if threads > (have := os.cpu_count() or threads):
        say(f"threads {threads}: this machine has {have} processors; more threads do not help")


def say_limits(threads: int) -> None:
    """Warn if this machine prevents kernels or slows them down."""
    if not usable_isas():
        say(
            "no generated kernels here (they need x86-64 with AVX2, not Windows, "
            "and pip install -e '.[cpu]'); PyTorch's own layers are used"
        )
    passive = os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"
    if threads > 1 and openmp() is None and not passive:
        say(
            "kernels run in their own threads here; PyTorch's idle ones spin and take cores "
            "from them, in the trials too; set OMP_WAIT_POLICY=PASSIVE before Python starts"
        )
