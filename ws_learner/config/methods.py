"""Settings of methods, patterns and N:M training; part of `WeightSparseConfig`. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ws_learner.config.joint import is_joint
from ws_learner.config.pattern_syntax import PatternSpec, parse_pattern_spec, parse_roles
from ws_learner.config.registries import METHODS, MethodName, PatternSpelling
from ws_learner.core import UserError, check_settings, plain_number

__all__ = ["MethodSettings"]


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """Which weights go together, and how N:M masks come about in training."""

    ws_method: MethodName = "gradual"
    """How training brings the network to its ratios. See docs/patterns.md."""
    ws_pattern: PatternSpelling = ""
    """What is pruned together: unstructured, OxI (4x1: 4 outputs, 1 input), N:M (2:4: 2 of 4
    inputs kept; sets its own ratio), n:4 (2 or another number of 4 in each layer, as the protocol
    decides), 1xchannel, channelx1, mha (attention heads), units (heads and feed-forward
    neurons). 1:8@ff+1:4@q,k: by role. By default unstructured; units if movement prunes ff,
    attention or both."""
    ws_location: str = ""
    """Roles that are pruned: ff, q, k, v, o, conv, head, attention, in any combination (ff,q,k);
    the other layers stay dense but count in the total. By default what the experiment says: every
    layer, of a text model ff and attention."""
    ws_qkv_pattern: str = ""
    """Another pattern for q, k and v, such as 1:4 next to `ws_pattern` 1:8."""
    ws_sparse_dim: Literal["row", "col"] = "row"
    """N:M groups run along a row (the inputs), or down a column (the outputs)."""
    nm_dense_epochs: float | None = None
    """Epochs at the start trained densely (srste, mdgf, sdgf); by default a twentieth of all."""
    nm_fine_tune_epochs: float | None = None
    """Epochs at the end under the exact pattern; by default a fifth of all, for srste none."""
    nm_fine_tune_mask: Literal["dynamic", "frozen"] = "dynamic"
    """Whether masks still follow the weights while mdgf and sdgf fine-tune, or srste."""
    srste_lambda: float = 2e-4
    """Strength of SR-STE's pull of pruned weights to zero."""
    srste_term: Literal["gradient", "decoupled"] = "gradient"
    """Where it enters: added to the gradient, or taken off the weight like AdamW's decay."""
    mdgf_decay: Literal["step", "linear", "exponential"] = "exponential"
    """How the mask value D of pruned weights falls from 1 to 0 under mdgf."""
    mdgf_beta: float | None = None
    """Decay per optimizer step, instead of mdgf_zero_at: D = 1 - beta j or exp(-beta j)."""
    mdgf_zero_at: float = 0.9
    """Share of the sparse phase at which D is 0 (exponential: falls below 0.001, then 0)."""
    mdgf_gradient: Literal["chain", "ste"] = "chain"
    """Gradient of pruned weights: times D, or as it is."""
    sdgf_decay: Literal["stepwise", "geometric"] = "geometric"
    """stepwise: M-1:M, M/2:M, M/4:M, ... N:M. geometric: 16N:16M, 8N:8M, ... N:M."""
    sdgf_stages: int | None = None
    """Number of patterns, the last one N:M; by default 5 (geometric) or what halving takes."""
    sdgf_mask_decay: Literal["step", "linear", "exponential"] = "step"
    """Let mask values decay under sdgf too, as under mdgf."""

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def pattern_spelling(self) -> str:
        """Pattern and direction in one spelling; N:M patterns with their roles.

        Where each layer has one of several patterns, `unstructured`.

        Raises:
            UserError: They do not go together.
        """
        if is_joint(self.ws_pattern):
            return "unstructured"  # the widest of them; each layer's own comes with the profile
        pattern = self._directed(self.ws_pattern or "unstructured")
        if not self.ws_location:
            if self.ws_qkv_pattern:
                raise UserError(
                    f"`ws_qkv_pattern` {self.ws_qkv_pattern}: needs `ws_location`, such as ff,q,k"
                )
            return str(pattern)
        if pattern.kind == "roles":
            raise UserError(
                f"`ws_location` {self.ws_location}: the pattern {self.ws_pattern} names roles"
            )
        roles = self.roles
        if pattern.kind not in ("n:m", "any:m") and not self.ws_qkv_pattern:
            return str(pattern)
        others = tuple(role for role in roles if role not in ("q", "k", "v"))
        attending = tuple(role for role in roles if role in ("q", "k", "v"))
        if self.ws_qkv_pattern and not attending:
            raise UserError(
                f"`ws_qkv_pattern` {self.ws_qkv_pattern}: `ws_location` {self.ws_location} "
                "names none of q, k and v"
            )
        own = self._directed(self.ws_qkv_pattern or self.ws_pattern or "unstructured")
        if own == pattern:
            return f"{pattern}@{','.join(roles)}"
        parts = [(others, pattern), (attending, own)]
        return "+".join(f"{kind}@{','.join(where)}" for where, kind in parts if where)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of `ws_location`; none at all allows every layer.

        Raises:
            UserError: There is no such role.
        """
        return parse_roles(self.ws_location) if self.ws_location else ()

    def _directed(self, text: str) -> PatternSpec:
        pattern = parse_pattern_spec(text)
        if self.ws_sparse_dim == "row":
            return pattern
        if pattern.kind not in ("n:m", "any:m"):
            raise UserError(f"`ws_sparse_dim` col: is for N:M patterns, not {text}")
        return replace(pattern, columns=True)

    def nm_problems(self) -> Iterator[str]:
        """A line for each setting that is out of range."""
        for name in ("nm_dense_epochs", "nm_fine_tune_epochs", "srste_lambda"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                yield f"`{name}` {plain_number(value)}: must be 0 or above"
        if self.mdgf_beta is not None and not 0 < self.mdgf_beta < math.inf:
            yield f"`mdgf_beta` {plain_number(self.mdgf_beta)}: must be above 0"
        if not 0 < self.mdgf_zero_at <= 1:
            said = plain_number(self.mdgf_zero_at)
            yield f"`mdgf_zero_at` {said}: must be a share in (0, 1]"
        if self.sdgf_stages is not None and self.sdgf_stages < 1:
            yield f"`sdgf_stages` {self.sdgf_stages}: must be at least 1"

    def check_nm(self, spelling: PatternSpec) -> None:
        """Refuse what the N:M methods cannot do.

        Raises:
            UserError: The pattern is no N:M.
        """
        if not METHODS[self.ws_method].trains_nm:
            return
        kinds = {part.kind for _, part in spelling.parts} or {spelling.kind}
        if not kinds <= {"n:m", "any:m"}:
            raise UserError(
                f"`ws_method` {self.ws_method}: trains N:M patterns, not {spelling}; name "
                "one, such as `ws_pattern` 2:4"
            )
