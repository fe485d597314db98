"""The offline writer's months: an outline, its days made exact, and a tweet for each."""

from __future__ import annotations

import calendar
import json
import re
from collections import Counter
from datetime import date
from functools import cache
from itertools import combinations, pairwise
from typing import Any

import pytest
from rapidfuzz import fuzz
from test_offline_writer import LANGUAGES, brief_for, persona_of

from personalab.offline.lexicon import open_lexicon
from personalab.offline.stage_calendar import likeness
from personalab.offline.stage_tweets import spread
from personalab.offline.writer import write
from personalab.prompts import stage_prompt
from personalab.schemas import StageOutput
from personalab.tweet_text import fits_in_tweet

MONTHS = ("2026-02", "2028-02", "2026-06", "2026-12")
HOLIDAYS = {"2026-12-25": "Christmas Day", "2026-06-19": "端午节", "2028-02-05": "Día de la Constitución"}
CODES = dict(zip(LANGUAGES, ("en", "zh", "es"), strict=True))
Month = tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]


@cache
def persona(number: int, language: str, temperature: float = 0.85) -> dict[str, StageOutput]:
    return persona_of(brief_for(number, language=language), temperature)


def ask(name: str, number: int, language: str, temperature: float, *later: str, **values: Any) -> Any:
    """The answer to a prompt; `later` are further turns, assistant and user by turns."""
    body = asking(name, number, language, temperature, *later, **values)
    return json.loads(write(body))


def asking(
    name: str, number: int, language: str, temperature: float, *later: str, **values: Any
) -> dict[str, Any]:
    done = persona(number, language)
    core = done["core_persona"].model_dump()
    kept = ("name", "age", "occupation", "location", "description", "personality")
    given = {
        "core_persona": {key: core[key] for key in kept},
        "tweet_strategy": done["tweet_strategy"].model_dump(),
        **values,
    }
    rendered = {key: as_json(value) for key, value in given.items()}
    words = {"language": language, "instructions": "none", "month": "2026-12"}
    template = stage_prompt(name)
    messages = template.render({key: (rendered | words)[key] for key in template.variables})
    turns = [{"role": turn.role, "content": turn.text} for turn in messages]
    for at, text in enumerate(later):
        turns.append({"role": "user" if at % 2 else "assistant", "content": text})
    shape = {"name": name, "schema": {"type": "object"}}
    return {
        "model": "any",
        "temperature": temperature,
        "messages": turns,
        "response_format": {"type": "json_schema", "json_schema": shape},
    }


