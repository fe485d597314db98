"""Tweets of a calendar: of the right persona, postable, no near copies, never over another file."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PORTRAITS, ScriptedProvider, failure

from personalab import LLMPool, Pipeline
from personalab.calendar_files import load_calendar, merge_calendar
from personalab.calendars import alike
from personalab.errors import ConfigError, OutputError
from personalab.frames import in_flight_df, slots_df, tweets_df
from personalab.jobs import calendars_of, plan_calendars, write_tweets
from personalab.offline.writer import write
from personalab.personas import open_persona
from personalab.planner import Planner
from personalab.tweet_files import find_tweets, load_tweets, save_tweets
from personalab.tweet_text import fits_in_tweet
from personalab.tweets import Tweets, near_copies


@pytest.fixture
async def cards(pipeline: Pipeline, tmp_path: Path) -> list[Path]:
    """Two personas with a calendar each."""
    images = [PORTRAITS / f"{name}.png" for name in ("teal_turban", "silver_bun")]
    await pipeline.run_many(images, out=tmp_path / "personas").finish()
    found = [tmp_path / "personas" / f"{image.stem}_persona.json" for image in images]
    await plan_calendars(Planner(pipeline.pool), found, "2026-12", tmp_path / "calendars")
    return found


@pytest.fixture
def calendars(cards: list[Path], tmp_path: Path) -> list[Path]:
    """Their calendars."""
    return calendars_of(cards, tmp_path / "calendars")


@pytest.fixture
def scripted(provider: ScriptedProvider, make_pool: Callable[..., LLMPool]) -> Planner:
    """A planner on the scripted provider, which answers as the embedded one does until told otherwise."""
    provider.script = write
    return Planner(make_pool())


def slot_of(body: dict[str, Any]) -> dict[str, Any]:
    """The slot that a request asks for."""
    text = body["messages"][1]["content"]
    found: dict[str, Any] = json.loads(text.split("<slot>")[1].split("</slot>")[0])
    return found


async def test_a_tweet_for_each_slot(
    pipeline: Pipeline, cards: list[Path], calendars: list[Path], tmp_path: Path
) -> None:
    """Each belongs to its persona and slot, can be posted, and is no near copy of another."""
    job = await write_tweets(Planner(pipeline.pool), cards, reversed_of(calendars), tmp_path / "tweets")
    assert [row.state for row in job.rows] == ["made", "made"]
    for row in job.rows:
        tweets, persona = load_tweets(str(row.file)), open_persona(row.card)
        calendar = load_calendar(tmp_path / "calendars" / tweets.calendar)
        assert tweets.persona_id == persona.identity == calendar.persona_id
        assert tweets.card == Path(row.card).name
        assert "AI-made" in tweets.notice
        assert [(t.date, t.topic, t.content_type) for t in tweets.tweets] == [
            (s.date, s.topic, s.content_type) for s in calendar.slots
        ]
        texts = [tweet.text for tweet in tweets.tweets]
        assert all(fits_in_tweet(text) for text in texts)
        assert near_copies(texts, persona.examples) == {}
        asked = tweets.tweets[0].request
        assert (asked.model, asked.prompt, asked.sampling.temperature) == (
            "personalab-offline",
            "tweet.md",
            0.9,
        )


def reversed_of(paths: list[Path]) -> list[Path]:
    return list(reversed(paths))


async def test_the_prompt_knows_slot_and_habits(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], calendars: list[Path], tmp_path: Path
) -> None:
    """One request a slot, with its type and what that is about, topic, mood, day; with voice, habits and examples."""
    persona, calendar = open_persona(cards[0]), load_calendar(calendars[0])
    await scripted.write(persona, calendar, 5)
    assert len(provider.bodies) == 5
    for body, slot in zip(sorted(provider.bodies, key=lambda body: str(slot_of(body)["date"])), calendar.slots, strict=False):  # fmt: skip
        asked, text = slot_of(body), body["messages"][1]["content"]
        assert (asked["date"], asked["topic"], asked["mood"]) == (str(slot.date), slot.topic, slot.mood)
        assert asked["weekday"] == slot.date.strftime("%A")
        assert asked["about"] in [kind.description for kind in persona.strategy.content_types]
        assert "lower_case" in text
        assert persona.strategy.voice in json.loads(text.split("<tweet_strategy>")[1].split("</")[0])["voice"]
        assert persona.examples[0][:12] in text


async def test_a_stranger_is_refused_before_anything_is_sent(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], calendars: list[Path], tmp_path: Path
) -> None:
    """Another persona's calendar, none, several, too few slots: an error that says what to do."""
    with pytest.raises(ConfigError, match="not a calendar of these personas"):
        await write_tweets(scripted, cards[:1], calendars[1:], tmp_path / "t")
    with pytest.raises(ConfigError, match=r"no calendar for .*silver_bun.*personalab calendar CARD"):
        await write_tweets(scripted, cards, calendars[:1], tmp_path / "t")
    with pytest.raises(ConfigError, match="has 31 slots, so --count is 1 to 31, not 99"):
        await write_tweets(scripted, cards, calendars, tmp_path / "t", count=99)
    with pytest.raises(ConfigError, match="has no calendar of 2027-05"):
        calendars_of(cards, tmp_path / "calendars", "2027-05")
    with pytest.raises(ConfigError, match="a month is written 2026-12, not '2027-5'"):
        calendars_of(cards, tmp_path / "calendars", "2027-5")
    with pytest.raises(OutputError, match="cannot be read: No such file or directory; plan one"):
        await write_tweets(scripted, cards, [tmp_path / "nowhere.json"], tmp_path / "t")
    with pytest.raises(ConfigError, match="the calendar of 2026-12 is"):
        await scripted.write(open_persona(cards[0]), load_calendar(calendars[1]))
    merge_calendar(tmp_path / "calendars", load_calendar(calendars[0]).model_copy(update={"month": "2027-01", "slots": ()}))  # fmt: skip
    with pytest.raises(ConfigError, match="has several calendars"):
        calendars_of(cards, tmp_path / "calendars")
    assert provider.bodies == []


