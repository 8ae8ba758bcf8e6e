"""The compiled network: called like the original, with a report and a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ws_learner.runtime.architecture import describe
from ws_learner.runtime.choice import DENSE, Choice, Dtype
from ws_learner.runtime.cpu import cpu_key
from ws_learner.runtime.layers import LayerData
from ws_learner.runtime.model_save import save_compiled
from ws_learner.runtime.network import Inputs, call

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CompiledModel"]

_COLUMNS = ("layer", "shape", "pattern", "density", "kernel", "speedup")


class CompiledModel(nn.Module):
    """What `compile_sparse` returns. Inference alone; safe to call from several threads.

    Attributes:
        model: The network with its layers replaced.
        speedup: Times faster than the dense model on the example inputs, measured.
        agreement: How outputs on the calibration data compare with FP32's, if it was given.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        choices: dict[str, Choice],
        datas: dict[str, LayerData],
        threads: int,
        dtype: Dtype,
    ) -> None:
        """Keep what `report` and `save` need; `model` still has its own layers now."""
        super().__init__()
        self.architecture = describe(model)
        self.original_state = {name: t.detach() for name, t in model.state_dict().items()}
        self.model, self.choices, self.datas = model.eval(), choices, datas
        self.threads, self.dtype = threads, dtype
        self.speedup = 1.0
        self.agreement: dict[str, float] = {}
        self.processor = cpu_key()
        self.whole: nn.Module | None = None

    @torch.no_grad()
    def forward(self, *places: Any, **words: Any) -> Any:
        """As the original."""
        return (self.model if self.whole is None else self.whole)(*places, **words)

    def stay_dense(self, original: nn.Module) -> None:
        """Run the network as it was."""
        self.whole, self.speedup = original, 1.0

    def report(self) -> pd.DataFrame:
        """One row per layer: shape (N x K), pattern, density, kernel, times faster than dense."""
        import pandas as pd

        rows = []
        for name, choice in self.choices.items():
            n, k = self.datas[name].weight.shape
            dense = self.whole is not None
            kernel, gain = (DENSE, 1.0) if dense else (choice.kernel, choice.speedup)
            rows.append((name, f"{n}x{k}", choice.pattern, choice.density, kernel, gain))
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def compare_outputs(self, original: nn.Module, data: Iterable[Inputs]) -> dict[str, float]:
        """Norm of the difference over the norm of the outputs and, for classes, equal answers."""
        moved = size = same = count = 0.0
        for inputs in data:
            wanted, got = _first(call(original, inputs)), _first(call(self, inputs))
            moved += float((wanted - got).double().square().sum())
            size += float(wanted.double().square().sum())
            if wanted.dim() == 2 and wanted.shape[1] > 1:
                same += float((wanted.argmax(1) == got.argmax(1)).sum())
                count += len(wanted)
        found = {"relative_error": (moved / max(size, 1e-30)) ** 0.5}
        return found | ({"same_class": same / count} if count else {})

    def compare(
        self,
        original: nn.Module,
        data: Iterable[tuple[Inputs, Tensor]],
        metric: Callable[[Tensor, Tensor], Tensor],
    ) -> dict[str, float]:
        """Mean of `metric` (outputs, targets) -> (B,) for the original and for this model."""
        found: dict[str, list[Tensor]] = {"fp32": [], "compiled": []}
        for inputs, targets in data:
            found["fp32"].append(metric(_first(call(original, inputs)), targets).float())
            found["compiled"].append(metric(_first(call(self, inputs)), targets).float())
        return {name: float(torch.cat(scores).mean()) for name, scores in found.items()}

    def save(self, path: Path | str, *, values: str = "fp32") -> None:
        """Write a `.wsr` file for `load_sparse`.

        Args:
            path: Of the file.
            values: `fp32` or `bf16`, for weights that are not used as bytes.
        """
        facts = {
            "architecture": self.architecture,
            "cpu": self.processor,
            "dtype": self.dtype,
            "dense": self.whole is not None,
            "speedup": self.speedup,
        }
        save_compiled(
            Path(path),
            self.original_state,
            choices=self.choices,
            datas=self.datas,
            facts=facts,
            values=values,
        )


def _first(outputs: Any) -> Tensor:
    """The first tensor that a model returns."""
    if isinstance(outputs, Tensor):
        return outputs
    if isinstance(outputs, Sequence):
        return _first(outputs[0])
    return _first(next(iter(outputs.values())))
