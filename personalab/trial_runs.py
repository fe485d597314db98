"""Running one trial: a kernel of its own, a time limit, and whatever happens told by its status.

Papermill's engines are called for it, in threads: no `cwd=`, which would change the folder of the whole process, but the kernel's
own; kernels end at once, as those who are asked politely take half a second and sometimes three; nothing is saved while a
trial runs, as papermill writes the whole notebook twice a cell.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import html
import logging
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from pydantic import Field

from personalab.config import load_settings
from personalab.credentials import hide, known_credentials
from personalab.dry import DRY, DRY_TRIAL
from personalab.errors import ConfigError, KernelError
from personalab.files import write_whole
from personalab.meters import TRIAL, known_total, read_meters, was_offline
from personalab.notebooks import Notebook
from personalab.recording import RECORDED, recorded_files
from personalab.records import PoolCounts, Record
from personalab.stores import Place
from personalab.trials import EXECUTED, LOG, TRIAL_FILE, Trial, load_trial, save_trial

_START_SECONDS = 60.0
_SECONDS_LEAST = 0.01
"""A limit of 0 means none to a kernel's client."""
_ATTEMPT = ".attempt-"
_ERROR_TAG = "papermill-error-cell-tag"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Task(Record):
    """What is needed to run a trial, anywhere: it can be sent to another process or machine.

    `sweep` is where the sweep's results lie, `folder` where this trial's do. `timeout` is in seconds, for all its cells.
    `environment` is set in its kernel.
    With `batch` its pools send their requests through the provider's batch endpoint. `dry` is the scratch folder of a dry run.
    """

    trial: Trial
    sweep: Place
    folder: Place
    notebook: Notebook
    timeout: float | None = None
    engine: str | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    batch: bool = False
    dry: Path | None = None


def run_trial(task: Task) -> Trial:
    """Run a trial and write its folder, which is one of this machine. What goes wrong in the notebook or its kernel is the
    trial's status.

    Raises:
        OutputError: its folder cannot be written.
    """
    folder = Path(task.folder)
    trial = begun(task.trial, load_engine(task.engine)).model_copy(update={"earlier": _earlier(folder)})
    save_trial(folder, trial)
    for old in (*folder.glob(f"{_ATTEMPT}*"), folder / RECORDED):
        shutil.rmtree(old, ignore_errors=True)
    for name in (EXECUTED, LOG):
        (folder / name).unlink(missing_ok=True)
    # A folder of this attempt: a kernel whose runner was killed lives a second longer and must not write into the next.
    attempt = Path(tempfile.mkdtemp(prefix=_ATTEMPT, dir=folder))
    credentials = known_credentials()
    with (folder / LOG).open("w", encoding="utf-8", errors="replace") as file:
        run = _Run(task, attempt, _Log(file, credentials))
        with _under_way(run):
            status, error = run.outcome()
        seconds = run.seconds
    trial = trial.model_copy(
        update={
            "status": status,
            "error": hide(error, credentials) if error else None,
            "seconds": seconds,
            "counts": read_meters(attempt),
            "offline": was_offline(attempt),
        }
    )
    if not attempt.exists():  # this machine was taken for dead, and another one runs the trial
        return trial
    write_whole(folder / EXECUTED, hide(run.text(), credentials).encode("utf-8", "replace"), durable=False)
    for recorded in recorded_files(attempt):
        content = hide(recorded.read_text(encoding="utf-8"), credentials)
        write_whole(folder / RECORDED / recorded.name, content.encode(), durable=False)
    save_trial(folder, trial)
    shutil.rmtree(attempt, ignore_errors=True)
    return trial


def begun(trial: Trial, engine: str | None) -> Trial:
    """A trial as it is when its attempt begins; one that has begun stays as it is."""
    if trial.started:
        return trial
    started = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    return trial.model_copy(update={"started": started, "engine": engine or "papermill"})


def counts_so_far(folder: Place) -> PoolCounts | None:
    """What the pools of a running trial have done up to now; None where they count on another machine."""
    if not isinstance(folder, Path):
        return None
    attempt = next(folder.glob(f"{_ATTEMPT}*"), None)
    return read_meters(attempt) if attempt else PoolCounts()


