"""A content calendar: a month of slots, one a day, for one persona. How it is planned, checked and put together.

A month is planned in two steps: an outline says for every day what its tweet is about, then parts of some days work
it out, all at once, each with the whole outline before it. Nothing here awaits, opens a file or knows the pool.
"""

from __future__ import annotations

import calendar as months
import datetime as dt
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator
from rapidfuzz import fuzz

from personalab.config import CALENDAR_PART_DAYS, TOPIC_LIKENESS_MAX, TOPIC_WINDOW_DAYS
from personalab.errors import ConfigError, ReplyInvalid
from personalab.personas import Persona
from personalab.prompts import stage_prompt
from personalab.questions import Question, for_prompt
from personalab.records import JsonObject, Record, Request, SamplingParams, Usage
from personalab.schemas import Line, StageOutput, TweetStrategy

CALENDAR_VERSION = 1
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def _clock(text: str) -> str:
    found = re.fullmatch(r"(\d{1,2})[:.h](\d{2})(?::\d{2})?", text)
    if not found or int(found[1]) > 23 or int(found[2]) > 59:
        raise ValueError("must be a time of the 24-hour clock such as 07:45")
    return f"{int(found[1]):02d}:{found[2]}"


def month_of(text: str) -> str:
    """A month as files name it, `2026-12`.

    Raises:
        ConfigError: it is none.
    """
    if not _MONTH.fullmatch(text) or text.startswith("0000"):
        raise ConfigError(f"a month is written 2026-12, not {text!r}")
    return text


def days_of(month: str) -> tuple[dt.date, ...]:
    """Every day of a month, 28 to 31."""
    year, number = map(int, month_of(month).split("-"))
    return tuple(dt.date(year, number, day + 1) for day in range(months.monthrange(year, number)[1]))


def months_beside(month: str) -> tuple[str, ...]:
    """The months before and after a month, as files name them; the calendar begins with year 1 and ends with 9999."""
    year, number = map(int, month_of(month).split("-"))
    serial = 12 * year + number - 1
    near = (divmod(serial + step, 12) for step in (-1, 1))
    return tuple(f"{year:04d}-{rest + 1:02d}" for year, rest in near if dt.MINYEAR <= year <= dt.MAXYEAR)


Clock = Annotated[Line, AfterValidator(_clock)]


class Slot(Record):
    """One day of a calendar: what is tweeted about, in which mood, at what time (HH:MM)."""

    date: dt.date
    content_type: Line
    topic: Line
    mood: Line
    time_of_day: Clock


class Asking(Record):
    """One request that went into a result: what was asked of whom, and what it cost.

    `usage` counts tokens also where the reply came from the cache. `not_applied` names sampling params that the model
    does not take.
    """

    question: str
    model: str
    prompt: str
    prompt_sha256: str
    sampling: SamplingParams
    not_applied: tuple[str, ...] = ()
    key: str
    usage: Usage
    cached: bool
    seconds: float


class Calendar(Record):
    """A month of one persona. `card` is the file it was planned from, `holidays` the country whose were respected.

    `problems` says of a calendar just planned why days are missing; it is not stored.
    """

    version: int = CALENDAR_VERSION
    notice: str
    persona_id: str
    persona: str
    card: str = ""
    language: str
    month: Annotated[str, AfterValidator(month_of)]
    holidays: str = ""
    instructions: str = ""
    slots: tuple[Slot, ...] = ()
    requests: tuple[Asking, ...] = ()
    problems: tuple[str, ...] = Field(default=(), exclude=True)

    @model_validator(mode="after")
    def _days_fit(self) -> Self:
        days, dates = set(days_of(self.month)), [slot.date for slot in self.slots]
        for date, count in Counter(dates).items():
            if date not in days:
                raise ValueError(f"{date} is no day of {self.month}")
            if count > 1:
                raise ValueError(f"{date} stands there {count} times")
        return self

    @property
    def missing(self) -> tuple[dt.date, ...]:
        """Days without a slot."""
        there = {slot.date for slot in self.slots}
        return tuple(day for day in days_of(self.month) if day not in there)

    def with_slots(self, slots: Iterable[Slot]) -> Calendar:
        """With these slots instead of those of their days, in order of the days."""
        by_day = {slot.date: slot for slot in (*self.slots, *slots)}
        return self.model_copy(update={"slots": tuple(by_day[day] for day in sorted(by_day))})


class OutlineDay(StageOutput):
    """What one day's tweet is about."""

    date: dt.date
    content_type: Line
    topic: Line


class CalendarOutline(StageOutput):
    """The outline of a month, or of the days of it that are missing."""

    days: tuple[OutlineDay, ...]


class SlotDetail(StageOutput):
    """One day worked out."""

    date: dt.date
    topic: Line
    mood: Line
    time_of_day: Annotated[Clock, Field(description="HH:MM")]


class CalendarDays(StageOutput):
    """The days of one part, worked out."""

    slots: tuple[SlotDetail, ...]


