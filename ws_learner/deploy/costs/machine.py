"""What a measured number belongs to: this machine's processor."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from ws_learner.core import warn
from ws_learner.deploy.runtime.codegen.cpu import cpu_key

__all__ = ["digest_of", "machine_key", "say_other_machine"]


def machine_key() -> str:
    """The processor's model, the instruction sets of our kernels, and how many processors."""
    return f"{cpu_key()}, {os.cpu_count()} processors"


def say_other_machine(machine: str, *, what: str) -> bool:
    """Say so if `what` was measured elsewhere; return whether it was."""
    if machine == (here := machine_key()):
        return False
    warn(
        f"{what}: measured on {machine}; this is {here}: its milliseconds do not hold here; "
        "measure again with measure_costs"
    )
    return True


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, as hex."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
