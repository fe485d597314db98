"""Months: every day once, types as the weights say, no topic twice in a week; files that several edit at once."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PORTRAITS, ScriptedProvider, failure
from hypothesis import given
from hypothesis import strategies as st

from personalab import LLMPool, Pipeline
from personalab.calendar_files import (
    calendar_path,
    edit_calendar,
    find_calendars,
    load_calendar,
    merge_calendar,
)
from personalab.calendars import Calendar, Slot, alike, days_of, holidays_in, months_beside, spread
from personalab.errors import CardError, ConfigError, KeyRefused, OutputError, ReplyInvalid
from personalab.jobs import find_cards, plan_calendars, write_tweets
from personalab.offline.writer import write
from personalab.personas import Persona, open_persona
from personalab.planner import Planner
from personalab.schemas import ContentType, TweetStrategy


@pytest.fixture
async def cards(pipeline: Pipeline, tmp_path: Path) -> list[Path]:
    """Three personas on disk."""
    images = [PORTRAITS / f"{name}.png" for name in ("teal_turban", "silver_bun", "red_tie")]
    await pipeline.run_many(images, out=tmp_path / "personas").finish()
    return [tmp_path / "personas" / f"{image.stem}_persona.json" for image in images]


@pytest.fixture
def persona(cards: list[Path]) -> Persona:
    """One of them."""
    return open_persona(cards[0])


@pytest.fixture
def scripted(provider: ScriptedProvider, make_pool: Callable[..., LLMPool]) -> Planner:
    """A planner on the scripted provider, which answers as the embedded one does until told otherwise."""
    provider.script = write
    return Planner(make_pool())


def question_of(body: dict[str, Any]) -> str:
    return str(body["response_format"]["json_schema"]["name"])


def slot(day: int, topic: str = "", month: str = "2026-12", **fields: Any) -> Slot:
    values = {
        "content_type": "x",
        "topic": topic or f"topic {day}",
        "mood": "calm",
        "time_of_day": "09:05",
    } | fields
    return Slot(date=dt.date.fromisoformat(f"{month}-{day:02d}"), **values)


def calendar(
    persona_id: str = "a1b2c3d4e5f60718", persona: str = "Ada", month: str = "2026-12", **fields: Any
) -> Calendar:
    return Calendar(
        notice="AI-made", persona_id=persona_id, persona=persona, language="English", month=month, **fields
    )


def strategy(*weights: float) -> TweetStrategy:
    kinds = [
        ContentType(name=f"kind {at}", description="d", weight=w / sum(weights))
        for at, w in enumerate(weights)
    ]
    return TweetStrategy.model_construct(voice="v", cadence="c", content_types=tuple(kinds))


@pytest.mark.parametrize("month", ["2026-12", "2027-02", "2028-02", "2026-04", "0001-01", "9999-12"])
async def test_every_day_once(pipeline: Pipeline, persona: Persona, month: str) -> None:
    """Months of 28 to 31 days, the first and the last of them; types exactly as the weights say."""
    made = await Planner(pipeline.pool).plan(persona, month)
    assert tuple(slot.date for slot in made.slots) == days_of(month)
    assert (made.missing, made.problems) == ((), ())
    assert {day.month for day in days_of(month)} == {int(month[5:])}
    for kind in persona.strategy.content_types:
        count = sum(slot.content_type == kind.name for slot in made.slots)
        assert abs(count - kind.weight * len(made.slots)) < 1
    for one in made.slots:
        for other in made.slots:
            if 0 < (other.date - one.date).days < 7:
                assert alike(one.topic, other.topic) < 85


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "26-12", "0000-01", "December", "2026-12-01", ""])
def test_what_is_no_month(text: str) -> None:
    """The error shows how one is written."""
    with pytest.raises(ConfigError, match="a month is written 2026-12"):
        days_of(text)


@given(
    weights=st.lists(st.floats(0.01, 1), min_size=1, max_size=8),
    days=st.integers(0, 31),
    standing=st.lists(st.integers(0, 9), max_size=8),
)
def test_types_are_spread_as_the_weights_say(weights: list[float], days: int, standing: list[int]) -> None:
    """Each day has one, counts are within one of the share where nothing stands, and no type comes in a lump."""
    dates = days_of("2026-12")[:days]
    given_strategy = strategy(*weights)
    taken = {f"kind {at}": count for at, count in enumerate(standing)}
    assert list(spread(given_strategy, dates, taken)) == list(dates)
    counts = Counter(spread(given_strategy, dates).values())
    for kind in given_strategy.content_types:
        assert abs(counts[kind.name] - kind.weight * days) <= 1


def test_a_type_is_spread_over_the_month() -> None:
    """Half the days of a type that has half the weight lie in each half of the month."""
    kinds = list(spread(strategy(2, 1, 1), days_of("2027-02")).values())
    assert Counter(kinds[:14])["kind 0"] == Counter(kinds[14:])["kind 0"] == 7


def test_holidays() -> None:
    """By country, in its language; none without one; an unknown one is an error."""
    assert holidays_in("DE", "2026-12") == {dt.date(2026, 12, 25): "Erster Weihnachtstag", dt.date(2026, 12, 26): "Zweiter Weihnachtstag"}  # fmt: skip
    assert holidays_in("", "2026-12") == {}
    with pytest.raises(ConfigError, match="no holidays are known for 'Atlantis'"):
        holidays_in("Atlantis", "2026-12")


async def test_the_prompts_know_weekdays_holidays_and_the_other_parts(
    provider: ScriptedProvider, scripted: Planner, persona: Persona
) -> None:
    """One outline, then parts that run at once, each with the whole outline before it."""
    made = await Planner(scripted.pool, country="DE", instructions="Be terse.").plan(persona, "2026-12")
    assert [question_of(body) for body in provider.bodies] == ["calendar_outline"] + ["calendar_days"] * 4
    outline, *parts = (body["messages"][1]["content"] for body in provider.bodies)
    assert '"date": "2026-12-25", "weekday": "Friday", "holiday": "Erster Weihnachtstag"' in outline
    assert "Be terse." in outline
    for part in parts:
        assert part.split("Your days:")[0].count('"date"') == 31
        assert 7 <= part.split("Your days:")[1].count('"date"') <= 8
    assert len(made.requests) == 5


async def test_a_wrong_outline_is_asked_again_with_what_is_wrong(
    provider: ScriptedProvider, scripted: Planner, persona: Persona
) -> None:
    """A day missing, one twice, a type too often, a topic twice in a week: the model is told, and the month is whole."""
    spoils = [
        lambda days: days[1:],
        lambda days: [*days, days[0]],
        lambda days: [{**day, "content_type": days[0]["content_type"]} for day in days],
        lambda days: [days[0], {**days[1], "topic": days[0]["topic"]}, *days[2:]],
    ]
    told = [
        "missing: 2026-12-01",
        "twice: 2026-12-01",
        "as often as given",
        "is the same as that of 2026-12-01",
    ]
    for spoil, words in zip(spoils, told, strict=True):
        provider.bodies.clear()

        def script(body: dict[str, Any], spoil: Any = spoil) -> str:
            if question_of(body) == "calendar_outline" and len(body["messages"]) == 2:
                return json.dumps({"days": spoil(json.loads(write(body))["days"])})
            return write(body)

        provider.script = script
        made = await Planner(LLMPool(api_base=provider.url, model="m", cache="off")).plan(persona, "2026-12")
        assert len(made.slots) == 31
        assert words in provider.bodies[1]["messages"][-1]["content"]


async def test_parts_that_clash_are_asked_again(
    provider: ScriptedProvider, scripted: Planner, persona: Persona
) -> None:
    """Two parts come back with one topic on neighbouring days: the later one changes."""

    def script(body: dict[str, Any]) -> str:
        answer = json.loads(write(body))
        if question_of(body) == "calendar_days" and len(body["messages"]) == 2:
            for day in answer["slots"]:
                if day["date"] in ("2026-12-08", "2026-12-09"):
                    day["topic"] = "the same long queue at the same chemist"
        return json.dumps(answer)

    provider.script = script
    made = await scripted.plan(persona, "2026-12")
    topics = [slot.topic for slot in made.slots]
    assert topics.count("the same long queue at the same chemist") == 1
    assert len(provider.bodies) == 6
    assert (
        "the topic of 2026-12-09 is the same as that of 2026-12-08"
        in provider.bodies[5]["messages"][-1]["content"]
    )


async def test_topics_are_not_repeated_over_the_edge_of_a_month(
    provider: ScriptedProvider, scripted: Planner, persona: Persona, cards: list[Path], tmp_path: Path
) -> None:
    """What stands in the months beside it is known to the prompts, and its topics are free again after a week."""
    job = await plan_calendars(scripted, cards[:1], "2026-11", tmp_path)
    november = load_calendar(str(job.rows[0].file))
    await plan_calendars(scripted, cards[:1], "2027-01", tmp_path)
    last, older = november.slots[-1].topic, november.slots[-8].topic

    def script(body: dict[str, Any]) -> str:
        answer = json.loads(write(body))
        if question_of(body) == "calendar_outline" and len(body["messages"]) == 2:
            answer["days"][0]["topic"], answer["days"][1]["topic"] = last, older
        return json.dumps(answer)

    provider.script, provider.bodies = script, []
    await plan_calendars(scripted, cards[:1], "2026-12", tmp_path)
    first, second, *parts = provider.bodies
    planned = first["messages"][1]["content"].split("<planned>")[1].split("</planned>")[0]
    assert [planned.count(f'"{month}-') for month in ("2026-11", "2026-12", "2027-01")] == [6, 0, 6]
    assert "the topic of 2026-12-01 is the same as that of 2026-11-30" in second["messages"][-1]["content"]
    assert all('"2026-11-30"' in part["messages"][1]["content"].split("Your days:")[0] for part in parts)


def test_months_beside() -> None:
    """The year turns with them; the calendar has a beginning and an end."""
    assert months_beside("2026-12") == ("2026-11", "2027-01")
    assert months_beside("2027-01") == ("2026-12", "2027-02")
    assert months_beside("0001-01") == ("0001-02",)
    assert months_beside("9999-12") == ("9999-11",)


async def test_a_part_that_fails_leaves_its_days_open(
    provider: ScriptedProvider, scripted: Planner, persona: Persona, cards: list[Path], tmp_path: Path
) -> None:
    """The other days are kept, the row says why, and planning again fills the gap and nothing else."""
    provider.script = lambda body: "no" if '"2026-12-31"' in body["messages"][1]["content"].split("Your days:")[-1] and "Your days:" in body["messages"][1]["content"] else write(body)  # fmt: skip
    out = tmp_path / "calendars"
    job = await plan_calendars(scripted, cards[:1], "2026-12", out)
    (row,) = job.rows
    assert (row.state, row.made, row.missing) == ("failed", 23, 8)
    assert "stage calendar_days" in str(row.error)
    before = load_calendar(str(row.file))
    provider.script, provider.bodies = write, []
    (row,) = (await plan_calendars(scripted, cards[:1], "2026-12", out)).rows
    after = load_calendar(str(row.file))
    assert (row.state, len(after.slots)) == ("made", 31)
    assert after.slots[:23] == before.slots
    assert [question_of(body) for body in provider.bodies] == ["calendar_outline", "calendar_days"]


async def test_no_outline_is_a_row_with_its_error(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], tmp_path: Path
) -> None:
    """One persona's failure touches no other; a refused key stops all."""
    first = open_persona(cards[0]).name
    provider.script = lambda body: "no" if first in body["messages"][1]["content"] else write(body)
    with pytest.raises(ReplyInvalid):
        await scripted.plan(open_persona(cards[0]), "2026-12")
    job = await plan_calendars(scripted, cards, "2026-12", tmp_path / "calendars")
    assert [row.state for row in job.rows] == ["failed", "made", "made"]
    assert "calendar_outline" in str(job.rows[0].error)
    provider.script = lambda body: failure(401)
    with pytest.raises(KeyRefused):
        await plan_calendars(scripted, cards, "2027-01", tmp_path / "calendars")


