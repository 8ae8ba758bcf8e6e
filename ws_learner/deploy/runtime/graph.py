"""Network inspection: linear layers and convolutions, their activations and inputs."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ws_learner.core import UserError, check_settings
from ws_learner.deploy.runtime.codegen.spec import Activation
from ws_learner.deploy.runtime.fused_sequential import is_plain, is_watched
from ws_learner.deploy.runtime.modules import Geometry, LayerData, matrix_of
from ws_learner.deploy.runtime.quantisation import RangeMethod, RangeObserver
from ws_learner.deploy.runtime.site_norm import Norm

__all__ = [
    *("Inputs", "Site", "arguments", "call", "check_weights", "checked", "copied", "find_sites"),
    *("layer_data", "observers", "own", "shared_weights", "watch", "with_holder"),
]

Inputs = Tensor | Sequence[Any] | Mapping[str, Any]


@dataclass(kw_only=True, eq=False)
class Site:
    """A layer that could be replaced.

    Attributes:
        name: Its first name.
        module: The layer.
        holders: Every (parent, attribute) that it is reached by.
        activation: What follows it in a Sequential, to be done in the same pass.
        follower: (parent, attribute) of that activation, or None.
        norm: Batch norm between the two, to be folded into the layer, or None.
    """

    name: str
    module: nn.Linear | nn.Conv2d
    holders: list[tuple[nn.Module, str]]
    activation: Activation = "none"
    follower: tuple[nn.Module, str] | None = None
    norm: Norm | None = None

    def __post_init__(self) -> None:
        check_settings(self)

    def dense(self, x: Tensor) -> Tensor:
        """The layer as it was, its norm and its activation."""
        y: Tensor = self.module(x)
        if self.norm is not None:
            y = self.norm.module(y)
        if self.follower is not None:
            y = getattr(*self.follower)(y)
        return y

    def put(self, module: nn.Module) -> None:
        """Set `module` in the layer's and the norm's place, before the activation."""
        if self.norm is not None:
            setattr(self.norm.parent, self.norm.attribute, nn.Identity())
        for name, value in self.module.__dict__.items():  # in_features, and what its owner set
            if not name.startswith("_"):
                module.__dict__.setdefault(name, value)
        for parent, attribute in self.holders:
            setattr(parent, attribute, module)
            if isinstance(parent, nn.TransformerEncoderLayer):
                parent.activation_relu_or_gelu = 0  # its fused path would read our weight


def find_sites(model: nn.Module) -> list[Site]:
    """List plain `nn.Linear` and ungrouped, zero-padded `nn.Conv2d` modules, by first name."""
    sites: dict[int, Site] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        for attribute, child in module._modules.items():  # named_children leaves out repeats
            if not _replaceable(child):
                continue
            full = f"{name}.{attribute}" if name else attribute
            new = Site(name=full, module=cast(nn.Linear | nn.Conv2d, child), holders=[])
            site = sites.setdefault(id(child), new)
            if all(parent is not module or a != attribute for parent, a in site.holders):
                site.holders.append((module, attribute))
    for module in model.modules():
        # A subclass that looks in between must find what was there.
        if is_plain(module):
            _join_followers(module, sites)
    return list(sites.values())


def with_holder(model: nn.Module) -> nn.Module:
    """Wrap a root that is itself a layer, so that it can be replaced."""
    return model if list(model.children()) else nn.Sequential(model)


def check_weights(sites: Iterable[Site]) -> None:
    """Check that kernels built from the weights give the same results.

    Raises:
        UserError: A weight is not float32, or not on the CPU.
    """
    for site in sites:
        weight = site.module.weight
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            kind = str(weight.dtype).removeprefix("torch.")
            raise UserError(
                f"layer {site.name or 'itself'} is {kind} on {weight.device}: sparse kernels work "
                "with float32 on the CPU; give model.float().cpu()"
            )


def _replaceable(module: nn.Module | None) -> bool:
    if module is None or is_watched(module) or "forward" in module.__dict__:
        return False
    if type(module) in (nn.Conv2d, nn.Linear) and _has_more(module):
        return False
    # Subclasses may have their weight read from outside, as attention's output layer has.
    if type(module) is nn.Conv2d:
        return (
            module.groups == 1
            and module.padding_mode == "zeros"
            and (not isinstance(module.padding, str))
        )
    return type(module) is nn.Linear and module.weight.numel() > 0


def _has_more(module: nn.Module) -> bool:
    """Whether a layer has attributes beyond PyTorch's own."""
    more = module._parameters.keys() - {"weight", "bias"}
    return bool(more or module._buffers or module._modules)


