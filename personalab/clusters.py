"""A Dask cluster as an executor: each trial is a task on one of its workers, run by the same function as here.

Before anything runs every worker is looked at: its version of the package, its settings, and whether it sees where
results belong. Keys do not travel: they are the workers' environment.
"""

from __future__ import annotations

import logging
import platform
import threading
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personalab.config import load_settings
from personalab.errors import ClusterError, ConfigError, OutputError, PersonalabError
from personalab.notebooks import Notebook
from personalab.records import Record
from personalab.stores import Place, Store
from personalab.trial_runs import Task, load_engine, stop_trials
from personalab.trial_stores import give_up, stored_trial
from personalab.trials import TRIAL_FILE, Trial

if TYPE_CHECKING:
    from distributed import Scheduler

_CONNECT_SECONDS = 15.0
_PACKAGE = "personalab"
_BEGAN = "began"


class Surroundings(Record):
    """What decides, beside a trial's parameters, what it does: where it runs must be as where it was planned."""

    version: str
    has_key: bool
    api_base: str | None
    model: str | None
    max_concurrent: int
    requests_per_minute: int | None
    tokens_per_minute: int | None

    @property
    def offline(self) -> bool:
        """Whether the embedded provider would answer."""
        return not self.has_key and self.api_base is None


class Seen(Record):
    """A worker that can run trials; `has_folder` says whether the notebook's folder is there too."""

    surroundings: Surroundings
    machine: str
    has_folder: bool


class ClusterNote(UserWarning):
    """Something about a cluster's workers that is worth knowing, and no error."""


_VARIABLES = {
    "api_base": "OPENAI_BASE_URL",
    "model": "PERSONALAB_MODEL",
    "max_concurrent": "MAX_CONCURRENT",
    "requests_per_minute": "REQUESTS_PER_MINUTE",
    "tokens_per_minute": "TOKENS_PER_MINUTE",
}


