"""Causal language models: pruned block by block, from disk to disk, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ws_learner.core.lazy import lazy_names

if TYPE_CHECKING:
    from ws_learner.language.blocks import BlockNetwork
    from ws_learner.language.checks import check_language
    from ws_learner.language.layer_rows import BlockLayer, block_layers
    from ws_learner.language.learner import LanguageLearner
    from ws_learner.language.marginal_protocol import marginal_ratios
    from ws_learner.language.out import save_hf_folder
    from ws_learner.language.perplexity import window_losses
    from ws_learner.language.protocol_names import LANGUAGE_PROTOCOLS
    from ws_learner.language.ratio_files import RatioFiles
    from ws_learner.language.ratios import allocate
    from ws_learner.language.recovery import Recovery, recover
    from ws_learner.language.resource import DENSE_NOTE, smollm2_folder
    from ws_learner.language.run_files import (
        is_language_run,
        measure_again,
        open_in_transformers,
        open_pruned,
    )
    from ws_learner.language.settings import LanguageSettings, RewardName
    from ws_learner.language.survey import survey_network
    from ws_learner.language.task import LanguageTask
    from ws_learner.language.texts import open_tokenizer, read_texts
    from ws_learner.language.transformers_import import quiet
    from ws_learner.language.walk import PrunedBlocks, WalkPlan, prune_blocks
    from ws_learner.language.windows import Windows, read_whole

__all__ = [
    "DENSE_NOTE",
    "LANGUAGE_PROTOCOLS",
    "BlockLayer",
    "BlockNetwork",
    "LanguageLearner",
    "LanguageSettings",
    "LanguageTask",
    "PrunedBlocks",
    "RatioFiles",
    "Recovery",
    "RewardName",
    "WalkPlan",
    "Windows",
    "allocate",
    "block_layers",
    "check_language",
    "is_language_run",
    "marginal_ratios",
    "measure_again",
    "open_in_transformers",
    "open_pruned",
    "open_tokenizer",
    "prune_blocks",
    "quiet",
    "read_texts",
    "read_whole",
    "recover",
    "save_hf_folder",
    "smollm2_folder",
    "survey_network",
    "window_losses",
]

_MODULES = {
    "blocks": [
        "BlockNetwork",
    ],
    "checks": [
        "check_language",
    ],
    "layer_rows": [
        "BlockLayer",
        "block_layers",
    ],
    "learner": [
        "LanguageLearner",
    ],
    "marginal_protocol": [
        "marginal_ratios",
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
    "ratio_files": [
        "RatioFiles",
    ],
    "ratios": [
        "allocate",
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
        "RewardName",
    ],
    "survey": [
        "survey_network",
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
        "WalkPlan",
        "prune_blocks",
    ],
    "windows": [
        "Windows",
        "read_whole",
    ],
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
