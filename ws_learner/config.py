"""Settings of the weight-sparse learner, by PocketFlow's names. Free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ws_learner.errors import UserError
from ws_learner.nm_flags import NM_METHODS, Method, NMFlags
from ws_learner.sparsity.spelling import read_spelling

__all__ = [
    "FROM_TABLE",
    "NM_METHODS",
    "POCKETFLOW",
    "SEARCHED",
    "Init",
    "Method",
    "Protocol",
    "RewardType",
    "WeightSparseConfig",
]

Protocol = Literal[
    "uniform",
    "heurist",
    "erk",
    "global",
    "lamp",
    "knapsack",
    "random",
    "evolution",
    "bayesian",
    "ddpg",
    "optimal",
    "given",
]
FROM_TABLE: tuple[Protocol, ...] = ("uniform", "heurist", "erk", "given")
"""Protocols that look at no weight: they need no dense network."""
SEARCHED: tuple[Protocol, ...] = ("random", "evolution", "bayesian", "ddpg", "optimal")
"""Protocols that score roll-outs."""

RewardType = Literal["single-obj", "multi-obj"]
Init = Literal["dense", "rollout", "scratch"]


@dataclass(frozen=True, kw_only=True)
class WeightSparseConfig(NMFlags):
    """What to prune, how the ratios are found, and how the network gets there."""

    ws_save_path: Path | None = None
    """Also write the sparse weights to this file (safetensors)."""
    ws_prune_ratio: float = 0.75
    """Overall target: share of zero weights over the layer table, in [0, 1]."""
    ws_prune_ratio_prtl: Protocol = "optimal"
    """Who sets the ratios. Without roll-outs: one for all layers (uniform), larger layers more
    (heurist), by shape (erk), by magnitude (global, lamp), least error of the layers (knapsack).
    By roll-outs: random, evolution, bayesian, the RL agent alone (ddpg), agent and model
    together (optimal). Or a file (given, with --ws_ratios). See docs/protocols.md."""
    ws_criterion: Literal["magnitude", "gradient", "snip", "snip_momentum"] = "magnitude"
    """What makes a weight's score in sparse training; roll-outs go by magnitude."""
    ws_criterion_pool: Literal["mean", "sum", "max"] = "mean"
    """How the scores of a pattern's unit are pooled."""
    ws_scope: Literal["local", "global"] = "local"
    """local: each layer gets the ratio of the protocol. global: only their sum counts, and the
    smallest scores of the whole network go, within [ws_ratio_min, ws_ratio_max] of a layer."""
    ws_remainder: Literal["pad", "skip", "error"] = "pad"
    """What becomes of a layer that the pattern does not divide: smaller units at its edges, dense
    with a warning, or an error."""
    ws_ratios: Path | None = None
    """Table with columns layer, prune_ratio, such as another run's ratios.csv."""
    ws_rollouts: Path | None = None
    """rollouts.csv of an earlier search on this network, for any target: its best profiles,
    brought to this target, are scored first, beside those that need no search."""
    ws_nb_rlouts: int = 200
    """Roll-outs of the search: choose a profile, prune, regress, fine-tune, evaluate."""
    ws_nb_rlouts_min: int = 20
    """Roll-outs around the prior, with noise, before the agent is trained."""
    ws_rlouts_per_round: int = 8
    """Roll-outs proposed before any of them is scored; they run in parallel."""
    ws_reward_type: RewardType = "single-obj"
    """single-obj: every roll-out spends the budget exactly, the reward is its quality (see
    ws_reward_signal). multi-obj: the total is free within the bounds, the reward is quality x
    ln(1 + ratio)."""
    ws_reward_signal: Literal["accuracy", "kl"] = "kl"
    """What the reward measures on the search images: accuracy, or exp(-KL divergence from the
    dense network's predictions), which is smoother."""
    ws_score_power: float = 0.75
    """A profile is scored with all its densities scaled by one factor, so that the network keeps
    (its density)^power of its weights: 95 % sparse is scored at 89 %. Pruned further at once, a
    network is too far gone to tell what training would make of it. 1: scored as it is."""
    ws_nb_rescore: int = 8
    """Best roll-outs that are scored again on the select split before one is chosen."""
    ws_ratio_bounds: Literal["wide", "pocketflow"] = "wide"
    """wide: every layer within [ws_ratio_min, ws_ratio_max].
    pocketflow: within [1 - 3 (1 - p), 1 - (1 - p) / 3] for the target p."""
    ws_ratio_min: float = 0.0
    """Least prune ratio of a layer."""
    ws_ratio_max: float = 0.995
    """Largest prune ratio of a layer."""
    ws_action_scale: Literal["log-density", "linear"] = "log-density"
    """How an action in [-1, 1] maps to a ratio; 0 is the layer's ratio in the best of the
    profiles that need no search."""
    ws_include: tuple[str, ...] = ("*",)
    """Patterns of the tensors to prune, such as 'layer*' or '*.conv1.weight'."""
    ws_exclude: tuple[str, ...] = ()
    """Patterns of tensors to leave out of the layer table."""
    ws_exempt: tuple[str, ...] = ()
    """Patterns of tensors that stay dense but count in the total, under every protocol."""
    ws_rg_solver: Literal["closed-form", "adam", "none"] = "closed-form"
    """Layer-wise regression: masked least squares, PocketFlow's Adam steps, or none."""
    ws_lrn_rate_rg: float = 3e-2
    """Learning rate of layer-wise regression by Adam."""
    ws_nb_iters_rg: int = 20
    """Steps per layer of layer-wise regression by Adam."""
    ws_nb_smpls_rg: int = 512
    """Training images for the Gram matrices of closed-form regression."""
    ws_nb_smpls_bn: int = 256
    """Training images on which batch norm is recalibrated in a roll-out."""
    ws_lrn_rate_ft: float = 3e-4
    """Learning rate of global fine-tuning (Adam)."""
    ws_nb_iters_ft: int = 0
    """Steps of global fine-tuning in a roll-out; they cost more than they tell."""
    ws_batch_size_ft: int = 64
    """Images per step of global fine-tuning."""
    ws_nb_iters_feval: int = 5
    """Batches (of 100) of the search split in a fast evaluation; 0 or less: the whole split."""

    group_lasso_alpha: float = 0.006
    """Strength of group_lasso."""
    movement_score_lr: float = 1e-3
    """Learning rate of movement's scores, in an optimizer group of their own."""
    movement_start: Literal["magnitude", "zero"] = "magnitude"
    """Movement's scores before the first step: the weights' sizes, or zero as in the paper."""
    movement_steps: Literal["optimizer", "relative", "weights"] = "optimizer"
    """How movement's scores move: by the training's optimizer, as in the paper; by rate x
    gradient over the layer's root mean square gradient; or with the weights, of which pruned ones
    are trained on, too."""
    ws_schedule: Literal[
        "polynomial", "linear", "cube", "cos", "exp", "oneshot", "epoch-linear", "epoch-linear-old"
    ] = "polynomial"
    """Shape of the way to the target. epoch-linear and epoch-linear-old are LPOT's."""
    ws_initial_ratio: float = 0.0
    """Overall ratio at which the schedule begins."""
    ws_prune_ratio_exp: float = 3.0
    """Exponent of the polynomial schedule, s_t = s_f - s_f (1 - (t - t_b) / (t_e - t_b))^exp."""
    ws_iter_ratio_beg: float = 0.1
    """Share of all steps at which the sparsity begins to rise."""
    ws_iter_ratio_end: float = 0.5
    """Share of all steps at which the target is reached."""
    ws_mask_update_step: int = 25
    """Optimizer steps between mask updates."""
    ws_update_frequency: float | None = None
    """Epochs between mask updates, instead of ws_mask_update_step; below 1 a share of an epoch."""
    ws_init: Init = "dense"
    """Where sparse training starts: the dense network, the best roll-out's, or from scratch."""

    enbl_dst: bool = False
    """Distil from the dense network while the sparse one is trained."""
    loss_w_dst: float = 4.0
    """Weight of the distillation loss."""
    tempr_dst: float = 4.0
    """Temperature of the distillation loss."""
    dst_layers: tuple[str, ...] = ()
    """Under --enbl_dst also follow the teacher layer by layer: patterns of modules, such as
    'bert.encoder.layer.?'."""
    loss_w_layers: float = 10.0
    """Weight of the mean relative squared error of the outputs of --dst_layers."""

    def __post_init__(self) -> None:
        self._check_shares()
        self._check_counts()
        if self.ws_iter_ratio_beg >= self.ws_iter_ratio_end:
            raise UserError(
                f"--ws_iter_ratio_beg {self.ws_iter_ratio_beg}: must lie below "
                f"--ws_iter_ratio_end ({self.ws_iter_ratio_end})"
            )
        if self.ws_ratio_min > self.ws_ratio_max:
            raise UserError(
                f"--ws_ratio_min {self.ws_ratio_min}: must not exceed "
                f"--ws_ratio_max ({self.ws_ratio_max})"
            )
        if self.ws_nb_rlouts < self.ws_nb_rlouts_min:
            raise UserError(
                f"--ws_nb_rlouts {self.ws_nb_rlouts}: must be at least "
                f"--ws_nb_rlouts_min ({self.ws_nb_rlouts_min})"
            )
        if self.dst_layers and not self.enbl_dst:
            raise UserError(f"--dst_layers {' '.join(self.dst_layers)}: needs --enbl_dst")
        self._check_method()

    def _check_method(self) -> None:
        spelling = read_spelling(self.pattern_spelling)
        fixed = spelling.fixed_ratio
        self.check_nm(spelling)
        locked, given = self.ws_method == "pattern_lock", self.ws_prune_ratio_prtl == "given"
        if locked and (not given or self.ws_ratios or self.ws_init != "dense"):
            raise UserError(
                "--ws_method pattern_lock keeps the zeros of the dense_checkpoint: it takes "
                "--ws_prune_ratio_prtl given, no --ws_ratios and --ws_init dense"
            )
        by_itself = locked or spelling.sets_ratios
        if (self.ws_ratios is None and given and not by_itself) or (self.ws_ratios and not given):
            raise UserError("--ws_prune_ratio_prtl given and --ws_ratios FILE need each other")
        if spelling.kind == "any:m" and self.ws_scope == "global":
            raise UserError(f"--ws_pattern {spelling}: knows --ws_scope local only")
        by_pattern = given and not locked and not self.ws_ratios
        if by_pattern and fixed is not None and abs(self.ws_prune_ratio - fixed) > 1e-6:
            raise UserError(
                f"--ws_prune_ratio {self.ws_prune_ratio}: the pattern {self.ws_pattern} makes "
                f"{fixed:g} of every layer zero; leave the ratio out, or name a protocol"
            )
        if self.ws_method == "movement" and self.ws_criterion != "magnitude":
            raise UserError(
                f"--ws_criterion {self.ws_criterion}: {self.ws_method} has a criterion of its "
                "own; leave the flag out"
            )

    def _check_shares(self) -> None:
        for name in (
            "ws_prune_ratio",
            "ws_ratio_min",
            "ws_ratio_max",
            "ws_iter_ratio_beg",
            "ws_iter_ratio_end",
            "ws_initial_ratio",
        ):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise UserError(f"--{name} {value}: must be a share in [0, 1]")
        if not (math.isfinite(self.ws_prune_ratio_exp) and self.ws_prune_ratio_exp > 0):
            raise UserError(f"--ws_prune_ratio_exp {self.ws_prune_ratio_exp}: must be above 0")

    def _check_counts(self) -> None:
        least = {
            "ws_nb_rlouts": 1,
            "ws_nb_rlouts_min": 1,
            "ws_rlouts_per_round": 1,
            "ws_nb_rescore": 1,
            "ws_nb_iters_rg": 1,
            "ws_nb_smpls_rg": 1,
            "ws_nb_smpls_bn": 0,
            "ws_nb_iters_ft": 0,
            "ws_batch_size_ft": 1,
            "ws_mask_update_step": 1,
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if value < bound:
                raise UserError(f"--{name} {value}: must be at least {bound}")
        for name in (
            *("ws_lrn_rate_rg", "ws_lrn_rate_ft", "tempr_dst", "ws_update_frequency"),
            "movement_score_lr",
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UserError(f"--{name} {value}: must be a number above 0")
        for name in ("loss_w_dst", "loss_w_layers", "group_lasso_alpha"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"--{name} {value}: must be 0 or above")


POCKETFLOW: dict[str, Any] = {
    "ws_prune_ratio_prtl": "ddpg",
    "ws_reward_signal": "accuracy",
    "ws_score_power": 1.0,
    "ws_ratio_bounds": "pocketflow",
    "ws_action_scale": "linear",
    "ws_rg_solver": "adam",
    "ws_nb_smpls_bn": 0,
    "ws_lrn_rate_ft": 3e-4,
    "ws_nb_rlouts_min": 50,
    "ws_nb_iters_ft": 400,
    "ws_batch_size_ft": 128,
    "ws_nb_iters_feval": 25,
    "ws_rlouts_per_round": 1,
    "ws_nb_rescore": 1,
    "ws_mask_update_step": 500,
    "ws_init": "scratch",
    "ddpg_gamma": 0.9,
    "ddpg_mixed_return": 0.0,
    "ddpg_lrn_rate_actor": 1e-3,
    "ddpg_lrn_rate_critic": 1e-3,
    "ddpg_nb_updates": 23,
    "ddpg_enbl_rtrn_norm": False,
    "ddpg_noise_std_init": 1.0,
    "ddpg_noise_std_finl": 1e-5,
    "ddpg_noise_decy_rate": 0.944,
}
"""What `--preset pocketflow` changes: PocketFlow's learners/weight_sparsification/learner.py and
rl_agents/ddpg. Its parameter noise becomes action noise of the same spread, and its 23 updates
are one per layer of its ResNet-20."""