class Cluster(Executor):
    """The workers of a scheduler. Close it with `shutdown`; whatever still runs then, also when this process dies, ends.

    Raises:
        ConfigError: Dask is not installed, no scheduler answers at the address, or its version of the package is another.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._client = _connected(address)
        self._token = uuid.uuid4().hex
        self._futures: dict[str, Future[Trial]] = {}
        self._wanted: Surroundings | None = None
        self._lock = threading.Lock()
        self._lost = False
        try:
            self._check_versions()
            self._install()
        except BaseException:
            self._client.close()
            raise

    def check(self, sweep: Place, folder: Path, engine: str | None) -> None:
        """Whether every worker can run the trials of a sweep, whose notebook is in `folder`. Warns of what is worth knowing.

        Raises:
            ConfigError: one cannot, and why.
            OutputError: the sweep runs already.
        """
        if not self._client.run_on_scheduler(_claim, str(sweep), self._client.id):
            raise OutputError(
                f"sweep {sweep} is being run by another process: wait for it, or give another --name"
            )
        mark = sweep / f".seen-{self._token}" if isinstance(sweep, Path) else None
        if mark:
            mark.touch()
        try:
            found = self._client.run(_look, sweep, mark, folder, engine, on_error="return")
        finally:
            if mark:
                mark.unlink(missing_ok=True)
        here = surroundings()
        if not found:
            self._wanted = None if here.offline else here
            _note(f"no workers at {self.address} yet: they are looked at when they come")
            return
        seen = {worker: each for worker, each in found.items() if not isinstance(each, BaseException)}
        there = sorted((each.surroundings for each in seen.values()), key=lambda each: each.has_key)
        self._wanted = there[-1] if here.offline and there else here
        for worker, each in found.items():
            if isinstance(each, PersonalabError):
                raise ConfigError(f"worker {worker}: {each}")
            if isinstance(each, BaseException):
                raise ConfigError(f"worker {worker}: cannot run trials: {type(each).__name__}: {each}")
            if problem := difference(each.surroundings, self._wanted):
                raise ConfigError(f"worker {worker}: {problem}")
        without = sum(not each.has_folder for each in seen.values())
        if without:
            _note(
                f"{without} of {len(seen)} workers have no {folder}: kernels there work in the worker's own folder"
            )
        machines = len({each.machine for each in seen.values()})
        if machines > 1 and (self._wanted.requests_per_minute or self._wanted.tokens_per_minute):
            _note(f"limits by the minute hold for each of {machines} machines: give each its part")

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Send a task to the workers. `function` takes one `Task`; another worker runs it again if its worker dies."""
        (task,) = arguments
        name = task.trial.name
        future = self._futures[name] = Future()
        remote = self._client.submit(
            _run,
            function,
            task,
            self._wanted,
            self._token,
            key=(f"{_PACKAGE}-{self._token}", name),
            pure=False,
        )
        future.add_done_callback(lambda ended: _forget(ended, remote))
        remote.add_done_callback(lambda ended: self._settle(task, future, ended))
        return future

    def stop(self, sweep: Place) -> None:
        """End the kernels of a sweep on all workers; each trial becomes `interrupted`."""
        if not self._lost:  # else its workers end them by themselves
            with suppress(OSError):  # it is lost in this moment
                self._client.run(stop_trials, sweep, on_error="ignore")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, and let it forget what was asked."""
        self._client.close()

    def _check_versions(self) -> None:
        mine = version(_PACKAGE)
        there = {"the scheduler": _asked(lambda: self._client.run_on_scheduler(version, _PACKAGE))}
        workers = self._client.run(version, _PACKAGE, on_error="return")
        there |= {f"worker {address}": found for address, found in workers.items()}
        for who, found in there.items():
            if isinstance(found, BaseException):
                raise ConfigError(
                    f"{who} has no personalab: install personalab {mine} there, extra 'cluster'"
                )
            if found != mine:
                raise ConfigError(f"{who} has personalab {found}, and this machine {mine}: install the same")

    def _install(self) -> None:
        from personalab.cluster_plugins import PlaceKeeper, TrialKeeper

        self._client.register_plugin(PlaceKeeper())
        self._client.register_plugin(TrialKeeper())
        self._client.subscribe_topic(self._token, self._heard)

    def _heard(self, event: tuple[float, dict[str, str]]) -> None:
        """A worker has begun a trial, for the first time or again."""
        with self._lock:
            future = self._futures[event[1][_BEGAN]]
            if not future.done() and not future.running():
                future.set_running_or_notify_cancel()

    def _settle(self, task: Task, future: Future[Trial], remote: Any) -> None:
        """Hand on how a task has ended."""
        outcome: Trial | BaseException
        try:
            outcome = _trial_of(remote, task)
        except PersonalabError as error:
            outcome = error
        except CancelledError:
            self._lost = not future.cancelled()
            outcome = ClusterError(
                f"the scheduler at {self.address} is gone: start it, and run the sweep again"
            )
        except BaseException as error:  # noqa: BLE001  handed on to whoever waits
            outcome = ClusterError(f"a worker failed with {type(error).__name__}: {error}; its log says more")
        with self._lock:
            if future.done():
                return
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def _trial_of(remote: Any, task: Task) -> Trial:
    """What became of a trial. One that killed too many workers is a failed one."""
    from distributed import KilledWorker

    try:
        trial: Trial = remote.result()
        return trial
    except KilledWorker as error:
        deaths = error.allowed_failures + 1
        return give_up(task, f"{deaths} workers died while they ran it; see their logs")


def surroundings() -> Surroundings:
    """Those of this process."""
    settings = load_settings()
    return Surroundings(
        version=version(_PACKAGE),
        has_key=settings.api_key is not None,
        **{name: getattr(settings, name) for name in _VARIABLES},
    )


def difference(found: Surroundings, wanted: Surroundings) -> str | None:
    """What is wrong with a worker's surroundings, and the mend; None if nothing is."""
    if found.version != wanted.version:
        return f"it has personalab {found.version}, and the sweep {wanted.version}: install the same"
    if wanted.has_key and not found.has_key:
        return "it has no OPENAI_API_KEY, and others have one: keys do not travel, set it where the worker is started"
    if found.has_key and not wanted.has_key:
        return "it has an OPENAI_API_KEY, and others have none: set it everywhere, or nowhere"
    for name, variable in _VARIABLES.items():
        have, want = getattr(found, name), getattr(wanted, name)
        if have != want:
            return f"its {variable} is {_said(have)}, and elsewhere {_said(want)}: set the same everywhere"
    return None


