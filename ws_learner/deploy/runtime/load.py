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

from ws_learner.core import AnyPath, UserError, as_path, load_tensors, say
from ws_learner.deploy.runtime.acceptance import without_nesting
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
from ws_learner.deploy.runtime.graph import check_weights, find_sites, layer_data, with_holder
from ws_learner.deploy.runtime.modules import LayerData
from ws_learner.deploy.runtime.norm_folding import attach_norms
from ws_learner.deploy.runtime.number_formats import stored_dtype
from ws_learner.deploy.runtime.quantisation import InputScale
from ws_learner.deploy.runtime.save import SCALES
from ws_learner.deploy.runtime.selection import KernelChoice
from ws_learner.deploy.runtime.wsr_file import read_wsr

__all__ = ["load_sparse"]

_FACTS = (
    *("architecture", "cpu", "dtype", "dense", "wrong", "wrapped", "bytes", "speedup"),
    *("choices", "sources"),
)


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
    choices, fused = _choices(path, facts), _fused(path, facts)
    wrapped = bool(facts["wrapped"])
    with _of_floats():
        work = _network(path, facts, model)
    _fill(path, work, tensors)
    sites = find_sites(work)
    check_weights(sites)
    norms = _norms(path, facts)
    attach_norms(work, sites, norms)
    datas = _datas(path, sites, tensors, facts)
    same = facts["cpu"] == cpu_key()
    if not same:
        say(f"{path}: was saved on another processor; choosing kernels again")
        samples = {n: torch.randn(c.shape, dtype=torch.float32) for n, c in choices.items()}
        allowed = facts["bytes"]
        with torch_threads(threads), torch.no_grad():
            choices = hold_trials(sites, datas, samples, allowed=allowed, threads=threads)
    result = CompiledModel(
        work, choices=choices, datas=datas, threads=threads, dtype=facts["dtype"], wrapped=wrapped
    )
    result.bytes_allowed, result.norms = dict(facts["bytes"]), norms
    if facts["wrong"] or (facts["dense"] and same):
        result.stay_dense(copy.deepcopy(work), wrong=bool(facts["wrong"]))
    else:
        result.speedup = facts["speedup"] if same else math.nan
        assemble(sites, datas, choices, threads=threads)
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


def _choices(path: Path, facts: dict[str, Any]) -> dict[str, KernelChoice]:
    """The kernels that a file names, after a look at whether all of its facts are there."""
    if missing := [name for name in _FACTS if name not in facts]:
        raise UserError(f"{path}: does not say {', '.join(missing)}; save the compiled model again")
    try:
        choices = {name: KernelChoice.read(plain) for name, plain in facts["choices"].items()}
        scales = [source for source in facts["sources"].values() if source is not None]
        whole = all(float(scale) > 0 and 0 <= int(zero) <= 255 for scale, zero in scales)
        float(facts["speedup"])
        if not whole or choices.keys() - facts["sources"].keys():
            raise ValueError("layers and their scales do not agree")
        stored_dtype(facts["dtype"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: names no kernel of ours ({error}); save the compiled model again"
        ) from error
    return choices


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


def _network(path: Path, facts: dict[str, Any], model: nn.Module | None) -> nn.Module:
    if model is not None:
        work = without_nesting(model)
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
        return rebuild(facts["architecture"]).eval()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: describes a network that cannot be built ({error})") from error


def _fill(path: Path, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    state = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALES):
            continue
        scales = tensors.get(name + SCALES)
        if scales is not None:
            tensor = tensor.float() * scales.reshape(-1, *[1] * (tensor.dim() - 1))
        state[name] = tensor
    load_tensors(model, state, path)


def _datas(
    path: Path, sites: list[Any], tensors: dict[str, Tensor], facts: dict[str, Any]
) -> dict[str, LayerData]:
    found = {}
    for site in sites:
        if site.name not in facts["sources"]:
            continue
        data, source = layer_data(site, None), facts["sources"][site.name]
        if source is not None:
            data.source = InputScale(scale=source[0], zero=source[1])
        scales = tensors.get(f"{site.name}.weight{SCALES}")
        if scales is not None:
            stored = tensors[f"{site.name}.weight"]
            matrix = stored.permute(0, 2, 3, 1) if stored.dim() == 4 else stored
            whole = np.ascontiguousarray(matrix.reshape(len(stored), -1).numpy())
            data.bytes_ = (whole, scales.numpy())
        found[site.name] = data
    if missing := sorted(facts["sources"].keys() - found.keys()):
        raise UserError(f"{path}: belongs to another network: it has no layer {missing[0]}")
    return found
