"""Sweeps on a Dask cluster of processes that are made to look like three machines: each its own cache and gate folder."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import VARIABLES
from sample_notebooks import write_notebook

from personalab import clusters
from personalab.clusters import Cluster, ClusterNote, Surroundings, _look, difference, surroundings
from personalab.errors import ConfigError, OutputError
from personalab.forked_kernels import can_fork
from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer
from personalab.stores import Store
from personalab.sweep_reports import report
from personalab.sweeps import Sweep, collect, plan_sweep, run_plan, sweep
from personalab.trial_runs import Task

pytestmark = pytest.mark.slow
WAIT_SECONDS = 60.0
LIMIT = 3


def wait_until(there: Callable[[], object]) -> None:
    """Until it is true; the test's own limit ends it otherwise."""
    end = time.monotonic() + WAIT_SECONDS
    while not there():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def kernels(folder: Path, worker: str = "") -> list[int]:
    """The kernels, of one worker or of all, that said who they are and still live."""
    pids = [path for path in (folder / "pids").glob("*") if worker in path.read_text()]
    return [int(path.name) for path in pids if alive(int(path.name))]


class Machines:
    """A scheduler and workers, each a process that knows nothing of the others' folders."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        plain = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        self._environment = plain | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"} | environment
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self._file = folder / "scheduler.json"
        self._scheduler = self._process("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        wait_until(lambda: self._file.exists() and "address" in self._file.read_text())
        self.address = self.ask(lambda client: client.scheduler.address)

    def ask(self, what: Callable[[Any], Any]) -> Any:
        """Something of a client of the cluster."""
        from distributed import Client

        with Client(scheduler_file=str(self._file), set_as_default=False) as client:
            return what(client)

    def grow(self, *names: str, **environment: str) -> None:
        """Start workers, and wait until they are there."""
        for name in names:
            home = self.folder / name
            own = {"XDG_CACHE_HOME": str(home / "home"), "PERSONALAB_OUTPUTS": str(home / "outputs")}
            self.workers[name] = self._process(
                "worker", "--no-nanny", "--nthreads", "2", "--name", name, "--local-directory", str(home),
                "--no-dashboard", **own, **environment,
            )  # fmt: skip
        self.ask(lambda client: client.wait_for_workers(len(self.workers), timeout=WAIT_SECONDS))

    def kill(self, name: str) -> None:
        """As kill -9 does."""
        worker = self.workers.pop(name)
        worker.kill()
        worker.wait()

    def close(self) -> None:
        """End all of them."""
        for process in self.workers.values():
            process.terminate()  # so that they clear up
        for process in self.workers.values():
            process.wait()
        self._scheduler.kill()
        self._scheduler.wait()

    def _process(self, kind: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", str(self._file)]
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [*command, *arguments],
                env=self._environment | environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )


@pytest.fixture(scope="module")
def server() -> Iterator[OfflineServer]:
    """Counts what is in flight."""
    with OfflineServer(parse_faults(fault=[], latency=["0.2"])) as running:
        yield running


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An object store on a loopback port, and the environment that leads to it."""
    import boto3
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    client = boto3.client(
        "s3", endpoint_url=environment["AWS_ENDPOINT_URL"], aws_access_key_id="testing",
        aws_secret_access_key="testing-secret", region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket="bucket")
    yield environment
    running.stop()


@pytest.fixture(scope="module")
def machines(
    server: OfflineServer, store: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machines]:
    """Three workers."""
    environment = {"OPENAI_BASE_URL": server.base_url, "PERSONALAB_MODEL": "m", "MAX_CONCURRENT": str(LIMIT)}
    made = Machines(tmp_path_factory.mktemp("cluster"), **environment, **store)
    made.grow("one", "two", "three")
    yield made
    made.close()


def states(done: Sweep) -> list[str]:
    """The trials' statuses in order."""
    return [trial.status for trial in done.trials]


def started(address: str, *arguments: str) -> subprocess.Popen[str]:
    """Start `personalab sweep` in a group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", "personalab", "sweep", *arguments, "--scheduler", address],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
    )  # fmt: skip


PID = """
import os, pathlib
pathlib.Path("pids").mkdir(exist_ok=True)
pathlib.Path("pids", str(os.getpid())).write_text(os.environ["PERSONALAB_OUTPUTS"])
"""
WAITS = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
SENDS = """
import asyncio
from personalab import LLMPool, run
from personalab.records import Message, Request
pool = LLMPool()
async def all():
    asks = [Request(stage="x", messages=(Message(role="user", text=f"number {n} {i}"),)) for i in range(4)]
    await asyncio.gather(*(pool.send(ask) for ask in asks))
