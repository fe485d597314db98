"""Forked kernels do what ordinary ones do, and leave no process behind, whoever dies."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from personalab import forked_kernels
from personalab.engines import FORK, SPAWN, engine_name
from personalab.errors import ConfigError, KernelError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not forked_kernels.can_fork(), reason="kernels are forked on Linux only"),
]


def notebook(folder: Path, *cells: str, kernel: str = "python3") -> Path:
    """A notebook of these cells, the first of which holds its parameters."""
    node = nbformat.v4.new_notebook()
    node.metadata.kernelspec = {"name": kernel, "language": "python", "display_name": "Python 3"}
    node.cells = [nbformat.v4.new_code_cell(cell, id=f"cell{place}") for place, cell in enumerate(cells)]
    node.cells[0].metadata.tags = ["parameters"]
    path = folder / "notebook.ipynb"
    path.write_text(nbformat.writes(node), encoding="utf-8")
    return path


def executed(path: Path, wanted: str, **options: Any) -> Any:
    """The notebook as it was executed and written."""
    out = path.with_name(f"{wanted}.ipynb")
    options = {"progress_bar": False, "engine_name": engine_name(wanted)} | options
    papermill.execute_notebook(str(path), str(out), **options)
    return nbformat.read(out, as_version=4)


def printed(node: Any, cell: int = -1) -> str:
    """What a cell printed."""
    return "".join(output.get("text", "") for output in node.cells[cell].outputs)


def ended(process: int) -> bool:
    """Whether a process ends within 20 seconds. Not by select, which knows no file above 1,023."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(20_000))


def joined(outputs: list[Any]) -> list[Any]:
    """Outputs with what was printed in one piece; into how many messages it falls is a matter of time."""
    whole: list[Any] = []
    for output in outputs:
        if whole and "text" in output and whole[-1].get("name") == output.name:
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


def without_times(node: Any) -> list[str]:
    """A notebook without what differs between any two runs: times, ids of processes and models, paths of the file."""
    for part in (node, *node.cells):
        part.pop("id", None)
        part.metadata.pop("execution", None)
        for name in ("start_time", "end_time", "duration", "output_path"):
            part.metadata.papermill.pop(name, None) if "papermill" in part.metadata else None
    for cell in node.cells:
        cell["outputs"] = joined(cell.get("outputs", []))
    for kept in node.metadata.get("widgets", {}).values():
        kept["state"] = sorted(kept["state"].values(), key=lambda model: str(model["model_name"]))
    text = re.sub(r"ipykernel_\d+", "ipykernel_N", json.dumps(node, indent=1))
    ids: dict[str, str] = {}
    text = re.sub(r"[0-9a-f]{32}", lambda found: ids.setdefault(found.group(), f"id{len(ids)}"), text)
    return text.splitlines()


ALIKE = [
    "n = 1",
    "import os, sys; print(n, sorted((k, v) for k, v in os.environ.items() if k != 'JPY_PARENT_PID'))",
    "print(os.getcwd(), sys.path, sys.argv[0], len(sys.argv), sys.argv[1], sys.flags, __name__)",
    "import gc, logging, signal, threading, time\n"
    "print(gc.isenabled(), gc.get_threshold(), logging.getLogger().handlers, time.tzname, os.getsid(0) == os.getpid())\n"
    "print([signal.getsignal(number) for number in (2, 13, 15, 17)], sys.getrecursionlimit(), sys.stdin.read())\n"
    "print(sorted(type(thread).__name__ for thread in threading.enumerate()), signal.pthread_sigmask(0, []))",
    "import numpy, pandas, random\nrandom.seed(3); numpy.random.seed(3)\nprint(random.random(), numpy.random.rand(3))",
    "a = numpy.random.default_rng(1).random((300, 300)); print((a @ a).sum().hex(), numpy.linalg.svd(a)[1][:3])",
    "from IPython.display import HTML, display\ndisplay(HTML('<b>bold</b>')); pandas.DataFrame({'a': [1, 2]})",
    "import io; words = pandas.DataFrame({'word': ['a', 'b'] * 50_000, 'n': range(100_000)})\n"
    "print(words.dtypes.to_dict(), words.word.str.upper().value_counts(), words.groupby('word').n.sum())",
    "import ipywidgets; slider = ipywidgets.IntSlider(3); display(slider); slider.value = 4; slider",
    "for turn in range(3):\n    print('out', turn); print('error', turn, file=sys.stderr)",
    "!echo from a shell; pwd",
    "import asyncio; await asyncio.sleep(0); print(asyncio.get_running_loop().is_running())",
    "from concurrent.futures import ProcessPoolExecutor; import multiprocessing\n"
    "with ProcessPoolExecutor(2, multiprocessing.get_context('fork')) as pool: print(list(pool.map(abs, [-1, 2])))",
    "import warnings; warnings.warn('take care')",
    "import personalab\nasync def one(): return 1\nprint(personalab.run(one()), personalab.__file__)",
    "import faulthandler, traceback; print(faulthandler.is_enabled()); get_ipython().history_manager.hist_file",
]


