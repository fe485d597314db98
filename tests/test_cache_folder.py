"""A cache folder as a thing of its own: what it holds, what is broken, what is old, and handed to a colleague."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import PORTRAITS, ScriptedProvider
from hypothesis import given
from hypothesis import strategies as st

from personalab.cache_folder import entries, hits_in, parse_age, prune, shares
from personalab.errors import CacheError, ConfigError
from personalab.offline.server import OfflineServer
from personalab.pipeline import Pipeline
from personalab.pool import LLMPool
from personalab.records import Message, Request

MakePool = Callable[..., LLMPool]
DAY = 24 * 3600.0


def ask(text: str, stage: str = "mood") -> Request:
    return Request(stage=stage, messages=(Message(role="user", text=text),))


async def filled(make_pool: MakePool, *texts: str) -> Path:
    """A cache folder with a reply to each text."""
    pool = make_pool()
    for text in texts:
        await pool.send(ask(text))
    return pool.cache.folder


async def test_entries_by_model_and_stage(make_pool: MakePool) -> None:
    """One row for each, with entries, bytes as they lie on disk and hits."""
    folder = await filled(make_pool, "one", "two")
    await make_pool(model="other").send(ask("one", stage="weather"))
    found = list(entries(folder))
    first, second = shares(found, Counter({found[0].key: 2}))
    assert {(row.model, row.stage, row.entries) for row in (first, second)} == {
        ("scripted", "mood", 2),
        ("other", "weather", 1),
    }
    assert first.size + second.size == sum(path.stat().st_size for path in folder.glob("??/*.json"))
    assert first.hits + second.hits == 2


async def test_hits_are_counted_in_results(pipeline: Pipeline, tmp_path: Path) -> None:
    """Each stage of a run that took its reply from the cache is one; nothing is counted for what was paid."""
    first = await pipeline.run(PORTRAITS / "teal_turban.png")
    first.save(tmp_path / "outputs" / "personas")
    assert hits_in(tmp_path / "outputs").total() == 0
    again = await pipeline.run(PORTRAITS / "teal_turban.png")
    again.save(tmp_path / "outputs" / "again")
    assert hits_in(tmp_path / "outputs") == Counter(record.key for record in again.stages.values())


async def test_every_kind_of_damage_is_named_and_nothing_deleted(make_pool: MakePool) -> None:
    """Cut off, another's content, a changed request, a changed reply, a part missing: each names its file."""
    folder = await filled(make_pool, "one", "two", "three", "four", "five", "six")
    paths = sorted(folder.glob("??/*.json"))
    whole = [json.loads(path.read_bytes()) for path in paths]
    paths[0].write_bytes(paths[0].read_bytes()[:100])
    paths[1].write_text(json.dumps(whole[2]))
    whole[2]["identity"]["model"] = "better"
    paths[2].write_text(json.dumps(whole[2]))
    whole[3]["reply"]["text"] = "what I wish it had said"
    paths[3].write_text(json.dumps(whole[3]))
    del whole[4]["reply"]
    paths[4].write_text(json.dumps(whole[4]))
    told = [entry.problem or "" for entry in entries(folder)]
    words = [
        "cannot be read",
        "under another name",
        "request was changed",
        "reply was changed",
        "lacks a part",
        "",
    ]
    assert [word in said for word, said in zip(words, told, strict=True)] == [True] * 6
    assert told[5] == ""
    assert sorted(folder.glob("??/*.json")) == paths


async def test_entries_without_a_hash_of_the_reply(make_pool: MakePool) -> None:
    """They are good, and are said to be unsealed."""
    folder = await filled(make_pool, "one")
    (path,) = folder.glob("??/*.json")
    entry = json.loads(path.read_bytes())
    del entry["reply_sha256"]
    path.write_text(json.dumps(entry))
    (found,) = entries(folder)
    assert (found.problem, found.sealed) == (None, False)


async def test_pruning_goes_by_the_last_use(make_pool: MakePool, provider: ScriptedProvider) -> None:
    """Of two old entries the one that was used since stays."""
    folder = await filled(make_pool, "used", "forgotten")
    for path in folder.glob("??/*.json"):
        os.utime(path, (time.time() - 40 * DAY,) * 2)
    await make_pool().send(ask("used"))
    count, size = prune(folder, timedelta(days=30))
    assert (count, size > 0) == (1, True)
    assert prune(folder, timedelta(days=30)) == (0, 0)
    assert (await make_pool().send(ask("used"))).cached
    assert len(provider.bodies) == 2


