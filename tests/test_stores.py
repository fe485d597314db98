"""Places by path and by URL: what is a folder, what is copied, what a store says when it does not do."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from sample_notebooks import write_notebook

from personalab.errors import ConfigError, OutputError
from personalab.stores import Store, below, local_copy, name_of, place_of
from personalab.sweeps import collect, plan_sweep, sweep
from personalab.trials import load_trial


def test_what_is_a_folder(tmp_path: Path) -> None:
    """Paths and file URLs are folders, other URLs stay as they are."""
    assert place_of("some/where") == Path("some/where")
    assert place_of((tmp_path / "a b%20ü").as_uri()) == tmp_path / "a b%20ü"
    assert place_of("s3://bucket/sweeps/") == "s3://bucket/sweeps"
    assert below("s3://bucket", "a", "b") == "s3://bucket/a/b"
    assert below(tmp_path, "a", "b") == tmp_path / "a" / "b"
    assert (name_of("s3://bucket/a"), name_of(tmp_path / "a")) == ("a", "a")


@pytest.fixture
def url() -> str:
    """A place in a store of this process."""
    return f"memory://{uuid.uuid4().hex}/some"


def test_a_copy_holds_what_fits(url: str) -> None:
    """Only what was asked for, nothing outside of its folder, and nothing of it is left."""
    store = Store(url)
    store.write({"a/trial.json": b"1", "a/log.txt": b"2", "b/c/trial.json": b"3", "a\\..\\trial.json": b"4"})
    with local_copy(url, "*/trial.json") as folder:
        assert folder.name == "some"
        assert [path.read_bytes() for path in folder.rglob("*") if path.is_file()] == [b"1"]
    assert not folder.exists()
    store.remove(["a/trial.json"])
    assert store.find("*/*") == ["a/log.txt"]
    assert store.read(["a/log.txt", "a/none"]) == {"a/log.txt": b"2"}


@pytest.mark.parametrize("address", ["nonsense://bucket/sweeps", "abfs://bucket/sweeps"])
def test_stores_nobody_can_open(address: str) -> None:
    """What to install, or that there is no such kind, before anything runs."""
    with pytest.raises(ConfigError, match="cannot be opened"):
        Store(address)


def test_a_store_that_does_not_answer() -> None:
    """One line with the address and where keys belong."""
    with pytest.raises(OutputError, match=r"^http://127.0.0.1:1/x: cannot read: .*keys in the environment$"):
        Store("http://127.0.0.1:1/x").read(["a"])


@pytest.mark.slow
def test_a_sweep_by_url(tmp_path: Path, url: str) -> None:
    """As in a folder: one frame in the order of recording, resumed, and what was half uploaded does not count."""
    notebook = write_notebook(
        tmp_path / "some.ipynb",
        "n = 0",
        "from personalab.recording import record\nrecord('z', n)\nrecord('a', -n)\nassert n != 2",
    )
    out = url.rsplit("/", 1)[0]
    done = sweep(notebook, {"n": [1, 2]}, out=out)
    assert done.folder == url
    assert [trial.status for trial in done.trials] == ["done", "failed"]
    frame = collect(url)
    assert list(frame.columns[-2:]) == ["z", "a"]
    assert list(frame["a"]) == [-1, -2]
    assert done.frame().equals(frame)
    store = Store(url)
    kinds = {name.split("/", 1)[1] for name in store.find("*/*", "*/recorded/*")}
    assert kinds == {
        "executed.ipynb",
        "log.txt",
        "trial.json",
        "recorded/0000-z.json",
        "recorded/0001-a.json",
    }
    assert sweep(notebook, {"n": [1, 2]}, out=out).ran == 0
    ended = f"{done.trials[0].name}/trial.json"
    begun = store.read([ended])[ended].replace(b'"done"', b'"running"')
    store.write({ended: begun})
    plan = plan_sweep(notebook, {"n": [1, 2]}, out=out)
    assert [each.why for each in plan.planned] == ["interrupted", "failed"]
    again = sweep(notebook, {"n": [1, 2]}, out=out)
    assert again.ran == 1
    assert again.trials[0].earlier is None
    assert not list(tmp_path.glob("outputs/sweeps/*"))
    with pytest.raises(ConfigError, match=f"no trials at {out}/none"):
        collect(f"{out}/none")


@pytest.mark.slow
def test_who_was_taken_for_dead_writes_nothing(tmp_path: Path) -> None:
    """Another machine that runs the trial has begun anew: what it writes is not written over."""
    takes_over = "import os, shutil\nshutil.rmtree(os.environ['PERSONALAB_TRIAL'])"
    notebook = write_notebook(tmp_path / "some.ipynb", "n = 0", takes_over)
    done = sweep(notebook, {"n": [1]})
    folder = Path(done.folder) / done.trials[0].name
    assert load_trial(folder).status == "running"
    assert not (folder / "executed.ipynb").exists()
