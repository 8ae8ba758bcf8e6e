"""Several patterns or number formats among which each layer's is chosen. Free of torch."""

from __future__ import annotations

from ws_learner.config.pattern_syntax import AUTO_PATTERNS, parse_pattern_spec
from ws_learner.core import UserError, shown

__all__ = ["CHOOSING", "STOCK_ENGINES", "is_joint", "may_choose", "pattern_list"]

STOCK_ENGINES = ("onnxruntime", "openvino", "torch")
"""Engines that multiply by zeros: there whole channels, heads and neurons are removed."""

CHOOSING = ("knapsack", "divergence", "random", "evolution", "bayesian", "surrogate", "optimal")
"""Protocols that can choose among patterns and number formats."""


def is_joint(text: str) -> bool:
    """Whether `ws_pattern` names several patterns: `auto`, or a list with commas."""
    return text.strip().lower() == "auto" or ("," in text and "@" not in text)


def pattern_list(text: str) -> tuple[str, ...]:
    """The canonical spellings of one pattern or of several; of none, `unstructured`.

    Raises:
        UserError: One is no pattern, or `auto` is among several.
    """
    if text.strip().lower() == "auto":
        return AUTO_PATTERNS
    parts = text.split(",") if is_joint(text) else [text]
    if any(part.strip().lower() == "auto" for part in parts):
        named = ", ".join(AUTO_PATTERNS)
        raise UserError(f"`ws_pattern` {shown(text)}: `auto` stands alone; it is {named}")
    found = [str(parse_pattern_spec(part)) for part in parts if part.strip()]
    return tuple(dict.fromkeys(found)) or ("unstructured",)


def may_choose(protocol: str) -> bool:
    """Whether a protocol can choose among patterns and number formats."""
    return protocol in CHOOSING
