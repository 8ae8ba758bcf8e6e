"""Whether network, texts and settings of a run fit together, before any work."""

from __future__ import annotations

from envs import LayerRow
from ws_learner.config import WeightSparseConfig, parse_pattern_spec
from ws_learner.core import UserError
from ws_learner.language.layer_rows import block_layers, layer_rows
from ws_learner.language.protocol_names import LANGUAGE_PROTOCOLS
from ws_learner.language.ratios import ratio_context
from ws_learner.language.smaller import check_smaller
from ws_learner.language.task import LanguageTask
from ws_learner.report import read_ratios

__all__ = ["check_language"]

_KINDS = ("unstructured", "block", "n:m")


def check_language(task: LanguageTask, config: WeightSparseConfig) -> None:
    """Open network and texts and see whether the settings fit them, before any work.

    Raises:
        UserError: They do not, or the pattern is none that is solved layer by layer.
    """
    spec = parse_pattern_spec(config.pattern_spelling)
    if spec.kind not in _KINDS or spec.columns:
        raise UserError(
            f"`ws_pattern` {spec}: language models take unstructured, N:M such as 2:4, and blocks "
            "such as 4x1"
        )
    settings = task.settings
    if config.ws_ratios is not None and (settings.drop_blocks or settings.drop_neurons):
        raise UserError(
            "`ws_ratios` with `drop_blocks` or `drop_neurons`: the ratios are of the whole "
            "network's layers; leave one out"
        )
    check_smaller(task.network, blocks=settings.drop_blocks, neurons=settings.drop_neurons)
    layers = block_layers(task.network)
    _refuse_protocol(config, layer_rows(layers))
    _ = task.windows  # reads the texts


def _refuse_protocol(config: WeightSparseConfig, rows: tuple[LayerRow, ...]) -> None:
    """Refuse protocols that language models do not have, and targets out of the bounds.

    Args:
        config: Target, protocol, pattern, bounds.
        rows: The layer table.

    Raises:
        UserError: The protocol is one, or the pattern leaves it no choice.
    """
    name, spec = config.ws_prune_ratio_prtl, parse_pattern_spec(config.pattern_spelling)
    if name not in LANGUAGE_PROTOCOLS:
        allowed = ", ".join(LANGUAGE_PROTOCOLS)
        raise UserError(f"`ws_prune_ratio_prtl` {name}: language models take {allowed}")
    if spec.fixed_ratio is not None and name not in ("uniform", "given"):
        raise UserError(
            f"`ws_prune_ratio_prtl` {name}: the pattern {spec} sets every layer's ratio; leave "
            "one out"
        )
    if spec.fixed_ratio is not None and abs(config.ws_prune_ratio - spec.fixed_ratio) > 1e-6:
        raise UserError(
            f"`ws_prune_ratio` {config.ws_prune_ratio}: the pattern {spec} makes "
            f"{spec.fixed_ratio:g} of every layer zero; leave the ratio out"
        )
    if config.ws_ratios is None:
        ratio_context(rows, config, None)
    else:
        read_ratios(config.ws_ratios, rows)
