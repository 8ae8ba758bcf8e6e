"""Small networks of the constructs that people bring, each with inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from tests.support.nets_people_bring import blocks, images, odd, sequences, wrapped

__all__ = ["NETS"]

NETS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    **blocks.NETS,
    **images.NETS,
    **sequences.NETS,
    **odd.NETS,
    **wrapped.NETS,
}
"""Network and example (a tensor, a tuple or keywords) by what is special about it."""
