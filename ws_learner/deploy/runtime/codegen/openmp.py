"""The threads that native code runs in: those of PyTorch's own OpenMP library, where there is one.

PyTorch's layers and our kernels then take turns in the same threads; threads of another pool would
wait for those of PyTorch, which spin for a while after their work.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["OpenMP", "openmp"]

_NAMES = ("libgomp", "libiomp5", "libomp")


@dataclass(frozen=True)
class OpenMP:
    """Functions of the library.

    Attributes:
        run: `GOMP_parallel`: (function, its argument, threads, flags).
        ask_number: Address of `omp_get_thread_num`.
        ask_team: Address of `omp_get_num_threads`.
    """

    run: Callable[[int, int, int, int], None]
    ask_number: int
    ask_team: int


@functools.cache
def openmp() -> OpenMP | None:
    """The library that this process has loaded, or None if there is none or it lacks a function."""
    for path in _loaded():
        try:
            library = ctypes.CDLL(path)
            run = library.GOMP_parallel
            names = ("omp_get_thread_num", "omp_get_num_threads")
            asked = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names]
        except (OSError, AttributeError):
            continue
        run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        run.restype = None
        if all(asked):
            return OpenMP(run, *(int(address or 0) for address in asked))
    return None


def _loaded() -> list[str]:
    """OpenMP libraries in this process's memory (Linux), PyTorch's first."""
    if sys.platform != "linux":
        return []
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    paths = dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines if "/" in line)
    found = [path for path in paths if Path(path).name.startswith(_NAMES)]
    return sorted(found, key=lambda path: "torch" not in path)
