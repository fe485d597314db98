"""Memory that is free goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCATTER = """
from personalab.memory import give_back
def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
blocks = [bytes(2000) for _ in range(30_000)]
kept = blocks[::50]
del blocks
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it and can be asked for it")
def test_free_memory_goes_back() -> None:
    """Of 60 MB in small blocks with one in fifty still in use, most is given back."""
    told = subprocess.run([sys.executable, "-c", SCATTER], capture_output=True, text=True, check=True).stdout
    assert int(told) > 20_000