async def test_too_long_is_asked_again_and_never_cut(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], calendars: list[Path]
) -> None:
    """The model is told the length; what it then writes is taken as it is."""
    long = "A sentence of some length that goes on. " * 8

    provider.script = lambda body: json.dumps(
        {"text": long if len(body["messages"]) == 2 else f"Short {slot_of(body)['date'][-2:]} today."}
    )
    tweets = await scripted.write(open_persona(cards[0]), load_calendar(calendars[0]), 1)
    assert tweets.tweets[0].text == "Short 01 today."
    assert "takes 319 of 280 units" in provider.bodies[1]["messages"][-1]["content"]
    provider.script = lambda body: json.dumps({"text": long})
    tweets = await scripted.write(open_persona(cards[0]), load_calendar(calendars[0]).model_copy(update={"slots": load_calendar(calendars[0]).slots[1:2]}))  # fmt: skip
    assert (len(tweets.tweets), len(tweets.failed)) == (0, 1)
    assert "280 units" in tweets.failed[0].error


async def test_a_near_copy_is_asked_again_with_the_offender(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], calendars: list[Path]
) -> None:
    """The later slot writes another; asked the same again, nothing is paid and the outcome is the same."""
    copy = "The queue at the chemist has a favourite, and it is not me."

    def script(body: dict[str, Any]) -> str:
        day = slot_of(body)["date"]
        if day in ("2026-12-02", "2026-12-05") and len(body["messages"]) == 2:
            return json.dumps({"text": copy + ("" if day.endswith("2") else "!")})
        return write(body)

    provider.script = script
    persona, calendar = open_persona(cards[0]), load_calendar(calendars[0])
    tweets = await scripted.write(persona, calendar, 8)
    texts = [tweet.text for tweet in tweets.tweets]
    assert texts[1] == copy
    assert alike(texts[4], copy) < 80
    assert len(provider.bodies) == 9
    assert (
        f"near copy of this tweet of the same persona: {copy!r}"
        in provider.bodies[8]["messages"][-1]["content"]
    )
    again = await scripted.write(persona, calendar, 8)
    assert ([tweet.text for tweet in again.tweets], len(provider.bodies)) == (texts, 9)


async def test_a_model_that_only_copies(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], calendars: list[Path]
) -> None:
    """One tweet is kept, the other slots say why they have none."""
    provider.script = lambda body: json.dumps({"text": "Always the same line, more or less."})
    tweets = await scripted.write(open_persona(cards[0]), load_calendar(calendars[0]), 3)
    assert (len(tweets.tweets), len(tweets.failed)) == (1, 2)
    assert "still a near copy of" in tweets.failed[0].error


async def test_one_slot_fails_the_others_are_written(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], calendars: list[Path], tmp_path: Path
) -> None:
    """Its reason stands in the file and in the row."""
    provider.script = lambda body: failure(400) if slot_of(body)["date"] == "2026-12-03" else write(body)
    (row, other) = (await write_tweets(scripted, cards, calendars, tmp_path / "t", count=6)).rows
    assert (row.state, row.made, row.missing, other.missing) == ("failed", 5, 1, 1)
    assert str(row.error).startswith("2026-12-03: ")
    assert load_tweets(str(row.file)).failed[0].date == dt.date(2026, 12, 3)


