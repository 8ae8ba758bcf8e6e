"""Batch norms that follow a convolution, folded into it for inference.

y = gamma (conv(x) - mean) / sqrt(var + eps) + beta is a convolution with other numbers. Which norm
reads a convolution's output, and nothing else does, is seen in one run of the network.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ws_learner.core import UserError
from ws_learner.deploy.runtime.fused_sequential import is_plain, is_watched
from ws_learner.deploy.runtime.graph import Inputs, Site, call, own
from ws_learner.deploy.runtime.site_norm import Norm

__all__ = ["attach_norms", "find_norms"]


def find_norms(model: nn.Module, sites: Sequence[Site], inputs: Inputs) -> dict[str, str]:
    """Names of convolutions, and of the batch norms that alone read what they give.

    Args:
        model: Is run once.
        sites: Its layers.
        inputs: An example.
    """
    norms = {name: norm for name, norm in _places(model).items() if _foldable(norm)}
    convolutions = [s for s in sites if _may_fold(s)]
    if not norms or not convolutions:
        return {}
    readers = _Readers()
    try:
        with readers.watching(convolutions, norms), readers:
            readers.read(call(model, own(inputs)))
    except Exception:  # the network runs without us, so what failed is our way of looking at it
        return {}
    return readers.pairs()


def attach_norms(model: nn.Module, sites: Sequence[Site], pairs: Mapping[str, str]) -> None:
    """Give the sites of `model` their norms, and activations behind these in a Sequential.

    Raises:
        UserError: There is no such layer or norm.
    """
    named, places = {site.name: site for site in sites}, _places(model)
    for name, norm in pairs.items():
        site, module = named.get(name), places.get(norm)
        if (
            site is None
            or module is None
            or not (_may_fold(site) and _foldable(module))
            or len(site.module.weight) != module.num_features
        ):
            raise UserError(f"layer {name} is not followed by a batch norm {norm} here")
        parent, _, attribute = norm.rpartition(".")
        site.norm = Norm(module=module, parent=model.get_submodule(parent), attribute=attribute)
        _join_activation(site, site.norm)


def _may_fold(site: Site) -> bool:
    return isinstance(site.module, nn.Conv2d) and len(site.holders) == 1 and site.follower is None


def _foldable(norm: nn.BatchNorm2d) -> bool:
    return not norm.training and norm.running_mean is not None and not is_watched(norm)


def _places(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    """Plain batch norms that stand in one place, by name."""
    found = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if type(module) is nn.BatchNorm2d and "forward" not in module.__dict__
    ]
    alone = [id(module) for _, module in found]
    return {name: module for name, module in found if alone.count(id(module)) == 1}


def _join_activation(site: Site, norm: Norm) -> None:
    """As `find_sites` does for layers without a norm."""
    parent = norm.parent
    if not is_plain(parent) or site.holders[0][0] is not parent:
        return
    names = list(parent._modules)
    at = names.index(norm.attribute)
    after = names[at + 1 : at + 2]
    if names[at - 1] != site.holders[0][1] or not after:
        return
    module = parent._modules[after[0]]
    if module is None or is_watched(module):
        return
    if type(module) is nn.ReLU:
        site.activation, site.follower = "relu", (parent, after[0])
    elif type(module) is nn.GELU and module.approximate == "none":
        site.activation, site.follower = "gelu", (parent, after[0])


class _Readers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of this thread that reads the output of a convolution."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._outputs: dict[int, tuple[str, weakref.ref[Tensor]]] = {}
        self._calls: list[str] = []
        self._pairs: dict[str, str] = {}
        self._inside: str | None = None
        self._spoiled: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and PyTorch's compiler takes a second to import."""
        return False

    def pairs(self) -> dict[str, str]:
        """Convolutions and norms that were called once and have nobody else."""
        once = {name for name in self._calls if self._calls.count(name) == 1}
        return {
            name: norm
            for name, norm in self._pairs.items()
            if name in once and norm in once and name not in self._spoiled
        }

    @contextmanager
    def watching(
        self, sites: Sequence[Site], norms: Mapping[str, nn.BatchNorm2d]
    ) -> Iterator[None]:
        """Hook into the layers."""
        with ExitStack() as hooks:
            for site in sites:
                hooks.callback(self._watch_convolution(site).remove)
            for name, norm in norms.items():
                before, after = self._watch_norm(name, norm)
                hooks.callback(before.remove)
                hooks.callback(after.remove)
            yield

    def _watch_convolution(self, site: Site) -> Any:
        def after(module: nn.Module, places: Any, result: Tensor) -> None:
            self._calls.append(site.name)
            self._outputs[result.untyped_storage().data_ptr()] = site.name, weakref.ref(result)

        return site.module.register_forward_hook(after)

    def _watch_norm(self, name: str, norm: nn.BatchNorm2d) -> tuple[Any, Any]:
        def before(module: nn.Module, places: Any, words: Any) -> None:
            self._calls.append(name)
            x = places[0] if places else words["input"]
            known = self._outputs.get(x.untyped_storage().data_ptr())
            if known is not None and known[1]() is x:
                self._pairs[known[0]], self._inside = name, known[0]

        def after(module: nn.Module, places: Any, result: Tensor) -> None:
            self._inside = None

        early = norm.register_forward_pre_hook(before, with_kwargs=True)
        return early, norm.register_forward_hook(after)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note what the operation reads, and do it."""
        self.read((args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def read(self, values: Any) -> None:
        """Note that somebody else sees these tensors."""
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                known = self._outputs.get(leaf.untyped_storage().data_ptr())
                if known is None or known[1]() is None:  # its memory is somebody else's by now
                    continue
                if known[0] != self._inside:
                    self._spoiled.add(known[0])
