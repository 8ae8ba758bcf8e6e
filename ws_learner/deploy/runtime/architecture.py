"""A network's structure as JSON, for networks made of PyTorch's own layers.

Only classes listed here are ever made from a file; there is no code in it. Of networks with a
`forward` of their own a file can hold the recorded operations (`network_graph.py`); else they have
to be built by their owner and handed to `load_sparse`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ws_learner.deploy.runtime.fused_sequential import is_watched
from ws_learner.deploy.runtime.graph_network import GRAPH, rebuild_graph

__all__ = ["describe", "rebuild"]

_SETTINGS: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("in_features", "out_features"),
    nn.Conv2d: (
        *("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"),
        *("groups", "padding_mode"),
    ),
    nn.BatchNorm1d: ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    nn.BatchNorm2d: ("num_features", "eps", "momentum", "affine", "track_running_stats"),
    nn.LayerNorm: ("normalized_shape", "eps", "elementwise_affine"),
    nn.Embedding: (
        *("num_embeddings", "embedding_dim", "padding_idx", "max_norm", "norm_type"),
        "scale_grad_by_freq",
    ),
    nn.MaxPool2d: ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    nn.AvgPool2d: (
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
    ),
    nn.AdaptiveAvgPool2d: ("output_size",),
    nn.Flatten: ("start_dim", "end_dim"),
    nn.Dropout: ("p",),
    nn.GELU: ("approximate",),
    nn.ReLU: (),
    nn.ReLU6: (),
    nn.SiLU: (),
    nn.Sigmoid: (),
    nn.Tanh: (),
    nn.Identity: (),
}
_NAMES = {cls.__name__: cls for cls in _SETTINGS}
_BIASED = (nn.Linear, nn.Conv2d, nn.LayerNorm)


def describe(module: nn.Module) -> dict[str, Any] | None:
    """The structure, or None if a file cannot express the network."""
    modules = [part for _, part in module.named_modules(remove_duplicate=False)]
    alone = len({id(part) for part in modules}) == len(modules)  # none stands in two places
    if not alone or any(is_watched(part) or "forward" in part.__dict__ for part in modules):
        return None
    return _describe(module)


def _describe(module: nn.Module) -> dict[str, Any] | None:
    if type(module) is nn.Sequential:
        parts = {name: _describe(child) for name, child in module.named_children()}
        return None if None in parts.values() else {"class": "Sequential", "parts": parts}
    settings = _SETTINGS.get(type(module))
    if settings is None:
        return None
    given = {name: getattr(module, name) for name in settings}
    if isinstance(module, _BIASED):
        given["bias"] = module.bias is not None
    return {"class": type(module).__name__, "settings": given}


def rebuild(plain: dict[str, Any]) -> nn.Module:
    """The network, with uninitialised weights.

    Raises:
        KeyError: A class is not among those listed; and as `rebuild_graph` does.
        ValueError: A setting is not among those of its class.
    """
    if plain["class"] == GRAPH:
        return rebuild_graph(plain)
    if plain["class"] == "Sequential":
        model = nn.Sequential()
        for name, part in plain["parts"].items():
            model.add_module(name, rebuild(part))
        return model
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in plain["settings"].items()}
    kind = _NAMES[plain["class"]]
    if more := settings.keys() - {*_SETTINGS[kind], *(["bias"] if kind in _BIASED else [])}:
        raise ValueError(f"{plain['class']} with {min(more)}")
    return kind(**settings)