run(all())
from personalab.recording import record
record("outputs", str(pool.outputs))
"""


def test_three_machines_one_killed(machines: Machines, server: OfflineServer, tmp_path: Path) -> None:
    """Each trial is there once; one limit holds for all; an error is one row; what is done is not run again."""
    notebook = write_notebook(
        tmp_path / "some.ipynb", "n = 0", PID, SENDS, WAITS, "if n == 5: raise ValueError('no fives')"
    )
    grid = f"n={','.join(map(str, range(1, 11)))}"
    running = started(machines.address, str(notebook), "-g", grid)
    wait_until(lambda: kernels(tmp_path, "/two/") and server.ledger.in_flight == LIMIT)
    machines.kill("two")
    wait_until(lambda: not kernels(tmp_path, "/two/"))
    (tmp_path / "go").touch()
    said, errors = running.communicate(timeout=100)
    assert running.returncode == 1, errors
    assert "9 of 10 trials done · 1 failed" in said
    assert "ValueError: no fives (in cell [6])" in errors
    frame = collect("some").set_index("n")
    assert sorted(frame.index) == list(range(1, 11))
    assert list(frame.index[frame["status"] == "failed"]) == [5]
    assert set(frame["outputs"].dropna().map(lambda path: Path(path).parent.name)) == {"one", "three"}
    assert server.ledger.in_flight_most == LIMIT
    assert (tmp_path / "outputs" / "sweeps" / "some" / "report.html").exists()
    again = sweep(notebook, {"n": [*range(1, 11)]}, scheduler=machines.address)
    assert again.ran == 0
    assert len(again.failed) == 1
    wait_until(lambda: not kernels(tmp_path))


def test_the_runner_is_interrupted_and_killed(machines: Machines, tmp_path: Path) -> None:
    """Either way the kernels on the workers end, nobody holds the sweep, and it goes on from there."""
    notebook = write_notebook(
        tmp_path / "some.ipynb", "n = 0", PID, f"if n > 1:\n    {WAITS.replace(chr(10), chr(10) + '    ')}"
    )
    arguments = (str(notebook), "-g", "n=1,2,3,4,5,6,7,8")
    first = started(machines.address, *arguments)
    wait_until(lambda: len(kernels(tmp_path)) >= 3 and "done" in set(collect("some")["status"]))
    with pytest.raises(OutputError, match="is being run by another process"):
        sweep(notebook, {"n": [1]}, scheduler=machines.address)
    os.killpg(first.pid, signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said
    assert "the same command goes on from there" in said
    assert kernels(tmp_path) == []
    assert set(collect("some")["status"]) == {"done", "interrupted"}
    second = started(machines.address, *arguments)
    wait_until(lambda: len(kernels(tmp_path)) >= 3)
    second.kill()
    second.communicate()
    wait_until(lambda: not kernels(tmp_path))
    (tmp_path / "go").touch()
    done = sweep(notebook, {"n": [*range(1, 9)]}, scheduler=machines.address)
    assert states(done) == ["done"] * 8
    assert done.ran == 7


def test_one_runner_a_sweep_without_a_common_folder(machines: Machines) -> None:
    """Two machines start the same sweep at a URL: the scheduler lets one, and the other when that one is gone."""
    one, other = Cluster(machines.address), Cluster(machines.address)
    try:
        one.check("memory://sweeps/some", Path.cwd(), None)
        one.check("memory://sweeps/some", Path.cwd(), None)
        with pytest.raises(OutputError, match="is being run by another process"):
            other.check("memory://sweeps/some", Path.cwd(), None)
        other.check("memory://sweeps/another", Path.cwd(), None)
        one.shutdown()
        other.check("memory://sweeps/some", Path.cwd(), None)
    finally:
        one.shutdown()
        other.shutdown()


def test_results_in_an_object_store(
    machines: Machines, store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that shares no folder with its workers: its results are at the URL, collected and resumed from there."""
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    cells = (
        "from personalab.recording import record\nrecord('square', n * n)\nprint('here', n)\nassert n != 2"
    )
    notebook = write_notebook(tmp_path / "some.ipynb", "n = 0", cells)
    done = sweep(notebook, {"n": [1, 2, 3]}, scheduler=machines.address, out="s3://bucket/sweeps")
    assert states(done) == ["done", "failed", "done"]
    frame = collect("s3://bucket/sweeps/some").set_index("n")
    assert frame["square"].to_dict() == {1: 1, 2: 4, 3: 9}
    assert report("s3://bucket/sweeps/some") == "s3://bucket/sweeps/some/report.html"
    found = Store("s3://bucket/sweeps/some")
    files = found.read(found.find("n-2-*/*"))
    log, notebook_run = (
        next(files[name] for name in files if name.endswith(end)) for end in (".txt", ".ipynb")
    )
    assert b"here 2" in log
    assert b"AssertionError" in notebook_run
    assert sweep(notebook, {"n": [1, 2, 3]}, scheduler=machines.address, out="s3://bucket/sweeps").ran == 0
    assert not (tmp_path / "outputs").exists()


