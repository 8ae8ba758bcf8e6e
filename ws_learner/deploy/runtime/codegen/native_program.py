"""A sequence of kernels as one native call, run in several threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ws_learner.deploy.runtime.codegen.openmp import openmp
from ws_learner.deploy.runtime.codegen.parallel import run_parts, scratch
from ws_learner.deploy.runtime.codegen.spec import JOB, STEP

__all__ = ["BoundRun", "KernelCall", "Program", "address_of"]

_BETWEEN = 512 * 1024  # bytes between the kernels of a block, at most: a part of the second cache


_NUMBER, _TEAM, _MEMORY = (JOB.index(name) for name in ("number", "team", "memory"))
_X, _Y = JOB.index("x"), JOB.index("y")


@dataclass(frozen=True, kw_only=True)
class KernelCall:
    """One kernel in a program.

    Attributes:
        function: Address of its code.
        table: Address of its numbers.
        memory: Bytes that it works in.
        unit: Tokens that belong together in its input and output.
        bytes: Of its output, for each unit; not read of the last.
    """

    function: int
    table: int
    memory: int
    unit: int
    bytes: int


class Program:
    """The first kernel's input becomes the last one's output. Calls are thread-safe."""

    def __init__(self, steps: Sequence[KernelCall]) -> None:
        """The steps' addresses must stay valid as long as the program is used."""
        from ws_learner.deploy.runtime.codegen.kernels import compiled_driver  # needs llvmlite

        self._run = compiled_driver()
        self._unit = max(step.unit for step in steps)
        each = sum(-(-step.bytes // step.unit) for step in steps[:-1])
        whole = len(steps) == 1
        self._block = 0 if whole else max(_BETWEEN // max(each, 1) // self._unit, 1) * self._unit
        rows, room = [], _rounded(max(step.memory for step in steps))
        for step in steps:
            rows.append([step.function, step.table, room, step.unit, step.bytes])
            if step is not steps[-1]:
                room += _rounded(-(-self._block // step.unit) * step.bytes)
        self._steps, self._room = len(steps), room
        self._job = np.array([*[0] * len(JOB), *(n for row in rows for n in row)], np.int64)
        assert len(rows[0]) == len(STEP)

    def run(
        self,
        x: int,
        y: int,
        count: int,
        *,
        threads: int = 1,
        images: tuple[int, int, int] | None = None,
    ) -> None:
        """Map `count` tokens at address `x` to address `y`.

        Args:
            x: Address of the input.
            y: Address of the output.
            count: Tokens, or images.
            threads: At most so many share the work.
            images: Positions of an image, and its bytes in the input and in the output.
        """
        if count:
            self.prepared(x, y, count, threads=threads, images=images)()

    def prepared(
        self,
        x: int,
        y: int,
        count: int,
        *,
        threads: int = 1,
        images: tuple[int, int, int] | None = None,
    ) -> Callable[[], None]:
        """As `run`, to be called any number of times in this thread; `count` is above 0."""
        unit = 1 if images else self._unit
        each = -(-count // (unit * threads)) * unit
        parts = -(-count // each)
        block = 1 if images else self._block or each
        library = openmp() if parts > 1 else None
        asked = (library.ask_number, library.ask_team) if library else (0, 0)
        job = self._job.copy()
        job[: len(JOB)] = (  # in the order of JOB; the first part, of a team of one
            *(count, parts, each, block, self._steps, x, y, 0, self._room),
            *(0, 1, *asked, *(images or (0, 0, 0))),
        )
        held = _Job(job, self._room * parts)
        if parts == 1:
            return BoundRun(self._run, held)
        if library is None:
            return lambda: self._in_pool(held.array(), parts)
        run, place = library.run, address_of(self._run)
        return lambda: run(place, held.address(), parts, 0)

    def _in_pool(self, job: np.ndarray, parts: int) -> None:
        def part(number: int) -> None:
            own = job.copy()
            own[_NUMBER], own[_TEAM] = number, parts
            self._run(own.ctypes.data)

        run_parts(part, parts)


class _Job:
    """A job; the thread's memory may have moved since the last call."""

    def __init__(self, job: np.ndarray, room: int) -> None:
        self._job, self._room, self._address = job, room, int(job.ctypes.data)

    def array(self) -> np.ndarray:
        self._job[_MEMORY] = scratch(self._room)
        return self._job

    def address(self) -> int:
        self._job[_MEMORY] = scratch(self._room)
        return self._address

    def move(self, x: int, y: int) -> None:
        self._job[_X], self._job[_Y] = x, y


class BoundRun:
    """A job of one part; `repeat` runs it in a native loop, without Python in between."""

    def __init__(self, run: Callable[[int], None], job: _Job) -> None:
        from ws_learner.deploy.runtime.codegen.kernels import compiled_repeater

        self._run, self._job = run, job
        self._repeater = compiled_repeater

    def __call__(self) -> None:
        """Run once."""
        self._run(self._job.address())

    def on(self, x: int, y: int) -> None:
        """Run once on the input at address `x`, with the output at `y`; in one thread only."""
        self._job.move(x, y)
        self._run(self._job.address())

    def repeat(self, times: int) -> None:
        """Run `times` times."""
        numbers = np.array([address_of(self._run), self._job.address(), times], np.int64)
        self._repeater()(numbers.ctypes.data)


def address_of(function: Callable[..., None]) -> int:
    """Where a compiled function's code begins."""
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)  # type: ignore[arg-type]


def _rounded(size: int) -> int:
    return -(-size // 64) * 64
