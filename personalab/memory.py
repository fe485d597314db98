"""Freed memory, given back to the system.

glibc keeps what was freed between blocks that are still in use. Over 10,000 images that was 15 MB, though nothing was
held (docs/benchmarks.md).
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Give free pages back, where the C library can (`malloc_trim` of glibc); elsewhere nothing is done."""
    if _trim is not None:
        _trim(0)


def _found() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or Windows
        return None


_trim = _found()