def _earlier(folder: Path) -> PoolCounts | None:
    """What the attempts so far have done, also one that was killed; None as soon as one is not known."""
    if not (folder / TRIAL_FILE).exists():
        return PoolCounts()
    there = load_trial(folder)
    last = [] if there.status == "running" else [there.counts]
    return known_total(
        [there.earlier, *last, *(read_meters(attempt) for attempt in folder.glob(f"{_ATTEMPT}*"))]
    )


def stop_trials(sweep: Place, name: str | None = None) -> None:
    """End the kernels of a sweep's trials that run in this process, or of one of them; each becomes `interrupted`."""
    with _lock:
        runs = [run for run in _runs if run.task.sweep == sweep and name in (None, run.task.trial.name)]
    for run in runs:
        run.stop()


def load_engine(wanted: str | None) -> str | None:
    """Papermill's name of an engine, with papermill loaded, which takes a moment. None is papermill's own engine.

    Raises:
        ConfigError: papermill is not installed, there is no such engine, or it cannot run here.
    """
    try:
        from personalab.engines import engine_name
    except ImportError:
        raise ConfigError("sweeps need papermill: pip install 'personalab[notebook]'") from None
    # Where nobody set up logging, each dead kernel would be told on standard error, across the table.
    logging.getLogger("papermill").addHandler(logging.NullHandler())
    return engine_name(wanted)


class _Log:
    """What the cells print, line by line into a file, without the credentials."""

    def __init__(self, file: TextIO, credentials: tuple[str, ...]) -> None:
        self._file, self._credentials = file, credentials

    def write(self, text: str) -> None:
        self._file.write(hide(text, self._credentials))

    def flush(self) -> None:
        self._file.flush()