async def test_edits_by_hand_survive(pipeline: Pipeline, cards: list[Path], tmp_path: Path) -> None:
    """Planning again keeps what is there and fills what was deleted; a whole calendar costs nothing; replace starts over."""
    out, planner = tmp_path / "calendars", Planner(pipeline.pool)
    (row,) = (await plan_calendars(planner, cards[:1], "2026-12", out)).rows
    path = Path(str(row.file))
    document = json.loads(path.read_bytes())
    document["slots"][4]["topic"] = "written by hand"
    del document["slots"][9]
    path.write_text(json.dumps(document))
    (row,) = (await plan_calendars(planner, cards[:1], "2026-12", out)).rows
    again = load_calendar(path)
    assert (again.slots[4].topic, again.missing, row.state) == ("written by hand", (), "made")
    sent = planner.pool.counts.sent
    (row,) = (await plan_calendars(planner, cards[:1], "2026-12", out)).rows
    assert (row.state, planner.pool.counts.sent) == ("kept", sent)
    await plan_calendars(planner, cards[:1], "2026-12", out, replace=True)
    assert load_calendar(path).slots[4].topic != "written by hand"


async def test_planning_again_keeps_what_the_file_says(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], tmp_path: Path
) -> None:
    """Country, notice and requests stay, and the country counts for the days that are filled; each request is listed once."""
    out = tmp_path / "calendars"
    (row,) = (await plan_calendars(Planner(scripted.pool, country="DE"), cards[:1], "2026-12", out)).rows
    path = Path(str(row.file))
    assert len(load_calendar(path).requests) == 5
    document = json.loads(path.read_bytes())
    document["notice"] = "AI-made, says a hand"
    document["slots"] = [slot for slot in document["slots"] if slot["date"] != "2026-12-25"]
    path.write_text(json.dumps(document))
    provider.bodies.clear()
    await plan_calendars(scripted, cards[:1], "2026-12", out)
    again = load_calendar(path)
    assert (again.notice, again.holidays, again.missing) == ("AI-made, says a hand", "DE", ())
    assert len(again.requests) == 7
    assert "Erster Weihnachtstag" in provider.bodies[0]["messages"][1]["content"]


