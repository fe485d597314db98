"""Sweeps with real kernels: results, failures, resuming, what is left behind, what is paid, what is hidden."""

from __future__ import annotations

import json
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import PORTRAITS
from sample_notebooks import write_notebook

from personalab.errors import ConfigError, OutputError
from personalab.offline.faults import parse_faults
from personalab.offline.server import OfflineServer
from personalab.recording import record
from personalab.sweep_reports import report
from personalab.sweeps import Sweep, collect, plan_sweep, sweep
from personalab.trial_frames import MixedTrials

pytestmark = pytest.mark.slow
WAIT_SECONDS = 60.0

RECORDS = """
import os, pandas as pd
from personalab.recording import record
print("temperature", temperature)
record("doubled", 2 * temperature)
record("where", os.getcwd())
record("texts", pd.DataFrame({"image": ["a", "b"], "words": [1.5, 2.0], "temperature": temperature}))
"""
PID = "import os, pathlib; pathlib.Path('pids').mkdir(exist_ok=True); pathlib.Path('pids', str(os.getpid())).touch()"


def wait_until(there: Callable[[], object]) -> None:
    """Until it is true; the test's own limit ends it otherwise."""
    end = time.monotonic() + WAIT_SECONDS
    while not there():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def kernels(folder: Path) -> list[int]:
    """The kernels that said who they are, and still live."""
    return [pid for pid in (int(path.name) for path in (folder / "pids").glob("*")) if alive(pid)]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `personalab sweep`; it has ended when this returns."""
    return subprocess.run(
        [sys.executable, "-m", "personalab", "sweep", *arguments],
        capture_output=True, text=True, timeout=110, check=False, env=os.environ | environment,
    )  # fmt: skip


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start `personalab sweep` in a group of its own, as a terminal does."""
    return subprocess.Popen(
        [sys.executable, "-m", "personalab", "sweep", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0, env=os.environ | environment,
    )  # fmt: skip


def states(done: Sweep) -> list[str]:
    """The trials' statuses in order."""
    return [trial.status for trial in done.trials]


def first_cell(executed: Path) -> str:
    """What stands on top of an executed notebook."""
    return "".join(json.loads(executed.read_text(encoding="utf-8"))["cells"][0]["source"])


def executed(done: Sweep, place: int) -> Path:
    """A trial's executed notebook."""
    return done.folder / done.trials[place].name / "executed.ipynb"


def test_from_a_grid_to_a_frame(tmp_path: Path) -> None:
    """Each point is run in the notebook's own folder; parameters and recorded values are columns; what was done is kept."""
    folder = tmp_path / "{odd} name"
    folder.mkdir()
    notebook = write_notebook(folder / "some.ipynb", "temperature = 0.7\nstage = 'a'", RECORDS)
    grid = {"temperature": [0.3, 1], "stage": ["a", "b"]}
    done = sweep(notebook, grid, jobs=4)
    assert states(done) == ["done"] * 4
    frame = collect("some")
    assert frame.equals(done.frame().sort_values("trial").set_index(frame.index)) or len(frame) == 4
    assert sorted(zip(frame["temperature"], frame["stage"], frame["doubled"], strict=True)) == [
        (0.3, "a", 0.6), (0.3, "b", 0.6), (1.0, "a", 2.0), (1.0, "b", 2.0),
    ]  # fmt: skip
    assert set(frame["where"]) == {str(folder)}
    texts = collect(done.folder, "texts")
    assert len(texts) == 8
    assert texts["words"].dtype == float
    assert list(texts.columns[:3]) == ["trial", "temperature", "stage"]
    assert "temperature_recorded" not in texts.columns
    assert "temperature 0.3" in (done.folder / done.trials[0].name / "log.txt").read_text()
    assert str(tmp_path) not in json.dumps(json.loads(executed(done, 0).read_text())["metadata"])
    began = [(done.folder / trial.name / "trial.json").read_bytes() for trial in done.trials]
    again = sweep(notebook, {**grid, "stage": ["a", "b", "c"]}, jobs=4)
    assert again.ran == 2
    assert began == [(done.folder / trial.name / "trial.json").read_bytes() for trial in done.trials]
    write_notebook(notebook, "temperature = 0.7\nstage = 'a'", RECORDS, "1")
    changed = plan_sweep(notebook, grid)
    assert changed.notes == ["some.ipynb has changed since 4 trials ran: run again"]
    with pytest.raises(ConfigError, match="known: texts"):
        collect("some", "text")
    with pytest.raises(ConfigError, match="known sweeps: some"):
        collect("other")


def test_ready_for_compare(tmp_path: Path) -> None:
    """A recorded frame with an image a row is compared by a parameter as it is."""
    from personalab.comparison import compare

    cells = "import pandas as pd\nfrom personalab.recording import record\nrecord('rows', pd.DataFrame({'image': list('abcdef'), 'x': [i * t for i in range(6)]}))"
    done = sweep(write_notebook(tmp_path / "some.ipynb", "t = 1", cells), {"t": [1, 2]})
    found = compare(done.frame("rows"), by="t", metric="x")
    assert list(found.levels["n_units"]) == [6, 6]
    assert list(found.contrasts["diff"]) == [2.5]


ODD = ['quo"te', "back\\slash\\n", "new\nline", "中文 😀", "{brace} %s $x", "# no comment", "", None, True, -0.0, 1e-320, 2**70,
       ["a", None, [2.5]], {'k"': {"n": [1, "\\"]}}]  # fmt: skip


def test_odd_values_arrive_as_they_are(tmp_path: Path) -> None:
    """Whatever a parameter holds, the notebook has it to the last mark."""
    cell = "import json\nfrom personalab.recording import record\nrecord('json', json.dumps(v))"
    notebook = write_notebook(tmp_path / "some.ipynb", "v = None", cell)
    done = sweep(notebook, [{"v": value} for value in ODD], jobs=2)
    found = done.frame().set_index("trial")["json"]
    assert [found[trial.name] for trial in done.trials] == [json.dumps(value) for value in ODD]


def test_an_error_in_trial_seven_of_twelve(tmp_path: Path) -> None:
    """Eleven results and one clear row; the exit code says so; the failed notebook has its error on top."""
    notebook = write_notebook(
        tmp_path / "some.ipynb", "n = 0", "from personalab.recording import record\nrecord('square', n * n)",
        "if n == 7:\n    raise ValueError('no <b>sevens</b>')",
    )  # fmt: skip
    first = command(str(notebook), "-g", f"n={','.join(map(str, range(1, 13)))}", "--jobs", "4")
    assert first.returncode == 1
    assert "ValueError: no <b>sevens</b> (in cell [4])" in first.stderr
    assert "11 of 12 trials done · 1 failed" in first.stdout
    frame = collect("some").set_index("n")
    assert list(frame.index[frame["status"] == "failed"]) == [7]
    assert frame.loc[7, "error"] == "ValueError: no <b>sevens</b> (in cell [4])"
    assert frame["square"].to_dict() == {n: n * n for n in range(1, 13)}
    (failed,) = (tmp_path / "outputs" / "sweeps" / "some").glob("n-7-*")
    assert "An Exception was encountered" in first_cell(failed / "executed.ipynb")
    assert "no <b>sevens</b>" in (failed / "log.txt").read_text()
    dry = command(str(notebook), "-g", "n=6,7,13", "--dry-run")
    assert dry.returncode == 0
    assert [line.split()[:2] for line in dry.stdout.splitlines()[1:4]] == [
        ["keep", "done"],
        ["keep", "failed"],
        ["run", "new"],
    ]
    again = command(str(notebook), "-g", "n=6,7", "--retry-failed")
    assert "1 of 2 trials done · 1 kept from before · 1 failed" in again.stdout
    page = (tmp_path / "outputs" / "sweeps" / "some" / "report.html").read_text()
    assert "&lt;b&gt;sevens" in page
    assert "<b>sevens" not in page


DIES = {
    "crash": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
    "exit": "import os\nos._exit(3)",
    "endless": "while True: pass",
    "sleep": "import time\ntime.sleep(1000)",
    "good": "1",
}


def test_dead_and_endless_kernels(tmp_path: Path) -> None:
    """A crash, an exit and two that never end are each their own row; what they recorded and printed before is there."""
    cells = f"exec({DIES!r}[how])"
    notebook = write_notebook(
        tmp_path / "some.ipynb",
        "how = 'good'",
        PID,
        "from personalab.recording import record\nrecord('x', how)\nprint('before')",
        cells,
    )
    done = sweep(notebook, {"how": list(DIES)}, jobs=5, timeout=15)
    assert states(done) == ["failed"] * 4 + ["done"]
    assert [trial.error for trial in done.trials] == [
        *["the kernel died in cell [5]: a crash, too little memory, or os._exit"] * 2,
        *["the time limit of 15 s passed in cell [5]; raise --timeout"] * 2,
        None,
    ]
    assert list(done.frame().set_index("how").loc[list(DIES), "x"]) == list(DIES)
    for place, trial in enumerate(done.trials):
        assert "before" in (done.folder / trial.name / "log.txt").read_text()
        assert (trial.error or "how") in first_cell(executed(done, place))
    wait_until(lambda: not kernels(tmp_path))


WAITS = "import pathlib, time\nwhile n > 2 and not pathlib.Path('go').exists(): time.sleep(0.02)"


def test_control_c(tmp_path: Path) -> None:
    """The kernels end, the code is 130, and the same command runs only what was not done."""
    notebook = str(write_notebook(tmp_path / "some.ipynb", "n = 0", PID, WAITS))
    running = started(notebook, "-g", "n=1,2,3,4,5,6", "--jobs", "2")
    wait_until(lambda: len(list((tmp_path / "pids").glob("*"))) == 4)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.count("\n") == 1
    assert "the same command goes on from there" in said
    assert kernels(tmp_path) == []
    frame = collect("some").set_index("n")
    assert frame["status"].to_dict() == {1: "done", 2: "done", 3: "interrupted", 4: "interrupted"}
    (tmp_path / "go").touch()
    again = command(notebook, "-g", "n=1,2,3,4,5,6", "--jobs", "2")
    assert again.returncode == 0
    assert "2 trials did not come to an end: run again" in again.stderr
    assert "6 of 6 trials done · 2 kept from before" in again.stdout


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """The runner is killed: its kernels end by themselves, nothing done is run again, and nobody holds the sweep."""
    notebook = str(write_notebook(tmp_path / "some.ipynb", "n = 0", PID, WAITS))
    running = started(notebook, "-g", "n=1,2,3,4,5", "--jobs", "2")
    wait_until(lambda: len(list((tmp_path / "pids").glob("*"))) == 4)
    with pytest.raises(OutputError, match="is being run by another process"):
        sweep(notebook, {"n": [1]})
    running.kill()
    running.communicate()
    wait_until(lambda: not kernels(tmp_path))
    assert set(collect("some")["status"]) == {"done", "running"}
    (tmp_path / "go").touch()
    before = len(list((tmp_path / "pids").glob("*")))
    again = sweep(notebook, {"n": [1, 2, 3, 4, 5]}, jobs=2)
    assert states(again) == ["done"] * 5
    assert again.ran == 3
    assert again.notes == ("2 trials did not come to an end: run again",)
    assert len(list((tmp_path / "pids").glob("*"))) == before + 3


def test_keys_are_nowhere(tmp_path: Path) -> None:
    """A notebook that prints, records and fails with its key leaves no trace of it."""
    cells = ["import os\nkey = os.environ['OPENAI_API_KEY']\nprint(key)\nkey",
             "from personalab.recording import record\nrecord('key', key)", "raise ValueError(key)"]  # fmt: skip
    notebook = write_notebook(tmp_path / "some.ipynb", "n = 0", *cells)
    done = command(str(notebook), OPENAI_API_KEY="sk-MARKER-12345", PERSONALAB_MODEL="m")
    assert done.returncode == 1
    assert "MARKER" not in done.stdout + done.stderr
    assert "ValueError: [hidden] (in cell [4])" in done.stderr
    files = [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]
    assert len(files) >= 5
    assert not [path for path in files if b"MARKER" in path.read_bytes()]
    refused = command(str(notebook), "-p", "n=sk-MARKER-12345")
    assert refused.returncode == 2
    assert "set it in the environment" in refused.stderr
    assert "MARKER" not in refused.stderr


PERSONA = """
from personalab import LLMPool, Pipeline, run
pool = LLMPool()
persona = run(Pipeline(pool).run(image))
from personalab.recording import record
record("name", persona["core_persona"].name)
"""


def test_eight_trials_pay_once(tmp_path: Path) -> None:
    """Eight kernels at once need the same persona: each request is sent once, never more in flight than allowed."""
    notebook = write_notebook(tmp_path / "some.ipynb", "image = ''\nn = 0", PERSONA)
    server = OfflineServer(parse_faults(fault=[], latency=["0.3"]))
    with server:
        environment = {"OPENAI_BASE_URL": server.base_url, "PERSONALAB_MODEL": "m", "MAX_CONCURRENT": "3"}
        arguments = ("-g", "n=1,2,3,4,5,6,7,8", "-p", f"image={PORTRAITS / 'felt_hat.png'}", "--jobs", "8")
        done = command(str(notebook), *arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert server.ledger.received == 7
        assert server.ledger.in_flight_most <= 3
    frame = collect("some")
    assert frame["calls"].sum() == 7
    assert frame["name"].nunique() == 1
    assert frame["input_tokens"].sum() > 0
    assert "7 requests sent" in done.stdout


SENDS = """
from personalab import LLMPool, run
from personalab.records import Message, Request
pool = LLMPool()
run(pool.send(Request(stage="x", messages=(Message(role="user", text=f"number {n}"),))))
"""


def test_what_failed_attempts_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls before a crash count, also those of the attempt before; what two attempts need is paid in the first."""
    with OfflineServer(parse_faults(fault=[], latency=[])) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("PERSONALAB_MODEL", "m")
        notebook = write_notebook(tmp_path / "some.ipynb", "n = 0", SENDS, DIES["crash"])
        first = sweep(notebook, {"n": [1, 2]})
        assert [trial.counts.sent for trial in first.trials if trial.counts] == [1, 1]
        assert first.counts is not None
        assert first.counts.usage.tokens == sum(
            collect("some")["input_tokens"] + collect("some")["output_tokens"]
        )
        write_notebook(notebook, "n = 0", SENDS)
        again = sweep(notebook, {"n": [1, 2]})
        assert again.notes == ("some.ipynb has changed since 2 trials ran: run again",)
        assert [(trial.counts.sent, trial.counts.cached) for trial in again.trials if trial.counts] == [
            (0, 1)
        ] * 2
        assert [trial.earlier.sent for trial in again.trials if trial.earlier] == [1, 1]
        assert "2 requests sent" in report(again.folder).read_text(encoding="utf-8")
        assert server.ledger.received == 2


def test_trials_of_two_notebooks_are_told(tmp_path: Path) -> None:
    """What was run with another version of the notebook should not be compared unseen."""
    sweep(write_notebook(tmp_path / "some.ipynb", "n = 0", "1"), {"n": [1]})
    sweep(write_notebook(tmp_path / "some.ipynb", "n = 0", "2"), {"n": [2]})
    with pytest.warns(MixedTrials, match="different versions"):
        assert list(collect("some")["n"]) == [1, 2]


def test_two_grids_of_one_notebook(tmp_path: Path) -> None:
    """A parameter that a trial was not given has the notebook's default in its row, in the frame and in the report."""
    notebook = write_notebook(
        tmp_path / "some.ipynb",
        "temperature: float = 1\nstage = 'bio'\nnames = ['x']\ncount = 2 + 3\napi_key = 'sk-12345678abc'",
        "from personalab.recording import record\nrecord('heat', temperature)",
    )
    sweep(notebook, {"temperature": [0.3, 0.7]}, jobs=2)
    sweep(notebook, {"stage": ["a", "b"]}, {"count": 7}, jobs=2)
    done = sweep(notebook, {"names": [["y"]]})
    frame = collect("some")
    assert sorted(zip(frame["temperature"], frame["stage"], frame["names"], strict=True)) == [
        (0.3, "bio", '["x"]'), (0.7, "bio", '["x"]'), (1.0, "a", '["x"]'), (1.0, "b", '["x"]'), (1.0, "bio", '["y"]'),
    ]  # fmt: skip
    assert sorted(frame["count"].dropna()) == [7, 7]  # what is computed is not known before it is run
    assert "heat_recorded" not in frame.columns
    assert "sk-12345678abc" not in json.dumps(done.trials[0].defaults)
    page = report(done.folder).read_text(encoding="utf-8")
    assert "<td>stage</td><td>varied</td><td>bio · a · b</td>" in page
    assert page.count("<td>bio</td>") == 3


def test_that_no_language_model_answered(tmp_path: Path) -> None:
    """Where the embedded provider answered, the command and the report say so; where none was asked or another, not."""
    said = "the embedded provider answered (not a language model)"
    notebook = write_notebook(tmp_path / "some.ipynb", "n = 0", SENDS)
    done = command(str(notebook), "-g", "n=1,2")
    assert said in done.stderr
    page = report("some").read_text(encoding="utf-8")
    assert said.capitalize() in page
    with OfflineServer(parse_faults(fault=[], latency=[])) as server:
        environment = {"OPENAI_BASE_URL": server.base_url, "PERSONALAB_MODEL": "m"}
        assert "embedded" not in command(str(notebook), "-g", "n=3", **environment).stderr
    assert "embedded provider answered in 2 of 3 trials" in report("some").read_text(encoding="utf-8")
    asks_nothing = write_notebook(
        tmp_path / "other.ipynb", "n = 0", "from personalab import LLMPool\nLLMPool()"
    )
    assert "embedded" not in command(str(asks_nothing), "-g", "n=1").stderr


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]


def test_report(tmp_path: Path) -> None:
    """One file with charts in it; its links are to the trials, and nothing is fetched from anywhere."""
    notebook = write_notebook(
        tmp_path / "some.ipynb",
        "t = 0.5\nstage = 'a'\nn: int = 1",
        "from personalab.recording import record\nrecord('odd [name].x', t + 1)\nassert t < 0.9",
    )
    done = sweep(notebook, {"t": [0.3, 0.7, 1.1], "stage": ["a", "<b>"]}, {"n": 3}, jobs=4)
    page = report(done.folder).read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "4 done · 2 failed" in page
    assert "&lt;b&gt;" in page
    links = _Links()
    links.feed(page)
    assert len(links.links) == 18
    assert all((done.folder / link).exists() or "%3Cb%3E" in link for link in links.links)


def test_in_other_processes(tmp_path: Path) -> None:
    """Any executor will do: a trial is sent as it is to another process."""
    notebook = write_notebook(tmp_path / "some.ipynb", "temperature = 0.7", RECORDS)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        done = sweep(notebook, {"temperature": [0.3, 1.1]}, executor=processes, engine="spawn")
    assert states(done) == ["done", "done"]
    assert sorted(done.frame()["doubled"]) == [0.6, 2.2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jobs": 0}, "one job or more"),
        ({"timeout": 0}, "in seconds above 0"),
        ({"engine": "forks"}, "did you mean 'fork'"),
        ({"parameters": {"temprature": 1}}, "did you mean 'temperature'"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """Told before anything runs, and nothing is written."""
    notebook = write_notebook(tmp_path / "some.ipynb", "temperature = 0.7")
    with pytest.raises(ConfigError, match=said):
        sweep(notebook, None, **options)
    assert not list((tmp_path / "outputs").glob("sweeps/*/*/trial.json"))


def test_on_a_terminal(tmp_path: Path) -> None:
    """A table of what runs while it runs; nothing of it where nobody looks."""
    notebook = str(write_notebook(tmp_path / "some.ipynb", "n = 0", PID, WAITS))
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "personalab", "sweep", notebook, "-g", "n=3,4", "--jobs", "2"],
        stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"COLUMNS": "120", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    shown: list[str] = []

    def read() -> None:
        while True:
            try:
                shown.append(os.read(ours, 1 << 16).decode("utf-8", "replace"))
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: "0 of 2 trials · 2 in flight" in "".join(shown))
    (tmp_path / "go").touch()
    running.communicate(timeout=60)
    reader.join(10)
    os.close(ours)
    assert running.returncode == 0
    assert "n-3-" in "".join(shown)
    assert "running" in "".join(shown)


def test_what_a_trial_sent_is_no_measure_of_its_rows(tmp_path: Path) -> None:
    """Recorded rows keep their own status and tokens; a comparison of trials does not take the trial's tokens for length."""
    from personalab.comparison import compare

    rows = (
        "import pandas as pd\nfrom personalab.recording import record\nimages = [f'image {each}' for each in range(7)]\n"
        "record('rows', pd.DataFrame({'image': images, 'text': ['some words'] * 7, 'status': ['failed' if n == 2 else 'done'] + "
        "['done'] * 6, 'x': [float(n + each) for each in range(7)]}))"
    )
    with OfflineServer(parse_faults(fault=[], latency=[])) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", server.base_url)
        patch.setenv("PERSONALAB_MODEL", "m")
        done = sweep(write_notebook(tmp_path / "some.ipynb", "n = 0", SENDS, rows), {"n": [1, 2]})
    frame = done.frame("rows")
    assert frame["status"].tolist() == ["done"] * 7 + ["failed"] + ["done"] * 6
    assert (frame["trial_status"] == "done").all()
    assert (frame["trial_output_tokens"] > 0).all()
    assert not {"calls", "input_tokens", "output_tokens", "cost", "seconds"} & set(frame.columns)
    assert {"calls", "input_tokens", "output_tokens", "cost", "seconds"} <= set(done.frame().columns)
    found = compare(frame, by="n", metric="x")
    assert found.length_check is not None
    assert set(found.length_check["length"]) == {"word_count"}
    assert any("failures differ between levels (1: 0%, 2: 14%)" in text for text in found.warnings)


def test_in_a_notebook(tmp_path: Path) -> None:
    """A sweep runs in a cell of a notebook, with its bar and its result shown."""
    inner = write_notebook(
        tmp_path / "inner.ipynb", "n = 0", "from personalab.recording import record\nrecord('x', n)"
    )
    outer = write_notebook(
        tmp_path / "outer.ipynb", "n = 2", f"from personalab.sweeps import sweep\ndone = sweep({str(inner)!r}, {{'n': [1, n]}})\ndone",
        "from personalab.recording import record\nrecord('rows', done.frame()[['n', 'x']])",
    )  # fmt: skip
    done = sweep(outer, {"n": [2]})
    assert [trial.error for trial in done.trials] == [None]
    assert done.frame("rows")[["n_recorded", "x"]].to_numpy().tolist() == [[1, 1], [2, 2]]
    shown = executed(done, 0).read_text(encoding="utf-8")
    assert "<progress" in shown
    assert "2 of 2 trials done" in shown


def test_recording_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a sweep nothing is written, but what cannot be recorded is refused all the same."""
    record("x", 1)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="a dict can be no cell of a table"):
        record("x", {})
    with pytest.raises(ConfigError, match="the name is empty"):
        record(" ", 1)


def test_frames_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their kinds of columns, missing values and every digit."""
    from personalab.recording import read_frame, read_values

    monkeypatch.setenv("PERSONALAB_TRIAL", str(tmp_path))
    frame = pd.DataFrame(
        {
            "number": [0.1 + 0.2, float("nan")],
            "count": [1, 2**60],
            "day": pd.to_datetime(["2026-01-01", None]),
            "text": ["a", None],
            "flag": [True, False],
            "kind": pd.Categorical(["x", "y"]),
            "words": [["a", "b"], []],
        }
    )
    record("some frame", frame)
    record("none", frame.head(0))
    record("a series", frame["number"])
    record("π", 3.14)
    found = read_frame(tmp_path, "some frame")
    assert found is not None
    pd.testing.assert_frame_equal(found, frame)
    assert list(read_frame(tmp_path, "none").columns) == list(frame.columns)  # type: ignore[union-attr]
    assert read_frame(tmp_path, "a series")["number"].iloc[0] == 0.1 + 0.2  # type: ignore[index]
    assert read_values(tmp_path) == {"π": 3.14}
