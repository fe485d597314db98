"""Tweets for the slots of a calendar: how one is asked for, what is a near copy, what is kept of them.

Nothing here awaits, opens a file or knows the pool.
"""

from __future__ import annotations

import calendar as months
import datetime as dt
import json
from collections.abc import Sequence

from personalab.calendars import Asking, Slot, alike, holidays_in
from personalab.config import TWEET_LIKENESS_MAX
from personalab.personas import Persona
from personalab.prompts import stage_prompt
from personalab.questions import Question, for_prompt
from personalab.records import Record, Request, SamplingParams
from personalab.schemas import StageOutput, TweetText
from personalab.tweet_text import weighted_length

TWEETS_VERSION = 1


class SlotTweet(StageOutput):
    """The tweet of one slot."""

    text: TweetText


TWEET = Question(
    name="tweet",
    output=SlotTweet,
    prompt=stage_prompt("tweet"),
    variables=(
        "core_persona",
        "tweet_strategy",
        "authenticity",
        "examples",
        "language",
        "instructions",
        "slot",
    ),
    sampling=SamplingParams(temperature=0.9),
).checked()


class WrittenTweet(Record):
    """A tweet with the slot it was written for, its length in units of X's count, and the request it came from."""

    date: dt.date
    time_of_day: str
    content_type: str
    topic: str
    mood: str
    text: str
    weighted_length: int
    request: Asking


class Unwritten(Record):
    """A slot for which no tweet could be had, and why."""

    date: dt.date
    content_type: str
    topic: str
    error: str


class Tweets(Record):
    """The tweets of one persona for one calendar, written in one go. `written` is the time, UTC.

    `card` and `calendar` are the files they came from.
    """

    version: int = TWEETS_VERSION
    kind: str = "tweets"
    notice: str
    written: str
    persona_id: str
    persona: str
    card: str = ""
    calendar: str = ""
    month: str
    language: str
    instructions: str = ""
    tweets: tuple[WrittenTweet, ...] = ()
    failed: tuple[Unwritten, ...] = ()


def tweet_request(
    question: Question,
    persona: Persona,
    slot: Slot,
    country: str = "",
    instructions: str = "",
    replicate: int = 0,
) -> Request:
    """What to ask for the tweet of a slot."""
    about = {kind.name: kind.description for kind in persona.strategy.content_types}
    holiday = holidays_in(country, f"{slot.date:%Y-%m}").get(slot.date)
    asked = {
        "date": slot.date.isoformat(),
        "weekday": months.day_name[slot.date.weekday()],
        **({"holiday": holiday} if holiday else {}),
        "time_of_day": slot.time_of_day,
        "content_type": slot.content_type,
        "about": about.get(slot.content_type, ""),
        "topic": slot.topic,
        "mood": slot.mood,
    }
    authenticity = persona.authenticity
    values = {
        "core_persona": persona.for_prompt(),
        "tweet_strategy": for_prompt(persona.strategy.model_dump_json(indent=1)),
        "authenticity": for_prompt(authenticity.model_dump_json(indent=1)) if authenticity else "none",
        "examples": for_prompt(json.dumps(persona.examples, ensure_ascii=False, indent=1)),
        "language": persona.language,
        "instructions": instructions or "none",
        "slot": for_prompt(json.dumps(asked, ensure_ascii=False, indent=1)),
    }
    return question.ask(values, replicate=replicate)


def written(slot: Slot, text: str, request: Asking) -> WrittenTweet:
    """A tweet with its slot."""
    return WrittenTweet(
        **slot.model_dump(), text=text, weighted_length=weighted_length(text), request=request
    )


def near_copies(texts: Sequence[str | None], others: Sequence[str] = ()) -> dict[int, str]:
    """Places of the texts that are near copies of an earlier one or of one of `others`, each with the text it repeats."""
    found: dict[int, str] = {}
    kept = list(others)
    for place, text in enumerate(texts):
        if text is None:
            continue
        offender = next((other for other in kept if alike(text, other) >= TWEET_LIKENESS_MAX), None)
        if offender is None:
            kept.append(text)
        else:
            found[place] = offender
    return found