async def test_a_kept_calendar_says_that_settings_have_changed(
    pipeline: Pipeline, cards: list[Path], tmp_path: Path
) -> None:
    """Nothing is planned anew without being told to, and nothing is passed over in silence."""
    out, planner = tmp_path / "calendars", Planner(pipeline.pool, country="DE", instructions="more rain")
    await plan_calendars(planner, cards[:1], "2026-12", out)
    (row,) = (await plan_calendars(planner, cards[:1], "2026-12", out)).rows
    assert (row.state, row.note) == ("kept", None)
    other = Planner(pipeline.pool, country="FR").vary("calendar_days", temperature=0.2)
    prompt = other.question("calendar_outline").prompt
    other = other.vary("calendar_outline", prompt=prompt.model_copy(update={"user": f"{prompt.user} More."}))
    (row,) = (await plan_calendars(other, cards[:1], "2026-12", out)).rows
    assert row.state == "kept"
    assert row.note is not None
    assert "instructions: none instead of more rain" in row.note
    assert "holidays: FR instead of DE" in row.note
    assert "calendar_days: temperature 0.85 → 0.2" in row.note
    assert "calendar_outline: another prompt" in row.note
    assert row.note.endswith("; --replace (replace=True) plans it anew")
    await plan_calendars(other, cards[:1], "2026-12", out, replace=True)
    (row,) = (await plan_calendars(other, cards[:1], "2026-12", out)).rows
    assert row.note is None


