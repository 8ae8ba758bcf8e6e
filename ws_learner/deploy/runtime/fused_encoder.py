"""Find the encoder layers of a network, and let each run as one native call where it is faster."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ws_learner.deploy.runtime.autotune import fastest
from ws_learner.deploy.runtime.chain import Chain
from ws_learner.deploy.runtime.codegen.encoder_program import EncoderProgram, Norm, vector_lanes
from ws_learner.deploy.runtime.codegen.sparse_kernel import SparseKernel
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.encoder_notes import Arguments
from ws_learner.deploy.runtime.encoder_structure import EncoderParts, candidates_of, recognise
from ws_learner.deploy.runtime.fused_layer import PLAIN, FusedLayer, put_layer
from ws_learner.deploy.runtime.fused_sequential import is_watched
from ws_learner.deploy.runtime.graph import Inputs, call
from ws_learner.deploy.runtime.modules import LayerData
from ws_learner.deploy.runtime.selection import KernelChoice

__all__ = ["expect_layers", "fuse_layers"]


def fuse_layers(
    model: nn.Module,
    inputs: Inputs,
    datas: Mapping[str, LayerData],
    choices: Mapping[str, KernelChoice],
    *,
    threads: int,
) -> list[str]:
    """Give encoder layers their native form where a trial shows that it is faster.

    Args:
        model: With its layers replaced.
        inputs: The example.
        datas: Numbers of the layers, by name.
        choices: Their kernels.
        threads: That kernels use.

    Returns:
        Names of the modules that run natively.
    """
    names = _names(model, choices)
    modules = candidates_of(model, names) if names else {}
    if not modules:
        return []
    given = _calls(model, modules, inputs)
    known: dict[tuple[Any, ...], bool] = {}
    fused = []
    for name, module in modules.items():
        layer = None
        if name in given and "forward" not in module.__dict__:
            layer = _made(module, names, given[name], datas, choices, threads=threads)
        if layer is None:
            continue
        places, words = given[name].places, given[name].words
        x, parts = dict(given[name].items())[layer.parts.hidden], layer.parts
        specs = tuple(choices[part].spec for part in parts.layers)
        like = (specs, parts.heads, parts.activation, parts.mask is None, tuple(x.shape))
        if like not in known:
            with torch.no_grad():
                trial = fastest(
                    {
                        "parts": lambda m=module, p=places, w=words: m(*p, **w),  # type: ignore[misc]
                        "fused": lambda f=layer, p=places, w=words: f(p, w),  # type: ignore[misc]
                    },
                    "parts",
                    threads=threads,
                )
            known[like] = trial.winner == "fused"
        if known[like]:
            put_layer(module, layer)
            fused.append(name)
    return fused


def expect_layers(
    model: nn.Module,
    fused: Sequence[str],
    datas: Mapping[str, LayerData],
    choices: Mapping[str, KernelChoice],
    *,
    threads: int,
) -> None:
    """Let the named modules get their native form at the first call, which shows its structure."""
    names = _names(model, choices)
    modules = candidates_of(model, names)
    for name in fused:
        if (module := modules.get(name)) is None:
            continue
        inside = {n: names[id(part)] for n, part in module.named_modules() if id(part) in names}

        def make(
            own: nn.Module, given: Arguments, inside: dict[str, str] = inside
        ) -> FusedLayer | None:
            own_names = {id(own.get_submodule(n)): layer for n, layer in inside.items()}
            return _made(own, own_names, given, datas, choices, threads=threads)

        put_layer(module, make)


def _names(model: nn.Module, choices: Mapping[str, KernelChoice]) -> dict[int, str]:
    """Linear layers with sparse kernels, by identity."""
    modules = dict(model.named_modules(remove_duplicate=False))
    return {
        id(modules[name]): name
        for name, choice in choices.items()
        if choice.spec is not None and choice.spec.layout != "channels" and name in modules
    }


def _calls(
    model: nn.Module, modules: Mapping[str, nn.Module], inputs: Inputs
) -> dict[str, Arguments]:
    """What each module is called with on the example; nothing of those called twice."""
    found: dict[str, Arguments] = {}
    again: set[str] = set()
    hooks = []
    for name, module in modules.items():

        def note(
            _: nn.Module, places: tuple[Any, ...], words: dict[str, Any], name: str = name
        ) -> None:
            again.update({name} & found.keys())
            found[name] = Arguments(places=places, words=dict(words))

        hooks.append(module.register_forward_pre_hook(note, with_kwargs=True))
    try:
        call(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: given for name, given in found.items() if name not in again}


def _made(
    module: nn.Module,
    names: Mapping[int, str],
    given: Arguments,
    datas: Mapping[str, LayerData],
    choices: Mapping[str, KernelChoice],
    *,
    threads: int,
) -> FusedLayer | None:
    """The native form of a module that is an encoder layer."""
    if is_watched(module) or any(not isinstance(v, (Tensor, *PLAIN)) for _, v in given.items()):
        return None
    parts = recognise(module, names, given)
    if parts is None or any(name not in datas for name in parts.layers):
        return None
    own = [replace(datas[name], activation="none") for name in parts.layers]
    own[4] = replace(own[4], activation=parts.activation)
    specs = [choices[name].spec for name in parts.layers]
    width, lanes = own[0].weight.shape[1], vector_lanes()
    fits = lanes and not width % lanes and not (width // parts.heads) % lanes
    if not fits or any(data.weight.shape != (width, width) for data in own[:4]):
        return None
    program = _program(parts, own, [spec for spec in specs if spec is not None])
    return FusedLayer(module, parts, given, program, own, threads=threads)


def _program(
    parts: EncoderParts, datas: Sequence[LayerData], specs: Sequence[Spec]
) -> EncoderProgram:
    return EncoderProgram(
        inward=_inward(datas[:3], specs[:3]),
        output=datas[3].kernel(specs[3]),
        inner=Chain(datas[4:], specs[4:]).kernels,
        norms=tuple(_norm(*norm) for norm in parts.norms),  # type: ignore[arg-type]
        heads=parts.heads,
        scale=parts.scale,
    )


def _norm(weight: Tensor, bias: Tensor, epsilon: float) -> Norm:
    arrays = [np.ascontiguousarray(t.detach().numpy(), np.float32) for t in (weight, bias)]
    return Norm(weight=arrays[0], bias=arrays[1], epsilon=epsilon)


def _inward(datas: Sequence[LayerData], specs: Sequence[Spec]) -> list[SparseKernel]:
    """Queries, keys and values: one kernel where they have the same blocks and inputs."""
    alike = all(
        (a.isa, a.dot, a.rows, a.inputs, x.source) == (b.isa, b.dot, b.rows, b.inputs, y.source)
        for (a, x), (b, y) in itertools.pairwise(zip(specs, datas, strict=True))
    )
    width = len(datas[0].weight)
    biased = all(data.bias is not None for data in datas)
    if not alike or not biased or width % specs[0].rows:
        return [data.kernel(spec) for data, spec in zip(datas, specs, strict=True)]
    whole = LayerData(
        weight=np.concatenate([data.weight for data in datas]),
        bias=np.concatenate([data.bias for data in datas if data.bias is not None]),
        source=datas[0].source,
    )
    if specs[0].int8:
        both = [data.quantised() for data in datas]
        whole.bytes_ = tuple(np.concatenate(parts) for parts in zip(*both, strict=True))  # type: ignore[assignment]
    return [whole.kernel(specs[0])]
