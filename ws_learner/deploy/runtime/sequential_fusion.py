"""Fusion of consecutive layers in a Sequential."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

from torch import nn

from ws_learner.deploy.runtime.chain import Chain, passes
from ws_learner.deploy.runtime.dense_baselines import Runner
from ws_learner.deploy.runtime.fused_sequential import fuse, is_plain
from ws_learner.deploy.runtime.graph import Site
from ws_learner.deploy.runtime.modules import LayerData, Replaced
from ws_learner.deploy.runtime.selection import KernelChoice, build

__all__ = ["join"]

_Step = Callable[[Any], Any]


def join(
    sites: Sequence[Site],
    runs: Sequence[Sequence[Site]],
    datas: Mapping[str, LayerData],
    choices: Mapping[str, KernelChoice],
    made: Mapping[str, nn.Module],
    *,
    threads: int,
) -> None:
    """Fuse layers with their activations and with the layers after them.

    Args:
        sites: The layers.
        runs: Those that follow each other, see `sequences`.
        datas: Their numbers.
        choices: Their kernels.
        made: What stands in the place of those that were replaced.
        threads: That kernels use.
    """
    chains = {id(made[run[0].name]): run for run in runs}
    joined = {id(made[s.name]): [s] for s in sites if s.name in made and s.follower is not None}
    for parent in {id(p): p for s in sites for p, _ in s.holders if s.name in made}.values():
        if not is_plain(parent):
            continue
        steps: list[_Step] = []
        done: set[tuple[int, str]] = set()
        for attribute, child in parent._modules.items():
            if child is None or passes(child) or (id(parent), attribute) in done:
                continue
            run = chains.get(id(child)) or joined.get(id(child)) or []
            done |= {place for site in run for place in _places(site)}
            steps.append(_together(run, datas, choices, threads=threads) or child)
        if done:
            fuse(parent, steps)


def _places(site: Site) -> set[tuple[int, str]]:
    """Where the layer and its activation stand."""
    places = [*site.holders, *([site.follower] if site.follower else [])]
    return {(id(parent), attribute) for parent, attribute in places}


def _together(
    run: Sequence[Site],
    datas: Mapping[str, LayerData],
    choices: Mapping[str, KernelChoice],
    *,
    threads: int,
) -> nn.Module | None:
    if not run:
        return None
    own = [datas[site.name] for site in run]
    if len(run) == 1:
        return build(own[0], choices[run[0].name], threads=threads)
    specs = [spec for site in run if (spec := choices[site.name].spec) is not None]
    make = partial(Chain, own, specs)
    return Replaced(own[0], make, threads=threads, floats=partial(_one_by_one, own))


def _one_by_one(datas: Sequence[LayerData]) -> Runner:
    """The same by PyTorch's dense layers."""
    runs = [data.dense() for data in datas]
    return lambda x: reduce(lambda y, run: run(y), runs, x)