def test_the_notebook_travels(
    machines: Machines, store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that have neither the notebook nor its folder run it in their own, which is said."""
    for name, value in store.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "mine").mkdir()
    cells = "import os\nfrom personalab.recording import record\nrecord('where', os.getcwd())"
    notebook = write_notebook(tmp_path / "mine" / "some.ipynb", "n = 0", cells)
    plan = plan_sweep(notebook, {"n": [1]}, name="travels", out="s3://bucket/sweeps")
    shutil.rmtree(tmp_path / "mine")
    with pytest.warns(ClusterNote, match="workers have no .*/mine: kernels there work in the worker's own"):
        done = run_plan(plan, scheduler=machines.address)
    assert [trial.error for trial in done.trials] == [None]
    assert list(done.frame()["where"]) == [str(machines.folder)]


PAYS = """
from personalab import LLMPool, run
from personalab.records import Message, Request
run(LLMPool(cache_dir=cache).send(Request(stage="x", messages=(Message(role="user", text="the same"),))))
"""


def test_paid_once_where_the_cache_is_shared(
    machines: Machines, server: OfflineServer, tmp_path: Path
) -> None:
    """The same request of all machines at once is sent once, if they share a folder that can be locked."""
    before = server.ledger.received
    notebook = write_notebook(tmp_path / "some.ipynb", "n = 0\ncache = ''", PAYS)
    done = sweep(
        notebook, {"n": [1, 2, 3, 4]}, {"cache": str(tmp_path / "cache")}, scheduler=machines.address
    )
    assert states(done) == ["done"] * 4
    assert server.ledger.received == before + 1
    assert done.counts is not None
    assert done.counts.sent == 1


def test_workers_that_cannot(machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version, no key: an error that names the worker, before anything runs."""
    notebook = write_notebook(tmp_path / "some.ipynb", "n = 0", PID)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-MARKER-12345")
    with pytest.raises(
        ConfigError, match=r"^worker tcp://127.0.0.1:\d+: it has no OPENAI_API_KEY.*do not travel"
    ):
        sweep(notebook, {"n": [1]}, scheduler=machines.address)
    monkeypatch.delenv("OPENAI_API_KEY")
    (tmp_path / "other" / "personalab-9.9.dist-info").mkdir(parents=True)
    (tmp_path / "other" / "personalab-9.9.dist-info" / "METADATA").write_text(
        "Name: personalab\nVersion: 9.9\n"
    )
    machines.grow("other", PYTHONPATH=str(tmp_path / "other"))
    try:
        with pytest.raises(
            ConfigError, match=r"worker tcp://127.0.0.1:\d+ has personalab 9.9, and this machine"
        ):
            sweep(notebook, {"n": [1]}, scheduler=machines.address)
    finally:
        machines.kill("other")
    assert not (tmp_path / "pids").exists()
    assert not list(tmp_path.glob("outputs/sweeps/*/*/trial.json"))


KILLS = """
import os, pathlib, signal
parent = os.getppid()  # the warm parent, whose own parent is the worker
stat = pathlib.Path(f"/proc/{parent}/stat").read_text()
os.kill(int(stat.rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
"""


@pytest.mark.skipif(not can_fork(), reason="it finds its worker by forked kernels")
def test_a_trial_that_kills_its_workers(machines: Machines, tmp_path: Path) -> None:
    """The last of these tests, as no worker is left: a trial that killed two of them is a failed row."""
    notebook = write_notebook(tmp_path / "some.ipynb", "n = 0", KILLS)
    done = sweep(notebook, {"n": [1]}, scheduler=machines.address)
    assert [trial.error for trial in done.trials] == ["2 workers died while they ran it; see their logs"]
    assert list(collect("some")["status"]) == ["failed"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": "9.9"}, "has personalab 9.9"),
        ({"has_key": False}, "no OPENAI_API_KEY"),
        ({"model": None}, "PERSONALAB_MODEL is not set, and elsewhere 'm'"),
        ({"max_concurrent": 5}, "MAX_CONCURRENT is 5, and elsewhere 3"),
    ],
)
def test_what_differs_is_said(changed: dict[str, Any], said: str) -> None:
    """In one line, with the variable."""
    wanted = Surroundings(
        version="0.1", has_key=True, api_base=None, model="m", max_concurrent=3, requests_per_minute=None,
        tokens_per_minute=None,
    )  # fmt: skip
    assert difference(wanted, wanted) is None
    assert said in str(difference(wanted.model_copy(update=changed), wanted))


def test_keys_do_not_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to the cluster says that there is a key, and not which."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-MARKER-12345")
    monkeypatch.setenv("PERSONALAB_MODEL", "m")
    plan = plan_sweep(write_notebook(tmp_path / "some.ipynb", "n = 0"), {"n": [1]})
    task = Task(
        trial=plan.planned[0].trial, sweep=plan.folder, folder=plan.folder / "1", notebook=plan.notebook
    )
    assert surroundings().has_key
    assert b"MARKER" not in pickle.dumps((task, surroundings()))


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler that does not answer, a folder that a worker does not see, jobs beside a cluster: one line each."""
    monkeypatch.setattr(clusters, "_CONNECT_SECONDS", 0.5)
    notebook = write_notebook(tmp_path / "some.ipynb", "n = 0")
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1: start one"):
        sweep(notebook, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ConfigError, match="leave out --jobs"):
        sweep(notebook, scheduler="tcp://127.0.0.1:1", jobs=2)
    with pytest.raises(OutputError, match=r"does not see .*; give --out"):
        _look(tmp_path, tmp_path / ".seen", tmp_path, None)
