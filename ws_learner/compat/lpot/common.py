"""`common.Model` of LPOT: a wrapper around a network with a few more methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ws_learner.core import AnyPath, as_path, save_model
from ws_learner.pruning import tensor_table, tensor_totals

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Model"]


class Model:
    """A wrapper around a network; calls and missing attributes go to the network.

    Attributes:
        model: The network, unchanged.
    """

    def __init__(self, model: nn.Module | Model) -> None:
        """Wrap a network; wrapping twice is harmless."""
        self.model: nn.Module = model.model if isinstance(model, Model) else model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own."""
        return self.model(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # not set yet, as while unpickling
            raise AttributeError(name)
        return getattr(self.model, name)

    def save(self, path: AnyPath) -> None:
        """Write the weights to `path`/model.safetensors, or to a file of that ending itself.

        Raises:
            UserError: It cannot be written.
        """
        target = as_path(path)
        file = target if target.suffix == ".safetensors" else target / "model.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        save_model(file, self.model.state_dict(), {"format": "pt"})

    def report_sparsity(self) -> tuple[pd.DataFrame, float]:
        """The table of `ws_learner.pruning.tensor_report`, and the percentage of zeros.

        The percentage is of all tensors with two axes and more, embeddings and layers that are
        not pruned included.
        """
        frame = tensor_table(self.model.state_dict())
        return frame, 100 * float(tensor_totals(frame)["matrix_sparsity"])