def test_what_a_notebook_sees_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment, folder, arguments, signals, threads, seeded numbers, linear algebra, displays, widgets, streams."""
    monkeypatch.setenv("COLOUR", "téal \udcff")
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    path = notebook(tmp_path, *ALIKE)
    ordinary, spawned, forked = (
        without_times(executed(path, wanted, parameters={"n": 7}))
        for wanted in ("papermill", "spawn", "fork")
    )
    assert forked == ordinary
    assert spawned == ordinary


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("print('before'); 1 / 0", {}),
        ("import sys; print('before'); sys.exit(3)", {}),
        ("import sys; print('before'); sys.exit()", {}),
        ("input('name?')", {}),
        ("import os; os._exit(3)", {}),
        ("import ctypes; ctypes.string_at(0)", {}),
        ("print('before', flush=True)\nwhile True: pass", {"execution_timeout": 1}),
        ("import time; print('before', flush=True); time.sleep(60)", {"execution_timeout": 1}),
    ],
    ids=["error", "exit 3", "exit", "input", "_exit", "segfault", "busy", "asleep"],
)
def test_what_goes_wrong_is_the_same(tmp_path: Path, cell: str, options: dict[str, Any]) -> None:
    """The same exception, the same notebook left behind, and the kernel is gone."""
    path = notebook(tmp_path, "n = 1", "import os; print(os.getpid())", cell, "print('after')")
    seen = []
    for wanted in ("spawn", "fork"):
        try:
            executed(path, wanted, **options)
            problem = "none"
        except Exception as error:  # noqa: BLE001
            problem = f"{type(error).__name__}: {error}"
        node = nbformat.read(tmp_path / f"{wanted}.ipynb", as_version=4)
        [shown] = [part for part in node.cells if "getpid" in part.source]
        number = "".join(output.text for output in shown.outputs)
        assert not Path(f"/proc/{number.strip()}").exists()
        lines = [*problem.splitlines(), *without_times(node)]
        # A kernel that dies at once may or may not have told the number of its last cell.
        lines = [line for line in lines if "execution_count" not in line]
        seen.append([re.sub(rf"ipykernel_\d+|\b{number.strip()}\b", "N", line) for line in lines])
    assert seen[0] == seen[1]


def test_unseeded_numbers_differ(tmp_path: Path) -> None:
    """Forked kernels share no random numbers, old and new ways, nor names of temporary files."""
    cell = (
        "import random, numpy, uuid, tempfile, secrets\nprint(random.random(), numpy.random.rand(), "
        "numpy.random.default_rng().random(), uuid.uuid4(), tempfile.mktemp(), secrets.token_hex(), sep='\\n')"
    )
    path = notebook(tmp_path, "n = 1", cell)
    numbers = [number for _ in range(3) for number in printed(executed(path, "fork")).split()]
    assert len(set(numbers)) == 18


def test_many_at_once(tmp_path: Path) -> None:
    """Sixteen trials in eight threads, each with its own parameter, folder and kernel, one parent for all."""
    path = notebook(tmp_path, "n = 1", "import os; print(n, os.getcwd(), os.getpid(), os.getppid())")

    def trial(number: int) -> list[str]:
        folder = tmp_path / f"trial{number}"
        folder.mkdir()
        place = {"metadata": {"path": str(folder)}}
        out = papermill.execute_notebook(
            str(path),
            str(folder / "out.ipynb"),
            {"n": number},
            engine_name=FORK,
            progress_bar=False,
            resources=place,
        )
        return printed(out).split()

    with ThreadPoolExecutor(8) as threads:
        numbers, folders, kernels, parents = zip(*threads.map(trial, range(16)), strict=True)
    assert numbers == tuple(map(str, range(16)))
    assert folders == tuple(str(tmp_path / f"trial{number}") for number in range(16))
    assert len(set(kernels)) == 16
    assert len(set(parents)) == 1


def warm_module(name: str, source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that is the only one to be warm."""
    folder.mkdir()
    module = folder / f"{name}.py"
    module.write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(forked_kernels.ForkedKernelManager, "warm_modules", (name,))
    return module