def as_json(value: Any) -> str:
    """As the calendar writes it into a prompt."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("</", "\\u003c/")


@cache
def days_of(month: str, number: int, language: str) -> list[dict[str, Any]]:
    year, at = map(int, month.split("-"))
    kinds = persona(number, language)["tweet_strategy"].content_types  # type: ignore[attr-defined]
    count = calendar.monthrange(year, at)[1]
    names = spread([kind.name for kind in kinds], [kind.weight for kind in kinds], count)
    days = []
    for day, name in enumerate(names, 1):
        when = date(year, at, day)
        entry = {"date": str(when), "weekday": calendar.day_name[when.weekday()], "content_type": name}
        if str(when) in HOLIDAYS:
            entry["holiday"] = HOLIDAYS[str(when)]
        days.append(entry)
    return days


def outlined(month: str, number: int, language: str, temperature: float = 0.85) -> list[dict[str, Any]]:
    """The days of a month with their topics."""
    days = days_of(month, number, language)
    shares = dict(Counter(day["content_type"] for day in days))
    values = {"days": days, "shares": shares, "planned": "none"}
    answer = ask("calendar_outline", number, language, temperature, **values)["days"]
    assert [(day["date"], day["content_type"]) for day in answer] == [
        (day["date"], day["content_type"]) for day in days
    ]
    return [{**day, "topic": made["topic"]} for day, made in zip(days, answer, strict=True)]


@cache
def a_month(month: str, number: int, language: str, temperature: float = 0.85) -> Month:
    """Outline, slots (asked for by the week) and tweets."""
    outline = outlined(month, number, language, temperature)
    slots: list[dict[str, Any]] = []
    for at in range(0, len(outline), 7):
        values = {"outline": outline, "days": outline[at : at + 7]}
        slots += ask("calendar_days", number, language, temperature, **values)["slots"]
    tweets = [
        ask("tweet", number, language, temperature, **tweet_values(number, language, day, slot))["text"]
        for day, slot in zip(outline, slots, strict=True)
    ]
    return outline, slots, tweets


def tweet_values(number: int, language: str, day: dict[str, Any], slot: dict[str, Any]) -> dict[str, Any]:
    done = persona(number, language)
    return {
        "authenticity": done["authenticity"].model_dump(),
        "examples": [tweet.text for tweet in done["example_tweets"].tweets],  # type: ignore[attr-defined]
        "slot": {**day, "about": "x", **slot},
    }


def months(language: str) -> list[Month]:
    """Three people, four months, at several temperatures."""
    return [
        a_month(month, number, language, temperature)
        for number, temperature in ((0, 0.0), (1, 0.85), (2, 1.5))
        for month in MONTHS
    ]


def ratio(one: str, other: str) -> float:
    return fuzz.ratio(one.casefold(), other.casefold())


@pytest.mark.parametrize("language", LANGUAGES)
def test_topics_are_short_and_never_alike_within_a_week(language: str) -> None:
    """Twelve words at most, all different in a month, the holiday called by its name."""
    for outline, _, _ in months(language):
        topics = [day["topic"] for day in outline]
        assert len(set(topics)) == len(topics)
        for day in outline:
            own = day["topic"].replace(day.get("holiday", ""), "")
            size = len(own) / 1.7 if language == "Chinese" else len(day["topic"].split())
            assert size <= 12, day
            assert day.get("holiday", "") in day["topic"]
            assert not re.search(r"[\[\]]|[.。]$", day["topic"])
        for at, topic in enumerate(topics):
            assert all(ratio(topic, other) < 80 for other in topics[at + 1 : at + 9]), topic


@pytest.mark.parametrize("language", LANGUAGES)
def test_planned_days_are_not_repeated(language: str) -> None:
    """Days that are left to plan get topics unlike those of the planned ones."""
    outline = outlined("2026-12", 1, language)
    days = days_of("2026-12", 1, language)[20:]
    values = {"days": days, "shares": "none", "planned": outline[:20]}
    made = ask("calendar_outline", 1, language, 0.0, **values)["days"]
    assert [day["date"] for day in made] == [day["date"] for day in days]
    assert all(ratio(new["topic"], old["topic"]) < 80 for new in made for old in outline[:20])


@pytest.mark.parametrize("language", LANGUAGES)
def test_slots_are_exact_about_the_outline(language: str) -> None:
    """Each date once, the outline's topic with more to it, a mood and a time that change."""
    for outline, slots, _ in months(language):
        assert [slot["date"] for slot in slots] == [day["date"] for day in outline]
        for day, slot in zip(outline, slots, strict=True):
            assert slot["topic"].startswith(day["topic"])
            assert len(slot["topic"]) > len(day["topic"]) + 4
            size = len(slot["topic"]) / 1.7 if language == "Chinese" else len(slot["topic"].split())
            assert size <= 30
            assert re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", slot["time_of_day"])
            assert language == "Chinese" or 2 <= len(slot["mood"].split()) <= 5
        assert len({slot["topic"] for slot in slots}) == len(slots)
        assert len({slot["mood"] for slot in slots}) >= 14
        assert len({slot["time_of_day"] for slot in slots}) >= 20
        assert sum(slot["time_of_day"].endswith(":00") for slot in slots) <= 2
        assert all(slot["mood"] != after["mood"] for slot, after in pairwise(slots))


@pytest.mark.parametrize("language", LANGUAGES)
def test_tweets_of_a_month_differ_and_can_be_posted(language: str) -> None:
    """No two nearly alike, none too long, each with words of its topic."""
    for outline, _, tweets in months(language):
        for day, text in zip(outline, tweets, strict=True):
            assert fits_in_tweet(text)
            assert not re.search(r"[\[\]]|\.{2}|。。| {2}|[，。] ", text), text
            assert likeness(day["topic"], text) > 30, (day["topic"], text)
        worst = max(combinations(tweets, 2), key=lambda pair: ratio(*pair))
        assert ratio(*worst) < 80, worst


def test_chinese_is_written_without_latin_letters_or_spaces() -> None:
    """Except in the name of a holiday."""
    for outline, slots, tweets in months("Chinese"):
        said = [*(day["topic"] for day in outline), *(slot["topic"] for slot in slots), *tweets]
        for text in (*said, *(slot["mood"] for slot in slots)):
            for name in HOLIDAYS.values():
                text = text.replace(name, "").replace(name.lower(), "")
            assert not re.search(r"[A-Za-z ]", text), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_tweets_do_not_open_like_an_example(language: str) -> None:
    """The first word is another, in Chinese the first character."""
    for number in range(3):
        outline, slots, tweets = a_month("2026-06", number, language)
        for day, slot, text in zip(outline, slots, tweets, strict=True):
            examples = tweet_values(number, language, day, slot)["examples"]
            assert first_word(text, language) not in {first_word(other, language) for other in examples}


