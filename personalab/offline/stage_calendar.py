"""A month: what each day's tweet is about, when and in which mood it is written, and the tweet itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from personalab.offline.choice import Chooser, number
from personalab.offline.lexicon import Lexicon
from personalab.offline.pen import Pen, join
from personalab.offline.persona import Persona, recall
from personalab.offline.prompt_reader import Asked, plain, tagged
from personalab.offline.stage_tweets import (
    GENERAL_KINDS,
    habits,
    known_topics,
    opening,
    some_tweet,
    styled,
)
from personalab.records import JsonObject
from personalab.tweet_text import fits_in_tweet

_TRIES = 60
_WORDS_MAX, _WORDS_MAX_SLOT = 12, 30
_CHARACTERS_A_WORD = 1.7
_NEAR_DAYS = 8
_ALIKE, _ALIKE_IN_A_MONTH = 70.0, 74.0
_ALIKE_AGAIN = 80.0
_ABOUT_LENGTH = 120
_ON_THE_HOUR = 0.04
_FRAME_STEP = 5
_TEXT_FIELD = re.compile(r'"text":\s*"(.*)"', re.DOTALL)
_COLON = re.compile(r"[:：](?!\d)")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_HOURS = {
    "work": (7.2, 17.6),
    "pastime": (18.2, 22.4),
    "grudge": (7.0, 21.0),
    "street": (8.1, 19.8),
    "shop": (16.8, 19.9),
    "transport": (6.6, 8.9),
    "night": (23.1, 26.6),
    "other": (11.5, 21.5),
    "day off": (9.4, 20.8),
}


@dataclass(frozen=True)
class _Day:
    """A day as it stands in a prompt, and the kind of its content type."""

    date: str
    content_type: str
    kind: str
    topic: str
    holiday: str
    free: bool


def calendar_outline(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """A topic for each day asked for: none like another within a week, nor like a planned one."""
    days = _days(asked, lexicon, "days")
    persona, pen = _author(asked, lexicon, days[0].date[:7] if days else "")
    planned = [plain(str(day.get("topic", ""))) for day in _objects(asked, "planned")]
    topics: list[str] = []
    for day in days:
        topics.append(_topic(day, persona, pen, topics, planned))
    return {
        "days": [
            {"date": day.date, "content_type": day.content_type, "topic": topic}
            for day, topic in zip(days, topics, strict=True)
        ]
    }


def calendar_days(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """The outline's topics made more exact, with moods and times."""
    days = _days(asked, lexicon, "days")
    persona, pen = _author(asked, lexicon, days[0].date if days else "")
    slots: list[JsonObject] = []
    for day in days:
        exact = day.topic or _topic(day, persona, pen, [slot["topic"] for slot in slots], [])
        slot = {
            "date": day.date,
            "topic": _with_clause(exact, pen),
            "mood": _mood(day, pen),
            "time_of_day": _time(day, pen),
        }
        slots.append(slot)
    return {"slots": slots}


