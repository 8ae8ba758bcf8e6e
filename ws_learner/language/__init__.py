"""Causal language models: pruned block by block, from disk to disk, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.language.blocks import BlockNetwork
    from ws_learner.language.checks import check_language
    from ws_learner.language.layer_rows import block_layers
    from ws_learner.language.learner import LanguageLearner
    from ws_learner.language.out import save_hf_folder
    from ws_learner.language.perplexity import window_losses
    from ws_learner.language.protocol_names import LANGUAGE_PROTOCOLS
    from ws_learner.language.recovery import Recovery, recover
    from ws_learner.language.resource import DENSE_NOTE, smollm2_folder
    from ws_learner.language.run_files import (
        is_language_run,
        measure_again,
        open_in_transformers,
        open_pruned,
    )
    from ws_learner.language.settings import LanguageSettings
    from ws_learner.language.task import LanguageTask
    from ws_learner.language.texts import open_tokenizer, read_texts
    from ws_learner.language.transformers_import import quiet
    from ws_learner.language.walk import PrunedBlocks
    from ws_learner.language.windows import read_whole

__all__ = [
    "DENSE_NOTE",
    "LANGUAGE_PROTOCOLS",
    "BlockNetwork",
    "LanguageLearner",
    "LanguageSettings",
    "LanguageTask",
    "PrunedBlocks",
    "Recovery",
    "block_layers",
    "check_language",
    "is_language_run",
    "measure_again",
    "open_in_transformers",
    "open_pruned",
    "open_tokenizer",
    "quiet",
    "read_texts",
    "read_whole",
    "recover",
    "save_hf_folder",
    "smollm2_folder",
    "window_losses",
]

_MODULES = {
    "blocks": [
        "BlockNetwork",
    ],
    "layer_rows": [
        "block_layers",
    ],
    "checks": [
        "check_language",
    ],
    "learner": [
        "LanguageLearner",
    ],
    "out": [
        "save_hf_folder",
    ],
    "perplexity": [
        "window_losses",
    ],
    "protocol_names": [
        "LANGUAGE_PROTOCOLS",
    ],
    "recovery": [
        "Recovery",
        "recover",
    ],
    "resource": [
        "DENSE_NOTE",
        "smollm2_folder",
    ],
    "run_files": [
        "is_language_run",
        "measure_again",
        "open_in_transformers",
        "open_pruned",
    ],
    "settings": [
        "LanguageSettings",
    ],
    "task": [
        "LanguageTask",
    ],
    "texts": [
        "open_tokenizer",
        "read_texts",
    ],
    "transformers_import": [
        "quiet",
    ],
    "walk": [
        "PrunedBlocks",
    ],
    "windows": [
        "read_whole",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
