"""A language task: a network's folder, texts and a name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ws_learner.core import sha256_of
from ws_learner.data import Texts
from ws_learner.language.blocks import BlockNetwork
from ws_learner.language.settings import LanguageSettings
from ws_learner.language.texts import TOKENIZER_FILES, open_tokenizer
from ws_learner.language.windows import Windows, cut_windows

__all__ = ["LanguageTask"]


@dataclass(frozen=True, kw_only=True)
class LanguageTask:
    """A causal language model and its texts.

    Attributes:
        name: For the run directory, such as `smollm_at_sotu`.
        folder: Hugging Face folder with the dense network and its tokenizer.
        texts: Documents by split.
        settings: How it is pruned and measured.
        dense_note: What the dense network is, where that needs a word.
    """

    name: str
    folder: Path
    texts: Texts
    settings: LanguageSettings
    dense_note: str = ""

    @cached_property
    def network(self) -> BlockNetwork:
        """The dense network, without its weights in memory.

        Raises:
            UserError: The folder holds no causal language model.
        """
        return BlockNetwork(self.folder)

    @cached_property
    def windows(self) -> Windows:
        """Windows of tokens.

        Raises:
            UserError: The folder has no tokenizer, or the texts are too short.
        """
        chosen = self.settings
        return cut_windows(
            self.texts,
            open_tokenizer(self.folder),
            length=chosen.window,
            calibration=chosen.calibration_windows,
            search=chosen.search_windows,
            test=chosen.test_windows,
            select=chosen.select_windows,
            training=chosen.recover_minutes > 0,
        )

    @cached_property
    def network_digest(self) -> str:
        """SHA-256 over config, weights and tokenizer."""
        kinds = {"config.json", *TOKENIZER_FILES}
        files = sorted(
            file
            for file in self.folder.iterdir()
            if file.name in kinds or file.name.endswith((".safetensors", ".index.json"))
        )
        parts = " ".join(f"{file.name} {sha256_of(file)}" for file in files)
        return hashlib.sha256(parts.encode()).hexdigest()