def test_a_changed_source_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm module whose file is edited is imported anew."""
    module = warm_module("module_on_the_way", "COLOUR = 'red'", tmp_path / "library", monkeypatch)
    path = notebook(tmp_path, "n = 1", "import module_on_the_way as m, os; print(m.COLOUR, os.getppid())")
    first, parent = printed(executed(path, "fork")).split()
    assert printed(executed(path, "fork")).split() == [first, parent]
    module.write_text("COLOUR = 'green'")
    second, other = printed(executed(path, "fork")).split()
    assert (first, second) == ("red", "green")
    assert parent != other
    assert not Path(f"/proc/{parent}").exists()


def test_a_module_of_the_working_folder_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an ordinary kernel, also where the parent has another one of that name."""
    (tmp_path / "pandas.py").write_text("COLOUR = 'my own'")
    monkeypatch.chdir(tmp_path)
    path = notebook(tmp_path, "n = 1", "import pandas; print(pandas.COLOUR)")
    assert printed(executed(path, "fork")) == "my own\n"


@pytest.mark.parametrize(("module", "is_forked"), [("ipykernel_launcher", True), ("ipykernel", False)])
def test_a_specification_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, is_forked: bool
) -> None:
    """Its flags and variables hold in a forked kernel as well; another program than usual is simply started."""
    folder = tmp_path / "data" / "kernels" / "other"
    folder.mkdir(parents=True)
    command = [sys.executable, "-X", "dev", "-m", module, "-f", "{connection_file}"]
    variables = {"GREETING": "hello ${NAME}"}
    specification = {"argv": command, "display_name": "Other", "language": "python", "env": variables}
    (folder / "kernel.json").write_text(json.dumps(specification))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("NAME", "world")
    cell = "import os, sys; print(sys.flags.dev_mode, os.environ['GREETING'], os.getppid())"
    said = printed(executed(notebook(tmp_path, "n = 1", cell, kernel="other"), "fork")).split()
    assert said[:3] == ["True", "hello", "world"]
    assert (int(said[3]) != os.getpid()) == is_forked


