"""Settings of the weight-sparse learner, by PocketFlow's names. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ws_learner.config.budget_conflicts import budget_conflicts
from ws_learner.config.joint import STOCK_ENGINES, is_joint, may_choose, pattern_list
from ws_learner.config.methods import MethodSettings
from ws_learner.config.pattern_syntax import parse_pattern_spec
from ws_learner.config.registries import (
    METHODS,
    PROTOCOLS,
    CriterionName,
    ProtocolName,
    ScheduleName,
)
from ws_learner.config.search import RewardType, SearchSettings
from ws_learner.config.unset_rules import learner_rules
from ws_learner.core import (
    FitsUnset,
    UnsetRule,
    UserError,
    check_settings,
    chosen_settings,
    complain,
    is_ratio_text,
    plain_number,
    ratios_from,
    share_hint,
)

__all__ = [
    "POCKETFLOW",
    "InitName",
    "RewardType",
    "WeightSparseConfig",
]

InitName = Literal["dense", "rollout", "scratch"]


@dataclass(frozen=True, kw_only=True)
class WeightSparseConfig(SearchSettings, MethodSettings, FitsUnset):
    """What to prune, how the ratios are found, and how the network gets there.

    Settings that were left out give way to those that were given, with a printed line.
    """

    ws_save_path: Path | None = None
    """Also write the sparse weights to this file (safetensors)."""
    ws_prune_ratio: float = 0.75
    """Overall target: share of zero weights over the layer table, in [0, 1]."""
    ws_prune_ratio_prtl: ProtocolName = "optimal"
    """Who sets the ratios: a formula, a search by rollouts, or a file. See docs/protocols.md."""
    ws_criterion: CriterionName = "magnitude"
    """What makes a weight's score in sparse training; rollouts go by magnitude."""
    ws_criterion_pool: Literal["mean", "sum", "max"] = "mean"
    """How the scores of a pattern's unit are pooled."""
    ws_scope: Literal["local", "global"] = "local"
    """local: each layer gets the ratio of the protocol. global: only their sum counts, and the
    smallest scores of the whole network go, within [ws_ratio_min, ws_ratio_max] of a layer."""
    ws_remainder: Literal["pad", "skip", "error"] = "pad"
    """What becomes of a layer that the pattern does not divide: smaller units at its edges, dense
    with a warning, or an error."""
    ws_ratios: Path | Mapping[str, float] | None = None
    """The ratio of every layer: another run's ratios.csv, the table of any tool with a column of
    names and one of ratios or densities, JSON, YAML, or `conv1=0.5,fc=0.9`; in Python also a dict
    or a pandas frame. Layers that are not named stay dense. Says the protocol by itself."""
    ws_include: tuple[str, ...] = ("*",)
    """Names or patterns of the tensors to prune, such as 'layer*', '*.conv1.weight' or
    're:layer[34].*'."""
    ws_exclude: tuple[str, ...] = ()
    """Patterns of tensors to leave out of the layer table."""
    ws_exempt: tuple[str, ...] = ()
    """Patterns of tensors that stay dense but count in the total, under every protocol."""
    ws_keep_zeros: bool | None = None
    """Weights that are zero already stay zero and count towards the target. By default where the
    network was pruned before: at least 5 % of the listed weights are exactly zero, layers that are
    zero as a whole aside, and the method and pattern can keep them. yes: in any case. no: they are
    trained and pruned anew."""
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
    ws_schedule: ScheduleName = "polynomial"
    """Shape of the way to the target: the share of it, for c from 0 to 1 along the ramp."""
    ws_initial_ratio: float = 0.0
    """Overall ratio at which the schedule begins."""
    ws_prune_ratio_exp: float = 3.0
    """Exponent of the polynomial schedule, s_t = s_f - s_f (1 - (t - t_b) / (t_e - t_b))^exp."""
    ws_iter_ratio_beg: float = 0.1
    """Share of all steps at which the sparsity begins to rise."""
    ws_iter_ratio_end: float = 0.5
    """Share of all steps at which the target is reached."""
    ws_mask_update_step: int | None = None
    """Optimizer steps between mask updates; by default 25, or a tenth of a shorter ramp."""
    ws_update_frequency: float | None = None
    """Epochs between mask updates, instead of ws_mask_update_step; below 1 a share of an epoch."""
    ws_init: InitName = "dense"
    """Where sparse training starts: the dense network, the best rollout's, or from scratch."""

    enbl_dst: bool = False
    """Distil from the dense network while the sparse one is trained."""
    loss_w_dst: float = 4.0
    """Weight of the distillation loss."""
    tempr_dst: float = 4.0
    """Temperature of the distillation loss."""
    dst_layers: tuple[str, ...] = ()
    """With `enbl_dst` also follow the teacher layer by layer: patterns of modules, such as
    'bert.encoder.layer.?'."""
    loss_w_layers: float = 10.0
    """Weight of the mean relative squared error of the outputs of `dst_layers`."""

    def __post_init__(self) -> None:
        check_settings(self)
        self._read_ratios()
        self.fit_unset()
        for name in ("ws_save_path", "ws_rollouts", "ws_policy", "ws_from_policy"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        own = (*self._wrong_shares(), *self._wrong_numbers(), *self._wrong_pairs())
        own = (*own, *self._wrong_policies())
        problems = [*own, *self.search_problems(), *self.nm_problems()]
        complain(problems or list(self._wrong_with_budget()))
        self._check_method()

    def _wrong_with_budget(self) -> Iterator[str]:
        derived = ("budgets", "dtypes", "chooses", "pattern_spelling")
        values = vars(self) | {name: getattr(self, name) for name in derived}
        yield from budget_conflicts(values, chosen=chosen_settings(self))

    @property
    def pattern_choices(self) -> tuple[str, ...]:
        """Spellings of the patterns among which each layer's is chosen; usually one.

        A latency in our runtime takes all of `auto` where no pattern was named.
        """
        ours = any(one.unit == "latency@wsr" for one in self.budgets)
        ours = ours and not self.ws_pattern and may_choose(self.ws_prune_ratio_prtl)
        if is_joint(self.ws_pattern) or (ours and self.ws_goals is None):
            return pattern_list(self.ws_pattern or "auto")
        return (self.pattern_spelling,)

    @property
    def structured(self) -> bool:
        """Whether whole channels, heads and neurons go, for an engine that multiplies by zeros."""
        return any(one.engine in STOCK_ENGINES for one in self.budgets)

    @property
    def chooses(self) -> bool:
        """Whether layers choose among several patterns or number formats, or bytes."""
        return len(self.pattern_choices) > 1 or self.dtypes != ("fp32",)

    def _read_ratios(self) -> None:
        """Put dicts in the place of texts and frames; a file of all ratios is read by the run."""
        self.read_named_ratios()
        given = self.ws_ratios
        if given is None:
            return
        if isinstance(given, str | Path) and not is_ratio_text(given):
            object.__setattr__(self, "ws_ratios", Path(given))
        else:
            _refuse_choices(given)
            object.__setattr__(self, "ws_ratios", ratios_from(given, setting="ws_ratios"))
        if self.ws_prune_ratio_prtl == WeightSparseConfig.ws_prune_ratio_prtl:
            object.__setattr__(self, "ws_prune_ratio_prtl", "given")

    @classmethod
    def unset_rules(cls, values: Mapping[str, Any]) -> Iterator[UnsetRule]:
        """See `FitsUnset`."""
        return learner_rules(values)

    def _wrong_pairs(self) -> Iterator[str]:
        if self.ws_iter_ratio_beg >= self.ws_iter_ratio_end:
            yield (
                f"`ws_iter_ratio_beg` {self.ws_iter_ratio_beg}: must lie below "
                f"`ws_iter_ratio_end` ({self.ws_iter_ratio_end})"
            )
        if self.ws_keep_zeros and self.ws_init == "scratch":
            yield "`ws_keep_zeros` True: `ws_init` scratch begins with new weights; leave one out"
        if self.dst_layers and not self.enbl_dst:
            yield f"`dst_layers` {' '.join(self.dst_layers)}: needs `enbl_dst`"

    def _wrong_goals(self, searches: bool) -> Iterator[str]:
        if self.ws_goals is None:
            return
        where = f"`ws_goals` {self.ws_goals}"
        if not searches:
            yield f"{where}: needs `ws_prune_ratio_prtl` optimal"
        if self.ws_reward_signal != "kl":
            yield (
                f"{where}: needs `ws_reward_signal` kl; accuracies of several targets do not tell "
                "a critic enough"
            )
        if self.ws_reward_type != "single-obj":
            yield f"{where}: needs `ws_reward_type` single-obj, whose total is the target"

    def _wrong_policies(self) -> Iterator[str]:
        searches = PROTOCOLS[self.ws_prune_ratio_prtl].goals
        yield from self._wrong_goals(searches)
        if self.ws_policy is not None:
            where = f"`ws_policy` {self.ws_policy}"
            for name in ("ws_ratios", "ws_goals", "ws_rollouts", "ws_from_policy"):
                if getattr(self, name) is not None:
                    yield f"{where}: takes no rollout, so it excludes `{name}`; leave one out"
            if not searches:
                yield (
                    f"{where}: takes the place of `ws_prune_ratio_prtl` "
                    f"{self.ws_prune_ratio_prtl}; leave one out"
                )
        if self.ws_from_policy is not None:
            where = f"`ws_from_policy` {self.ws_from_policy}"
            if not searches or self.ws_ratios is not None:
                yield f"{where}: starts a search, which needs `ws_prune_ratio_prtl` optimal"
            if self.ws_reward_type != "single-obj":
                yield f"{where}: needs `ws_reward_type` single-obj"

    def _check_method(self) -> None:
        spelling = parse_pattern_spec(self.pattern_spelling)
        fixed = spelling.fixed_ratio
        self.check_nm(spelling)
        method = METHODS[self.ws_method]
        locked, given = method.keeps_zeros, self.ws_prune_ratio_prtl == "given"
        if locked and (not given or self.ws_ratios or self.ws_init != "dense"):
            raise UserError(
                f"`ws_method` {self.ws_method} keeps the zeros of the dense_checkpoint: it takes "
                "`ws_prune_ratio_prtl` given, no `ws_ratios` and `ws_init` dense"
            )
        by_itself = locked or spelling.sets_ratios
        if self.ws_ratios and not given:
            raise UserError(
                f"`ws_prune_ratio_prtl` {self.ws_prune_ratio_prtl}: `ws_ratios` sets every ratio; "
                "leave one out"
            )
        if self.ws_ratios is None and given and not by_itself:
            raise UserError("`ws_prune_ratio_prtl` given and `ws_ratios` FILE need each other")
        if spelling.kind == "any:m" and self.ws_scope == "global":
            raise UserError(f"`ws_pattern` {spelling}: knows `ws_scope` local only")
        by_pattern = given and not locked and not self.ws_ratios
        if by_pattern and fixed is not None and abs(self.ws_prune_ratio - fixed) > 1e-6:
            raise UserError(
                f"`ws_prune_ratio` {self.ws_prune_ratio}: the pattern {self.ws_pattern} makes "
                f"{fixed:g} of every layer zero; leave the ratio out, or name a protocol"
            )
        if method.learns_scores and self.ws_criterion != "magnitude":
            raise UserError(
                f"`ws_criterion` {self.ws_criterion}: {self.ws_method} has a criterion of its "
                "own; leave the flag out"
            )

    def _wrong_shares(self) -> Iterator[str]:
        for name in (
            "ws_prune_ratio",
            "ws_iter_ratio_beg",
            "ws_iter_ratio_end",
            "ws_initial_ratio",
        ):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                said = plain_number(value)
                yield f"`{name}` {said}: must be a share in [0, 1]{share_hint(value)}"
        if not (math.isfinite(self.ws_prune_ratio_exp) and self.ws_prune_ratio_exp > 0):
            said = plain_number(self.ws_prune_ratio_exp)
            yield f"`ws_prune_ratio_exp` {said}: must be above 0"

    def _wrong_numbers(self) -> Iterator[str]:
        if self.ws_mask_update_step is not None and self.ws_mask_update_step < 1:
            yield f"`ws_mask_update_step` {self.ws_mask_update_step}: must be at least 1"
        for name in ("tempr_dst", "ws_update_frequency", "movement_score_lr"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                yield f"`{name}` {plain_number(value)}: must be a number above 0"
        for name in ("loss_w_dst", "loss_w_layers", "group_lasso_alpha"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                yield f"`{name}` {plain_number(value)}: must be 0 or above"


def _refuse_choices(given: Any) -> None:
    """Refuse a frame with patterns or number formats: only a file has them.

    Raises:
        UserError: It has some.
    """
    usual = {"pattern": {"", "unstructured", "nan", "None"}, "dtype": {"", "fp32", "nan", "None"}}
    for name, plain in usual.items():
        if name in getattr(given, "columns", ()) and not set(map(str, given[name])) <= plain:
            raise UserError(
                f"`ws_ratios`: of a frame only ratios are read, but it has a column {name}; give "
                "the path of the ratios.csv, or drop the column"
            )


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
    "ws_nb_jitters": 0,
    "ws_patience": 0,
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
