"""Imports timm where torchvision's compiled operators do not fit this torch.

timm imports torchvision for its data pipeline. A torchvision without its operators cannot describe
them to torch, which is an error at import; nothing here uses them, so the description is skipped.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch

__all__ = ["timm_or_skip"]


def timm_or_skip() -> ModuleType:
    """The package, or the end of the test that asks for it."""
    known = torch.library.register_fake

    def register(op: Any, *args: Any, **kwargs: Any) -> Any:
        if str(op).startswith("torchvision::"):
            return lambda function: function
        return known(op, *args, **kwargs)

    with mock.patch.object(torch.library, "register_fake", register):
        timm: ModuleType = pytest.importorskip("timm", exc_type=ImportError)
    return timm