class _Run:
    """A notebook on its way through a kernel."""

    def __init__(self, task: Task, attempt: Path, log: _Log) -> None:
        self.task, self._attempt, self._log = task, attempt, log
        self._node: Any = None
        self._place = 0
        self._began: float | None = None
        self._cell: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._stopped = threading.Event()

    def outcome(self) -> tuple[Any, str | None]:
        """Run it: status and error."""
        from jupyter_client.kernelspec import NoSuchKernel
        from papermill.exceptions import PapermillException, PapermillExecutionError

        try:
            self._execute(load_engine(self.task.engine))
        except PapermillExecutionError as error:
            self._log.write(_ANSI.sub("", "\n".join(error.traceback)) + "\n")
            told = f"{error.ename}: {' '.join(str(error.evalue).split())}"
            return "failed", f"{told} (in cell [{error.exec_count}])"
        except (
            PapermillException, NoSuchKernel, KernelError, RuntimeError, OSError, asyncio.CancelledError
        ) as error:  # fmt: skip
            return self._given_up(error)
        finally:
            self._settle()
        return "done", None

    def stop(self) -> None:
        """End its kernel, from another thread."""
        self._stopped.set()
        if self._cell is not None:
            loop, running = self._cell
            with suppress(RuntimeError):  # the loop is closed: it has ended by itself
                loop.call_soon_threadsafe(running.cancel)

    @property
    def seconds(self) -> float | None:
        """What its cells took, up to now; None where none was begun."""
        return None if self._began is None else round(time.monotonic() - self._began, 3)

    def text(self) -> str:
        """The notebook as far as it came; the one that was to be run where there was no kernel."""
        if self._node is None:
            return self.task.notebook.text
        return str(_nbformat().writes(self._node))

    def _execute(self, engine: str | None) -> None:
        from papermill.engines import papermill_engines
        from papermill.execute import execute_notebook, raise_for_execution_errors

        task = self.task
        # Prepared first, so that the notebook is at hand also when its kernel dies.
        node = execute_notebook(
            _node(task.notebook.text),
            None,
            parameters=task.trial.parameters,
            engine_name=engine,
            prepare_only=True,
        )
        node.metadata.papermill.update(input_path=task.notebook.path.name, output_path=EXECUTED)
        self._node = node
        kernel = papermill_engines.nb_kernel_name(engine_name=engine, nb=node, name=None)
        papermill_engines.execute_notebook_with_engine(
            engine,
            node,
            kernel_name=kernel,
            input_path=task.notebook.path.name,
            output_path=None,
            progress_bar=False,
            stdout_file=self._log,
            stderr_file=self._log,
            start_timeout=_START_SECONDS,
            shutdown_kernel="immediate",
            resources={"metadata": {"path": str(task.notebook.path.parent)}},
            extra_arguments=self._kernel_arguments(),
            timeout_func=self._seconds_left,
            on_cell_start=self._cell_starts,
        )
        raise_for_execution_errors(node, None)

    def _kernel_arguments(self) -> list[str]:
        """The kernel's environment, which a thread cannot give it otherwise; and no word at its start but of errors."""
        given = self.task.environment | {
            TRIAL: str(self._attempt.absolute()),
            "PERSONALAB_OUTPUTS": str(load_settings().outputs.absolute()),
            **({"PERSONALAB_BATCH": "1"} if self.task.batch else {}),
            **(self._dry_environment(self.task.dry) if self.task.dry else {}),
        }
        return [f"--IPKernelApp.exec_lines=import os; os.environ.update({given!r}); del os", "--log-level=40"]

    def _dry_environment(self, scratch: Path) -> dict[str, str]:
        outputs = str(scratch / "outputs")
        return {DRY: str(scratch), DRY_TRIAL: str(self.task.folder), "PERSONALAB_OUTPUTS": outputs}

    def _seconds_left(self, cell: Any) -> float | None:
        if self.task.timeout is None or self._began is None:
            return None
        return max(_SECONDS_LEAST, self._began + self.task.timeout - time.monotonic())

    def _cell_starts(self, cell: Any, cell_index: int) -> None:
        self._place = cell_index
        self._began = self._began or time.monotonic()
        running = asyncio.current_task()
        assert running is not None
        self._cell = asyncio.get_running_loop(), running
        if self._stopped.is_set():
            raise asyncio.CancelledError

    def _settle(self) -> None:
        """End what nbclient leaves on this thread's loop when it gives a cell up, which would be told at exit."""
        left = asyncio.all_tasks(self._cell[0]) if self._cell else set()
        for each in left:
            each.cancel()
        if left and self._cell:
            self._cell[0].run_until_complete(asyncio.gather(*left, return_exceptions=True))

    def _given_up(self, error: BaseException) -> tuple[str, str]:
        """Status and error where the notebook itself did not fail, which then stands on top of it."""
        from nbclient.exceptions import CellTimeoutError, DeadKernelError

        where = f"in cell [{self._number()}]"
        status = "failed"
        if self._stopped.is_set():
            status, told = "interrupted", f"interrupted {where}"
        elif isinstance(error, CellTimeoutError):
            told = f"the time limit of {self.task.timeout:g} s passed {where}; raise --timeout"
        elif isinstance(error, DeadKernelError):
            told = f"the kernel died {where}: a crash, too little memory, or os._exit"
        else:
            told = f"the kernel did not run: {' '.join(str(error).split()) or type(error).__name__}"
        if self._node is not None:
            cell = _nbformat().v4.new_markdown_cell(
                f'<span style="color:#b3261e;font-size:1.5em">{html.escape(told)}</span>'
            )
            cell.metadata["tags"] = [_ERROR_TAG]
            self._node.cells.insert(0, cell)
        self._log.write(told + "\n")
        return status, told

    def _number(self) -> int:
        """The number that a notebook shows beside the cell it is at."""
        cells = self._node.cells[: self._place + 1] if self._node is not None else []
        return sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in cells)


def _node(text: str) -> Any:
    node = _nbformat().reads(text, as_version=4)
    if "name" not in node.metadata.get("kernelspec", {}):
        node.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return node


def _nbformat() -> Any:
    import nbformat  # it comes without types

    return nbformat


_lock = threading.Lock()
_runs: set[_Run] = set()


@contextmanager
def _under_way(run: _Run) -> Iterator[None]:
    """Holds a run where it can be stopped."""
    with _lock:
        _runs.add(run)
    try:
        yield
    finally:
        with _lock:
            _runs.discard(run)