def tweet(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """One tweet about the topic of its slot, with the habits showing, unlike any given before."""
    slot = tagged(asked.text, "slot")
    slot = slot if isinstance(slot, dict) else {}
    topic = plain(str(slot.get("topic") or ""))
    persona, pen = _author(asked, lexicon, f"{slot.get('date')}\0{topic}")
    if not topic:
        return {"text": some_tweet(persona, pen)}
    about, detail = _parts(topic, lexicon.code)
    if detail and not about.startswith(plain(str(slot.get("holiday") or "-"))):
        about = _lowered(about)
    day = number(persona.identity) + _day_of_month(str(slot.get("date")))
    pen = pen.knowing(topic=about, detail=_lowered(detail or pen.say("day_clauses")))
    return {"text": _fresh(about, day, pen, habits(persona) | _rates_given(asked), asked)}


def likeness(one: str, other: str) -> float:
    """0–100: twice the longest common subsequence over both lengths, whatever the case."""
    one, other = one.casefold(), other.casefold()
    if not one or not other:
        return 0.0
    places: dict[str, int] = {}
    for at, mark in enumerate(one):
        places[mark] = places.get(mark, 0) | 1 << at
    full = (1 << len(one)) - 1
    row = full
    for mark in other:
        shared = row & places.get(mark, 0)
        row = (row + shared | row - shared) & full
    return 200 * (len(one) - row.bit_count()) / (len(one) + len(other))


def _author(asked: Asked, lexicon: Lexicon, subject: str) -> tuple[Persona, Pen]:
    """The persona, and a pen whose order of preference is another for each subject and each time of asking."""
    persona, pen = recall(asked, lexicon)
    identity = "\0".join((persona.identity, subject, *asked.answers))
    chooser = Chooser(identity, asked.seed, asked.temperature, asked.top_p)
    return persona, Pen(lexicon, chooser, persona.gender, pen.facts)


def _objects(asked: Asked, tag: str) -> list[JsonObject]:
    listed = tagged(asked.text, tag)
    return [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []


def _days(asked: Asked, lexicon: Lexicon, tag: str) -> list[_Day]:
    """The days in a tag; without it, the dates in the prompt."""
    listed = _objects(asked, tag) or [{"date": date} for date in dict.fromkeys(_DATE.findall(asked.text))]
    persona, pen = recall(asked, lexicon)
    kinds = _kinds(persona, pen)
    return [_day(item, kinds) for item in listed]


def _day(item: JsonObject, kinds: dict[str, str]) -> _Day:
    content_type, holiday = str(item.get("content_type") or ""), plain(str(item.get("holiday") or ""))
    return _Day(
        date=str(item.get("date") or ""),
        content_type=content_type,
        kind=kinds.get(content_type.casefold(), "other"),
        topic=plain(str(item.get("topic") or "")),
        holiday=holiday,
        free=bool(holiday) or str(item.get("weekday")) in ("Saturday", "Sunday"),
    )


def _kinds(persona: Persona, pen: Pen) -> dict[str, str]:
    """The kind of every content type the lexicon knows, by its name in small letters."""
    work = persona.occupation
    names = {kind: [entry["name"] for entry in pen.lexicon.entries[kind]] for kind in GENERAL_KINDS}
    names |= {
        "pastime": [entry["topic"] for entry in pen.lexicon.entries["pastimes"]],
        "grudge": [entry["topic"] for entry in pen.lexicon.entries["grudges"]],
        "work": [work["name1"], work["name2"]],
    }
    kinds = {pen.fill(name).casefold(): kind for kind, listed in names.items() for name in listed}
    known = set(known_topics(persona, pen))
    return {name: kind for name, kind in kinds.items() if name in known}


def _topic(day: _Day, persona: Persona, pen: Pen, before: list[str], planned: list[str]) -> str:
    """The first topic drawn that is short and unlike the others, or else the least alike."""
    pen = pen.knowing(thing=_thing(day, persona), holiday=day.holiday, prop=persona.pastime["prop"])
    room = max(_WORDS_MAX, _words(day.holiday, pen) + _WORDS_MAX / 2)
    best, best_alike = "", float("inf")
    for _ in range(_TRIES):
        text = pen.say("topics_holiday" if day.holiday else f"topics_{day.kind}")
        if day.holiday not in text or _words(text, pen) > room:
            continue
        near = _most_alike(text, (*before[-_NEAR_DAYS:], *planned))
        far = _most_alike(text, before)
        alike = max(near, far - _ALIKE_IN_A_MONTH + _ALIKE)
        if alike < best_alike:
            best, best_alike = text, alike
        if alike < _ALIKE:
            break
    return best or join(day.holiday, pen.say("topics_street"), code=pen.lexicon.code)


def _thing(day: _Day, persona: Persona) -> str:
    named = {"pastime": persona.pastime["name"], "grudge": persona.grudge["name"]}
    return named.get(day.kind) or plain(day.content_type) or persona.pastime["name"]


def _most_alike(text: str, others: Iterable[str]) -> float:
    return max((likeness(text, other) for other in others), default=0.0)


def _words(text: str, pen: Pen) -> float:
    return len(text) / _CHARACTERS_A_WORD if pen.lexicon.code == "zh" else len(text.split())


def _with_clause(topic: str, pen: Pen) -> str:
    """The topic and who, where or what besides."""
    mark = "；" if pen.lexicon.code == "zh" else "; "
    topic = topic.rstrip(".。;； ")
    for _ in range(_TRIES):
        clause = pen.say("day_clauses")
        text = f"{topic}{mark}{clause}{mark.strip().translate(_STOPS)}"
        if _words(text, pen) <= _WORDS_MAX_SLOT and not _repeats(topic, clause, pen):
            return text
    return topic


_STOPS = str.maketrans({";": ".", "；": "。"})


def _repeats(topic: str, clause: str, pen: Pen) -> bool:
    """Whether somebody or something stands in both."""
    listed = (*pen.lexicon.texts["day_who"], *pen.lexicon.texts["day_item"])
    return any(name in clause and name in topic.casefold() for name in listed)


def _day_of_month(date: str) -> int:
    return int(date[-2:]) if re.fullmatch("[0-9]{2}", date[-2:]) else 0


def _mood(day: _Day, pen: Pen) -> str:
    """A mood; days in a row choose from different halves, since nobody sees what others give the day before."""
    half = _day_of_month(day.date) % 2
    moods = pen.lexicon.texts["day_moods"][half::2]
    return pen.fill(moods[pen.chooser.index(f"moods {half}", len(moods))])


def _time(day: _Day, pen: Pen) -> str:
    """When they have a hand free, rarely on the hour."""
    off = day.free and day.kind not in ("night", "grudge")
    low, high = _HOURS["day off" if off else day.kind]
    minutes = round(60 * (low + (high - low) * pen.chooser.share(f"time {day.date}")))
    if minutes % 60 == 0 and pen.chooser.share(f"sharp {day.date}") > _ON_THE_HOUR:
        minutes += 1 + number(day.date) % 9
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _parts(topic: str, code: str) -> tuple[str, str]:
    """What a topic is about, and the clause behind it; both without a full stop, and not too long."""
    about, _, detail = topic.rstrip(".。 ").partition("；" if code == "zh" else "; ")
    return _short(about, code), _short(detail, code)


def _short(text: str, code: str) -> str:
    most = _ABOUT_LENGTH // 2 if code == "zh" else _ABOUT_LENGTH
    if len(text) <= most:
        return text
    return text[:most] if code == "zh" else text[:most].rsplit(" ", 1)[0].rstrip(",;: ")


def _lowered(text: str) -> str:
    """As it stands inside a sentence; a word in capitals stays."""
    first = text.split(" ", 1)[0]
    return text if first[1:] != first[1:].lower() or first == "I" else text[:1].lower() + text[1:]


def _rates_given(asked: Asked) -> dict[str, float]:
    known = tagged(asked.text, "authenticity")
    said: Any = known.get("writing_habits") if isinstance(known, dict) else None
    rates = said.items() if isinstance(said, dict) else ()
    return {name: float(rate) for name, rate in rates if isinstance(rate, int | float)}


def _is_new(text: str, answers: tuple[str, ...]) -> bool:
    """Whether a tweet is another than those given before, which may stand in JSON."""
    said = [found[1] if (found := _TEXT_FIELD.search(answer)) else answer for answer in answers]
    return all(likeness(text, answer) < _ALIKE_AGAIN for answer in said)


def _draft(day: int, pen: Pen) -> str:
    """A frame, its opening and its remark: on other days the same frame gets others, so that tweets differ."""
    texts = pen.lexicon.texts
    frames, remarks, openings = texts["day_tweets"], texts["day_after"], texts["day_before"]
    at = pen.chooser.index("day_tweets", len(frames))
    shifted = day + at * _FRAME_STEP
    pen = pen.knowing(day_after=remarks[shifted % len(remarks)], day_before=openings[shifted % len(openings)])
    return pen.fill(frames[at])


def _fresh(about: str, day: int, pen: Pen, rates: dict[str, float], asked: Asked) -> str:
    """A tweet that opens like no example and repeats no earlier answer; or else the topic and a remark."""
    listed = tagged(asked.text, "examples")
    opened = (
        {opening(text) for text in listed if isinstance(text, str)} if isinstance(listed, list) else set()
    )
    for _ in range(_TRIES):
        text = styled(_draft(day, pen), pen, rates)
        usable = fits_in_tweet(text) and len(_COLON.findall(text)) < 2
        if usable and opening(text) not in opened and _is_new(text, asked.answers):
            return text
    stop = "。" if pen.lexicon.code == "zh" else "."
    for _ in range(_TRIES):
        text = join(f"{about}{stop}", pen.say("day_after"), code=pen.lexicon.code)
        if fits_in_tweet(text) and _is_new(text, asked.answers):
            break
    return text
