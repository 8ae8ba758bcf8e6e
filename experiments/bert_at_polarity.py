"""MiniLM, a BERT of six layers, on movie-review sentences, positive or not (Pang & Lee 2004)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ws_learner.core import check_settings

if TYPE_CHECKING:
    from experiments.experiment import Experiment


@dataclass(frozen=True)
class Options:
    """Flags of this experiment."""

    data_dir: Path | None = None
    """Folder with movieReviewSnippets_GroundTruth.txt; without it the sentences are downloaded once
    and cached, as the pretrained weights are."""
    layers: int = 6
    """The first layers of MiniLM that are there; with fewer, things are quick to try."""

    def __post_init__(self) -> None:
        check_settings(self)


def build(options: Options, *, seed: int) -> Experiment:
    """Assemble network, data and recipes."""
    from experiments.sentences import minilm_experiment
    from ws_learner.data import load_polarity

    data = load_polarity(options.data_dir)
    return minilm_experiment("minilm_at_polarity", data, seed=seed, layers=options.layers)