def test_a_parent_that_is_never_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that leaves a thread makes an error that says so, not kernels that hang."""
    source = "import threading, time\nthreading.Thread(target=time.sleep, args=[60], daemon=True).start()"
    warm_module("threaded", source, tmp_path / "library", monkeypatch)
    with pytest.raises(
        KernelError, match="importing threaded left 1 threads running; try --engine papermill"
    ):
        executed(notebook(tmp_path, "n = 1"), "fork")


def test_a_kernel_may_be_asked_to_end(tmp_path: Path) -> None:
    """What a notebook has left to do at its exit is done, if papermill is told to wait for it."""
    cell = "import atexit, pathlib; atexit.register(pathlib.Path('bye').touch)"
    executed(notebook(tmp_path, "n = 1", cell), "fork", shutdown_kernel="graceful")
    assert (tmp_path / "bye").exists()


def test_names_of_engines() -> None:
    """Known ones, and papermill's own; an unknown one is an error."""
    assert [engine_name(wanted) for wanted in (None, "auto", "fork", "spawn", "papermill")] == [
        FORK,
        FORK,
        FORK,
        SPAWN,
        None,
    ]
    with pytest.raises(ConfigError, match="unknown engine 'frok': did you mean 'fork'"):
        engine_name("frok")


@pytest.mark.parametrize("first", ["personalab.engines", "papermill", "papermill.engines"])
def test_papermill_finds_them_by_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Whichever is imported first, as papermill imports what is installed while it is being imported itself."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["papermill.engine"]
    lines = ["[papermill.engine]", *(f"{name} = {point}" for name, point in points.items())]
    installed = tmp_path / "installed-1.0.dist-info"
    installed.mkdir()
    (installed / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    code = (
        f"import {first}, papermill.engines as e; "
        "print(sorted(name for name in e.papermill_engines._engines if name and 'personalab' in name))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"{sorted([FORK, SPAWN])}\n"


def test_the_notebook_is_written_once(tmp_path: Path) -> None:
    """While it runs there is no file; papermill's own engine would have written one."""
    out = tmp_path / "fork.ipynb"
    path = notebook(tmp_path, "n = 1", f"import os; print(os.path.exists({str(out)!r}))")
    assert printed(executed(path, "fork")) == "False\n"


RUNNER = """
import sys
from concurrent.futures import ThreadPoolExecutor
import papermill
from personalab.engines import engine_name

def trial(number):
    papermill.execute_notebook(sys.argv[1], None, {"n": number}, engine_name=engine_name(sys.argv[2]), progress_bar=False)

if sys.argv[3] == "1":
    trial(0)
else:
    with ThreadPoolExecutor() as threads:
        list(threads.map(trial, range(int(sys.argv[3]))))
"""


class Running:
    """A runner in a process of its own, whose trials tell who they are and then sleep."""

    def __init__(self, folder: Path, trials: int) -> None:
        pipe = folder / "told"
        os.mkfifo(pipe)
        told = os.open(pipe, os.O_RDWR)
        cell = (
            "import os, subprocess, time\nstarted = subprocess.Popen(['sleep', '600'])\n"
            f"with open({str(pipe)!r}, 'w') as file: print(os.getpid(), os.getppid(), started.pid, file=file)\n"
            "time.sleep(600)"
        )
        self.temporary = Path(tempfile.mkdtemp())  # short, as a socket's path has to be
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, str(notebook(folder, "n = 1", cell)), "fork", str(trials)],
            env=os.environ | {"TMPDIR": str(self.temporary)},
            stderr=subprocess.PIPE,
            text=True,
        )
        with os.fdopen(told) as file:
            lines = [[int(word) for word in file.readline().split()] for _ in range(trials)]
        self.kernels, (self.parent, *_), self.children = map(list, zip(*lines, strict=True))
        self.ends = [os.pidfd_open(process) for process in {self.parent, *self.kernels, *self.children}]

    def all_ended(self, seconds: float = 20) -> bool:
        """Whether all kernels, what they had started, and their parent end."""
        poll = select.poll()
        for end in self.ends:
            poll.register(end, select.POLLIN)
        left = set(self.ends)
        while left and (ended := poll.poll(1000 * seconds)):
            for end, _ in ended:
                poll.unregister(end)
                left.discard(end)
        return not left


@pytest.fixture
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    """A runner with as many trials as the test says."""
    runner = Running(tmp_path, getattr(request, "param", 3))
    yield runner
    runner.process.kill()
    runner.process.wait()
    shutil.rmtree(runner.temporary)


