"""Quantization-aware training: 8-bit weights and activations in the forward pass.

Weights are quantized symmetrically, after masking, with one scale per output or per tensor; a
pruned weight stays exactly 0. A layer's inputs have one range, a moving average over batches.
Gradients pass straight through the rounding and are zero outside the range (Jacob et al., CVPR
2018).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ws_learner.core import Inputs, ProcessGroup, UserError, check_settings, count_of, run_model

__all__ = ["FakeQuantizer", "QuantConfig", "calibration", "whole_weights"]

RangeType = Literal["mixed_min_max", "min_max", "mean_min_max", "percentile"]
_SAMPLED = 8192
_TINY = 1e-8


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """Quantization scheme of weights and activations.

    Attributes:
        symmetric_activations: Activations as int8 with range -a to a, else as uint8 from a to b.
        per_channel: One weight scale per output, else one per tensor.
        half_range: Weights use 7 of the 8 bits, so that processors whose 8-bit products saturate
            do not overflow (NNCF's overflow_fix).
        first_only: Apply `half_range` only to layers with the same input as the first layer, such
            as the first q, k and v.
        range_type: Statistic of a batch's inputs that gives their range.
        percentiles: Lower and upper percentile for `percentile`, in percent.
        momentum: Momentum of the ranges' moving average, in [0, 1).
    """

    symmetric_activations: bool = True
    per_channel: bool = True
    half_range: bool = False
    first_only: bool = False
    range_type: RangeType = "mixed_min_max"
    percentiles: tuple[float, float] = (0.1, 99.9)
    momentum: float = 0.99

    def __post_init__(self) -> None:
        check_settings(self)


class FakeQuantizer:
    """Fake quantization of a model's Linear layers.

    The model keeps its class, parameters and keys; `detach` restores the layers' original
    forward pass.
    """

    def __init__(self, model: nn.Module, names: Iterable[str], config: QuantConfig) -> None:
        """Wrap the named Linear modules; ranges are unset until `calibrate`.

        Raises:
            UserError: No module is named, or one is not a Linear module.
        """
        self.config, self.model = config, model
        self.layers: dict[str, nn.Linear] = {}
        self.ranges: dict[str, Tensor] = {}
        for name in names:
            layer = model.get_submodule(name)
            if not isinstance(layer, nn.Linear):
                raise UserError(f"quantization: {name} is not a Linear layer")
            self.layers[name] = layer
            self.ranges[name] = torch.zeros(2)
        if not self.layers:
            raise UserError("quantization: no Linear layer is left; change ignored_scopes")
        self._calibrating, self._first = False, set[str]()
        self._read: Tensor | None = None
        for name, layer in self.layers.items():
            layer.forward = functools.partial(self._forward, name)  # type: ignore[method-assign]

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Inputs]) -> None:
        """Initialise the ranges to the average over the batches, without quantization.

        This also determines which layers are first.
        """
        training, self._calibrating = self.model.training, True
        self.model.eval()
        seen: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        self._seen = seen
        self._first = set()
        for inputs in batches:
            self._read = None
            run_model(self.model, inputs)
        self._read = None
        for name, found in seen.items():
            if found:
                stacked = torch.stack(found)
                extreme = self.config.range_type == "min_max"
                low = stacked[:, 0].amin() if extreme else stacked[:, 0].mean()
                high = stacked[:, 1].amax() if extreme else stacked[:, 1].mean()
                self.ranges[name] = torch.stack((low, high))
        self._calibrating = False
        self.model.train(training)

    def moved_to(self, model: nn.Module) -> FakeQuantizer:
        """Apply this quantization to another network with these layers, such as a cropped one."""
        other = FakeQuantizer(model, self.layers, self.config)
        other.load_state_dict(self.state_dict())
        other._first = set(self._first)
        return other

    def settle(self, process_group: ProcessGroup) -> None:
        """Synchronise the ranges over all ranks after a step.

        For ranges of minimum and maximum, the result is the range of the whole batch.
        """
        together = process_group.all_reduce_minmax(torch.stack([*self.ranges.values()]))
        self.ranges = dict(zip(self.ranges, together.unbind(), strict=True))

    def detach(self) -> None:
        """Remove the quantization from the layers."""
        for layer in self.layers.values():
            vars(layer).pop("forward", None)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the ranges."""
        return {name: value.clone() for name, value in self.ranges.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the ranges.

        Raises:
            UserError: The ranges belong to another network.
        """
        if set(state) != set(self.ranges):
            raise UserError("the saved ranges belong to another network; give a matching file")
        self.ranges = {name: value.clone() for name, value in state.items()}

    def activation(self, name: str) -> tuple[float, int, int, int]:
        """Scale, zero point, minimum and maximum integer of a layer's inputs."""
        low, high = (float(value) for value in self.ranges[name])
        if self.config.symmetric_activations:
            return max(abs(low), abs(high), _TINY) / 127, 0, -128, 127
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, _TINY) / 255
        return scale, min(max(round(-low / scale), 0), 255), 0, 255

    def most(self, name: str) -> int:
        """Maximum integer of a layer's weights."""
        half = self.config.half_range and (not self.config.first_only or name in self._first)
        return 63 if half else 127

    def weight_scale(self, name: str) -> Tensor:
        """(O,) scale of each output's weights."""
        rows = self.layers[name].weight.detach().abs().amax(1)
        rows = rows if self.config.per_channel else rows.amax().expand_as(rows)
        return rows.clamp(min=_TINY) / self.most(name)

    def _forward(self, name: str, inputs: Tensor) -> Tensor:
        layer, given, inputs = self.layers[name], inputs, inputs.float()
        if self._calibrating:
            self._read = given if self._read is None else self._read
            if given is self._read:
                self._first.add(name)
            self._seen[name].append(self._range(inputs))
            return functional.linear(inputs, layer.weight, layer.bias)
        if self.model.training:
            new = self._range(inputs.detach())
            self.ranges[name] = self.ranges[name].to(new.device).lerp(new, 1 - self.config.momentum)
        scale, zero, least, most = self.activation(name)
        inputs = torch.fake_quantize_per_tensor_affine(inputs, scale, zero, least, most)
        scales, whole = self.weight_scale(name), self.most(name)
        weight = torch.fake_quantize_per_channel_affine(
            layer.weight,
            scales,
            torch.zeros(len(scales), dtype=torch.int32, device=scales.device),
            0,
            -whole,
            whole,
        )
        return functional.linear(inputs, weight, layer.bias)

    def _range(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten()
        if self.config.range_type == "percentile":
            few = flat[:: max(1, flat.numel() // _SAMPLED)]
            shares = torch.tensor(self.config.percentiles, device=flat.device) / 100
            return torch.quantile(few, shares)
        return torch.stack((flat.amin(), flat.amax()))


def whole_weights(quantizer: FakeQuantizer, name: str) -> tuple[Tensor, Tensor]:
    """(O, I) int8 weights of a layer and (O,) their scales."""
    weight = quantizer.layers[name].weight.detach()
    scales, most = quantizer.weight_scale(name), quantizer.most(name)
    return (weight / scales[:, None]).round().clamp(-most, most).to(torch.int8), scales


def calibration(batches: Iterable[tuple[Inputs, Tensor]], samples: int) -> Sequence[Inputs]:
    """Inputs of the first batches that together hold `samples` examples."""
    chosen: list[Inputs] = []
    for inputs, _ in batches:
        chosen.append(inputs)
        if sum(count_of(each) for each in chosen) >= samples:
            break
    return chosen
