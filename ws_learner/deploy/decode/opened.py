"""What kernels between the products share: the numbers before them, and the state's begin."""

from __future__ import annotations

from typing import Any

from ws_learner.deploy.runtime.codegen.llvm_emitter import F32, I64, PTR, Emitter

__all__ = ["CONTROL", "Opened"]

CONTROL = ("position", "count", "next", "arrived", "ids0", "ids1", "ids2", "ids3")
"""64-bit numbers at the state's begin: tokens in the cache, tokens of this call, the token with the
largest logit, how often threads have met in this call, and the tokens of this call."""


class Opened:
    """A kernel's emitter with its table read."""

    def __init__(self, lanes: int, slots: tuple[str, ...]) -> None:
        """Open the function."""
        self.e = Emitter("kernel", arguments=[PTR, PTR], lanes=lanes)
        numbers, self.state = self.e.arguments
        self.numbers = numbers
        self.table = {n: self.e.load(I64, numbers, 8 * i) for i, n in enumerate(slots)}

    def control(self, name: str) -> Any:
        """A number at the state's begin."""
        return self.e.load(I64, self.state, 8 * CONTROL.index(name))

    def address(self, name: str) -> Any:
        """A slot that is an address."""
        return self.e.builder.inttoptr(self.table[name], PTR)

    def row(self, name: str, token: Any) -> Any:
        """A token's row of `name` in the state."""
        e = self.e
        return e.at(self.state, e.add(self.table[name], e.mul(token, self.table[f"{name}_bytes"])))

    def float(self, name: str) -> Any:
        """A slot that holds a float32 in its lower half, in every lane."""
        slot = list(self.table).index(name)
        return self.e.splat(self.e.load(F32, self.numbers, 8 * slot))
