"""Any causal language model of Hugging Face on own text, pruned block by block.

The defaults are --prune_ratio 0.5, or 0 with --drop_blocks or --drop_neurons, and --protocol
uniform. Flags of the training of other networks are refused; docs/language_models.md lists those
that there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ws_learner.core import check_all, check_settings, complain
from ws_learner.language import LanguageSettings

if TYPE_CHECKING:
    from experiments.experiment import Experiment
    from ws_learner.language import LanguageTask


@dataclass(frozen=True, kw_only=True)
class Options(LanguageSettings):
    """Flags of this experiment."""

    model: str = ""
    """hf:DIR, a folder with a causal language model and its tokenizer (Llama, Qwen, Mistral, GPT-2,
    OPT, GPT-NeoX and others of their build)."""
    text: tuple[str, ...] = ()
    """Text files or a quoted pattern. Of each file the last tenth is held out, and the tenth before
    is for the search."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)


def language_task(options: Options) -> LanguageTask:
    """Find network and texts."""
    from experiments.language import check_folder, find_model, find_texts
    from ws_learner.language import LanguageTask, read_texts

    folder = find_model(options.model) if options.model else None
    missing = [] if folder else ["--model: needed; hf:DIR, a folder saved with save_pretrained"]
    missing += [] if options.text else ["--text: needed; text files or a quoted pattern"]
    complain(missing)
    assert folder is not None
    check_all(lambda: check_folder(folder), lambda: find_texts(options.text))
    return LanguageTask(
        name="lm_at_text",
        texts=read_texts(find_texts(options.text)),
        folder=folder,
        settings=options,
    )


def build(options: Options, *, seed: int) -> Experiment:
    """Refuse what trains."""
    from experiments.language import refuse_training

    refuse_training("lm_at_text")
