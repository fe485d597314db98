"""What a sweep puts into a Dask cluster: the book of places in its scheduler, the trials' keeper in each worker.

Both stay when the sweep has ended, and serve all sweeps of the cluster. They speak over the stream that each worker and
its scheduler have anyway, so its order and its end are theirs: a worker that dies has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from distributed import Scheduler, Worker, get_worker
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

from personalab.cluster_places import PLACES
from personalab.errors import ClusterError
from personalab.place_book import PlaceBook, Ticket
from personalab.trial_runs import Task, stop_trials
from personalab.trials import Trial

_ASK, _BACK, _GO = "personalab-ask", "personalab-back", "personalab-go"
_GONE_SECONDS = 5.0
"""After a worker has left its kernels live for up to a second, and what they had asked is answered for some more."""
_STOP_SECONDS = 0.25
_KNOCKS_MOST = 1024


class PlaceKeeper(SchedulerPlugin):
    """One limit on requests in flight for all workers, and one runner a sweep, in the scheduler."""

    name = "personalab-places"
    idempotent = True

    async def start(self, scheduler: Scheduler) -> None:
        """Begin with an empty book: no kernel has a place yet."""
        self._scheduler = scheduler
        self._book = PlaceBook()
        self._sweeps: dict[str, str] = {}
        scheduler.stream_handlers |= {_ASK: self._asked, _BACK: self._given_back}

    def claim(self, sweep: str, client: str) -> bool:
        """Whether a runner may run a sweep: nobody else does who is still there."""
        return self._sweeps.setdefault(sweep, client) == client

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """A runner is gone, however it ended: others may run its sweeps."""
        self._sweeps = {sweep: holder for sweep, holder in self._sweeps.items() if holder != client}

    def remove_worker(self, scheduler: Scheduler, worker: str, *, stimulus_id: str, **rest: Any) -> None:
        """A worker is gone: its places come back when its kernels are gone too."""
        for ticket, in_flight in self._book.of(worker).items():
            if in_flight:
                asyncio.get_running_loop().call_later(_GONE_SECONDS, self._come_back, ticket)
            else:
                self._come_back(ticket)

    def _asked(self, worker: str, endpoint: str, ask: str, limit: int) -> None:
        self._let_go(self._book.ask(endpoint, (worker, ask), limit))

    def _given_back(self, worker: str, ask: str) -> None:
        self._come_back((worker, ask))

    def _come_back(self, ticket: Ticket) -> None:
        self._let_go(self._book.back(ticket))

    def _let_go(self, admitted: Iterable[Ticket]) -> None:
        for worker, ask in admitted:
            if worker in self._scheduler.workers:  # else it comes back as the others of a worker that is gone
                self._scheduler.worker_send(worker, {"op": _GO, "ask": ask})


class TrialKeeper(WorkerPlugin):
    """In a worker: places in flight for its kernels, and an end for trials that nobody waits for any more."""

    name = "personalab-trials"
    idempotent = True

    async def setup(self, worker: Worker) -> None:
        """Open the socket at which kernels ask for places."""
        self._worker = worker
        self._running: dict[Any, Task] = {}
        self._numbers = itertools.count()
        self._lines: dict[str, asyncio.StreamWriter] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="personalab-places-"))
        socket = str(self._folder / "socket")
        self.environment = {PLACES: socket}
        _allow_open_files()
        self._server = await asyncio.start_unix_server(self._serve, socket, backlog=_KNOCKS_MOST)
        worker.stream_handlers[_GO] = self._may_go

    async def teardown(self, worker: Worker) -> None:
        """End the trials, which others will run, and close the socket."""
        for key in list(self._running):
            self._stop(key)
        self._server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def transition(self, key: Any, start: str, finish: str, **rest: Any) -> None:
        """A task that runs and is no longer wanted: its runner was interrupted, or killed."""
        if finish == "released" and key in self._running:
            self._stop(key)

    @contextlib.contextmanager
    def under_way(self, key: Any, task: Task) -> Iterator[None]:
        """Holds a trial where it can be stopped."""
        self._running[key] = task
        try:
            yield
        finally:
            del self._running[key]

    def _stop(self, key: Any) -> None:
        if (task := self._running.get(key)) is not None:
            stop_trials(task.sweep, task.trial.name)
            # Again, as it may have been just about to begin.
            self._worker.loop.call_later(_STOP_SECONDS, self._stop, key)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One who wants a place in flight, until it hangs up."""
        ask = str(next(self._numbers))
        self._lines[ask] = writer
        try:
            wanted = json.loads(await reader.readline() or "null")
            if wanted is not None:
                self._worker.batched_send({"op": _ASK, "ask": ask, **wanted})
                await reader.read(1)
        except ConnectionError:
            pass  # hung up as well
        finally:
            del self._lines[ask]
            self._worker.batched_send({"op": _BACK, "ask": ask})
            writer.close()

    def _may_go(self, ask: str) -> None:
        if (line := self._lines.get(ask)) is not None:  # else it has hung up, and said so to the scheduler
            line.write(b"g")


def keep(run: Callable[[Task], Trial], task: Task) -> Trial:
    """Run a trial in the worker whose task this is."""
    worker = get_worker()
    keeper = worker.plugins.get(TrialKeeper.name)
    if not isinstance(keeper, TrialKeeper):
        raise ClusterError(f"worker {worker.address}: it cannot run trials; its own log says why")
    with keeper.under_way(worker.get_current_task(), task):
        return run(task.model_copy(update={"environment": keeper.environment}))


def _allow_open_files() -> None:
    """As many open files as the system lets this process have: a place in flight is one."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
