"""Former import paths: a moved module is also importable by its old name, as the same object."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import cast

__all__ = ["MOVED", "MovedModules", "install"]

MOVED: dict[str, str] = {
    "experiments.benchmarks": "benchmarks",
    "experiments.inspect": "experiments.inspect_model",
    "experiments.measures": "experiments.cli.task_metrics",
    "experiments.nets": "experiments.models",
    "experiments.reopen": "experiments.cli.evaluate_run",
    "experiments.weights": "experiments.cli.dense_weights",
    "ws_learner.allocation.context": "ws_learner.search.context",
    "ws_learner.allocation.environment": "ws_learner.search.gym_env",
    "ws_learner.allocation.knapsack": "ws_learner.search.knapsack",
    "ws_learner.allocation.problem": "ws_learner.search.problem",
    "ws_learner.allocation.search": "ws_learner.search.loop",
    "ws_learner.attention": "ws_learner.pruning.layers.attention_heads",
    "ws_learner.callbacks": "ws_learner.training.callbacks",
    "ws_learner.cluster.config": "ws_learner.config.cluster",
    "ws_learner.cluster.pool": "ws_learner.search.rollout.ray_pool",
    "ws_learner.cluster.session": "ws_learner.training.ray.session",
    "ws_learner.common": "ws_learner.compat.lpot.common",
    "ws_learner.data.cifar10": "ws_learner.data.datasets.cifar10",
    "ws_learner.data.cifar10_archives": "ws_learner.data.datasets.cifar10_archives",
    "ws_learner.data.cifar10_source": "ws_learner.data.datasets.cifar10_source",
    "ws_learner.data.coco": "ws_learner.data.datasets.coco",
    "ws_learner.data.coco_file": "ws_learner.data.datasets.coco_file",
    "ws_learner.data.criteo": "ws_learner.data.datasets.criteo",
    "ws_learner.data.glue": "ws_learner.data.datasets.glue",
    "ws_learner.data.image_folder": "ws_learner.data.datasets.image_folder",
    "ws_learner.data.movielens": "ws_learner.data.datasets.movielens",
    "ws_learner.data.part": "ws_learner.data.rank_batches",
    "ws_learner.data.photographs": "ws_learner.data.image_decoding",
    "ws_learner.data.pixels": "ws_learner.data.normalization",
    "ws_learner.data.squad": "ws_learner.data.datasets.squad",
    "ws_learner.data.squad_file": "ws_learner.data.datasets.squad_file",
    "ws_learner.data.text": "ws_learner.data.datasets.text",
    "ws_learner.data.text_resources": "ws_learner.data.datasets.text_resources",
    "ws_learner.data.wheel": "ws_learner.data.wheel_download",
    "ws_learner.dialects.lpot": "ws_learner.compat.lpot.reader",
    "ws_learner.dialects.lpot_conf": "ws_learner.compat.lpot.schema",
    "ws_learner.dialects.nncf": "ws_learner.compat.nncf.reader",
    "ws_learner.dialects.nncf_conf": "ws_learner.compat.nncf.schema",
    "ws_learner.dialects.timm_nm": "ws_learner.compat.timm.reader",
    "ws_learner.dialects.weight_pruning": "ws_learner.compat.neural_compressor.api",
    "ws_learner.dialects.weight_pruning_conf": "ws_learner.compat.neural_compressor.config",
    "ws_learner.distillation": "ws_learner.training.distillation",
    "ws_learner.errors": "ws_learner.core.errors",
    "ws_learner.evaluation": "ws_learner.training.evaluation",
    "ws_learner.export.crop": "ws_learner.deploy.shrinking.crop",
    "ws_learner.export.cropped_files": "ws_learner.deploy.shrinking.cropped_file",
    "ws_learner.export.onnx_file": "ws_learner.deploy.onnx.export",
    "ws_learner.export.onnx_qdq": "ws_learner.deploy.onnx.int8_qdq",
    "ws_learner.export.permute_mlp": "ws_learner.deploy.shrinking.permute_mlp",
    "ws_learner.export.semi_structured": "ws_learner.deploy.shrinking.semi_structured",
    "ws_learner.export.shrink": "ws_learner.deploy.shrinking.shrink",
    "ws_learner.export.shrunk_file": "ws_learner.deploy.shrinking.shrunk_file",
    "ws_learner.fake_quant": "ws_learner.training.quantization_aware",
    "ws_learner.files": "ws_learner.core.files",
    "ws_learner.fit": "ws_learner.training.phase",
    "ws_learner.full_prec": "ws_learner.training.dense",
    "ws_learner.functional": "ws_learner.pruning.functional",
    "ws_learner.hardware": "ws_learner.core.device",
    "ws_learner.layer_distillation": "ws_learner.training.layer_distillation",
    "ws_learner.layers": "ws_learner.pruning.layers.table",
    "ws_learner.methods": "ws_learner.pruning.methods",
    "ws_learner.outcome": "ws_learner.training.outcome",
    "ws_learner.progress": "ws_learner.core.progress",
    "ws_learner.recipe": "ws_learner.config.recipe",
    "ws_learner.roles": "ws_learner.pruning.layers.roles",
    "ws_learner.run_dir": "ws_learner.core.run_dir",
    "ws_learner.runtime": "ws_learner.deploy.runtime",
    "ws_learner.runtime.model_file": "ws_learner.deploy.runtime.load",
    "ws_learner.runtime.pairs": "ws_learner.deploy.runtime.codegen.pairs",
    "ws_learner.runtime.sparse_file": "ws_learner.deploy.runtime.wsr_file",
    "ws_learner.search.rollout.regression": "ws_learner.pruning.layer_solvers.least_squares",
    "ws_learner.search.rollout.unit_regression": (
        "ws_learner.pruning.layer_solvers.unit_least_squares"
    ),
    "ws_learner.sparsifier": "ws_learner.pruning.sparsifier",
    "ws_learner.sparsity.mask": "ws_learner.pruning.patterns.mask",
    "ws_learner.sparsity.nm": "ws_learner.pruning.patterns.nm",
    "ws_learner.sparsity.pattern": "ws_learner.pruning.patterns.pattern",
    "ws_learner.sparsity.schedule": "ws_learner.pruning.schedules.polynomial",
    "ws_learner.sparsity.units": "ws_learner.pruning.patterns.unit_counts",
    "ws_learner.unit_groups": "ws_learner.pruning.layers.unit_groups",
    "ws_learner.weights_file": "ws_learner.core.weights",
    "ws_learner.world": "ws_learner.core.process_group",
}
"""Former module or package -> its current name; the entry of a package covers its modules."""

_GONE = frozenset(
    f"ws_learner.{name}" for name in ("allocation", "cluster", "dialects", "export", "sparsity")
)
"""Packages that are gone; former modules inside them still need a parent to be imported from."""


class MovedModules(MetaPathFinder):
    """Import hook: finds the current module of a former name and warns once about the move."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for names in `MOVED` and their sub-modules, None for all others."""
        if fullname in _GONE:
            return ModuleSpec(fullname, _EmptyPackage(), is_package=True)
        today = today_of(fullname, MOVED)
        found = None if today is None else find_spec(today)
        if today is None or found is None:
            return None
        warnings.warn(
            f"{fullname} is now {today}; the old name will be removed in version 1.0",
            FutureWarning,
            stacklevel=2,
        )
        return ModuleSpec(
            fullname, _Alias(today), origin=found.origin, is_package=_is_package(today)
        )