@pytest.mark.parametrize("running", [1], indirect=True)
def test_nothing_is_left_after_ctrl_c(running: Running) -> None:
    """The runner is interrupted in the middle of a cell."""
    running.process.send_signal(signal.SIGINT)
    assert running.all_ended()
    assert "KeyboardInterrupt" in running.process.communicate()[1]
    assert list(running.temporary.iterdir()) == []


def test_nothing_is_left_after_the_runner_is_killed(running: Running) -> None:
    """With -9, three trials under way."""
    running.process.kill()
    assert running.all_ended()
    assert list(running.temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_parent_that_was_still_warming_up(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner is interrupted or killed while a warm module is being imported."""
    pipe = tmp_path / "told"
    os.mkfifo(pipe)
    told = os.open(pipe, os.O_RDWR)
    library = tmp_path / "library"
    library.mkdir()
    source = f"import os, signal\nwith open({str(pipe)!r}, 'w') as file: print(os.getpid(), file=file)\nsignal.pause()"
    (library / "pandas.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(library), prepend=os.pathsep)
    path = notebook(tmp_path, "n = 1")
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(path), "fork", "1"], stderr=subprocess.PIPE)
    with os.fdopen(told) as file:
        parent = os.pidfd_open(int(file.readline()))
    runner.send_signal(number)
    _, said = runner.communicate(timeout=20)
    assert ended(parent)
    assert (b"KeyboardInterrupt" in said) == (number == signal.SIGINT)
    assert b"warm_parent.py" not in said


def test_nothing_is_left_after_the_parent_is_killed(running: Running) -> None:
    """The trials fail as those of dead kernels do, and the runner goes on to its end."""
    os.kill(running.parent, signal.SIGKILL)
    assert running.all_ended()
    assert "DeadKernelError" in running.process.communicate(timeout=30)[1]
    assert list(running.temporary.iterdir()) == []


def test_what_a_dead_kernel_had_started_is_ended(running: Running) -> None:
    """A kernel is killed; its own children go with it."""
    poll = select.poll()
    poll.register(os.pidfd_open(running.children[0]), select.POLLIN)
    os.kill(running.kernels[0], signal.SIGKILL)
    assert poll.poll(20_000)
    assert not running.all_ended(0)


def test_after_the_parent_has_died_there_is_another(tmp_path: Path) -> None:
    """The next trial starts one."""
    path = notebook(tmp_path, "n = 1", "import os; print(os.getppid())")
    first = int(printed(executed(path, "fork")))
    os.kill(first, signal.SIGKILL)
    assert ended(os.pidfd_open(first))
    assert int(printed(executed(path, "fork"))) != first


def test_a_fork_of_the_runner_has_a_parent_of_its_own(tmp_path: Path) -> None:
    """Worker processes that are forked while a warm parent runs do not share it, nor keep it alive."""
    path = notebook(tmp_path, "n = 1", "import os; print(os.getppid())")
    first = printed(executed(path, "fork"))
    code = (
        "import os, sys, papermill\nfrom personalab.engines import FORK\n"
        "def run(): return papermill.execute_notebook(sys.argv[1], None, engine_name=FORK, progress_bar=False).cells[-1].outputs[0].text\n"
        "print(run(), end='', flush=True)\n"
        "if os.fork() == 0:\n    print(run(), end='', flush=True); sys.exit()\n"
        "os.wait(); print(run(), end='')"
    )
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(path)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert said[0] == said[2] != said[1]
    assert first.strip() not in said


def test_papermill_errors_stay_what_they_are(tmp_path: Path) -> None:
    """An error of a cell is on top of the notebook that papermill writes."""
    with pytest.raises(PapermillExecutionError):
        executed(notebook(tmp_path, "n = 1", "1 / 0"), "fork")
    node = nbformat.read(tmp_path / "fork.ipynb", as_version=4)
    assert "An Exception was encountered" in node.cells[0].source
