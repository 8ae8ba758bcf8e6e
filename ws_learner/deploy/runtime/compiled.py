"""The compiled network: called like the original, can report and save itself."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ws_learner.core import AnyPath, UserError, as_path
from ws_learner.deploy.runtime.architecture import describe
from ws_learner.deploy.runtime.codegen.cpu import cpu_key
from ws_learner.deploy.runtime.codegen.sparse_kernel import NO_PICKLE
from ws_learner.deploy.runtime.graph import Inputs, call, copied, own, shared_weights
from ws_learner.deploy.runtime.modules import LayerData, Replaced
from ws_learner.deploy.runtime.number_formats import Dtype, LayerDtypes
from ws_learner.deploy.runtime.output_comparison import differences, first_tensor
from ws_learner.deploy.runtime.save import save_compiled
from ws_learner.deploy.runtime.selection import DENSE, KernelChoice
from ws_learner.training import Metric, MetricMean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CompiledModel"]

_COLUMNS = ("layer", "shape", "pattern", "density", "kernel", "speedup")


class CompiledModel(nn.Module):
    """Result of `compile_sparse`. Inference only; safe to call from several threads.

    Attributes:
        model: The network with its layers replaced.
        fused: Names of the encoder layers that run as one native call.
        speedup: Times faster than the dense model on the example inputs, measured; not a number
            after a file was opened on another kind of processor.
        agreement: How outputs on the calibration data, or the example, compare with FP32's.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        choices: dict[str, KernelChoice],
        datas: dict[str, LayerData],
        threads: int,
        dtype: Dtype | LayerDtypes,
        wrapped: bool = False,
    ) -> None:
        """Keep what `report` and `save` need; `model` still has its own layers now.

        `wrapped`: it is a Sequential of ours around the owner's one layer.
        """
        super().__init__()
        self.architecture = describe(model)
        self.original_state = {name: t.detach() for name, t in model.state_dict().items()}
        self.wrapped = wrapped
        self.bytes_allowed: dict[str, bool] = {}
        self.model, self.choices, self.datas = model.eval(), choices, datas
        self.threads = threads
        self.dtype: Dtype | LayerDtypes = dtype if isinstance(dtype, str) else dict(dtype)
        self.fused: list[str] = []
        self.speedup = 1.0
        self.agreement: dict[str, float] = {}
        self.processor = cpu_key()
        self.dense = self.wrong = False

    @torch.no_grad()
    def forward(self, *places: Any, **words: Any) -> Any:
        """As the original.

        Raises:
            UserError: It is being traced, which sees no kernels.
        """
        if torch._C._get_tracing_state() is not None:
            raise UserError(
                "a compiled network cannot be traced or exported: trace the dense model, or save "
                "this one with its save(path)"
            )
        return self.model(*places, **words)

    def train(self, mode: bool = True) -> CompiledModel:
        """Do nothing: a compiled network stays in evaluation mode."""
        super().train(False)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The dense model's: kernels hold the weights in their own formats."""
        names = ("destination", "prefix", "keep_vars")
        given = dict(zip(names, args, strict=False)) | kwargs
        held = given.get("destination")
        held = OrderedDict() if held is None else held
        prefix = given.get("prefix", "")
        alone = self.wrapped
        for name, value in self.original_state.items():
            held[f"{prefix}{name.removeprefix('0.') if alone else name}"] = value
        return held

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledModel:
        """Kernels are shared, all else is copied."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return twin

    def twin(self) -> CompiledModel:
        """A copy that shares all weights, for trials."""
        memo = shared_weights(self.model) | {id(t): t for t in self.original_state.values()}
        for module in self.model.modules():
            if isinstance(module, Replaced):
                memo |= {id(p): p for p in module.parameters()}
        return copy.deepcopy(self, memo)

    def __reduce__(self) -> str:
        """Refuse; see `save`."""
        raise UserError(NO_PICKLE)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: kernels are made of the weights once.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "a compiled network takes no weights: load them into the dense model and call "
            "compile_sparse again"
        )

    def stay_dense(self, original: nn.Module, *, wrong: bool = False) -> None:
        """Run the network as it was: it is faster, or the compiled one's answers are `wrong`."""
        self.model, self.dense, self.wrong, self.speedup = original, True, wrong, 1.0
        self.fused = []

    def report(self) -> pd.DataFrame:
        """One row per layer: shape (N x K), pattern, density, kernel, times faster than dense."""
        import pandas as pd

        rows = []
        for name, choice in self.choices.items():
            n, k = self.datas[name].weight.shape
            dense = self.dense
            kernel, gain = (DENSE, 1.0) if dense else (choice.kernel, choice.speedup)
            rows.append((name, f"{n}x{k}", choice.pattern, choice.density, kernel, gain))
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def compare_outputs(self, original: nn.Module, data: Iterable[Inputs]) -> dict[str, float]:
        """Norm of the difference over the norm of the outputs and, for classes, equal answers."""
        return differences(
            (call(self, own(inputs)), call(original, own(inputs))) for inputs in data
        )

    def compare(
        self,
        original: nn.Module,
        data: Iterable[tuple[Inputs, Tensor]],
        metric: Metric,
    ) -> dict[str, float]:
        """`metric` (outputs, targets) -> (B,), or a `MetricSpec`, of the original and this model.

        Raises:
            UserError: The metric is no finite number in its range for each example.
        """
        original = original if not original.training else copied(original).eval()
        found = {"fp32": MetricMean(metric), "compiled": MetricMean(metric)}
        for inputs, targets in data:
            for name, model in (("fp32", original), ("compiled", self)):
                found[name].add(first_tensor(call(model, inputs)), targets)
        return {name: mean.value(f"the {name} network's data") for name, mean in found.items()}

    def save(self, path: AnyPath, *, values: str = "fp32") -> None:
        """Write a `.wsr` file for `load_sparse`.

        Args:
            path: Of the file.
            values: `fp32` or `bf16`, for weights that are not used as bytes.
        """
        path = as_path(path)
        facts = {
            "architecture": self.architecture,
            "cpu": self.processor,
            "dtype": self.dtype,
            "dense": self.dense,
            "wrong": self.wrong,
            "wrapped": self.wrapped,
            "bytes": self.bytes_allowed,
            "speedup": self.speedup,
            "fused": self.fused,
        }
        save_compiled(
            path,
            self.original_state,
            choices=self.choices,
            datas=self.datas,
            facts=facts,
            values=values,
        )
