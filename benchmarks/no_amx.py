"""Disable AMX for this process and every engine in it, to measure without it."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

from ws_learner.core import UserError

__all__ = ["forbid_amx"]

_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: load a word, jump if equal, return
_ARCH_PRCTL, _ASK_FOR_TILES = 158, 0x1023
_REFUSED, _ALLOWED = 0x00050000 | 1, 0x7FFF0000  # with EPERM; and let through
_NUMBER, _FIRST_ARGUMENT = 0, 16  # places in what a filter sees


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def forbid_amx() -> None:
    """Make Linux refuse the tile registers to this process and its children from now on.

    Linux hands them out on request alone (arch_prctl), so a system call filter is enough. Must be
    called before any engine has asked, in practice before `import torch`.

    Raises:
        UserError: The system has no such filters.
    """
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_VNNI"  # oneDNN looks at the processor alone
    steps = (
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 3, _ARCH_PRCTL),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 0, 1, _ASK_FOR_TILES),
        (_RETURN, 0, 0, _REFUSED),
        (_RETURN, 0, 0, _ALLOWED),
    )
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    program = _Program(len(steps), code)
    prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None
    if (
        prctl is None
        or prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        or prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)
    ):
        raise UserError("--amx off: this system has no system call filters (Linux has)")
