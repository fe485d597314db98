"""Environments of other clients, each its own, so that none of them is ever a dependency.

    python benchmarks/peers.py

They lie in `.bench/peers`. One that cannot be installed within three minutes is left out, and the table says why.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

WORKPLACE = Path(__file__).parents[1] / ".bench"
PEERS: dict[str, list[str]] = {
    "litellm": [],
    "langchain-openai": [],
    "instructor": [],
    "inspect-ai": ["openai"],
    "bespokelabs-curator": [],
    "distilabel": ["openai", "requests"],
}
INSTALL_SECONDS = 180


def python_of(peer: str) -> tuple[Path, str]:
    """The interpreter of a peer's environment, which is made if it is not there, and why it cannot be used or nothing."""
    folder = WORKPLACE / "peers" / peer
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    result = folder / "installed.txt"
    if not result.exists():
        print(f"installing {peer}", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", peer]
        try:
            done = subprocess.run(
                [*command, *PEERS[peer]], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
            )
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            why = "" if done.returncode == 0 else f"pip: {lines[-1]}"
        except subprocess.TimeoutExpired:
            why = f"not installed within {INSTALL_SECONDS} s"
        result.write_text(why)
    return python, result.read_text()


def version_of(python: Path, peer: str) -> str:
    """The version that is installed."""
    code = f"import importlib.metadata as m; print(m.version({peer!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    for name in PEERS:
        print(name, python_of(name)[1] or "installed", flush=True)