def test_replacing_keeps_days_that_could_not_be_planned(tmp_path: Path) -> None:
    """An old slot is better than none."""
    path = merge_calendar(tmp_path, calendar(slots=tuple(slot(day, "old") for day in range(1, 32))))
    merge_calendar(tmp_path, calendar(slots=tuple(slot(day, "new") for day in range(1, 20))), replace=True)
    assert Counter(slot.topic for slot in load_calendar(path).slots) == {"new": 19, "old": 12}


def test_a_marked_calendar_stays_its_personas(tmp_path: Path) -> None:
    """Also when the other persona's, of the same name, is gone."""
    first, second = (
        merge_calendar(tmp_path, calendar()),
        merge_calendar(tmp_path, calendar(persona_id="f" * 16)),
    )
    first.unlink()
    assert merge_calendar(tmp_path, calendar(persona_id="f" * 16, slots=(slot(3),))) == second
    assert load_calendar(second).slots == (slot(3),)


async def test_broken_calendars_are_named_before_anything_is_sent(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], tmp_path: Path
) -> None:
    """All of them at once."""
    job = await plan_calendars(scripted, cards, "2026-12", tmp_path / "c")
    for row in job.rows[:2]:
        Path(str(row.file)).write_text("{")
    provider.bodies.clear()
    with pytest.raises(OutputError) as told:
        await plan_calendars(scripted, cards, "2026-12", tmp_path / "c", replace=True)
    assert str(told.value).count("cannot be read as a calendar") == 2
    assert provider.bodies == []


