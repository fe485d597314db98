"""Sweeps: the same notebook over a grid of parameters, in parallel, resumable. Read this first.

notebook + grid → points → trials, each in a kernel and a folder of its own → one frame (`collect`), one page (`report`).
A trial that is done stays done as long as the notebook's code, its parameters and the package's version are the same.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from personalab.config import BATCH_JOBS, load_settings
from personalab.errors import ConfigError, OutputError
from personalab.files import cannot_write
from personalab.meters import known_total
from personalab.names import slug
from personalab.notebooks import Notebook, read_notebook
from personalab.progress import Tally, duration
from personalab.records import PoolCounts, Record, Usage
from personalab.stores import Place, below, local_copy, place_of
from personalab.sweep_progress import Line, board, cells
from personalab.trial_frames import collect
from personalab.trial_grids import Grid, Point, canonical, default_values, point_text, points, varied_names
from personalab.trial_runs import Task, counts_so_far, load_engine, stop_trials
from personalab.trial_stores import run_task
from personalab.trials import (
    TRIAL_FILE,
    Trial,
    load_trial,
    sweeps_folder,
    trial_name,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Plan", "Planned", "Sweep", "collect", "plan_sweep", "sweep"]

_TICK_SECONDS = 0.25
_LOCK = ".lock"

Reason = Literal["new", "done", "failed", "retried", "interrupted", "notebook changed", "package changed"]
_KEPT: tuple[Reason, ...] = ("done", "failed")


class Planned(Record):
    """A trial before the sweep runs: as it was left, or as it will be, and why it will run or not."""

    trial: Trial
    why: Reason

    @property
    def runs(self) -> bool:
        """Whether it will be run."""
        return self.why not in _KEPT


class Plan(Record):
    """What a sweep would do, in the order of its grid. `folder` is a folder of this machine or a URL."""

    folder: Place
    notebook: Notebook
    planned: tuple[Planned, ...]

    @property
    def notes(self) -> list[str]:
        """What the user should know before it runs: what has changed, and what was left."""
        said = {
            "notebook changed": f"{self.notebook.path.name} has changed since {{}} ran: run again",
            "package changed": "personalab has another version since {} ran: run again",
            "interrupted": "{} did not come to an end: run again",
            "failed": "{} failed before: --retry-failed runs again",
        }
        counted = {why: sum(each.why == why for each in self.planned) for why in said}
        return [said[why].format(_count(number)) for why, number in counted.items() if number]

    @property
    def head(self) -> str:
        """How many are to run, and where."""
        return (
            f"{self.folder}: {sum(each.runs for each in self.planned)} of {_count(len(self.planned))} to run"
        )

    def __str__(self) -> str:
        lines = [self.head]
        lines += [
            f"  {'run ' if each.runs else 'keep'}  {reason_text(each.why)}  {point_text(each.trial.parameters)}"
            for each in self.planned
        ]
        return "\n".join([*lines, *self.notes])

    __repr__ = __str__


class Sweep(Record):
    """A sweep that has ended: its trials in the order of the grid. `ran` counts those of this time, `counts` is what they did.

    `notes` say what had changed since an earlier time, and what was left.
    """

    folder: Place
    trials: tuple[Trial, ...]
    ran: int
    counts: PoolCounts | None
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Trial, ...]:
        """The trials that are not done."""
        return tuple(trial for trial in self.trials if trial.status != "done")

    def frame(self, recorded: str | None = None) -> pd.DataFrame:
        """The trials of this grid as `collect` gives them."""
        frame = collect(self.folder, recorded)
        return frame[frame["trial"].isin([trial.name for trial in self.trials])].reset_index(drop=True)

    def __str__(self) -> str:
        done = sum(trial.status == "done" for trial in self.trials)
        kept = len(self.trials) - self.ran
        calls, tokens, cost = cells(self.counts)
        parts = [
            f"{done} of {_count(len(self.trials))} done",
            *([f"{kept} kept from before"] if kept else []),
        ]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += [
            f"{calls} requests sent",
            f"{tokens} tokens paid",
            *([cost] if cost not in ("0", "unknown") else []),
        ]
        return " · ".join([*parts, duration(self.seconds)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        said = [f"{point_text(trial.parameters)}: {trial.error or trial.status}" for trial in self.failed]
        listed = "".join(f"<li>{escape(text)}</li>" for text in (*self.notes, *said))
        return f"<div>{escape(str(self))}<br>{escape(str(self.folder))}<ul>{listed}</ul></div>"


def sweep(
    notebook: Path | str,
    grid: Grid | Path | str | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    jobs: int | None = None,
    timeout: float | None = None,
    retry_failed: bool = False,
    engine: str | None = None,
    executor: Executor | None = None,
    scheduler: str | None = None,
    out: Path | str | None = None,
    progress: bool = True,
    batch: bool = False,
) -> Sweep:
    """Run a notebook with every point of a grid; what is done already is kept.

        sweep("judge.ipynb", {"temperature": [0.3, 0.7, 1.1], "stage": ["authenticity", "social_network"]})

    `grid` is lists by parameter, a list of dicts, or a YAML or CSV file; `parameters` are the same in all trials. `jobs`
    trials run at once (default: one for each core), each at most `timeout` seconds. Trials that failed before run again with
    `retry_failed`. `engine`: fork, spawn or papermill (default: the fastest here). `out` is a folder for sweeps, or a URL such as
    `s3://bucket/sweeps`. With `scheduler`, the address of a Dask scheduler, its workers run the trials (docs/clusters.md). A
    trial that fails is a row of the result, never an error here. Works in a cell and in a script.

    With `batch` the notebook's requests go through the provider's batch endpoint. A trial then waits more than it works, so up
    to `BATCH_JOBS` run at once by default; each makes batches of its own, and what several need is asked by one of them.

    Raises:
        ConfigError: a parameter the notebook does not have, of the wrong kind, or that looks like a key; a worker of a cluster that
            cannot run the trials; before anything runs.
        OutputError: the sweep's folder cannot be written, or the sweep runs already.
        ClusterError: the cluster was lost, or a worker that came later cannot run the trials.
    """
    plan = plan_sweep(notebook, grid, parameters, name=name, retry_failed=retry_failed, out=out)
    return run_plan(
        plan,
        jobs=jobs,
        timeout=timeout,
        engine=engine,
        executor=executor,
        scheduler=scheduler,
        progress=progress,
        batch=batch,
    )


def plan_sweep(
    notebook: Path | str | Notebook,
    grid: Grid | Path | str | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    retry_failed: bool = False,
    out: Path | str | None = None,
) -> Plan:
    """What `sweep` would do, without doing it.

    Raises:
        ConfigError: as `sweep`.
    """
    read = notebook if isinstance(notebook, Notebook) else read_notebook(notebook)
    every = points(read, grid, parameters or {})
    folder = below(place_of(out) if out else sweeps_folder(), slug(name or read.name))
    if isinstance(folder, Path):
        folder = folder.absolute()  # a worker of a cluster may stand elsewhere
    varied = varied_names(every)
    stored = _stored(folder)
    planned = tuple(
        _planned(stored.get(canonical(point)), read, point, varied, retry_failed) for point in every
    )
    return Plan(folder=folder, notebook=read, planned=planned)


def run_plan(
    plan: Plan,
    *,
    jobs: int | None = None,
    timeout: float | None = None,
    engine: str | None = None,
    executor: Executor | None = None,
    scheduler: str | None = None,
    progress: bool = True,
    batch: bool = False,
) -> Sweep:
    """Run the trials of a plan that are to run. An interrupt ends their kernels, and is passed on.

    Raises:
        ConfigError: `jobs` or `timeout` below what is possible, or a worker of a cluster that cannot run the trials.
        OutputError: the sweep's folder cannot be written, or the sweep runs already.
        ClusterError: the cluster was lost, or a worker that came later cannot run the trials.
    """
    if jobs is not None and scheduler is not None:
        raise ConfigError("jobs are the threads of the cluster's workers: leave out --jobs with --scheduler")
    batch = batch or load_settings().batch
    if jobs is None:
        jobs = BATCH_JOBS if batch else cores()
    if jobs < 1:
        raise ConfigError(f"a sweep needs one job or more, not {jobs}")
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"a trial's time limit is in seconds above 0, not {timeout}; leave it out for none")
    began = time.monotonic()
    tasks = [
        Task(
            trial=each.trial,
            sweep=plan.folder,
            folder=below(plan.folder, each.trial.name),
            notebook=plan.notebook,
            timeout=timeout,
            engine=engine,
            batch=batch,
        )
        for each in plan.planned
        if each.runs
    ]
    with _alone(plan.folder), _crew(plan, max(1, min(jobs, len(tasks))), engine, executor, scheduler) as crew:
        ran = run_all(plan, tasks, crew, progress)
    trials = tuple(ran.get(each.trial.name, each.trial) for each in plan.planned)
    return Sweep(
        folder=plan.folder,
        trials=trials,
        ran=len(ran),
        counts=known_total([trial.counts for trial in ran.values()]),
        seconds=round(time.monotonic() - began, 3),
        notes=tuple(plan.notes),
    )


class Crew(NamedTuple):
    """Who runs the trials, and how those that run are stopped."""

    pool: Executor
    stop: Callable[[Place], None]


@contextmanager
def _crew(
    plan: Plan, jobs: int, engine: str | None, executor: Executor | None, scheduler: str | None
) -> Iterator[Crew]:
    if scheduler is not None:
        from personalab.clusters import Cluster

        with Cluster(scheduler) as cluster:
            cluster.check(plan.folder, plan.notebook.path.parent, engine)
            yield Crew(cluster, cluster.stop)
        return
    load_engine(engine)
    pool = executor or ThreadPoolExecutor(jobs, thread_name_prefix="personalab-trial")
    try:
        yield Crew(pool, stop_trials)
    finally:
        if executor is None:
            pool.shutdown(cancel_futures=True)


def run_all(plan: Plan, tasks: list[Task], crew: Crew, progress: bool) -> dict[str, Trial]:
    """Run tasks of a plan: the trials as they ended, by name. An interrupt ends their kernels, and is passed on."""
    began = time.monotonic()
    ended: dict[str, Trial] = {}
    starts: dict[str, float] = {}
    with board(progress) as draw:
        futures: dict[Future[Trial], Task] = {crew.pool.submit(run_task, task): task for task in tasks}
        waiting = set(futures)
        try:
            while waiting:
                finished, waiting = wait(waiting, _TICK_SECONDS, FIRST_COMPLETED)
                ended |= {futures[future].trial.name: future.result() for future in finished}
                under_way = [futures[future].trial.name for future in waiting if future.running()]
                starts |= {name: time.monotonic() for name in under_way if name not in starts}
                draw(*_moment(plan, {name: starts[name] for name in under_way}, ended, began))
        except BaseException:
            for future in waiting:
                future.cancel()
            while waiting:  # again and again, as one may have been just about to begin
                crew.stop(plan.folder)
                _, waiting = wait(waiting, _TICK_SECONDS)
            raise
    return ended


def _moment(
    plan: Plan, under_way: Mapping[str, float], ended: Mapping[str, Trial], began: float
) -> tuple[list[Line], Tally]:
    """What is shown: a line for each trial that runs, by when it began, or failed, and the whole in figures."""
    now = time.monotonic()
    running = {name: counts_so_far(below(plan.folder, name)) for name in under_way}
    lines = [Line(name, "running", now - under_way[name], counts) for name, counts in running.items()]
    failures = [trial for trial in ended.values() if trial.status != "done"]
    lines += [
        Line(trial.name, trial.status, trial.seconds or 0, trial.counts, trial.error or "")
        for trial in failures
    ]
    kept = sum(not each.runs for each in plan.planned)
    tally = Tally(
        what="trials",
        total=len(plan.planned),
        done=kept + len(ended) - len(failures),
        failed=len(failures),
        kept=kept,
        in_flight=len(running),
        share=len(ended),
        counts=known_total([*running.values(), *(trial.counts for trial in ended.values())])
        or PoolCounts(usage=Usage(input_tokens=None), cost=None),
        seconds=now - began,
    )
    return lines, tally


def _planned(
    there: Trial | None, notebook: Notebook, point: Point, varied: list[str], retry_failed: bool
) -> Planned:
    new = Trial(
        name=there.name if there else trial_name(point, varied),
        parameters=point,
        defaults=default_values(notebook),
        notebook=notebook.path.name,
        notebook_sha256=notebook.sha256,
        package_version=version("personalab"),
    )
    if there is None:
        return Planned(trial=new, why="new")
    why: Reason
    if there.status in ("running", "interrupted"):
        why = "interrupted"
    elif there.notebook_sha256 != new.notebook_sha256:
        why = "notebook changed"
    elif there.package_version != new.package_version:
        why = "package changed"
    elif there.status == "failed":
        why = "retried" if retry_failed else "failed"
    else:
        why = "done"
    return Planned(trial=there if why in _KEPT else new, why=why)


def _stored(folder: Place) -> dict[str, Trial]:
    """The trials there are, by their parameters: a folder keeps its name when other parameters are varied."""
    with local_copy(folder, f"*/{TRIAL_FILE}") as here:
        every = [load_trial(path.parent) for path in here.glob(f"*/{TRIAL_FILE}")]
    return {canonical(trial.parameters): trial for trial in every}


@contextmanager
def _alone(folder: Place) -> Iterator[None]:
    """One runner a sweep. The lock is freed when its holder dies, so nothing has to be cleared by hand.

    A store has no locks: there it is one runner a sweep on this machine, and one a cluster.
    """
    try:
        if isinstance(folder, Path):
            folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(_lock_file(folder), timeout=0)
        lock.acquire()
    except Timeout:
        raise OutputError(
            f"sweep {folder} is being run by another process: wait for it, or give another --name"
        ) from None
    except OSError as error:
        raise cannot_write(folder, error) from None
    try:
        yield
    finally:
        lock.release()


def _lock_file(folder: Place) -> Path:
    if isinstance(folder, Path):
        return folder / _LOCK
    mark = hashlib.sha256(folder.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir(), f"personalab-{getpass.getuser()}-{mark}{_LOCK}")


def cores() -> int:
    """How many trials may work at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(number: int) -> str:
    return f"{number} trial" if number == 1 else f"{number} trials"


def reason_text(why: Reason) -> str:
    """Why a trial runs or not, as wide as the widest."""
    return f"{why:<16}"
