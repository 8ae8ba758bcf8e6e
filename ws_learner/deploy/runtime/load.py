"""Load a compiled network from a file."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.core import AnyPath, UserError, as_path, load_tensors, say, shown
from ws_learner.deploy.runtime.acceptance import in_row_order, without_nesting
from ws_learner.deploy.runtime.architecture import rebuild
from ws_learner.deploy.runtime.codegen.cpu import cpu_key
from ws_learner.deploy.runtime.compile import (
    assemble,
    check_threads,
    hold_trials,
    say_limits,
    torch_threads,
)
from ws_learner.deploy.runtime.compiled import CompiledModel
from ws_learner.deploy.runtime.fused_encoder import expect_layers
from ws_learner.deploy.runtime.graph import (
    Site,
    check_weights,
    find_sites,
    layer_data,
    with_holder,
)
from ws_learner.deploy.runtime.modules import LayerData
from ws_learner.deploy.runtime.norm_folding import attach_norms
from ws_learner.deploy.runtime.save import SCALES
from ws_learner.deploy.runtime.stored_facts import (
    check_layers,
    input_scale,
    read_choices,
    runs_here,
)
from ws_learner.deploy.runtime.wsr_file import read_wsr

__all__ = ["load_sparse"]

_UNBUILT = (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError)


def load_sparse(
    path: AnyPath, model: nn.Module | None = None, *, threads: int = 1
) -> CompiledModel:
    """Open a file that a compiled network was saved to.

    The choice of kernels comes from the file. On another kind of processor it is repeated, on
    random inputs of the recorded shapes.

    Args:
        path: Of the `.wsr` file.
        model: A network of the same structure, with any weights; not changed. Needed unless the
            network is an `nn.Sequential` of PyTorch's own layers.
        threads: That kernels use.

    Raises:
        UserError: The file is damaged, foreign or incomplete, or does not fit `model`.
    """
    path = as_path(path)
    check_threads(threads)
    say_limits(threads)
    tensors, facts = read_wsr(path)
    if facts.get("kind") != "compiled":
        raise UserError(f"{path}: holds only weights; load them and call compile_sparse")
    choices, fused = read_choices(path, facts), _fused(path, facts)
    with _of_floats():
        work = _network(path, facts, model, tensors)
    _fill(path, work, tensors)
    sites = find_sites(work)
    check_weights(sites)
    norms = _norms(path, facts)
    attach_norms(work, sites, norms)
    check_layers(path, sites, choices, facts=facts, tensors=tensors)
    datas = _datas(sites, tensors, facts)
    same = facts["cpu"] == cpu_key() and runs_here(choices)
    if not same:
        say(f"{path}: was saved on another processor; choosing kernels again")
        samples = {n: torch.randn(c.shape, dtype=torch.float32) for n, c in choices.items()}
        allowed = facts["bytes"]
        with torch_threads(threads), torch.no_grad():
            choices = hold_trials(sites, datas, samples, allowed=allowed, threads=threads)
    result = CompiledModel(
        work,
        choices=choices,
        datas=datas,
        threads=threads,
        dtype=facts["dtype"],
        wrapped=facts["wrapped"],
    )
    result.bytes_allowed, result.norms = dict(facts["bytes"]), norms
    if facts["wrong"] or (facts["dense"] and same):
        result.stay_dense(copy.deepcopy(work), wrong=facts["wrong"])
    else:
        result.speedup = facts["speedup"] if same else math.nan
        assemble(work, sites, datas, choices, threads=threads)
        result.fused = fused
        expect_layers(work, fused, datas, choices, threads=threads)
    return result


@contextmanager
def _of_floats() -> Iterator[None]:
    """Networks are built in float32, whatever PyTorch's default is now."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _norms(path: Path, facts: dict[str, Any]) -> dict[str, str]:
    """Batch norms that were folded; files of earlier versions have none."""
    found = facts.get("norms", {})
    whole = isinstance(found, dict) and all(isinstance(norm, str) for norm in found.values())
    if not whole or found.keys() - facts["choices"].keys():
        raise UserError(f"{path}: folds batch norms into no layer; save the compiled model again")
    return dict(found)


def _fused(path: Path, facts: dict[str, Any]) -> list[str]:
    """Names of encoder layers; files of earlier versions name none."""
    names = facts.get("fused", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: names no encoder layers ({names}); save the compiled model again")
    return names


def _network(
    path: Path, facts: dict[str, Any], model: nn.Module | None, tensors: dict[str, Tensor]
) -> nn.Module:
    if model is not None:
        work = in_row_order(without_nesting(model))
        for module in work.modules():
            for name, value in module._buffers.items():
                if value is not None and 0 in value.stride():
                    module._buffers[name] = value.clone()  # expanded: cannot be written to
        return with_holder(work)
    if facts["architecture"] is None:
        raise UserError(
            f"{path}: the network has a forward of its own, which a file cannot hold; "
            "build it and call load_sparse(path, model)"
        )
    try:
        with torch.device("meta"):  # its tensors are allocated once it is known to be of the file
            work = rebuild(facts["architecture"]).eval()
    except _UNBUILT as error:
        reason = shown(str(error), most=200)
        raise UserError(f"{path}: describes a network that cannot be built ({reason})") from error
    shapes = {name: tuple(value.shape) for name, value in work.state_dict().items()}
    wrong = [name for name, shape in shapes.items() if not _is_of(tensors.get(name), shape)]
    if wrong:
        raise UserError(
            f"{path}: describes another network than its tensors are of: {shown(wrong[0])} is "
            "missing or has another shape"
        )
    return work.to_empty(device="cpu")


def _is_of(tensor: Tensor | None, shape: tuple[int, ...]) -> bool:
    return tensor is not None and tuple(tensor.shape) == shape


def _fill(path: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    state = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALES):
            continue
        scales = tensors.get(name + SCALES)
        if scales is not None:
            if not tensor.dim() or scales.shape != tensor.shape[:1]:
                raise UserError(f"{path}: the scales of {shown(name)} are of another layer")
            tensor = tensor.float() * scales.reshape(-1, *[1] * (tensor.dim() - 1))
        state[name] = tensor
    load_tensors(model, state, path)


def _datas(
    sites: list[Site], tensors: dict[str, Tensor], facts: dict[str, Any]
) -> dict[str, LayerData]:
    found = {}
    for site in sites:
        if site.name not in facts["choices"]:
            continue
        data, source = layer_data(site, None), facts["sources"][site.name]
        if source is not None:
            data.source = input_scale(source)
        scales = tensors.get(f"{site.name}.weight{SCALES}")
        if scales is not None:
            stored = tensors[f"{site.name}.weight"]
            matrix = stored.permute(0, 2, 3, 1) if stored.dim() == 4 else stored
            whole = np.ascontiguousarray(matrix.reshape(len(stored), -1).numpy())
            data.bytes_ = (whole, scales.numpy())
        found[site.name] = data
    return found
