"""Every method, protocol, criterion, pattern and schedule; adding one adds an entry here."""

from __future__ import annotations

from typing import Annotated

from ws_learner.config.entries import (
    CriterionEntry,
    MethodEntry,
    PatternEntry,
    ProtocolEntry,
    ScheduleEntry,
    SolverEntry,
)
from ws_learner.config.registry import Registry

__all__ = [
    "CRITERIA",
    "METHODS",
    "PATTERNS",
    "PROTOCOLS",
    "SCHEDULES",
    "SOLVERS",
    "CriterionName",
    "MethodName",
    "PatternSpelling",
    "ProtocolName",
    "ScheduleName",
    "SolverName",
]

_WHERE = ("ws_pattern", "ws_location", "ws_qkv_pattern", "ws_sparse_dim", "ws_remainder")
_RAMP = (
    *("ws_schedule", "ws_initial_ratio", "ws_prune_ratio_exp", "ws_iter_ratio_beg"),
    *("ws_iter_ratio_end", "ws_mask_update_step", "ws_update_frequency", "ws_scope"),
)
_SCORED = (*_WHERE, *_RAMP, "ws_prune_ratio", "ws_criterion", "ws_criterion_pool")
_NM = (
    *(*_WHERE, "ws_prune_ratio"),
    *("nm_dense_epochs", "nm_fine_tune_epochs", "nm_fine_tune_mask"),
)
_DECAY = ("mdgf_beta", "mdgf_zero_at", "mdgf_gradient")
_METHOD = "ws_learner.pruning.methods"

METHODS: Registry[MethodEntry] = Registry(
    "ws_method",
    {
        "gradual": MethodEntry(
            config=f"{_METHOD}.gradual:GradualConfig",
            settings=_SCORED,
            help="sparsity rises along the schedule",
        ),
        "group_lasso": MethodEntry(
            config=f"{_METHOD}.group_lasso:GroupLassoConfig",
            settings=(*_SCORED, "group_lasso_alpha"),
            help="the same, and a penalty drives whole units of the pattern to zero",
        ),
        "pattern_lock": MethodEntry(
            config=f"{_METHOD}.pattern_lock:PatternLockConfig",
            settings=(),
            keeps_zeros=True,
            criterion="none",
            help="keep the zeros of the dense_checkpoint",
        ),
        "gradient_sensitivity": MethodEntry(
            config=f"{_METHOD}.gradient_sensitivity:GradientSensitivityConfig",
            settings=_SCORED,
            default_criterion="gradient_sensitivity",
            help="prune what matters least to the loss",
        ),
        "movement": MethodEntry(
            config=f"{_METHOD}.movement:MovementConfig",
            settings=(*_SCORED, "movement_score_lr", "movement_start", "movement_steps"),
            learns_scores=True,
            criterion="movement",
            help="prune what fine-tuning moves towards zero (docs/movement.md)",
        ),
        "srste": MethodEntry(
            config=f"{_METHOD}.srste:SrSteConfig",
            settings=(*_NM, "srste_lambda", "srste_term"),
            trains_nm=True,
            criterion="magnitude",
            fine_tune_share=0.0,
            help="N:M training from scratch, pruned weights pulled to zero (docs/nm_sparsity.md)",
        ),
        "mdgf": MethodEntry(
            config=f"{_METHOD}.mdgf:MdgfConfig",
            settings=(*_NM, *_DECAY, "mdgf_decay"),
            trains_nm=True,
            criterion="magnitude",
            help="N:M training from scratch, pruned weights fade out (docs/nm_sparsity.md)",
        ),
        "sdgf": MethodEntry(
            config=f"{_METHOD}.sdgf:SdgfConfig",
            settings=(*_NM, *_DECAY, "sdgf_decay", "sdgf_stages", "sdgf_mask_decay"),
            trains_nm=True,
            criterion="magnitude",
            help="N:M training from scratch, the pattern tightens in stages (docs/nm_sparsity.md)",
        ),
    },
)
"""How training brings the network to its ratios (`ws_method`)."""

_CLOSED = "ws_learner.search.closed_form"

