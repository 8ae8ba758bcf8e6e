"""What a network's outputs mean: a closed choice. Free of torch."""

from __future__ import annotations

from typing import Literal, cast, get_args

from ws_learner.core.setting_checks import check_choice

__all__ = ["OUTPUT_KINDS", "OutputKind", "check_output_kind"]

OutputKind = Literal["classes", "tokens", "labels", "values", "embeddings"]
"""What a prediction is.

- `classes`: a softmax along axis 1 of (B, C) or (B, C, ...), as `nn.CrossEntropyLoss` takes it;
- `tokens`: a softmax along the last axis of (B, T, C), the classes of each token or the next one;
- `labels`: a sigmoid of every output, for several labels (B, L) or one binary logit (B,);
- `values`: the outputs themselves, as in regression, (B,) or (B, ...);
- `embeddings`: the direction along the last axis of (B, D) or (B, T, D).
"""

OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)


def check_output_kind(kind: str) -> OutputKind:
    """Return the kind of outputs of this name.

    Raises:
        UserError: There is none.
    """
    check_choice(kind, OutputKind, name="outputs")
    return cast(OutputKind, kind)
