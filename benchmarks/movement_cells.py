"""Training runs of `movement_proof`: the cells of its grid and of its table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["KEPT", "PATTERNS", "SOFT", "TASKS", "VARIANTS", "Cell", "Start", "grid", "table_cells"]

TASKS: Mapping[str, tuple[str, float]] = {
    "trec": ("bert_at_trec", 1.0),
    "polarity": ("bert_at_polarity", 0.5),
}
"""Task -> experiment, and its epochs for one of TREC's: polarity has twice the sentences."""
PATTERNS: Mapping[str, str] = {
    "fine": "unstructured",
    "hybrid": "32x32@attention+units@ff",
    "units": "units",
}
"""Single weights; attentions in blocks, feed-forwards in rows with columns; heads and neurons."""
KEPT = (0.5, 0.3, 0.1, 0.03)
SOFT = "soft"

_MOVEMENT: Mapping[str, tuple[str, ...]] = {
    "paper": ("--movement_start", "zero", "--movement_score_lr", "0.01"),
    **{f"adam-{rate}": ("--movement_score_lr", rate) for rate in ("0.001", "0.0003", "0.003")},
    **{
        f"relative-{rate}": ("--movement_steps", "relative", "--movement_score_lr", rate)
        for rate in ("0.003", "0.001", "0.01")
    },
    "weights": ("--movement_steps", "weights"),
    "relative-zero": ("--movement_steps", "relative", "--movement_start", "zero"),
}
VARIANTS: Mapping[str, tuple[str, ...]] = {"gradual": ()} | {
    name: ("--ws_method", "movement", *words) for name, words in _MOVEMENT.items()
}
"""How the masks are chosen -> flags."""


@dataclass(frozen=True)
class Start:
    """Dense weights of one task and seed, before and after fine-tuning."""

    pretrained: Path
    tuned: Path


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training.

    Attributes:
        task: A key of `TASKS`.
        variant: A key of `VARIANTS`, or `soft-F` for a threshold with penalty factor F.
        kept: Share of the encoder's weights that stays.
        pattern: A key of `PATTERNS`.
        seed: Of the training and of the dense network.
        epochs: Of TREC; the other task makes as many steps.
        rate: Peak learning rate.
        end: Share of the training at which the ramp ends.
        note: Name of `more`, for the file.
        more: Additional flags.
        fresh: Start before fine-tuning; the fine-tuned network is only the teacher.
    """

    task: str
    variant: str
    kept: float
    pattern: str = "fine"
    seed: int = 0
    epochs: float = 12.0
    rate: float = 5e-4
    end: float = 0.6
    note: str = ""
    more: tuple[str, ...] = ()
    fresh: bool = False

    @property
    def name(self) -> str:
        """Of its file."""
        parts = [self.task, self.pattern, f"{self.kept:g}", self.variant, f"{self.rate:g}"]
        parts += [f"{self.epochs:g}", f"{self.end:g}", self.note, "fresh" if self.fresh else ""]
        return "_".join([*(part for part in parts if part), str(self.seed)])

    def words(self, start: Start, folder: Path) -> list[str]:
        """Its command line; `folder` is the run's directory."""
        experiment, share = TASKS[self.task]
        words = [experiment, "--seed", str(self.seed), "--run_dir", str(folder)]
        words += ["--nb_epochs", f"{share * self.epochs:g}", "--lrn_rate", f"{self.rate:g}"]
        words += ["--dense_checkpoint", str(start.pretrained if self.fresh else start.tuned)]
        words += ["--workers", "0"]
        if self.variant.startswith(SOFT):
            return [*words, "--config", f"{folder}.json"]
        words += ["--ws_pattern", PATTERNS[self.pattern], "--ws_include", "bert.encoder.*"]
        words += ["--ws_prune_ratio", f"{1 - self.kept:g}", "--ws_prune_ratio_prtl", "uniform"]
        words += ["--ws_iter_ratio_beg", "0.05", "--ws_iter_ratio_end", f"{self.end:g}"]
        if "alone" not in self.note:
            words += ["--enbl_dst", "--dst_checkpoint", str(start.tuned)]
        return [*words, *VARIANTS[self.variant], *self.more]

    def soft_config(self) -> dict[str, object]:
        """NNCF's file of a `soft-F` cell: single weights, scores from 0 at a rate of 0.01."""
        epochs = TASKS[self.task][1] * self.epochs
        return {
            "compression": [
                {
                    "algorithm": "movement_sparsity",
                    "params": {
                        "warmup_start_epoch": 1.0,
                        "warmup_end_epoch": self.end * epochs,
                        "importance_regularization_factor": float(self.variant.partition("-")[2]),
                        "enable_structured_masking": False,
                    },
                    "target_scopes": ["{re}encoder"],
                    "compression_lr_multiplier": 0.01 / self.rate,
                },
                {
                    "algorithm": "knowledge_distillation",
                    "type": "softmax",
                    "scale": 0.25,
                    "temperature": 4.0,
                },
            ]
        }


def grid(**common: object) -> list[Cell]:
    """What the settings are chosen by, the most telling first; both tasks, one seed.

    Args:
        common: What is the same in each `Cell` that does not try another value.
    """
    return [
        Cell(task=task, **(common | settings))  # type: ignore[arg-type]
        for settings in _settings()
        for task in TASKS
    ]


def _settings() -> Iterator[dict[str, object]]:
    best, other = "weights", "adam-0.001"
    for variant in ("gradual", *_MOVEMENT):
        yield {"variant": variant, "kept": 0.03}
    for variant in ("gradual", best, other, "adam-0.003"):
        yield {"variant": variant, "kept": 0.1}
    for rate in (1e-3, 2e-4):
        for variant in ("gradual", best, other):
            yield {"variant": variant, "kept": 0.03, "rate": rate}
    for variant in ("gradual", "paper", best):
        yield {"variant": variant, "kept": 0.03, "fresh": True}
    for variant in ("gradual", best):
        yield {"variant": variant, "kept": 0.03, "end": 0.8}
        strong = ("--loss_w_dst", "36", "--tempr_dst", "2")
        yield {"variant": variant, "kept": 0.03, "note": "strong", "more": strong}
        yield {"variant": variant, "kept": 0.03, "note": "alone"}
        often = ("--ws_scope", "global", "--ws_mask_update_step", "50")
        yield {"variant": variant, "kept": 0.03, "note": "global", "more": often}
    for factor in (50, 200, 800):
        yield {"variant": f"{SOFT}-{factor}", "kept": 0.03}


def table_cells(
    *, movement: str, gradual: str = "gradual", seeds: int = 3, **settings: object
) -> list[Cell]:
    """Movement against gradual pruning, the most telling cells first.

    Args:
        movement: Key of `VARIANTS`.
        gradual: Key of the baseline.
        seeds: How many.
        settings: More of each `Cell`.
    """
    order = [("fine", kept) for kept in (0.03, 0.1)]
    order += [("units", kept) for kept in (0.5, 0.3)]
    order += [("fine", kept) for kept in (0.3, 0.5)]
    order += [("hybrid", kept) for kept in KEPT]
    order += [("units", kept) for kept in (0.1, 0.03)]
    return [
        Cell(
            task=task,
            variant=variant,
            kept=kept,
            pattern=pattern,
            seed=seed,
            **settings,  # type: ignore[arg-type]
        )
        for pattern, kept in order
        for seed in range(seeds)
        for task in TASKS
        for variant in (movement, gradual)
    ]