PROTOCOLS: Registry[ProtocolEntry] = Registry(
    "ws_prune_ratio_prtl",
    {
        "uniform": ProtocolEntry(
            allocate=f"{_CLOSED}:uniform",
            needs_weights=False,
            starts_search=True,
            help="the same ratio everywhere",
        ),
        "heurist": ProtocolEntry(
            allocate=f"{_CLOSED}:heurist",
            needs_weights=False,
            starts_search=True,
            help="larger layers more",
        ),
        "erk": ProtocolEntry(
            allocate=f"{_CLOSED}:erk",
            needs_weights=False,
            starts_search=True,
            help="density by the shape of a layer",
        ),
        "global": ProtocolEntry(
            allocate="ws_learner.search.global_threshold:global_magnitude",
            starts_search=True,
            help="the smallest weights of the whole network",
        ),
        "lamp": ProtocolEntry(
            allocate="ws_learner.search.global_threshold:lamp",
            starts_search=True,
            help="the smallest weights, each layer measured by its own",
        ),
        "knapsack": ProtocolEntry(
            allocate="ws_learner.search.knapsack:knapsack",
            starts_search=True,
            help="least sum of the layers' output errors",
        ),
        "owl": ProtocolEntry(
            allocate="ws_learner.search.owl:owl",
            starts_search=True,
            help="layers with fewer outlying weights more",
        ),
        "progression": ProtocolEntry(
            allocate="ws_learner.search.progression:progression",
            starts_search=True,
            help="ratios that rise or fall by equal steps over depth",
        ),
        "divergence": ProtocolEntry(
            allocate="ws_learner.search.least_divergence:divergence",
            starts_search=True,
            help="least sum of what pruning each layer alone does to the network's outputs",
        ),
        "random": ProtocolEntry(
            propose="agents:RandomSearch", help="rollouts: the best of the above, with noise"
        ),
        "evolution": ProtocolEntry(
            propose="agents:Evolution", help="rollouts: mutates the best profile so far"
        ),
        "bayesian": ProtocolEntry(
            propose="agents:BayesianSearch",
            help="rollouts: a model screens hundreds of profiles for each that is scored",
        ),
        "ddpg": ProtocolEntry(
            propose="agents:DDPGSearch", agent=True, help="rollouts: the RL agent alone"
        ),
        "surrogate": ProtocolEntry(
            propose="agents:SurrogateSearch",
            agent=True,
            help="rollouts: a model screens what mutation and the RL agent propose",
        ),
        "optimal": ProtocolEntry(
            propose="agents:GoalSearch",
            goals=True,
            slopes=True,
            help="rollouts: agent and critic taught by slopes of the reward",
        ),
        "given": ProtocolEntry(
            needs_weights=False, help="read from the file of ws_ratios, or set by the pattern"
        ),
    },
)
"""How the overall target becomes one ratio per layer (`ws_prune_ratio_prtl`)."""

_SCORE = "ws_learner.pruning.criteria"

CRITERIA: Registry[CriterionEntry] = Registry(
    "ws_criterion",
    {
        "magnitude": CriterionEntry(build=f"{_SCORE}:Magnitude", memory=1.0, help="|w|"),
        "gradient": CriterionEntry(
            build=f"{_SCORE}:Gradient",
            memory=0.0,
            sensitivity_of="gradient",
            help="|g| of the last step",
        ),
        "snip": CriterionEntry(build=f"{_SCORE}:Snip", memory=0.0, help="|w g| of the last step"),
        "snip_momentum": CriterionEntry(
            build=f"{_SCORE}:SnipMomentum", memory=0.9, help="S <- 0.9 S + |w g|"
        ),
    },
)
"""What makes a weight's score in sparse training (`ws_criterion`)."""

_PATTERN = "ws_learner.pruning.patterns.pattern"

