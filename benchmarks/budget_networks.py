"""The six networks on which budgets are tried: dense weights, data, loss, metric, recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.experiment import Experiment

__all__ = ["NETWORKS", "Network", "load_network"]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network of the table.

    Attributes:
        share: Of the latency of the dense network that is asked for.
        batch: Examples per call.
        epochs: Length of the sparse training.
    """

    share: float
    batch: int
    epochs: float


NETWORKS: dict[str, Network] = {
    "resnet20": Network(share=0.35, batch=8, epochs=0.2),
    "vgg-like": Network(share=0.35, batch=8, epochs=0.4),
    "digits": Network(share=0.35, batch=8, epochs=0.5),
    "minilm": Network(share=0.25, batch=8, epochs=0.5),
    "dlrm": Network(share=0.3, batch=512, epochs=0.5),
    "mlp": Network(share=0.2, batch=64, epochs=4.0),
}


def load_network(name: str, folder: Path) -> Experiment:
    """Load a network with its dense weights; those that come without are trained once.

    Args:
        name: In `NETWORKS`.
        folder: Where trained dense weights are kept.
    """
    made = _BUILDERS[name]()
    dense = folder / f"{name}-dense.safetensors"
    if made.checkpoint is not None or made.trained:
        if made.checkpoint is not None:
            from experiments.cli.dense_weights import load_weights

            load_weights(made.model, made.checkpoint)
        return made
    from ws_learner.core import load_into, save_model

    if not dense.exists():
        _train(made, folder / f"{name}-dense")
        save_model(dense, made.model.state_dict(), {"format": "pt"})
    load_into(made.model, dense)
    return made


def _train(made: Experiment, folder: Path) -> None:
    """Train the dense network in place."""
    from ws_learner.core import RunDir, choose_device
    from ws_learner.training import train_dense

    train_dense(
        made.model,
        made.data,
        loss=made.loss,
        metric=made.metric,
        recipe=made.dense_recipe,
        compute=choose_device(),
        seed=0,
        run=RunDir(folder),
    )


def _resnet20() -> Experiment:
    from experiments.resnet_at_cifar10 import Options, build

    return build(Options(), seed=0)


def _vgg_like() -> Experiment:
    from benchmarks.keras_vgg import load_vgg_like

    return replace(load_vgg_like(), trained=True)


def _digits() -> Experiment:
    from benchmarks.digit_recogniser import load_digit_recogniser

    return load_digit_recogniser()


def _minilm() -> Experiment:
    from experiments.bert_at_trec import Options, build

    return build(Options(), seed=0)


def _dlrm() -> Experiment:
    from experiments.dlrm_at_movielens import Options, build

    return build(Options(), seed=0)


def _mlp() -> Experiment:
    """784-like inputs: three layers of 512 on the drawn digits."""
    import torch
    from torch import nn

    from experiments.cnn_at_digits import Options, build

    made = build(Options(), seed=0)
    torch.manual_seed(0)
    sides = made.data.input_shape[-1]
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(sides * sides, 512), nn.ReLU()),
        *(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)),
    )
    return replace(made, name="mlp_at_digits", model=model)


_BUILDERS: dict[str, Callable[[], Experiment]] = {
    "resnet20": _resnet20,
    "vgg-like": _vgg_like,
    "digits": _digits,
    "minilm": _minilm,
    "dlrm": _dlrm,
    "mlp": _mlp,
}
