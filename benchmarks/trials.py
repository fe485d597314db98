"""Trials a second: forked kernels beside papermill's command line in a loop, and others. Outputs are compared, too.

    python benchmarks/trials.py [TRIALS] [ROUNDS] [PYTHON WITH ploomber-engine]

Each way is a process of its own, start and imports included; the ways take turns, twice by default.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

JOBS = 4
CELLS = (
    "number = 0",
    "import openai\nimport pandas\n\ntable = pandas.DataFrame({'number': [number], 'square': [number**2]})\ntable",
    "print(number, openai.OpenAIError.__name__)",
)
RUN = "papermill.execute_notebook(sys.argv[1], f'{sys.argv[2]}/{n}.ipynb', {'number': n}, progress_bar=False"
MANY = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from personalab.engines import engine_name
import papermill
def trial(n):
    {RUN}, engine_name=engine_name(sys.argv[4]))
with ThreadPoolExecutor({JOBS}) as threads:
    list(threads.map(trial, range(int(sys.argv[3]))))
"""
WAYS = {
    f"forked kernels, {JOBS} threads": [sys.executable, "-c", MANY, "fork"],
    f"ordinary kernels, {JOBS} threads": [sys.executable, "-c", MANY, "spawn"],
    "papermill in a process, one by one": [
        sys.executable,
        "-c",
        f"import sys, papermill\nfor n in range(int(sys.argv[3])):\n    {RUN})",
        "",
    ],
}
PLOOMBER = """
import sys
from ploomber_engine import execute_notebook
for n in range(int(sys.argv[3])):
    execute_notebook(sys.argv[1], f'{sys.argv[2]}/{n}.ipynb', parameters={'number': n}, progress_bar=False)
"""


def measured(command: list[str], path: Path, trials: int) -> tuple[float, float, list[str]]:
    """Seconds, CPU seconds, and the outputs, of so many trials."""
    with tempfile.TemporaryDirectory() as folder:
        began, started = os.times(), time.perf_counter()
        if command[-1] == "papermill":
            for number in range(trials):
                given = [str(path), f"{folder}/{number}.ipynb", "-p", "number", str(number)]
                subprocess.run([*command[:-1], *given, "--no-progress-bar"], check=True, capture_output=True)
        else:
            *start, wanted = command
            given = [str(path), folder, str(trials), wanted]
            subprocess.run([*start, *given], check=True, capture_output=True)
        seconds, ended = time.perf_counter() - started, os.times()
        outputs = [shown(Path(folder, f"{number}.ipynb")) for number in range(trials)]
    cpu = ended.children_user + ended.children_system - began.children_user - began.children_system
    return seconds, cpu, outputs


def shown(path: Path) -> str:
    """A notebook's outputs as text."""
    cells = nbformat.read(path, as_version=4).cells
    return str([output.get("text") or output.get("data") for cell in cells for output in cell.outputs])


def main() -> None:
    trials, rounds = (int(word) for word in (sys.argv[1:3] + ["24", "2"][len(sys.argv[1:3]) :]))
    ways = {"papermill's command line in a loop": [sys.executable, "-m", "papermill", "papermill"], **WAYS}
    if len(sys.argv) > 3:
        ways["ploomber-engine in a process, one by one"] = [sys.argv[3], "-c", PLOOMBER, ""]
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    node.cells[0].metadata.tags = ["parameters"]
    node.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    expected: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "notebook.ipynb")
        nbformat.write(node, path)
        for _ in range(rounds):
            for name, command in ways.items():
                seconds, cpu, outputs = measured(command, path, trials)
                results[name].append((seconds, cpu))
                expected = expected or outputs
                same = sum(one == other for one, other in zip(outputs, expected, strict=True))
                print(
                    f"{name}: {seconds:.2f} s, CPU {cpu:.2f} s, {same} of {trials} outputs equal", flush=True
                )
    first = next(iter(results.values()))
    for name, values in results.items():
        wall, cpu = (statistics.median(part) for part in zip(*values, strict=True))
        times = [slow[0] / fast[0] for slow, fast in zip(first, values, strict=True)]
        print(
            f"{name}: {wall / trials:.3f} s a trial, CPU {cpu / trials:.3f} s, "
            f"{', '.join(f'{one:.1f}' for one in times)} times the command line's throughput"
        )


if __name__ == "__main__":
    main()
