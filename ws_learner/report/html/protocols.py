"""The chosen ratios beside those of the protocols that need no rollouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from envs import FloatArray, IntArray
from ws_learner.report.html.baselines import baselines_of
from ws_learner.report.html.layers import MOST_LAYERS
from ws_learner.report.html.limits import cut
from ws_learner.report.html.protocols_figure import draw_protocols, height_of, margins_of
from ws_learner.report.html.run_files import RunFiles, plain, text
from ws_learner.report.html.svg import drawing

__all__ = ["Comparison", "Profile", "protocols_of"]

_MOST = 12
_DRAWN = ("divergence", "knapsack", "lamp", "erk", "uniform")
_NO_BOUNDS = 0.995


@dataclass(frozen=True)
class Profile:
    """A protocol's ratios.

    Attributes:
        name: The protocol.
        ratios: (L,) prune ratios.
        zeros: Zeros of all layers together.
        macs: Share of the multiply-accumulates that are kept; None for a network without.
        elsewhere: Share of the chosen profile's zeros that it puts into other layers.
        reward: Of its rollout; None if none scored it.
    """

    name: str
    ratios: FloatArray
    zeros: int
    macs: float | None
    elsewhere: float
    reward: float | None


@dataclass(frozen=True)
class Comparison:
    """Profiles, best reward first.

    Attributes:
        profiles: Those of the protocols.
        chosen: The run's own.
        layers: Names of the L layers, or of the first ones.
        left_out: Number of further layers.
        figure: The ratios.
        measured: Whether the run kept the profiles; False: they follow from the layer table, and
            protocols that look at weights or outputs are missing.
    """

    profiles: list[Profile]
    chosen: Profile
    layers: list[str]
    left_out: int
    figure: str
    measured: bool


def protocols_of(files: RunFiles) -> Comparison | None:
    """The comparison; None without ratios, or where a single layer leaves nothing to choose."""
    frame = files.ratios
    if frame is None or len(frame) < 2 or not (frame["prune_ratio"] > 0).any():
        return None
    weights = frame["weights"].to_numpy(np.int64)
    own = np.rint(frame["prune_ratio"].to_numpy() * weights).astype(np.int64)
    kept = _kept(files.protocols, frame)
    found = kept or baselines_of(frame, most=_largest(files))
    if not found:
        return None
    rewards = _rewards(files.rollouts, frame["layer"].tolist())
    make = partial(_profile, frame=frame, own=own, rewards=rewards)
    profiles = [make(text(name, 40), zeros) for name, zeros in list(found.items())[:_MOST]]
    profiles.sort(key=lambda one: (one.reward is None, -(one.reward or 0.0), one.elsewhere))
    chosen, layers = make("chosen", own), [text(name) for name in frame["layer"]]
    drawn = [one for name in _DRAWN for one in profiles if one.name == name] or profiles[:4]
    figure = drawing(
        partial(
            draw_protocols,
            layers=layers,
            chosen=chosen.ratios,
            others={one.name: one.ratios for one in drawn},
        ),
        height=height_of(len(layers)),
        margins=margins_of(layers, len(drawn)),
        name="protocols",
        label="prune ratio of each layer by protocol",
    )
    shown, left_out = cut(layers, MOST_LAYERS)
    return Comparison(profiles, chosen, shown, left_out, figure, bool(kept))


def _kept(table: pd.DataFrame | None, frame: pd.DataFrame) -> dict[str, IntArray]:
    """The profiles that the run kept, if they are for its layers."""
    if table is None or table.empty or table["layer"].tolist() != frame["layer"].tolist():
        return {}
    weights = frame["weights"].to_numpy(np.int64)
    names = [name for name in table.columns if name not in ("layer", "weights")]
    found = {str(name): table[name].to_numpy(np.int64) for name in names}
    return {name: zeros for name, zeros in found.items() if (zeros <= weights).all()}


def _largest(files: RunFiles) -> float:
    value = plain(files.settings.get("ws_ratio_max"))
    return value if value is not None and 0 < value <= 1 else _NO_BOUNDS


def _rewards(rollouts: pd.DataFrame | None, layers: list[str]) -> dict[bytes, float]:
    """Reward of each profile that the search scored."""
    columns = [f"zeros/{name}" for name in layers]
    if rollouts is None or not set(columns) <= set(rollouts.columns):
        return {}
    good = rollouts[rollouts["kind"].ne("select") & rollouts["reward"].notna()]
    zeros = good[columns].to_numpy(np.int64)
    return {row.tobytes(): float(reward) for row, reward in zip(zeros, good["reward"], strict=True)}


def _profile(
    name: str,
    zeros: IntArray,
    *,
    frame: pd.DataFrame,
    own: IntArray,
    rewards: Mapping[bytes, float],
) -> Profile:
    ratios = zeros / np.maximum(frame["weights"].to_numpy(), 1)
    macs = frame["macs"].to_numpy(np.float64)
    return Profile(
        name=name,
        ratios=ratios,
        zeros=int(zeros.sum()),
        macs=float(((1 - ratios) * macs).sum() / macs.sum()) if macs.sum() else None,
        elsewhere=float(np.abs(zeros - own).sum()) / 2 / max(int(own.sum()), 1),
        reward=rewards.get(zeros.astype(np.int64).tobytes()),
    )