def first_word(text: str, language: str) -> str:
    found = re.search(r"[\w'’]+", text)
    word = found[0].casefold() if found else text
    return word[0] if language == "Chinese" else word


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("temperature", [0.0, 0.85])
def test_asked_again_it_is_another_tweet(language: str, temperature: float) -> None:
    """After a turn that says the answer cannot be used, twice."""
    outline, slots, _ = a_month("2026-06", 0, language)
    for day, slot in list(zip(outline, slots, strict=True))[:8]:
        values = tweet_values(0, language, day, slot)
        body = asking("tweet", 0, language, temperature, **values)
        later: list[str] = []
        answers = []
        for _ in range(3):
            body = asking("tweet", 0, language, temperature, *later, **values)
            answers.append(json.loads(write(body))["text"])
            later += [write(body), "This cannot be used: too much like another tweet. Write another."]
        assert all(ratio(*pair) < 85 for pair in combinations(answers, 2)), answers


@pytest.mark.parametrize("name", ["calendar_outline", "calendar_days"])
def test_asked_again_the_month_is_another(name: str) -> None:
    """Also at temperature 0, since the first answer could not be used."""
    outline = outlined("2026-06", 0, "English")[:7]
    values = {"days": outline, "shares": "none", "planned": "none", "outline": outline}
    first = write(asking(name, 0, "English", 0.0, **values))
    later = (first, "This cannot be used: two days are alike.")
    assert write(asking(name, 0, "English", 0.0, *later, **values)) != first


def test_habits_show_as_often_as_the_prompt_says() -> None:
    """With a rate of 1 always, with 0 never."""
    outline, slots, _ = a_month("2026-06", 0, "English")
    for rate in (0.0, 1.0):
        for day, slot in list(zip(outline, slots, strict=True))[:10]:
            habits = {"lower_case": rate, "dropped_full_stops": rate, "typos": 0, "fillers": 0, "slang": 0}
            values = tweet_values(0, "English", day, slot) | {"authenticity": {"writing_habits": habits}}
            text = ask("tweet", 0, "English", 0.85, **values)["text"]
            assert (text == text.lower()) == (rate == 1.0)
            assert text.endswith(".") == (rate == 0.0)


def test_the_same_request_has_the_same_answer_and_temperature_widens_it() -> None:
    """Nothing but the request decides; at temperature 0 the replicate does not."""
    outline, slots, _ = a_month("2026-06", 0, "English")
    values = tweet_values(0, "English", outline[0], slots[0])
    counts = []
    for temperature in (0.0, 0.5, 1.5):
        body = asking("tweet", 0, "English", temperature, **values)
        assert write(body, "2") == write(json.loads(json.dumps(body)), "2")
        counts.append(len({write(body, str(replicate)) for replicate in range(20)}))
    assert counts[0] < counts[1] <= counts[2]
    assert outlined("2026-06", 0, "English") == outline


def test_a_type_that_no_lexicon_knows_is_written_about() -> None:
    """A content type of a real model is named in its topics; no days give an empty answer."""
    days = [{"date": "2026-06-01", "weekday": "Monday", "content_type": "[tool] <b>eels"}]
    values = {"days": days, "shares": "none", "planned": "none"}
    made = ask("calendar_outline", 0, "English", 0.85, **values)["days"]
    assert made[0]["content_type"] == "[tool] <b>eels"
    assert "eels" in made[0]["topic"]
    values = {"days": "none", "shares": "none", "planned": "none"}
    assert ask("calendar_outline", 0, "English", 0.85, **values)["days"] == []


def test_a_tweet_without_a_slot_is_a_tweet() -> None:
    """A researcher's own prompt may leave everything out."""
    values = {"slot": "none", "examples": "none", "authenticity": "none"}
    assert fits_in_tweet(ask("tweet", 0, "English", 0.85, **values)["text"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_lists_are_long_enough(language: str) -> None:
    """At least sixteen different items each."""
    texts = open_lexicon(CODES[language]).texts
    names = [name for name in texts if name.startswith(("topics_", "day_", "holiday_"))]
    assert len(names) == 18
    assert all(len(set(texts[name])) >= 16 for name in names)


def test_likeness_is_the_ratio_used_elsewhere() -> None:
    """The same number as the library that compares topics."""
    for one, other in (("Fog, and a voice", "a voice in FOG"), ("雨里有人", "雾里有人说"), ("a", "a")):
        assert likeness(one, other) == pytest.approx(ratio(one, other))
