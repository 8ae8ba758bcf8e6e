"""Flags allowed with an NNCF file: training, and distillation if the file has none."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents import DDPGConfig
from ws_learner.config import WeightSparseConfig
from ws_learner.core import UserError, say

if TYPE_CHECKING:
    from ws_learner.compat import NncfConf

__all__ = ["check_nncf_flags"]

_DISTILLATION = ("enbl_dst", "loss_w_dst", "tempr_dst", "dst_layers", "loss_w_layers")


def check_nncf_flags(
    conf: NncfConf,
    *,
    ws: WeightSparseConfig,
    agent: DDPGConfig,
    teacher: Path | None,
    given: Collection[str] = (),
) -> None:
    """Refuse flags that an NNCF file would leave without effect; tell what of it is ignored.

    Args:
        conf: The file.
        ws: Flags of the pruning.
        agent: Flags of the agent.
        teacher: --dst_checkpoint.
        given: Names of flags that were typed, perhaps with the usual value.

    Raises:
        UserError: There are some; all are named.
    """
    if conf.log_dir is not None:
        say(f"--config {conf.path}: log_dir {conf.log_dir} is ignored; see the run's directory")
    allowed: tuple[str, ...] = ()
    if conf.distillation is None:
        allowed = _DISTILLATION if ws.enbl_dst else ("enbl_dst",)
    refused = [
        f"--{name} {value}"
        for name, value in (
            *_given(ws, WeightSparseConfig(), given),
            *_given(agent, DDPGConfig(), given),
        )
        if name not in allowed
    ]
    if teacher is not None:
        refused.append(f"--dst_checkpoint {teacher}")
    if refused:
        raise UserError(
            f"{', '.join(refused)}: what is pruned, and how, comes from --config {conf.path}, and "
            "the teacher is the network that training starts from; leave them out"
            + ("" if conf.distillation else " (--enbl_dst distils, with its weights)")
        )


def _given(settings: Any, usual: Any, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Settings that were typed, or are not the usual ones."""
    for item in dataclasses.fields(usual):
        value = getattr(settings, item.name)
        if item.name in names or value != getattr(usual, item.name):
            yield item.name, value