def _run(function: Callable[[Task], Trial], task: Task, wanted: Surroundings | None, topic: str) -> Trial:
    """On a worker: run a trial, unless it is done and only its result was lost with the worker that had it."""
    from distributed import get_worker

    from personalab.cluster_plugins import keep

    worker = get_worker()
    here = surroundings()
    wanted = wanted or here.model_copy(update={"version": task.trial.package_version})
    if problem := difference(here, wanted):
        raise ClusterError(f"worker {worker.address}: {problem}")
    worker.log_event(topic, {_BEGAN: task.trial.name})
    there = stored_trial(task.folder)
    if there is not None and there.status == "done" and _same(there, task.trial):
        return there
    return keep(function, task.model_copy(update={"notebook": _at_home(task.notebook)}))


def _same(there: Trial, planned: Trial) -> bool:
    return (there.notebook_sha256, there.package_version) == (
        planned.notebook_sha256,
        planned.package_version,
    )


def _at_home(notebook: Notebook) -> Notebook:
    """The notebook in its own folder, where this worker has it; else in the worker's."""
    if notebook.path.parent.is_dir():
        return notebook
    return notebook.model_copy(update={"path": Path.cwd() / notebook.path.name})


def _look(sweep: Place, mark: Path | None, folder: Path, engine: str | None) -> Seen:
    """On a worker: what it is like.

    Raises:
        ConfigError: it lacks what it needs.
        OutputError: it does not see where results belong.
    """
    if mark is not None and not mark.exists():
        raise OutputError(
            f"it does not see {sweep} of this machine; give --out a folder that all share, or a URL such as s3://…"
        )
    if isinstance(sweep, str):
        Store(sweep).find(f"*/{TRIAL_FILE}")
    load_engine(engine)
    return Seen(surroundings=surroundings(), machine=platform.node(), has_folder=folder.is_dir())


def _claim(sweep: str, client: str, dask_scheduler: Scheduler) -> bool:
    from personalab.cluster_plugins import PlaceKeeper

    keeper = dask_scheduler.plugins[PlaceKeeper.name]
    assert isinstance(keeper, PlaceKeeper)
    return keeper.claim(sweep, client)


def _connected(address: str) -> Any:
    """Dask's client, which has no types."""
    try:
        from distributed import Client
    except ImportError:
        raise ConfigError("a cluster needs Dask: pip install 'personalab[cluster]'") from None
    # Where its connection ends Dask tells so at length, across the table; what follows from it is said in a line.
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    try:
        client: Any = Client
        return client(address, timeout=_CONNECT_SECONDS, set_as_default=False, name=_PACKAGE)
    except (OSError, ValueError, TimeoutError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(
            f"no Dask scheduler answers at {address}: start one with `dask scheduler`, or give its address: {said}"
        ) from None


def _asked(ask: Callable[[], Any]) -> Any:
    with suppress(PackageNotFoundError):
        return ask()
    return PackageNotFoundError()


def _forget(future: Future[Trial], remote: Any) -> None:
    if future.cancelled():
        future.set_running_or_notify_cancel()  # or whoever waits for it is not told
        remote.cancel()


def _note(text: str) -> None:
    warnings.warn(text, ClusterNote, stacklevel=7)


def _said(value: object) -> str:
    return "not set" if value is None else repr(value)