async def test_a_folder_that_cannot_be_written_costs_nothing(
    provider: ScriptedProvider, scripted: Planner, cards: list[Path], tmp_path: Path
) -> None:
    """Neither a month nor its tweets are asked for when they could not be kept."""
    job = await plan_calendars(scripted, cards, "2026-12", tmp_path / "c")
    (tmp_path / "file").write_text("")
    provider.bodies.clear()
    with pytest.raises(OutputError, match="choose another folder"):
        await plan_calendars(scripted, cards, "2026-12", tmp_path / "file" / "x")
    with pytest.raises(OutputError, match="choose another folder"):
        await write_tweets(scripted, cards, [str(row.file) for row in job.rows], tmp_path / "file" / "x")
    with pytest.raises(OutputError, match="choose another folder"):
        merge_calendar(tmp_path / "file" / "x", load_calendar(str(job.rows[0].file)))
    assert provider.bodies == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda document: document["slots"].append(document["slots"][0]), "2026-12-01 stands there 2 times"),
        (lambda document: document["slots"][0].update(date="2027-01-01"), "2027-01-01 is no day of 2026-12"),
        (
            lambda document: document["slots"][1].update(time_of_day="noon"),
            r"slots\[1\].time_of_day: must be a time",
        ),
        (lambda document: document["slots"][2].pop("mood"), r"slots\[2\].mood"),
    ],
)
def test_a_broken_calendar_says_where(tmp_path: Path, change: Callable[[Any], object], said: str) -> None:
    """A slip of the hand is named with its place."""
    path = merge_calendar(tmp_path, calendar(slots=tuple(slot(day) for day in range(1, 32))))
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(OutputError, match=said):
        load_calendar(path)
    path.write_text('{"version": 1,\n"slots": [}')
    with pytest.raises(OutputError, match="line 2 column 11"):
        load_calendar(path)


def test_two_personas_of_one_name(tmp_path: Path) -> None:
    """They never share a calendar, and each is found again."""
    ada, other = calendar(), calendar(persona_id="ffffffffffffffff")
    paths = [merge_calendar(tmp_path, each) for each in (ada, other, ada, other)]
    assert [path.name for path in paths[:2]] == ["Ada_2026-12.json", "Ada-ffffffff_2026-12.json"]
    assert paths[2:] == paths[:2]
    assert find_calendars(tmp_path, "ffffffffffffffff", "Ada") == [paths[1]]
    assert load_calendar(paths[0]).persona_id == ada.persona_id


NASTY = ["../../etc/passwd", "a/b\\c", "..", ".", "", "CON", "nul.txt", "x" * 300, "名" * 300, "\u202eevil", "a\x00b", "👩‍👩‍👧", "Zoë", "Zoe\u0308", " . ", "COM1", "a\nb", "-rf", "~", "%2e%2e"]  # fmt: skip


@given(st.one_of(st.sampled_from(NASTY), st.text(max_size=300)))
def test_no_name_leaves_the_folder(name: str) -> None:
    """Whatever a model calls a persona, the file lies in the folder, under a name that every system takes."""
    folder = Path("/outputs/calendars")
    path = calendar_path(folder, calendar(persona=name))
    assert path.parent == folder
    assert path.resolve().parent == folder.resolve()
    assert len(path.name.encode()) <= 120
    assert path.name.removesuffix("_2026-12.json").split(".")[0].upper() not in ("CON", "NUL", "COM1", "")
    assert not set(path.name) & set('<>:"|?*\\\0\n\u202e')