def _join_followers(parent: nn.Sequential, sites: dict[int, Site]) -> None:
    for (_, first), (attribute, second) in itertools.pairwise(parent._modules.items()):
        site = sites.get(id(first))
        if site is None or len(site.holders) > 1 or second is None or is_watched(second):
            continue
        if type(second) is nn.ReLU:
            site.activation, site.follower = "relu", (parent, attribute)
        elif type(second) is nn.GELU and second.approximate == "none":
            site.activation, site.follower = "gelu", (parent, attribute)


def layer_data(site: Site, observer: RangeObserver | None) -> LayerData:
    """The numbers of a layer."""
    module, geometry = site.module, None
    if isinstance(module, nn.Conv2d):
        geometry = Geometry(
            kernel=_pair(module.kernel_size),
            stride=_pair(module.stride),
            padding=_pair(module.padding),
            dilation=_pair(module.dilation),
        )
    weight, factor = matrix_of(module), None
    bias = None if module.bias is None else module.bias.detach().float().numpy().copy()
    if site.norm is not None:
        factor, shift = site.norm.terms()
        weight = weight * factor[:, None]
        bias = shift if bias is None else bias * factor + shift
    return LayerData(
        weight=weight,
        bias=bias,
        factor=factor,
        activation=site.activation,
        geometry=geometry,
        source=None if observer is None else observer.settle(),
        innermost=_is_innermost(module.weight.detach()),
    )


def _is_innermost(weight: Tensor) -> bool:
    """Whether outputs for plain images have their channels innermost; strides alone do not say."""
    if weight.dim() != 4 or not weight.numel():
        return False
    images = weight.new_zeros(2, weight.shape[1], weight.shape[2] + 1, weight.shape[3] + 1)
    return not torch.nn.functional.conv2d(images, weight).is_contiguous()


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1]))


def checked(inputs: Any, what: str) -> Inputs:
    """Copies of the tensors, so that in-place operations do not change the caller's.

    Raises:
        UserError: It is no inputs of a model.
    """
    if not isinstance(inputs, Tensor | Mapping | list | tuple) or not _holds_tensor(inputs):
        raise UserError(
            f"{what}: {type(inputs).__name__} is not a model input; give a tensor, several in a "
            "sequence, or keywords in a dict"
        )
    copies: Inputs = own(inputs)
    return copies


def own(value: Any) -> Any:
    """The same with tensors of its own, in lists, tuples and dicts too."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {name: own(part) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(own(part) for part in value)
    return value


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(_holds_tensor(part) for part in value)
    return isinstance(value, Tensor)


def arguments(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a model is called with: one tensor, several in a sequence, or keywords."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return ((inputs,) if isinstance(inputs, Tensor) else tuple(inputs)), {}


def call(model: nn.Module, inputs: Inputs) -> Any:
    """Run the model without gradients."""
    places, words = arguments(inputs)
    with torch.no_grad():
        return model(*places, **words)


def shared_weights(model: nn.Module) -> dict[int, Any]:
    """For `copy.deepcopy`: a copy of our own copy shares the weights of PyTorch's plain layers."""
    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    parts = [module for module in model.modules() if type(module) in kinds]
    return {id(p): p for module in parts for p in module._parameters.values() if p is not None}


def copied(model: nn.Module, *, share: bool = False) -> nn.Module:
    """A deep copy, but for the weights of plain layers if they are to be shared.

    Raises:
        UserError: A weight is recomputed at each call, as torch.nn.utils' masks and norms do.
    """
    try:
        return copy.deepcopy(model, shared_weights(model) if share else None)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"compile_sparse: this model cannot be copied ({error}). Masks of torch.nn.utils.prune "
            "are made permanent by torch.nn.utils.prune.remove(module, 'weight'), norms of "
            "torch.nn.utils by their own remove function"
        ) from error


@contextmanager
def watch(sites: Iterable[Site], see: Callable[[Site, Tensor], None]) -> Iterator[None]:
    """Show `see` each input of the layers while the model runs."""

    def hook(site: Site) -> Callable[..., None]:
        return lambda module, places, words: see(site, places[0] if places else words["input"])

    with ExitStack() as hooks:
        for site in sites:
            held = site.module.register_forward_pre_hook(hook(site), with_kwargs=True)
            hooks.callback(held.remove)
        yield


def observers(
    model: nn.Module, sites: Sequence[Site], data: Iterable[Inputs], method: RangeMethod
) -> dict[str, RangeObserver]:
    """Run the model over `data`; return a range observer per layer."""
    found = {site.name: RangeObserver(method) for site in sites}
    with watch(sites, lambda site, x: found[site.name].see(x)):
        for inputs in data:
            call(model, inputs)
    return found
