"""The trials that a cache of times lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ws_learner.core import NumberFormat, Progress, say, track
from ws_learner.deploy.costs.cache import TimesFile
from ws_learner.deploy.costs.engine_trials import empty_call_ms, engine_times
from ws_learner.deploy.costs.kernel_trials import KernelTrials
from ws_learner.deploy.costs.layer_times import LayerTimes
from ws_learner.deploy.costs.random_zeros import layer_pattern, zero_counts
from ws_learner.deploy.costs.specimens import Specimen

__all__ = ["Trials"]

_DENSE = "dense"
_EMPTY = "empty call"


class Trials:
    """Measures layers, and keeps each as soon as it is measured."""

    def __init__(
        self,
        file: TimesFile,
        *,
        engine: str,
        threads: int,
        int8: bool,
        densities: tuple[float, ...],
    ) -> None:
        """Prepare; see `measure_costs` for the arguments."""
        self._file, self._engine, self._threads = file, engine, threads
        self._densities = densities
        self._formats: list[NumberFormat] = ["fp32", "int8"] if int8 else ["fp32"]
        self._grid = " ".join(f"{density:g}" for density in densities)

    def hold(
        self, specimens: Mapping[str, Specimen], patterns: Mapping[str, Sequence[str]]
    ) -> dict[str, LayerTimes]:
        """Times by signature; those of kernels in parts of PyTorch's layer, see `KernelTrials`.

        Args:
            specimens: By signature.
            patterns: Of each signature.
        """
        todo = {name: self._lacking(own, patterns[name]) for name, own in specimens.items()}
        total = sum(self._count(parts) for parts in todo.values())
        if total:
            kinds = sum(bool(parts) for parts in todo.values())
            say(f"costs: {total} trials with {self._engine} on {kinds} kinds of layers")
            with track(f"timing {self._engine}", total=total) as progress:
                for name, parts in todo.items():
                    if parts:
                        self._file.keep(name, self._measured(specimens[name], parts, progress))
        return {name: self._read(own, patterns[name]) for name, own in specimens.items()}

    def floor(self) -> float:
        """Milliseconds of an empty call."""
        if _EMPTY not in self._file.entries:
            self._file.keep(_EMPTY, empty_call_ms(self._engine, threads=self._threads))
        return float(self._file.entries[_EMPTY])

    def _lacking(self, specimen: Specimen, patterns: Sequence[str]) -> list[str]:
        """`dense`, and patterns."""
        entry = self._file.entries.get(specimen.signature, {})
        known, sparse = entry.get("dense", {}), entry.get("sparse", {})
        parts = [] if all(kind in known for kind in self._formats) else [_DENSE]
        if not self._leaves_out_zeros(specimen):
            return parts
        keys = {pattern: [self._key(pattern, k) for k in self._formats] for pattern in patterns}
        return parts + [p for p, own in keys.items() if not all(key in sparse for key in own)]

    def _leaves_out_zeros(self, specimen: Specimen) -> bool:
        return self._engine == "wsr" and specimen.site is not None

    def _key(self, pattern: str, kind: str) -> str:
        """In the file: other densities are another measurement."""
        return f"{pattern} {kind} at {self._grid}"

    def _count(self, parts: Sequence[str]) -> int:
        return sum(1 if part == _DENSE else len(self._densities) for part in parts)

    def _measured(
        self, specimen: Specimen, parts: Sequence[str], progress: Progress
    ) -> dict[str, Any]:
        if not self._leaves_out_zeros(specimen):
            engine = "torch" if self._engine == "wsr" else self._engine
            int8 = "int8" in self._formats
            times = engine_times(specimen, engine=engine, int8=int8, threads=self._threads)
            progress.advance()
            dense = {kind: times.dense.get(kind, times.dense["fp32"]) for kind in self._formats}
            return {"base": None, "dense": dense, "sparse": {}}
        entry = dict(self._file.entries.get(specimen.signature) or {"sparse": {}})
        trials = KernelTrials(specimen, threads=self._threads, int8="int8" in self._formats)
        for part in parts:
            if part == _DENSE:
                entry["dense"] = dict(trials.dense())
                progress.advance()
            else:
                entry["sparse"] = entry["sparse"] | self._sparse(trials, specimen, part, progress)
        return entry

    def _sparse(
        self, trials: KernelTrials, specimen: Specimen, name: str, progress: Progress
    ) -> dict[str, list[list[float]]]:
        weight = specimen.weight
        pattern = layer_pattern(name)
        found: dict[str, list[list[float]]] = {self._key(name, kind): [] for kind in self._formats}
        counts = zero_counts(pattern, tuple(weight.shape), self._densities)
        for zeros in reversed(counts):
            for kind, part in trials.sparse(pattern, zeros).items():
                found[self._key(name, kind)].append([1 - zeros / weight.numel(), part])
            progress.advance(len(self._densities) / len(counts), note=specimen.signature)
        return found

    def _read(self, specimen: Specimen, patterns: Sequence[str]) -> LayerTimes:
        """Only what was asked for: the cache may hold more."""
        entry = self._file.entries[specimen.signature]
        dense: dict[str, float] = {kind: entry["dense"][kind] for kind in self._formats}
        if not self._leaves_out_zeros(specimen):
            return LayerTimes(base=None, dense=dense)
        sparse = {
            f"{pattern} {kind}": entry["sparse"][self._key(pattern, kind)]
            for pattern in patterns
            for kind in self._formats
        }
        return LayerTimes.read({"base": 1.0, "dense": dense, "sparse": sparse})