async def test_a_use_is_written_once_a_day(make_pool: MakePool) -> None:
    """A second hit within a day leaves the file's time alone."""
    folder = await filled(make_pool, "one")
    (path,) = folder.glob("??/*.json")
    moment = time.time() - DAY / 2
    os.utime(path, (moment, moment))
    await make_pool().send(ask("one"))
    assert path.stat().st_mtime == pytest.approx(moment, abs=1)


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    """A folder that is no cache may have files in folders of two letters: they are no entries and stay."""
    words = tmp_path / "en" / "words.json"
    words.parent.mkdir()
    words.write_text("{}")
    os.utime(words, (0, 0))
    assert list(entries(tmp_path)) == []
    assert prune(tmp_path, timedelta(days=1)) == (0, 0)
    assert words.exists()


def test_no_folder(tmp_path: Path) -> None:
    """Said in a line, for looking and for pruning."""
    with pytest.raises(CacheError, match="no cache in"):
        list(entries(tmp_path / "none"))
    with pytest.raises(CacheError, match="no cache in"):
        prune(tmp_path / "none", timedelta(days=1))


@given(number=st.integers(0, 999_999), unit=st.sampled_from("hdw"))
def test_ages(number: int, unit: str) -> None:
    """Hours, days and weeks."""
    hours = {"h": 1, "d": 24, "w": 168}[unit]
    assert parse_age(f"{number}{unit}") == timedelta(hours=number * hours)


@given(st.text(max_size=8).filter(lambda text: not text.strip().isascii() or text.strip()[-1:] not in "hdw"))
def test_no_age(text: str) -> None:
    """Anything else is an error that shows what was given."""
    with pytest.raises(ConfigError, match="an age is"):
        parse_age(text)


# Argument: cache mode. What a notebook does, in the folder it lies in.
STUDY = """
import sys
import personalab
from personalab import LLMPool, Pipeline
from personalab.jobs import plan_calendars, write_tweets
from personalab.planner import Planner

async def study():
    pipeline = Pipeline(LLMPool(cache=sys.argv[1]), language="Español")
    frame = await pipeline.run_many("portraits", progress=False).finish()
    planner = Planner(pipeline.pool, country="DE")
    cards = sorted(frame["file"])
    plan = await plan_calendars(planner, cards, "2026-12", "outputs/calendars", progress=False)
    await write_tweets(planner, cards, [row.file for row in plan.rows], "outputs/tweets", count=3, progress=False)
    assert pipeline.pool.counts.sent == 0 or sys.argv[1] == "use", pipeline.pool.counts

personalab.run(study())
"""


@pytest.mark.slow
def test_a_study_is_handed_to_a_colleague(tmp_path: Path) -> None:
    """Script, images and cache folder in another place, with no server and no key: the same bytes."""
    with OfflineServer() as server:
        model = {"OPENAI_BASE_URL": server.base_url, "PERSONALAB_MODEL": "personalab-offline"}
        mine = study_in(tmp_path / "mine", "use", model | {"OPENAI_API_KEY": "sk-mine"})
    theirs = tmp_path / "theirs"
    (theirs / "outputs").mkdir(parents=True)
    (tmp_path / "mine" / "outputs" / "cache").rename(theirs / "outputs" / "cache")
    assert study_in(theirs, "replay", model) == mine
    assert len(mine) == 2 * 2 + 2 + 2


def study_in(folder: Path, mode: str, environment: dict[str, str]) -> dict[str, object]:
    """Run the study in a folder; its cards byte for byte, the slots of its calendars, its tweets."""
    portraits = folder / "portraits"
    portraits.mkdir(parents=True)
    for name in ("teal_turban.png", "silver_bun.png"):
        (portraits / name).write_bytes((PORTRAITS / name).read_bytes())
    (folder / "study.py").write_text(STUDY)
    subprocess.run(
        [sys.executable, "study.py", mode],
        cwd=folder,
        env=os.environ | environment,
        check=True,
        timeout=100,
    )
    outputs = folder / "outputs"
    found: dict[str, object] = {path.name: path.read_bytes() for path in outputs.glob("personas/*_persona.*")}
    for path in outputs.glob("calendars/*.json"):
        found[path.name] = json.loads(path.read_bytes())["slots"]
    for path in outputs.glob("tweets/*.json"):
        tweets = json.loads(path.read_bytes())
        found[f"tweets of {tweets['persona']}"] = [tweet["text"] for tweet in tweets["tweets"]]
    return found
