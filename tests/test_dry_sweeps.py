"""A dry run of a sweep: what it would send, trial by trial, with nothing sent and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PORTRAITS
from sample_notebooks import write_notebook

from personalab.budgets import Budget
from personalab.dry import CACHE_BELOW, DRY
from personalab.dry_sweeps import estimate_sweep
from personalab.errors import OutputError
from personalab.files import check_writable, write_whole
from personalab.offline.server import OfflineServer
from personalab.pool import LLMPool
from personalab.prices import Price
from personalab.records import Message, Request
from personalab.sweeps import plan_sweep, sweep

PERSONA = """
from personalab import LLMPool, Pipeline
from personalab.prices import Price
pool = LLMPool(prices={"m": Price(input=1, output=2)})
pipeline = Pipeline(pool).vary("social_network", temperature=temperature).vary("visual_profile", model="other")
run = await pipeline.run(f"../portraits/{image}.png")
saved = run.save("../outputs/personas")
assert saved.card.is_file()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OfflineServer]:
    """A project with a notebook folder, portraits by a link, and an endpoint."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "portraits").symlink_to(PORTRAITS)
    with OfflineServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("PERSONALAB_MODEL", "m")
        yield server


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All files below a folder, with their times."""
    files = (path for path in folder.rglob("*") if path.is_file() and "ipython" not in path.parts)
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.slow
def test_what_a_sweep_would_send(tmp_path: Path, project: OfflineServer) -> None:
    """Before: all of it, what trials share once. After one trial: what the other would add. What it says is what is sent then."""
    notebook = write_notebook(
        tmp_path / "notebooks" / "a.ipynb", "temperature = 0.5\nimage = 'teal_turban'", PERSONA
    )
    grid = {"temperature": [0.3, 1.1]}
    before = everything(tmp_path)
    found = estimate_sweep(plan_sweep(notebook, grid))
    assert [each.error for each in found.trials] == [None, None]
    assert {(amount.model, amount.requests) for amount in found.together} == {("m", 7), ("other", 1)}
    assert sum(amount.requests for each in found.trials for amount in each.amounts) == 8
    costs = {amount.model: amount.cost for amount in found.together}
    assert costs["other"] is None
    assert costs["m"] is not None
    assert costs["m"] > 0
    assert "m: 7 requests · about" in str(found)
    assert project.ledger.received == 0
    assert everything(tmp_path) == before

    sweep(notebook, {"temperature": [0.3]})
    assert project.ledger.received == 7
    before = everything(tmp_path)
    found = estimate_sweep(plan_sweep(notebook, grid))
    assert [(amount.model, amount.requests) for amount in found.together] == [("m", 1)]
    assert project.ledger.received == 7
    assert everything(tmp_path) == before
    sweep(notebook, grid)
    assert project.ledger.received == 8
    assert "0 of 2 trials to run" in str(estimate_sweep(plan_sweep(notebook, grid)))


@pytest.mark.slow
@pytest.mark.parametrize("there", [True, False])
def test_results_in_a_folder_of_a_folder(
    tmp_path: Path, project: OfflineServer, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """They are made in the scratch copy too, whether any are there yet or not."""
    monkeypatch.setenv("PERSONALAB_OUTPUTS", str(tmp_path / "results" / "first"))
    if there:
        write_whole(tmp_path / "results" / "first" / "personas" / "a.txt", b"a")
    code = "from personalab import Pipeline\nrun = await Pipeline().run(description='a diver')\nrun.save('../results/first/personas')"
    notebook = write_notebook(tmp_path / "notebooks" / "a.ipynb", "n = 0", code)
    before = everything(tmp_path)
    found = estimate_sweep(plan_sweep(notebook, {"n": [1]}))
    assert [each.error for each in found.trials] == [None]
    assert {(amount.model, amount.requests) for amount in found.together} == {("m", 7)}
    assert everything(tmp_path) == before
    assert (tmp_path / "results").exists() == there


@pytest.mark.slow
def test_a_notebook_that_fails(tmp_path: Path, project: OfflineServer) -> None:
    """What it asked up to then, and why it is only that; writing elsewhere fails, and nothing is written there."""
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    notebook = write_notebook(tmp_path / "notebooks" / "a.ipynb", "n = 0", f"""
from personalab import Pipeline
run = await Pipeline().run(description="a diver")
run.save({str(elsewhere)!r})
""")  # fmt: skip
    words = [sys.executable, "-m", "personalab", "sweep", str(notebook), "-g", "n=1,2", "--dry-run"]
    told = subprocess.run(words, capture_output=True, text=True, check=False, timeout=110)
    assert told.returncode == 0, told.stderr
    assert "m: 7 requests" in told.stdout
    assert "at least, as it did not come to its end: OutputError: a dry run does not write" in told.stdout
    assert not elsewhere.exists()
    assert project.ledger.received == 0


def test_only_the_scratch_folder_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not by a link that leads out of it."""
    scratch, real = tmp_path / "scratch", tmp_path / "real"
    for folder in (scratch, real):
        folder.mkdir()
    (scratch / "link").symlink_to(real)
    monkeypatch.setenv(DRY, str(scratch))
    write_whole(scratch / "a" / "b.json", b"{}")
    for place in (real, scratch / "link", scratch / ".." / "real"):
        with pytest.raises(OutputError, match="a dry run does not write"):
            write_whole(place / "b.json", b"{}")
        with pytest.raises(OutputError, match="a dry run does not write"):
            check_writable(place)
    assert list(real.iterdir()) == []


async def test_a_pool_in_a_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes what the cache has under the real keys, leaves the cache's times as they are, and sends nothing."""
    request = Request(stage="x", messages=(Message(role="user", text="hello"),))
    other = request.model_copy(update={"replicate": 1})
    with OfflineServer() as server:
        cache = tmp_path / "cache"
        real = LLMPool("secret-key-of-mine", server.base_url, "m", cache_dir=cache)
        await real.send(request)
        for path in cache.rglob("*.json"):
            os.utime(path, (0, 0))
        before, received = everything(cache), server.ledger.received
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        (scratch / CACHE_BELOW).symlink_to(cache)
        monkeypatch.setenv(DRY, str(scratch))
        monkeypatch.setenv("PERSONALAB_OUTPUTS", str(scratch / "outputs"))
        budget = Budget(requests=5, path=tmp_path / "budget.json")
        for options in ({}, {"cache_dir": cache}, {"batch": True}):
            dry = LLMPool("secret-key-of-mine", server.base_url, "m", budget=budget, prices={"m": Price(input=1, output=1, batch=1)}, **options)  # type: ignore[arg-type]  # fmt: skip
            assert dry.why(request).cached
            assert (await dry.send(request)).cached
            assert (await dry.send(other)).model == "personalab-offline"
            assert dry.key(other) == real.key(other)
        assert server.ledger.received == received
    assert everything(cache) == before
    assert not (tmp_path / "budget.json").exists()
