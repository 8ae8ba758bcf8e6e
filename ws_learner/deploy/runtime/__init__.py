"""Sparse CPU inference: generated kernels for sparse weights, chosen by a timed trial.

Names are handed out when first asked for; nothing here needs llvmlite until a kernel is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core import lazy_names

if TYPE_CHECKING:
    from ws_learner.deploy.runtime.compile import compile_sparse
    from ws_learner.deploy.runtime.compiled import CompiledModel
    from ws_learner.deploy.runtime.load import load_sparse
    from ws_learner.deploy.runtime.wsr_file import read_wsr, write_wsr

__all__ = ["CompiledModel", "compile_sparse", "load_sparse", "read_wsr", "write_wsr"]

_MODULES = {
    "compile": ["compile_sparse"],
    "compiled": ["CompiledModel"],
    "load": ["load_sparse"],
    "wsr_file": ["read_wsr", "write_wsr"],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
