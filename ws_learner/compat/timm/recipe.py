"""Recipe keys of a timm training config. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ws_learner.compat.values import above_zero, fraction, from_zero, text, whole
from ws_learner.compat.yaml_with_lines import Problems, Table

__all__ = ["RECIPE_KEYS", "read_recipe"]

RECIPE_KEYS = (
    *("batch_size", "opt", "lr", "lr_base", "lr_base_size", "lr_base_scale", "momentum"),
    *("weight_decay", "sched", "min_lr", "warmup_epochs", "clip_grad", "clip_mode"),
    *("smoothing", "mixup", "drop", "drop_path", "seed"),
)
_OPTIMIZERS = {"adamw": "adamw", "adam": "adam", "sgd": "sgd", "nesterov": "sgd"}
_OPTIMIZERS |= {"momentum": "sgd", "rmsprop": "rmsprop"}
_ADAPTIVE = ("ada", "lamb")

_PLAIN: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "batch_size": ("batch_size", whole, "a whole number from 1"),
    "weight_decay": ("weight_decay", from_zero, "a number from 0"),
    "momentum": ("momentum", from_zero, "a number from 0"),
    "min_lr": ("lrn_rate_min", from_zero, "a number from 0"),
    "clip_grad": ("clip_norm", above_zero, "a number above 0"),
    "smoothing": ("label_smoothing", fraction, "a share in [0, 1)"),
    "mixup": ("mixup", from_zero, "a number from 0"),
    "seed": ("seed", whole, "a whole number from 0"),
}


def read_recipe(
    table: Table, problems: Problems, *, epochs: int
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Our settings, an experiment's options, and notes on what could not be followed.

    Args:
        table: The file, keys in lower case.
        problems: Where complaints go.
        epochs: Length of the training.
    """
    settings: dict[str, Any] = {"nb_epochs": epochs}
    notes: list[str] = []
    for key, (flag, convert, wanted) in _PLAIN.items():
        given = problems.value(table, key, convert, default=None, wanted=wanted)
        if given is not None:
            settings[flag] = given
    options = {}
    for key in ("drop", "drop_path"):
        rate = problems.value(table, key, fraction, default=None, wanted="a share in [0, 1)")
        if rate is not None:
            options[key] = rate
    settings |= _schedule(table, problems, notes, epochs=epochs)
    optimizer = problems.value(table, "opt", text, default=None, wanted="an optimizer's name")
    if optimizer is not None and optimizer.lower() in _OPTIMIZERS:
        settings["optimizer"] = _OPTIMIZERS[optimizer.lower()]
    elif optimizer is not None:
        notes.append(f"opt {optimizer}: not there; the experiment's optimizer is used")
    mode = table.get("clip_mode")
    if "clip_norm" in settings and mode not in (None, "norm"):
        del settings["clip_norm"]
        notes.append(f"clip_mode {mode}: only norm is there; gradients are not clipped")
    rate = _rate(table, problems, settings, optimizer=optimizer or "")
    if rate is not None:
        settings["lrn_rate"] = rate
    return settings, options, notes


def _schedule(table: Table, problems: Problems, notes: list[str], *, epochs: int) -> dict[str, Any]:
    """Warm-up and shape of the learning rate."""
    settings: dict[str, Any] = {}
    warmup = problems.value(table, "warmup_epochs", from_zero, default=None, wanted="from 0")
    if warmup is not None and warmup >= epochs:
        complaint = f"warmup_epochs {warmup:g}: must be below the {epochs} epochs"
        problems.add(table.lines["warmup_epochs"], complaint)
    elif warmup is not None:
        settings["warmup_epochs"] = warmup
    schedule = problems.value(table, "sched", text, default=None, wanted="a schedule's name")
    if schedule is not None and schedule.lower() == "cosine":
        settings["lrn_schedule"] = "one-cycle"
    elif schedule is not None:
        notes.append(f"sched {schedule}: not there; the experiment's schedule is used")
    return settings


def _rate(
    table: Table, problems: Problems, settings: dict[str, Any], *, optimizer: str
) -> float | None:
    """The peak rate: as it is, or timm's base rate scaled by the batch."""
    names = ("lr", "lr_base", "lr_base_size")
    lr, base, size = (
        problems.value(table, name, above_zero, default=None, wanted="a number above 0")
        for name in names
    )
    if lr is not None or base is None:
        return None if lr is None else float(lr)
    scale = table.get("lr_base_scale")
    adaptive = any(word in optimizer.lower() for word in _ADAPTIVE)
    ratio = settings.get("batch_size", 128) / (size or 256)
    root = scale == "sqrt" or (not scale and adaptive)
    return float(base * (math.sqrt(ratio) if root else ratio))
