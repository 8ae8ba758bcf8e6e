"""What a file of a shrunk network says, checked on a copy before the network is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from ws_learner.core import UserError, parse_json, shown
from ws_learner.deploy.shrinking.split_attention import split_where_possible
from ws_learner.pruning import ATTENTION_WIDTHS, HEAD_COUNTS

__all__ = ["SIZES", "read_about", "refuse_unfit"]

SIZES = (
    *("in_features", "out_features", "in_channels", "out_channels", "groups", "num_features"),
    *("num_embeddings", "embedding_dim", "num_parameters", "num_channels"),
    *(*HEAD_COUNTS, *ATTENTION_WIDTHS),
)
"""Whole numbers of a module that state its tensors' sizes; a file may change no others."""

_REMEDY = "save it again with save_shrunk"


def read_about(text: str, path: Path) -> dict[str, Any]:
    """The side of a file that is no tensor: class, original shapes, sizes of modules.

    Raises:
        UserError: It says something else.
    """
    about = parse_json(text, where=str(path), remedy=_REMEDY)
    fits = isinstance(about, dict) and isinstance(about.get("split"), bool)
    fits = fits and isinstance(about.get("class"), str)
    fits = fits and all(isinstance(about.get(name), dict) for name in ("original", "sizes"))
    if not fits or not all(_is_shape(shape) for shape in about["original"].values()):
        raise UserError(f"{path}: does not say what was shrunk; {_REMEDY}")
    for name, sizes in about["sizes"].items():
        if not isinstance(sizes, dict) or not sizes.keys() <= set(SIZES):
            raise UserError(f"{path}: sets more of module {shown(name)} than its sizes; {_REMEDY}")
        if not all(type(value) is int and value > 0 for value in sizes.values()):
            raise UserError(f"{path}: a size of module {shown(name)} is none; {_REMEDY}")
    found: dict[str, Any] = about
    return found


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and all(type(side) is int and side >= 0 for side in value)


def refuse_unfit(
    copy: nn.Module, about: Mapping[str, Any], state: Mapping[str, Tensor], path: Path
) -> None:
    """Refuse tensors and sizes that no shrink of the network can have made.

    Args:
        copy: Of the network as it was before it was shrunk; it is changed.
        about: See `read_about`.
        state: The tensors.
        path: The file.

    Raises:
        UserError: A tensor is missing or too many, or grew; or sizes and tensors do not agree.
    """
    if about["split"]:
        split_where_possible(copy)
    problem = next(iter([*_wrong_tensors(copy, state), *_wrong_sizes(copy, about, state)]), None)
    if problem is not None:
        raise UserError(f"{path}: {problem}; {_REMEDY}")


def _wrong_tensors(copy: nn.Module, state: Mapping[str, Tensor]) -> Iterator[str]:
    own: dict[str, Tensor] = copy.state_dict()
    for name in own.keys() - state.keys():
        yield f"has no tensor {shown(name)}"
    for name, tensor in state.items():
        old = own.get(name)
        if old is None and not _is_new_bias(copy, name, tensor):
            yield f"has a tensor {shown(name)}, which the network has not"
        if old is None:
            continue
        if tensor.is_floating_point() != old.is_floating_point():
            yield f"{shown(name)} is {tensor.dtype}, not {old.dtype}"
        grown = any(new > was for new, was in zip(tensor.shape, old.shape, strict=False))
        if tensor.dim() != old.dim() or grown:
            yield (f"{shown(name)} is {list(tensor.shape)}, which is no part of {list(old.shape)}")


def _is_new_bias(copy: nn.Module, name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a bias that a shrink may have added: where there is none."""
    parent, _, leaf = name.rpartition(".")
    module = dict(copy.named_modules()).get(parent)
    if module is None or leaf != "bias" or not isinstance(module, nn.Linear | _ConvNd):
        return False
    return module.bias is None and tensor.dim() == 1 and tensor.is_floating_point()


def _wrong_sizes(
    copy: nn.Module, about: Mapping[str, Any], state: Mapping[str, Tensor]
) -> Iterator[str]:
    modules = dict(copy.named_modules())
    for name, sizes in about["sizes"].items():
        module = modules.get(name)
        own = {} if module is None else vars(module)
        for attribute, value in sizes.items():
            if type(own.get(attribute)) is not int or value > own[attribute]:
                yield f"module {shown(name)} has no {attribute} of {value} or more"
    for name, module in modules.items():
        sizes = {key: vars(module).get(key) for key in SIZES} | about["sizes"].get(name, {})
        tensors = {
            leaf: tuple(state[full].shape)
            for leaf in ("weight", "bias", "running_mean", "running_var")
            if (full := f"{name}.{leaf}".lstrip(".")) in state
        }
        for leaf, shape in _shapes(module, sizes).items():
            if leaf in tensors and tensors[leaf] != shape:
                yield f"{shown(name)}.{leaf} is {list(tensors[leaf])}, its sizes say {list(shape)}"


def _shapes(module: nn.Module, sizes: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of a layer's tensors by its sizes; of PyTorch's own layers."""
    if type(module) is nn.Linear:
        outputs = sizes["out_features"]
        return {"weight": (outputs, sizes["in_features"]), "bias": (outputs,)}
    if isinstance(module, _ConvNd) and not module.transposed:
        outputs = sizes["out_channels"]
        inside = sizes["in_channels"] // sizes["groups"]
        return {"weight": (outputs, inside, *module.kernel_size), "bias": (outputs,)}
    if isinstance(module, _NormBase):
        names = ("weight", "bias", "running_mean", "running_var")
        return dict.fromkeys(names, (sizes["num_features"],))
    if type(module) is nn.Embedding:
        return {"weight": (sizes["num_embeddings"], sizes["embedding_dim"])}
    return {}