PATTERNS: Registry[PatternEntry] = Registry(
    "ws_pattern",
    {
        "unstructured": PatternEntry(build=f"{_PATTERN}:build_unstructured", help="one weight"),
        "block": PatternEntry(
            build=f"{_PATTERN}:build_block",
            word=False,
            spelling="OxI",
            help="a block of O outputs by I inputs",
        ),
        "n:m": PatternEntry(
            build=f"{_PATTERN}:build_nm",
            word=False,
            spelling="N:M",
            help="in a group of M inputs all but the N best",
        ),
        "any:m": PatternEntry(
            build=f"{_PATTERN}:build_any_m",
            word=False,
            spelling="n:M",
            help="N:M with an N for each layer, which the protocol chooses",
        ),
        "channelx1": PatternEntry(
            build=f"{_PATTERN}:build_channelx1", help="everything that reads one input"
        ),
        "1xchannel": PatternEntry(
            build=f"{_PATTERN}:build_1xchannel", help="everything of one output"
        ),
        "mha": PatternEntry(build=f"{_PATTERN}:build_mha", help="an attention head"),
        "units": PatternEntry(
            build=f"{_PATTERN}:build_units", help="heads and feed-forward neurons"
        ),
        "roles": PatternEntry(
            build=f"{_PATTERN}:build_roles",
            word=False,
            spelling="P@ROLES+P@ROLES",
            help="a pattern for each role; other weights stay dense",
        ),
    },
    spelled=True,
)
"""What is pruned together (`ws_pattern`)."""

_SCHEDULE = "ws_learner.pruning.schedules.registry"

SCHEDULES: Registry[ScheduleEntry] = Registry(
    "ws_schedule",
    {
        "polynomial": ScheduleEntry(
            build=f"{_SCHEDULE}:build_polynomial",
            exponent=True,
            help="1 - (1 - c)^ws_prune_ratio_exp",
        ),
        "linear": ScheduleEntry(build=f"{_SCHEDULE}:build_linear", help="c"),
        "cube": ScheduleEntry(build=f"{_SCHEDULE}:build_cube", help="c^3"),
        "cos": ScheduleEntry(build=f"{_SCHEDULE}:build_cos", help="1 - cos(pi c / 2)"),
        "exp": ScheduleEntry(
            build=f"{_SCHEDULE}:build_exp", help="the density falls by equal factors"
        ),
        "oneshot": ScheduleEntry(
            build=f"{_SCHEDULE}:build_oneshot", once=True, help="everything at the end"
        ),
        "epoch-linear": ScheduleEntry(
            build=f"{_SCHEDULE}:build_epoch_linear",
            help="in epochs, LPOT since Neural Compressor 1.13",
        ),
        "epoch-linear-old": ScheduleEntry(
            build=f"{_SCHEDULE}:build_epoch_linear_old", help="in epochs, LPOT before"
        ),
    },
)
"""Share of the final sparsity, for c from 0 to 1 along the ramp (`ws_schedule`)."""

_SOLVER = "ws_learner.pruning.layer_solvers"

SOLVERS: Registry[SolverEntry] = Registry(
    "solver",
    {
        "magnitude": SolverEntry(
            solve=f"{_SOLVER}.by_score:magnitude", help="the smallest weights go"
        ),
        "wanda": SolverEntry(
            solve=f"{_SOLVER}.by_score:wanda",
            help="the smallest weights times the norm of their input go, in each row",
        ),
        "sparsegpt": SolverEntry(
            solve=f"{_SOLVER}.sparsegpt:sparsegpt",
            help="one sweep over the inputs; later weights make up for earlier ones",
        ),
        "closed": SolverEntry(
            solve=f"{_SOLVER}.closed:closed",
            help="wanda's scores over the layer, then least squares for the kept weights",
        ),
        "alternating": SolverEntry(
            solve=f"{_SOLVER}.alternating:alternating",
            help="mask and weights in turn, from sparsegpt's; then least squares",
        ),
    },
)
"""How one linear layer is pruned from its weight and the Gram matrix of its inputs (`solver`)."""

MethodName = Annotated[str, METHODS]
ProtocolName = Annotated[str, PROTOCOLS]
CriterionName = Annotated[str, CRITERIA]
PatternSpelling = Annotated[str, PATTERNS]
ScheduleName = Annotated[str, SCHEDULES]
SolverName = Annotated[str, SOLVERS]