EDITOR = """
import datetime as dt, sys
from personalab.calendar_files import edit_calendar
path, number, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for turn in range(times):
    day = dt.date(2026, 12, 1 + (number + 8 * turn) % 24)
    def edit(calendar):
        slot = next(slot for slot in calendar.slots if slot.date == day)
        return calendar.with_slots([slot.model_copy(update={"topic": slot.topic + f" {number}.{turn}"})])
    edit_calendar(path, edit)
"""


@pytest.mark.slow
def test_eight_processes_edit_one_calendar(tmp_path: Path) -> None:
    """Every edit of every process is there."""
    path = merge_calendar(tmp_path, calendar(slots=tuple(slot(day) for day in range(1, 32))))
    editors = [
        subprocess.Popen([sys.executable, "-c", EDITOR, str(path), str(number), "15"]) for number in range(8)
    ]
    assert [editor.wait(100) for editor in editors] == [0] * 8
    words = " ".join(slot.topic for slot in load_calendar(path).slots).split()
    assert {word for word in words if "." in word} == {f"{n}.{turn}" for n in range(8) for turn in range(15)}


def test_an_edit_that_would_break_it_is_refused(tmp_path: Path) -> None:
    """And the file stays as it was."""
    path = merge_calendar(tmp_path, calendar(slots=(slot(1),)))
    before = path.read_bytes()
    with pytest.raises(OutputError, match="is no day of 2026-12"):
        edit_calendar(path, lambda calendar: calendar.with_slots([slot(1, month="2027-01")]))
    assert path.read_bytes() == before


async def test_cards_are_told_by_identity(cards: list[Path], tmp_path: Path) -> None:
    """A folder, JSON and PNG of one persona, a card of another origin, a name that leads nowhere."""
    assert len(find_cards([tmp_path / "personas", *cards, cards[0].with_suffix(".png")])) == 3
    halved = cards[0].read_text(encoding="utf-8").replace('"name": "', '"name": "\\ud800', 1)
    (tmp_path / "halved.json").write_text(halved, encoding="utf-8")
    with pytest.raises(CardError, match=r"halved\.json: holds half of a surrogate pair"):
        find_cards([tmp_path / "halved.json"])
    (tmp_path / "broken").mkdir()
    for name in ("one", "two"):
        (tmp_path / "broken" / f"{name}_persona.json").write_text("{")
    with pytest.raises(
        CardError, match=r"one_persona\.json: cannot be read .*two_persona\.json: cannot be read"
    ):
        find_cards([tmp_path / "broken"])
    shutil.copy(cards[0], tmp_path / "broken" / "whole_persona.json")
    with pytest.warns(UserWarning, match=r"left out: .*one_persona\.json"):
        assert find_cards([tmp_path / "broken"]) == [tmp_path / "broken" / "whole_persona.json"]
    foreign = json.loads(cards[0].read_bytes())
    del foreign["data"]["extensions"]["personalab"]
    (tmp_path / "foreign.json").write_text(json.dumps(foreign))
    with pytest.raises(CardError, match="was not made by personalab"):
        find_cards([tmp_path / "foreign.json"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no persona in"):
        find_cards([tmp_path / "empty"])


async def test_what_a_calendar_says_of_itself(pipeline: Pipeline, cards: list[Path], tmp_path: Path) -> None:
    """That it is AI-made, whose it is, from which card, what was asked of whom; and it never shows a key."""
    (row,) = (await plan_calendars(Planner(pipeline.pool), cards[:1], "2026-12", tmp_path / "c")).rows
    made = json.loads(Path(str(row.file)).read_bytes())
    assert "AI-made" in made["notice"]
    assert made["persona_id"] == open_persona(cards[0]).identity
    assert made["card"] == cards[0].name
    assert {asked["question"] for asked in made["requests"]} == {"calendar_outline", "calendar_days"}
    assert all(len(asked["key"]) == len(asked["prompt_sha256"]) == 64 for asked in made["requests"])