def today_of(name: str, moved: Mapping[str, str]) -> str | None:
    """Current name of a former module, by its longest matching entry; None if unknown."""
    head, tail = name, ""
    while head:
        if head in moved:
            return moved[head] + tail
        head, dot, last = head.rpartition(".")
        tail = dot + last + tail
    return None


def _is_package(name: str) -> bool:
    spec = find_spec(name)
    return spec is not None and spec.submodule_search_locations is not None


class _EmptyPackage(Loader):
    """A package without content."""

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing."""


class _Alias(InspectLoader):
    """Loads the current module under its former name; `python -m` runs its code."""

    def __init__(self, today: str) -> None:
        self._today = today
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the current module, so that both names refer to one object."""
        module = importlib.import_module(self._today)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the spec that the import machinery replaced; the module has already run."""
        module.__spec__ = self._spec

    def get_code(self, fullname: str) -> CodeType | None:
        """Code object, for `python -m`."""
        spec = find_spec(self._today)
        assert spec is not None
        return cast(InspectLoader, spec.loader).get_code(self._today)

    def get_source(self, fullname: str) -> str | None:
        """Source text, for tracebacks."""
        spec = find_spec(self._today)
        assert spec is not None
        return cast(InspectLoader, spec.loader).get_source(self._today)

    def is_package(self, fullname: str) -> bool:
        """Whether the current name is a package."""
        return _is_package(self._today)


def install() -> None:
    """Install the import hook for former names; calling it again has no effect."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModules())  # first, to avoid a second copy
