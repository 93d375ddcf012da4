"""System calls that fail; apart from what asks for tiles when it is imported, since they are granted for good."""

from __future__ import annotations

import ctypes


def refuse_tiles():
    """From now on arch_prctl(ARCH_REQ_XCOMP_PERM, ...) fails in this process, by a filter of system calls."""

    class Instruction(ctypes.Structure):
        _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32)]

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_uint16), ("filter", ctypes.POINTER(Instruction))]

    load, equal, give = 0x20, 0x15, 0x06
    arch_prctl, request, refused, allowed = 158, 0x1023, 0x00050001, 0x7FFF0000
    program = (Instruction * 6)(
        (load, 0, 0, 0), (equal, 0, 3, arch_prctl), (load, 0, 0, 16), (equal, 0, 1, request),
        (give, 0, 0, refused), (give, 0, 0, allowed),
    )  # fmt: skip
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_filter, by_filter = 38, 22, 2
    assert libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0
    assert libc.prctl(set_filter, by_filter, ctypes.byref(Program(6, program)), 0, 0) == 0
    assert libc.syscall(arch_prctl, request, 18) == -1
    assert ctypes.get_errno() == 1
