"""Causal language models: pruned block by block, from disk to disk, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.language.learner import LanguageLearner
    from ws_learner.language.out import save_hf_folder
    from ws_learner.language.resource import DENSE_NOTE, smollm2_folder
    from ws_learner.language.settings import LanguageSettings
    from ws_learner.language.task import LanguageTask
    from ws_learner.language.windows import read_texts

__all__ = [
    "DENSE_NOTE",
    "LanguageLearner",
    "LanguageSettings",
    "LanguageTask",
    "read_texts",
    "save_hf_folder",
    "smollm2_folder",
]

_MODULES = {
    "learner": [
        "LanguageLearner",
    ],
    "out": [
        "save_hf_folder",
    ],
    "resource": [
        "DENSE_NOTE",
        "smollm2_folder",
    ],
    "settings": [
        "LanguageSettings",
    ],
    "task": [
        "LanguageTask",
    ],
    "windows": [
        "read_texts",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
