"""Trials of one layer with our kernels, random zeros in it.

Every trial times PyTorch's dense layer in turn with the kernels, and only the ratio is kept: what
slows the machine down for a second slows down both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ws_learner.core import NumberFormat
from ws_learner.deploy.costs.cold_calls import ColdCall, least_times
from ws_learner.deploy.costs.random_zeros import random_weight
from ws_learner.deploy.costs.specimens import Specimen
from ws_learner.deploy.runtime.candidates import candidates
from ws_learner.deploy.runtime.codegen.cpu import usable_isas
from ws_learner.deploy.runtime.direct_candidates import with_direct
from ws_learner.deploy.runtime.graph import Site, layer_data
from ws_learner.deploy.runtime.modules import LayerData, Replaced
from ws_learner.deploy.runtime.quantisation import RangeObserver
from ws_learner.deploy.runtime.selection import DENSE, label
from ws_learner.pruning import Pattern, Unstructured

__all__ = ["KernelTrials"]

Run = Callable[[], object]
_NEAR, _MOST = 1.1, 2  # of the quickest at first sight, which are timed well
_GLANCE_SECONDS = 2.5e-4
_FLOAT = 4  # bytes


class KernelTrials:
    """Times a specimen in parts of PyTorch's dense layer, activation included.

    Kernels are looked at warm, as `compile_sparse` chooses among them, and timed cold.
    """

    def __init__(self, specimen: Specimen, *, threads: int, int8: bool) -> None:
        """Prepare.

        Args:
            specimen: A layer that our kernels may replace.
            threads: That they use.
            int8: Whether kernels of bytes are tried, too.
        """
        assert specimen.site is not None
        self._site: Site = specimen.site
        self._weight = specimen.weight
        self._sample, self._threads, self._int8 = specimen.sample, threads, int8
        ranges = RangeObserver()
        ranges.see(specimen.sample)
        self._data = layer_data(specimen.site, ranges)
        self._clock = time.thread_time if threads == 1 else time.perf_counter
        self._network_weights = specimen.network_weights

    @torch.no_grad()
    def dense(self) -> dict[NumberFormat, float]:
        """Time of the fastest layer without zeros, by format."""
        shape = tuple(self._weight.shape)
        data = self._with(random_weight(shape, Unstructured(), 0))
        runs = self._kernels(data) | self._rivals(data)
        return {kind: min(own, 1.0) for kind, own in self._best(runs, live=1.0).items()}

    @torch.no_grad()
    def sparse(self, pattern: Pattern, zeros: int) -> dict[NumberFormat, float]:
        """Time of what `compile_sparse` would choose, by format: not always a sparse kernel."""
        shape = tuple(self._weight.shape)
        data = self._with(random_weight(shape, pattern, zeros))
        runs = self._kernels(data) | self._rivals(data)
        if not usable_isas() and data.geometry is None and (csr := data.rival("torch csr")):
            module = Replaced(data, lambda: csr, threads=self._threads)
            runs["torch csr"] = lambda: module(self._sample)
        live = 1 - zeros / self._weight.numel()
        return self._best(runs, live=live)

    def _dense(self) -> Tensor:
        return self._site.dense(self._sample)

    def _with(self, weight: Tensor) -> LayerData:
        if weight.dim() == 4:
            weight = weight.permute(0, 2, 3, 1)
        matrix = np.ascontiguousarray(weight.reshape(len(weight), -1).numpy())
        return replace(self._data, weight=matrix, bytes_=None)

    def _kernels(self, data: LayerData) -> dict[str, Run]:
        channels, x = data.geometry is not None, self._sample
        tokens = int(np.prod(self._outputs() if channels else x.shape[:-1]))
        # Each format's own: beside bytes some kernels of floats are left out.
        found = candidates(data.live, tokens=tokens, channels=channels)
        if self._int8:
            found += candidates(data.live, tokens=tokens, channels=channels, int8=True)
        if data.geometry is not None:
            found = with_direct(found, data.geometry, channels=x.shape[-3])
        runs: dict[str, Run] = {}
        for spec in dict.fromkeys(found):
            kernel = data.bound(replace(spec, activation=data.activation))
            module = Replaced(data, lambda kernel=kernel: kernel, threads=self._threads)  # type: ignore[misc]
            runs[label(spec)] = lambda module=module: module(x)  # type: ignore[misc]
        return runs

    def _outputs(self) -> tuple[int, ...]:
        return tuple(self._sample.shape[2:])  # as compile_sparse counts positions

    def _rivals(self, data: LayerData) -> dict[str, Run]:
        names = ["dense onednn", *["dense int8"] * self._int8]
        names += ["dense channels_last"] * (data.geometry is not None)
        runs: dict[str, Run] = {}
        for name in names:
            if (run := data.rival(name)) is not None:
                module = Replaced(data, lambda run=run: run, threads=self._threads)  # type: ignore[misc]
                runs[name] = lambda module=module: module(self._sample)  # type: ignore[misc]
        return runs

    def _best(self, runs: Mapping[str, Run], *, live: float) -> dict[NumberFormat, float]:
        kinds: dict[NumberFormat, list[str]] = {"fp32": [n for n in runs if "int8" not in n]}
        if self._int8:
            kinds["int8"] = list(runs)
        quick = self._glance(runs)
        kept: dict[str, Run] = {}
        for names in kinds.values():
            near = sorted(names, key=quick.__getitem__)[:_MOST]
            kept |= {n: runs[n] for n in near if quick[n] <= _NEAR * quick[near[0]]}
        times = self._times(kept, live=live)
        base = times.pop(DENSE)
        return {
            kind: min(times[n] for n in names if n in times) / base
            for kind, names in kinds.items()
            if any(n in times for n in names)
        }

    def _glance(self, runs: Mapping[str, Run]) -> dict[str, float]:
        """The lesser of two short looks, after a first call that touches new memory."""
        found, clock = {}, self._clock
        for name, run in runs.items():
            run()
            looks = []
            for _ in range(2):
                begun, calls = clock(), 0
                while (taken := clock() - begun) < _GLANCE_SECONDS or not calls:
                    run()
                    calls += 1
                looks.append(taken / max(calls, 1))
            found[name] = min(looks)
        return found

    def _times(self, runs: Mapping[str, Run], *, live: float) -> dict[str, float]:
        """Milliseconds, also of PyTorch's layer; `live` weights of the network are read between."""
        dense = self._network_weights * _FLOAT
        calls = {DENSE: ColdCall(run=self._dense, bytes_before=dense)}
        for name, run in runs.items():
            size = 1 if "int8" in name else _FLOAT
            share = 1.0 if name.startswith("dense") else live
            calls[name] = ColdCall(run=run, bytes_before=int(share * size * self._network_weights))
        return least_times(calls, self._sample, threads=self._threads)