OUTLINE = Question(
    name="calendar_outline",
    output=CalendarOutline,
    prompt=stage_prompt("calendar_outline"),
    variables=("core_persona", "tweet_strategy", "language", "instructions", "month", "days", "shares", "planned"),
    sampling=SamplingParams(temperature=0.9),
).checked()  # fmt: skip
DAYS = Question(
    name="calendar_days",
    output=CalendarDays,
    prompt=stage_prompt("calendar_days"),
    variables=("core_persona", "tweet_strategy", "language", "instructions", "month", "outline", "days"),
    sampling=SamplingParams(temperature=0.85),
).checked()


class Plan(Record):
    """What has to be planned: the month's days that have no slot, a content type proposed for each, and what stands.

    `beside` are slots of the months before and after whose topics are near enough to count, `holidays` names the
    public ones among the month's days.
    """

    persona: Persona
    month: str
    proposed: dict[dt.date, str]
    standing: tuple[Slot, ...] = ()
    beside: tuple[Slot, ...] = ()
    holidays: dict[dt.date, str] = Field(default_factory=dict)
    instructions: str = ""

    @property
    def known(self) -> tuple[Slot, ...]:
        """Slots that stay as they are, of this month and beside it."""
        return (*self.standing, *self.beside)

    @property
    def shares(self) -> dict[str, int]:
        """How often each content type has to appear."""
        return dict(Counter(self.proposed.values()))

    def outline_request(self, question: Question, replicate: int = 0) -> Request:
        """What to ask for the outline."""
        days = [self._day(day, content_type=kind) for day, kind in self.proposed.items()]
        known = [slot.model_dump(mode="json", include=set(OutlineDay.model_fields)) for slot in self.known]
        values = self._values() | {
            "days": _listed(days),
            "shares": for_prompt(json.dumps(self.shares, ensure_ascii=False)),
            "planned": _listed(known) if known else "none",
        }
        return question.ask(values, replicate=replicate)

    def check_outline(self, text: str, question: Question) -> CalendarOutline:
        """The outline in a reply.

        Raises:
            ReplyInvalid: a day is missing, twice or strange, types are not as often as they should be, or two topics
                within a week are alike.
        """
        outline = question.parse(text)
        assert isinstance(outline, CalendarOutline)
        problem = (
            _days_problem([day.date for day in outline.days], list(self.proposed))
            or self._types_problem(outline)
            or _topics_problem([*outline.days, *self.known], {day.date for day in outline.days})
        )
        if problem:
            raise ReplyInvalid(question.name, problem, text=text)
        return outline

    def parts(self, outline: CalendarOutline) -> list[tuple[OutlineDay, ...]]:
        """The days in parts of about a week, as even as they can be."""
        days = sorted(outline.days, key=lambda day: day.date)
        count = -(-len(days) // CALENDAR_PART_DAYS) if days else 0
        ends = [round(len(days) * part / count) for part in range(count + 1)] if count else []
        return [tuple(days[begin:end]) for begin, end in pairwise(ends)]

    def days_request(
        self, question: Question, outline: CalendarOutline, part: Sequence[OutlineDay], replicate: int = 0
    ) -> Request:
        """What to ask for the days of one part."""
        known: list[OutlineDay | Slot] = [*self.known, *outline.days]
        whole = [self._outlined(day) for day in sorted(known, key=lambda day: day.date)]
        values = self._values() | {
            "outline": _listed(whole),
            "days": _listed([self._outlined(day) for day in part]),
        }
        return question.ask(values, replicate=replicate)

    def check_days(self, text: str, question: Question, part: Sequence[OutlineDay]) -> tuple[Slot, ...]:
        """The slots in a reply.

        Raises:
            ReplyInvalid: a day is missing, twice or strange, or two topics within a week are alike.
        """
        made = question.parse(text)
        assert isinstance(made, CalendarDays)
        kinds = {day.date: day.content_type for day in part}
        problem = _days_problem([slot.date for slot in made.slots], list(kinds)) or _topics_problem(
            made.slots, set(kinds)
        )
        if problem:
            raise ReplyInvalid(question.name, problem, text=text)
        return tuple(
            Slot(content_type=kinds[slot.date], **slot.model_dump())
            for slot in sorted(made.slots, key=lambda slot: slot.date)
        )

    def clash(self, slots: Sequence[Slot], part: Iterable[OutlineDay]) -> str | None:
        """What is wrong with a part's topics beside those of the other parts and what stands; None if nothing is."""
        own = {day.date for day in part}
        return _topics_problem([*self.known, *slots], own)

    def _values(self) -> dict[str, str]:
        return {
            "core_persona": self.persona.for_prompt(),
            "tweet_strategy": for_prompt(self.persona.strategy.model_dump_json(indent=1)),
            "language": self.persona.language,
            "instructions": self.instructions or "none",
            "month": self.month,
        }

    def _day(self, day: dt.date, **more: str) -> JsonObject:
        holiday = {"holiday": self.holidays[day]} if day in self.holidays else {}
        return {"date": day.isoformat(), "weekday": months.day_name[day.weekday()], **holiday, **more}

    def _outlined(self, day: OutlineDay | Slot) -> JsonObject:
        return self._day(day.date, content_type=day.content_type, topic=day.topic)

    def _types_problem(self, outline: CalendarOutline) -> str | None:
        found = Counter(day.content_type for day in outline.days)
        strange = sorted(found.keys() - self.shares.keys())
        if strange:
            return f"content types {strange} are not among {sorted(self.shares)}: copy the names exactly"
        off = [
            f"{kind!r} {found[kind]} instead of {n}" for kind, n in self.shares.items() if found[kind] != n
        ]
        return f"content types have to appear as often as given: {', '.join(off)}" if off else None


def plan_of(
    persona: Persona, month: str, standing: Iterable[Slot] = (), country: str = "", instructions: str = ""
) -> Plan:
    """What is to be planned of a month, given the slots that stand, in it and less than a week before and after it.

    Raises:
        ConfigError: no month, or an unknown country.
    """
    days = days_of(month)
    slots = sorted(standing, key=lambda slot: slot.date)
    there = {slot.date: slot for slot in slots if days[0] <= slot.date <= days[-1]}
    free = [day for day in days if day not in there]
    beside = (slot for slot in slots if slot.date not in there)
    return Plan(
        persona=persona,
        month=month,
        proposed=spread(persona.strategy, free, Counter(slot.content_type for slot in there.values())),
        standing=tuple(there.values()),
        beside=tuple(
            slot
            for slot in beside
            if max((days[0] - slot.date).days, (slot.date - days[-1]).days) < TOPIC_WINDOW_DAYS
        ),
        holidays=holidays_in(country, month),
        instructions=instructions,
    )


def spread(
    strategy: TweetStrategy, days: Sequence[dt.date], standing: Mapping[str, int] | None = None
) -> dict[dt.date, str]:
    """A content type for each day, as often as the weights say (largest remainder) and evenly over the days.

    `standing` counts slots of the month that have a type already.
    """
    standing = standing or {}
    total = len(days) + sum(standing.values())
    wanted = {
        kind.name: max(0.0, kind.weight * total - standing.get(kind.name, 0))
        for kind in strategy.content_types
    }
    counts = _apportioned(wanted, len(days))
    placed = sorted(
        ((step + 0.5) / count, place, name)
        for place, (name, count) in enumerate(counts.items())
        for step in range(count)
    )
    return dict(zip(days, (name for _, _, name in placed), strict=True))


def _apportioned(wanted: Mapping[str, float], seats: int) -> dict[str, int]:
    """Whole numbers that sum to `seats`, in proportion: largest remainder, also called Hare and Hamilton."""
    total = sum(wanted.values()) or 1.0
    exact = {name: value * seats / total for name, value in wanted.items()}
    counts = {name: int(value) for name, value in exact.items()}
    left = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in left[: seats - sum(counts.values())]:
        counts[name] += 1
    return counts


def holidays_in(country: str, month: str) -> dict[dt.date, str]:
    """Public holidays of a month, by ISO 3166 code of the country, such as `DE`; none without a country.

    Raises:
        ConfigError: a country that the `holidays` library does not know.
    """
    if not country:
        return {}
    import holidays

    try:
        # In the country's own language: the library's default is that of whoever's machine it is.
        language = holidays.country_holidays(country.upper()).default_language
        known = holidays.country_holidays(country.upper(), years=int(month[:4]), language=language)
    except NotImplementedError:
        raise ConfigError(
            f"no holidays are known for {country!r}: give a country by its two letters, such as DE or CN"
        ) from None
    return {day: name for day in days_of(month) if (name := known.get(day))}


def _listed(rows: Iterable[JsonObject]) -> str:
    """JSON with a row a line."""
    lines = ",\n ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return for_prompt(f"[{lines}]")


def _days_problem(found: Sequence[dt.date], wanted: Sequence[dt.date]) -> str | None:
    twice = sorted(str(day) for day, count in Counter(found).items() if count > 1)
    missing = sorted(str(day) for day in set(wanted) - set(found))
    strange = sorted(str(day) for day in set(found) - set(wanted))
    parts = [f"{what}: {', '.join(days)}" for what, days in (("missing", missing), ("twice", twice), ("not asked for", strange)) if days]  # fmt: skip
    return f"each of the days exactly once, please; {'; '.join(parts)}" if parts else None


def _topics_problem(days: Sequence[Any], own: set[dt.date]) -> str | None:
    """Two topics within a week that are alike, one of them on a day of `own`; the earlier one is the one to keep."""
    ordered = sorted(days, key=lambda day: day.date)
    for at, day in enumerate(ordered):
        for other in ordered[at + 1 :]:
            if (other.date - day.date).days >= TOPIC_WINDOW_DAYS:
                break
            if day.date not in own and other.date not in own:
                continue
            if alike(day.topic, other.topic) >= TOPIC_LIKENESS_MAX:
                change = other.date if other.date in own else day.date
                kept = day if change == other.date else other
                return (
                    f"the topic of {change} is the same as that of {kept.date} ({kept.topic!r}): find another"
                )
    return None


def alike(one: str, other: str) -> float:
    """How alike two texts are, 0 to 100: the share of characters that stay in an edit (`rapidfuzz.fuzz.ratio`)."""
    return float(fuzz.ratio(_plain(one), _plain(other)))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
