"""Chains of consecutive linear layers as one program, without re-layout between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ws_learner.core import UserError
from ws_learner.deploy.runtime.autotune import fastest
from ws_learner.deploy.runtime.candidates import candidates
from ws_learner.deploy.runtime.codegen.buffers import readable
from ws_learner.deploy.runtime.codegen.cpu import ISAS
from ws_learner.deploy.runtime.codegen.native_program import Program
from ws_learner.deploy.runtime.codegen.sparse_kernel import NO_PICKLE, Tokens
from ws_learner.deploy.runtime.codegen.spec import Spec
from ws_learner.deploy.runtime.fused_sequential import is_plain, is_watched
from ws_learner.deploy.runtime.graph import Site
from ws_learner.deploy.runtime.modules import LayerData
from ws_learner.deploy.runtime.selection import KernelChoice, label

__all__ = ["Chain", "align", "passes", "sequences"]


class Chain(Tokens):
    """Sparse kernels one after the other. Calls are thread-safe."""

    def __init__(self, datas: Sequence[LayerData], specs: Sequence[Spec]) -> None:
        """Bind each layer to its kernel, which hands on what the next one reads.

        Args:
            datas: The layers; each has as many outputs as the next one inputs.
            specs: Their kernels.
        """
        ways = ["f32", *(_way(a, b) for a, b in itertools.pairwise(specs)), "f32"]
        scales = [*(data.source for data in datas[1:]), None]
        self.kernels = [
            data.kernel(replace(spec, source=before, result=after), target=scale)
            for data, spec, before, after, scale in zip(
                datas, specs, ways[:-1], ways[1:], scales, strict=True
            )
        ]
        self.inputs, self.outputs = self.kernels[0].inputs, self.kernels[-1].outputs
        self._program = Program([kernel.step() for kernel in self.kernels])

    def tokens(self, x: Tensor, *, threads: int = 1) -> Tensor:
        """Map contiguous (T, K) to (T, N).

        Raises:
            RuntimeError: The input is not as the first kernel reads it.
        """
        readable(x, what="sparse kernels", dtype=torch.float32, shape=(None, self.inputs))
        y = torch.empty(len(x), self.outputs, dtype=torch.float32, device="cpu")
        self._program.run(x.data_ptr(), y.data_ptr(), len(x), threads=threads)
        return y

    def __deepcopy__(self, memo: object) -> Chain:
        """As of a `SparseKernel`: copies share it."""
        return self

    def __reduce__(self) -> str:
        """See `SparseKernel`."""
        raise UserError(NO_PICKLE)


def _way(a: Spec, b: Spec) -> Literal["tile", "u8", "f32"]:
    """How values pass from one kernel to the next."""
    alike = (a.vectors, a.packed, ISAS[a.isa].lanes) == (b.vectors, b.packed, ISAS[b.isa].lanes)
    if alike and a.layout == b.layout == "tokens":
        return "tile"
    return "u8" if a.int8 and b.int8 else "f32"


def passes(module: nn.Module | None) -> bool:
    """Whether a part of a network does nothing in inference."""
    return type(module) in (nn.Identity, nn.Dropout) and not is_watched(module)  # type: ignore[arg-type]


def sequences(sites: Sequence[Site], choices: Mapping[str, KernelChoice]) -> Iterator[list[Site]]:
    """Linear layers with sparse kernels that only feed each other, in plain Sequentials."""
    alone = {
        id(site.module): site
        for site in sites
        if isinstance(site.module, nn.Linear) and len(site.holders) == 1
        if site.name in choices and choices[site.name].spec is not None
    }
    parents = {id(site.holders[0][0]): site.holders[0][0] for site in alone.values()}
    for parent in parents.values():
        if not is_plain(parent):
            continue
        run: list[Site] = []
        for attribute, child in [*parent._modules.items(), ("", None)]:
            if passes(child):
                continue
            if run and run[-1].follower == (parent, attribute):
                continue
            site = alone.get(id(child))
            if site is not None:
                run.append(site)
                continue
            if len(run) > 1:
                yield run
            run = []


def align(
    sites: Sequence[Site],
    datas: Mapping[str, LayerData],
    choices: dict[str, KernelChoice],
    samples: Mapping[str, Tensor],
    *,
    threads: int,
) -> None:
    """Give layers that follow each other tiles of one width, where that is faster.

    Kernels were chosen one by one, with floats in and out. Tiles of tokens of the same width can
    be handed on as they lie.
    """
    known: dict[tuple[Any, ...], list[Spec]] = {}
    for run in sequences(sites, choices):
        own, sample = [datas[site.name] for site in run], samples[run[0].name]
        chosen = [choices[site.name] for site in run]
        specs = [choice.spec for choice in chosen if choice.spec is not None]
        like = (tuple(sample.shape), *((c.shape, round(c.density, 2), c.spec) for c in chosen))
        if like not in known:
            known[like] = _best(own, specs, sample, threads=threads)
        for site, spec in zip(run, known[like], strict=True):
            choices[site.name] = replace(choices[site.name], spec=spec, kernel=label(spec))


def _best(
    datas: Sequence[LayerData], specs: Sequence[Spec], sample: Tensor, *, threads: int
) -> list[Spec]:
    options = {"chosen": list(specs)}
    for vectors in (1, 2, 4):
        found = [
            _variant(data, spec, sample, vectors) for data, spec in zip(datas, specs, strict=True)
        ]
        kept = [spec for spec in found if spec is not None]
        if len(kept) == len(specs) and kept != options["chosen"]:
            options[f"{vectors}"] = kept
    flat = sample.detach().reshape(-1, sample.shape[-1]).contiguous()
    # A timed run holds addresses of its chain's memory only.
    chains = {name: Chain(datas, option) for name, option in options.items()}
    runs: dict[str, Callable[[], object]] = {
        name: chain.timed(flat, threads=threads) for name, chain in chains.items()
    }
    return options[fastest(runs, "chosen", threads=threads).winner]


def _variant(data: LayerData, spec: Spec, sample: Tensor, vectors: int) -> Spec | None:
    """The same kernel with tiles of another width, if there is one."""
    tokens = sample.numel() // max(sample.shape[-1], 1)
    for other in candidates(data.live, tokens=tokens, fp32=not spec.int8, int8=spec.int8):
        kind = replace(other, vectors=spec.vectors, group=spec.group, activation=spec.activation)
        if kind == spec and other.vectors == vectors:
            return replace(other, activation=spec.activation)
    return None
