"""Convolutional networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.nets_people_bring.net import net

__all__ = ["NETS"]

_conv = partial(nn.Conv2d, kernel_size=3, padding=1)


def _images() -> Tensor:
    return torch.randn(3, 3, 8, 8)


def _between(*layers: Callable[[], nn.Module], after: int = 12) -> Callable[[], Any]:
    """Two convolutions with `layers` between them."""

    def build() -> tuple[nn.Module, Any]:
        torch.manual_seed(0)
        parts = [_conv(3, 12), *(make() for make in layers), nn.ReLU(), _conv(after, 8)]
        return nn.Sequential(*parts, nn.ReLU(), nn.Conv2d(8, 2, 1)), _images()

    return build


def _unet(self: Any, x: Tensor) -> Tensor:
    down = self.down(x).relu()
    deep = self.deep(functional.max_pool2d(down, 2)).relu()
    joined = torch.cat([self.up(deep), down], 1)
    out: Tensor = self.out(self.join(joined).relu())
    return out


def _squeeze(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    scale = self.second(self.first(x.mean((2, 3))).relu()).sigmoid()
    out: Tensor = self.b(x * scale[:, :, None, None])
    return out


def _broadcast(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.b((self.a(x) + self.one(x)).relu())
    return out


def _shuffle(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    count, channels, *sides = x.shape
    mixed = x.view(count, 2, channels // 2, *sides).transpose(1, 2).reshape(x.shape)
    out: Tensor = self.b(mixed)
    return out


def _of_weights(self: Any, x: Tensor) -> Tensor:
    x = functional.conv2d(self.a(x).relu(), self.b.weight, self.b.bias, padding=1)
    out: Tensor = self.c(x.relu())
    return out


def _layer_norm(self: Any, x: Tensor) -> Tensor:
    x = self.norm(self.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    out: Tensor = self.b(x.relu())
    return out


def _halves(self: Any, x: Tensor) -> Tensor:
    left, right = self.a(x).chunk(2, dim=1)
    out: Tensor = self.b(torch.tanh(left) * torch.sigmoid(right))
    return out


def _split(self: Any, x: Tensor) -> Tensor:
    small, large = torch.split(self.a(x), [4, 8], dim=1)
    out: Tensor = self.b(large.relu()) + self.c(small.relu())
    return out


def _two_sizes(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    whole = functional.interpolate(x, size=(12, 12), mode="bilinear", align_corners=False)
    out: Tensor = self.b(functional.pad(whole, (1, 0, 2, 1)))
    return out


def _slope(self: Any, x: Tensor) -> Tensor:
    out: Tensor = self.b(x[:, 1:3]) + self.a(x)[:, 2:6].relu()
    return out


def _channel_mean(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    attention = self.c(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()
    out: Tensor = self.b(x * attention)
    return out


def _dense_block(self: Any, x: Tensor) -> Tensor:
    one = self.a(x).relu()
    two = self.b(torch.cat([x, one], 1)).relu()
    out: Tensor = self.c(torch.cat([x, one, two], 1))
    return out


def _positions(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    x = x.view(-1, 12, 64) @ x.view(-1, 12, 64).transpose(1, 2)
    out: Tensor = self.head(x.flatten(1))
    return out


def _fixed_view(self: Any, x: Tensor) -> Tensor:
    x = self.a(x).relu()
    out: Tensor = self.head(x.view(-1, 12 * 64))
    return out


NETS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "transposed convolution": _between(lambda: nn.ConvTranspose2d(12, 12, 2, stride=2)),
    "grouped transposed convolution": _between(
        lambda: nn.ConvTranspose2d(12, 12, 2, stride=2, groups=3)
    ),
    "U-Net with concatenated skips": net(
        _unet,
        _images,
        down=lambda: _conv(3, 8),
        deep=lambda: _conv(8, 12),
        up=lambda: nn.ConvTranspose2d(12, 8, 2, stride=2),
        join=lambda: _conv(16, 8),
        out=lambda: nn.Conv2d(8, 2, 1),
    ),
    "GLU over channels": _between(lambda: nn.GLU(1), after=6),
    "chunk and gate": net(_halves, _images, a=lambda: _conv(3, 12), b=lambda: _conv(6, 2)),
    "split of unequal parts": net(
        _split, _images, a=lambda: _conv(3, 12), b=lambda: _conv(8, 4), c=lambda: _conv(4, 4)
    ),
    "slices of channels": net(_slope, _images, a=lambda: _conv(3, 12), b=lambda: _conv(2, 4)),
    "grouped convolution": _between(lambda: _conv(12, 12, groups=3)),
    "depthwise convolution": _between(lambda: _conv(12, 12, groups=12)),
    "zero padding": _between(lambda: nn.ZeroPad2d(2)),
    "constant padding": _between(lambda: nn.ConstantPad2d(1, 0.5)),
    "reflect padding": _between(lambda: nn.ReflectionPad2d(1)),
    "replicate padding": _between(lambda: nn.ReplicationPad2d(1)),
    "circular convolution": _between(
        lambda: nn.Conv2d(12, 12, 3, padding=1, padding_mode="circular")
    ),
    "nearest upsampling": _between(lambda: nn.Upsample(scale_factor=2)),
    "bilinear upsampling": _between(lambda: nn.Upsample(scale_factor=2, mode="bilinear")),
    "bicubic upsampling": _between(lambda: nn.Upsample(scale_factor=2, mode="bicubic")),
    "interpolation and functional padding": net(
        _two_sizes, _images, a=lambda: _conv(3, 12), b=lambda: _conv(12, 2)
    ),
    "pixel shuffle": _between(lambda: nn.PixelShuffle(2), after=3),
    "pixel unshuffle": _between(lambda: nn.PixelUnshuffle(2), after=48),
    "channel shuffle module": _between(lambda: nn.ChannelShuffle(3)),
    "channel shuffle by view": net(
        _shuffle, _images, a=lambda: _conv(3, 12), b=lambda: _conv(12, 2)
    ),
    "instance norm": _between(lambda: nn.InstanceNorm2d(12)),
    "instance norm with weights": _between(lambda: nn.InstanceNorm2d(12, affine=True)),
    "instance norm with statistics": _between(
        lambda: nn.InstanceNorm2d(12, affine=True, track_running_stats=True)
    ),
    "batch norm": _between(lambda: nn.BatchNorm2d(12)),
    "batch norm without weights": _between(lambda: nn.BatchNorm2d(12, affine=False)),
    "batch norm without statistics": _between(
        lambda: nn.BatchNorm2d(12, track_running_stats=False)
    ),
    "group norm": _between(lambda: nn.GroupNorm(3, 12)),
    "local response norm": _between(lambda: nn.LocalResponseNorm(3)),
    "layer norm over channels": net(
        _layer_norm,
        _images,
        a=lambda: _conv(3, 12),
        norm=lambda: nn.LayerNorm(12),
        b=lambda: _conv(12, 2),
    ),
    "PReLU per channel": _between(lambda: nn.PReLU(12)),
    "average pooling with padding": _between(lambda: nn.AvgPool2d(3, 1, padding=1)),
    "softmax over channels": _between(lambda: nn.Softmax2d()),
    "dropout of channels": _between(lambda: nn.Dropout2d(0.5)),
    "in-place activations": _between(lambda: nn.ReLU6(inplace=True), lambda: nn.SiLU(inplace=True)),
    "channel attention": net(
        _squeeze,
        _images,
        a=lambda: _conv(3, 12),
        first=lambda: nn.Linear(12, 4),
        second=lambda: nn.Linear(4, 12),
        b=lambda: _conv(12, 2),
    ),
    "spatial attention": net(
        _channel_mean,
        _images,
        a=lambda: _conv(3, 12),
        c=lambda: _conv(2, 1),
        b=lambda: _conv(12, 2),
    ),
    "sum with a broadcast channel": net(
        _broadcast, _images, a=lambda: _conv(3, 12), one=lambda: _conv(3, 1), b=lambda: _conv(12, 2)
    ),
    "dense block": net(
        _dense_block,
        _images,
        a=lambda: _conv(3, 6),
        b=lambda: _conv(9, 6),
        c=lambda: _conv(15, 2),
    ),
    "convolution of a layer's weight": net(
        _of_weights,
        _images,
        a=lambda: _conv(3, 12),
        b=lambda: _conv(12, 8),
        c=lambda: _conv(8, 2),
    ),
    "product of two activations": net(
        _positions, _images, a=lambda: _conv(3, 12), head=lambda: nn.Linear(144, 2)
    ),
    "view of a fixed size": net(
        _fixed_view, _images, a=lambda: _conv(3, 12), head=lambda: nn.Linear(768, 2)
    ),
    "one- and three-dimensional convolutions": lambda: (
        nn.Sequential(
            nn.Conv1d(3, 12, 3, padding=1),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Unflatten(1, (12, 1)),
            nn.Flatten(1, 2),
            nn.Conv1d(12, 2, 1),
        ),
        torch.randn(3, 3, 8),
    ),
    "volumes": lambda: (
        nn.Sequential(
            nn.Conv3d(2, 8, 3, padding=1), nn.InstanceNorm3d(8), nn.ReLU(), nn.Conv3d(8, 2, 1)
        ),
        torch.randn(2, 2, 4, 4, 4),
    ),
}
