"""Causal language models: pruned block by block, from disk to disk, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.language.learner import LanguageLearner, check_language
    from ws_learner.language.out import save_hf_folder
    from ws_learner.language.resource import DENSE_NOTE, smollm2_folder
    from ws_learner.language.run_files import (
        is_language_run,
        measure_again,
        open_in_transformers,
    )
    from ws_learner.language.settings import LanguageSettings
    from ws_learner.language.task import LanguageTask
    from ws_learner.language.transformers_import import quiet
    from ws_learner.language.windows import read_texts

__all__ = [
    "DENSE_NOTE",
    "LanguageLearner",
    "LanguageSettings",
    "LanguageTask",
    "check_language",
    "is_language_run",
    "measure_again",
    "open_in_transformers",
    "quiet",
    "read_texts",
    "save_hf_folder",
    "smollm2_folder",
]

_MODULES = {
    "learner": [
        "LanguageLearner",
        "check_language",
    ],
    "out": [
        "save_hf_folder",
    ],
    "resource": [
        "DENSE_NOTE",
        "smollm2_folder",
    ],
    "run_files": [
        "is_language_run",
        "measure_again",
        "open_in_transformers",
    ],
    "settings": [
        "LanguageSettings",
    ],
    "task": [
        "LanguageTask",
    ],
    "transformers_import": [
        "quiet",
    ],
    "windows": [
        "read_texts",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
