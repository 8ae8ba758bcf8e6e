"""Makes zeros pay on a CPU: kernels generated for sparse weights, chosen by a timed trial.

Names are handed out when first asked for; nothing here needs llvmlite until a kernel is made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ws_learner.runtime.compile import compile_sparse
    from ws_learner.runtime.compiled import CompiledModel
    from ws_learner.runtime.model_file import load_sparse
    from ws_learner.runtime.sparse_file import read_wsr, write_wsr

__all__ = ["CompiledModel", "compile_sparse", "load_sparse", "read_wsr", "write_wsr"]

_HOMES = {
    "CompiledModel": "compiled",
    "compile_sparse": "compile",
    "load_sparse": "model_file",
    "read_wsr": "sparse_file",
    "write_wsr": "sparse_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ws_learner.runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ws_learner.runtime.{_HOMES[name]}"), name)