def some_tweets(persona: str = "Ada") -> Tweets:
    return Tweets(
        notice="AI-made", written="now", persona_id="1", persona=persona, month="2026-12", language="English"
    )


SAVER = """
import sys
from pathlib import Path
from personalab.tweet_files import save_tweets
from personalab.tweets import Tweets
import personalab.tweet_files as files
import datetime
class Stopped(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 12, 1, 8, 30, 0, 123456, tz)
files.datetime = Stopped
for number in range(5):
    save_tweets(Tweets(notice="n", written="w", persona_id=sys.argv[2], persona="Ada", month="2026-12", language="English"), sys.argv[1])
"""


@pytest.mark.slow
async def test_the_same_tweets_again(
    pipeline: Pipeline, cards: list[Path], calendars: list[Path], tmp_path: Path
) -> None:
    """Nothing is paid and nothing is written: the file that is there is kept. What files share is counted once."""
    planner, out = Planner(pipeline.pool), tmp_path / "t"
    first = await write_tweets(planner, cards, calendars, out, count=2)
    before = {path: path.read_bytes() for path in out.iterdir()}
    sent = pipeline.pool.counts.sent
    again = await write_tweets(planner, cards, calendars, out, count=2)
    assert pipeline.pool.counts.sent == sent
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert [(row.state, row.made, row.file) for row in again.rows] == [
        ("kept", 2, row.file) for row in first.rows
    ]
    more = await write_tweets(planner, cards, calendars, out, count=3)
    assert [row.state for row in more.rows] == ["made", "made"]
    frame = tweets_df(out)
    assert len(frame) == 2 * 3
    assert not frame.duplicated(["persona_id", "date"]).any()
    oldest = {Path(str(row.file)).name for row in first.rows}
    assert set(frame[frame["date"].dt.day <= 2]["file"]) == oldest
    assert len(tweets_df(out, repeats=True)) == 2 * (2 + 3)
    assert set(tweets_df([str(row.file) for row in more.rows + first.rows])["file"]).isdisjoint(oldest)


def test_forty_files_in_one_microsecond(tmp_path: Path) -> None:
    """Eight processes whose clocks stand still write five files each of one persona: forty files."""
    savers = [
        subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path), str(number)]) for number in range(8)
    ]
    assert [saver.wait(60) for saver in savers] == [0] * 8
    found = list(find_tweets(tmp_path))
    assert len(found) == len(list(tmp_path.iterdir())) == 40
    counts = [sum(tweets.persona_id == str(number) for _, tweets in found) for number in range(8)]
    assert counts == [5] * 8
    assert "Ada_20261201T083000_123456Z.json" in {path.name for path, _ in found}


@pytest.mark.parametrize("persona", ["../up", "名" * 200, "a/b", "CON", ""])
def test_hostile_names_of_tweets(tmp_path: Path, persona: str) -> None:
    """The file lies in the folder and is found again."""
    path = save_tweets(some_tweets(persona), tmp_path)
    assert path.parent == tmp_path
    assert [tweets.persona for _, tweets in find_tweets(tmp_path)] == [persona]


async def test_one_tidy_frame(
    pipeline: Pipeline, cards: list[Path], calendars: list[Path], tmp_path: Path
) -> None:
    """A folder of files becomes one row a tweet, with where it came from; runs give their examples in the same columns."""
    out = tmp_path / "outputs" / "tweets"
    await write_tweets(Planner(pipeline.pool), cards, calendars, out, count=4)
    (out / "notes.json").write_text("{}")
    frame = tweets_df()
    assert len(frame) == 8
    assert frame["persona_id"].nunique() == frame["file"].nunique() == 2
    assert frame["date"].dt.day.max() == 4
    assert frame["weighted_length"].between(1, 280).all()
    examples = tweets_df(tmp_path / "personas")
    assert list(examples.columns) == list(frame.columns)
    assert set(examples["source"]) == {"example"}
    assert set(frame["persona_id"]) == set(examples["persona_id"])
    assert len(slots_df(tmp_path / "calendars")) == 62
    flights = in_flight_df(tmp_path / "personas")
    assert flights["in_flight"].iloc[-1] == 0
    assert 1 <= flights["in_flight"].max() <= 20
    with pytest.raises(OutputError, match="there is no folder"):
        tweets_df(tmp_path / "nowhere")


def test_near_copies() -> None:
    """The earlier one stays; missing texts are passed over; examples count too."""
    texts = [
        "The bus was late again.",
        None,
        "the bus was late, again",
        "Something else entirely.",
        "An old example!",
    ]
    assert near_copies(texts, ["An old example."]) == {2: "The bus was late again.", 4: "An old example."}
