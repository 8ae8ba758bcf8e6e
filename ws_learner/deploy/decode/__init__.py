"""Decode of sparse language models: one native call for each token.

Names are handed out when first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core import lazy_names

if TYPE_CHECKING:
    from ws_learner.deploy.decode.language_model import (
        SparseLM,
        compile_sparse_lm,
        load_sparse_lm,
    )
    from ws_learner.deploy.decode.sampling import Sampling

__all__ = ["Sampling", "SparseLM", "compile_sparse_lm", "load_sparse_lm"]

_MODULES = {
    "language_model": ["SparseLM", "compile_sparse_lm", "load_sparse_lm"],
    "sampling": ["Sampling"],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
