"""An encoder layer's native form, and the module that calls it in place of its own forward."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.deploy.runtime.attention_masks import mask_of
from ws_learner.deploy.runtime.codegen.encoder_program import EncoderProgram
from ws_learner.deploy.runtime.encoder_notes import Arguments
from ws_learner.deploy.runtime.encoder_structure import EncoderParts
from ws_learner.deploy.runtime.fused_sequential import is_watched
from ws_learner.deploy.runtime.modules import LayerData

__all__ = ["PLAIN", "FusedLayer", "fused_layers", "put_layer"]

PLAIN = (bool, int, float, str, type(None))
"""Types of arguments that are compared by value."""

_MAKER, _FUSED, _BUSY = "encoder_maker", "encoder_layer", "encoder_busy"
_lock = threading.RLock()


class FusedLayer:
    """The native form of a layer, for calls like the one that it was made from."""

    def __init__(
        self,
        module: nn.Module,
        parts: EncoderParts,
        given: Arguments,
        program: EncoderProgram,
        datas: Sequence[LayerData],
        *,
        threads: int,
    ) -> None:
        self.parts, self.exact, self._program = parts, False, program
        self._datas, self._threads = list(datas), threads
        tensors = {slot for slot, value in given.items() if isinstance(value, Tensor)}
        self._others = {
            slot: value
            for slot, value in given.items()
            if slot not in {parts.hidden, parts.mask, *tensors}
        }
        self._ignored = tensors - {parts.hidden, parts.mask}
        self._slots = {slot for slot, _ in given.items()}
        self._inside = [part for part in module.modules() if part is not module]
        self._held = [(m._modules, n, c) for m in module.modules() for n, c in m._modules.items()]

    def __call__(self, places: tuple[Any, ...], words: Mapping[str, Any]) -> Any:
        """The layer's output, or None for a call that is unlike the known one."""
        values = dict(Arguments(places=places, words=words).items())
        x: Any = values.get(self.parts.hidden)
        if values.keys() != self._slots or not self._fits(x) or not self._untouched():
            return None
        for slot, known in self._others.items():
            value = values[slot]
            if value is not known and not _equal(value, known):
                return None
        if any(not isinstance(values[slot], Tensor) for slot in self._ignored):
            return None
        given, mask = None if self.parts.mask is None else values[self.parts.mask], None
        if given is not None:
            if not isinstance(given, Tensor):
                return None
            mask = mask_of(given, self.parts.kind, len(x), x.shape[1])
            if mask is None:
                return None
        run = self._by_pytorch if self.exact else self._natively
        y = run(x.detach().contiguous(), mask)
        return (y,) if self.parts.wrapped else y

    def _natively(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self._program(x, mask, threads=self._threads)

    def _by_pytorch(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The same structure in floats, by PyTorch."""
        q, k, v, o, up, down = self._datas
        (g1, b1, e1), (g2, b2, e2) = self.parts.norms

        def linear(data: LayerData, y: Tensor) -> Tensor:
            bias = None if data.bias is None else torch.from_numpy(data.bias)
            return functional.linear(y, torch.from_numpy(data.weight), bias)

        def split(y: Tensor) -> Tensor:
            return y.view(*y.shape[:2], self.parts.heads, -1).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            split(linear(q, x)),
            split(linear(k, x)),
            split(linear(v, x)),
            attn_mask=None if mask is None else mask[:, None],
            scale=self.parts.scale,
        )
        y = linear(o, mixed.transpose(1, 2).reshape(x.shape))
        z = functional.layer_norm(x + y, x.shape[-1:], g1, b1, e1)
        act = functional.gelu if self.parts.activation == "gelu" else functional.relu
        return functional.layer_norm(z + linear(down, act(linear(up, z))), x.shape[-1:], g2, b2, e2)

    def _fits(self, x: Any) -> bool:
        return (
            isinstance(x, Tensor)
            and x.dtype == torch.float32
            and x.dim() == 3
            and x.shape[2] == self._datas[0].weight.shape[1]
            and x.numel() > 0
            and x.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
        )

    def _untouched(self) -> bool:
        """Whether the layer's parts are still there, and nobody looks at or changes one."""
        if any(held.get(name) is not child for held, name, child in self._held):
            return False
        return not any(map(is_watched, self._inside))


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and isinstance(a, PLAIN) and bool(a == b)


def fused_layers(model: nn.Module) -> list[FusedLayer]:
    """Those of a network, in order."""
    held = (module.__dict__.get(_FUSED) for module in model.modules())
    return [layer for layer in held if layer is not None]


def put_layer(
    module: nn.Module, layer: FusedLayer | Callable[[nn.Module, Arguments], FusedLayer | None]
) -> None:
    """Let a module run natively; `layer` may be what gives its form at the first call."""
    held: dict[str, Any] = module.__dict__  # not as submodules
    held[_FUSED if isinstance(layer, FusedLayer) else _MAKER] = layer
    held["forward"] = MethodType(_forward, module)


def _forward(self: Any, *places: Any, **words: Any) -> Any:
    if _MAKER in self.__dict__:
        _make(self, Arguments(places=places, words=words))
    layer: FusedLayer | None = self.__dict__.get(_FUSED)
    result = None if layer is None else layer(places, words)
    return type(self).forward(self, *places, **words) if result is None else result


def _make(module: nn.Module, given: Arguments) -> None:
    """Make the native form; other threads wait for it."""
    held = module.__dict__
    with _lock:
        if _MAKER not in held or held.get(_BUSY):
            return  # it is made; or this thread runs the module to see its parts
        held[_BUSY] = True
        try:
            layer = held[_MAKER](module, given)
        finally:
            del held[_BUSY], held[_MAKER]
        if layer is not None:
            held[_FUSED] = layer
