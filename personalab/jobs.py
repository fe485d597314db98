"""Calendars and tweets for many personas at once, each written the moment it is done.

A persona is told by its identity, never by its place in a list: a calendar that is another's is an error before anything
is sent.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from glob import glob, has_magic
from pathlib import Path
from typing import Literal, TypeVar

from personalab.calendar_files import calendar_path, find_calendars, load_calendar, merge_calendar
from personalab.calendars import Calendar, Slot, days_of, month_of, months_beside
from personalab.config import CALENDAR_PART_DAYS
from personalab.errors import AccessRefused, BudgetError, CardError, ConfigError, OutputError, PersonalabError
from personalab.files import check_writable
from personalab.loops import as_finished, numbered
from personalab.personas import Persona, notice, open_persona
from personalab.planner import Planner, chosen_slots
from personalab.progress import Tally, watch
from personalab.records import PoolCounts
from personalab.tweet_files import find_same, save_tweets

Item = TypeVar("Item")
Kind = Literal["calendars", "tweets"]


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one persona: how many slots or tweets it has now, how many are missing, where they lie.

    `state`: `made` now, `kept` as it was there already, `failed` where something is missing. `note` says if what was
    kept was planned with other settings.
    """

    card: str
    persona: str
    month: str
    state: Literal["made", "kept", "failed"]
    made: int = 0
    missing: int = 0
    file: str | None = None
    error: str | None = None
    note: str | None = None


@dataclass
class Job:
    """Personas at work: their rows in the order given, and what was sent and paid."""

    kind: Kind
    rows: list[Done] = field(default_factory=list)
    counts: PoolCounts = field(default_factory=PoolCounts)
    seconds: float = 0.0


def find_cards(personas: Iterable[Path | str]) -> list[Path]:
    """Card files of the personas named: files as they are, a folder's `*_persona.json`, what a glob matches.

    The JSON and the PNG of one persona count as one. Of a folder or glob, what is no whole persona is left out with a
    warning, as long as others are there.

    Raises:
        CardError: a file that was named is no card of personalab's, or none of a folder's is; all such files are named.
        ConfigError: nothing is there under a name.
    """
    cards: dict[str, Path] = {}
    broken: list[CardError] = []
    among_others: list[CardError] = []
    for name in personas:
        path = Path(name)
        found = [path]
        if path.is_dir():
            found = sorted(path.glob("*_persona.json"))
        elif has_magic(str(path)) and not path.exists():
            found = [Path(match) for match in sorted(glob(str(path), recursive=True))]  # noqa: PTH207
        if not found:
            raise ConfigError(f"no persona in {path}: make one with personalab persona IMAGE")
        for file in found:
            try:
                cards.setdefault(open_persona(file).identity, file)
            except CardError as error:
                (broken if file == path else among_others).append(error)
    if not cards:
        broken += among_others
    if broken:
        first, *others = broken
        raise CardError(first.source, "; ".join([first.problem, *map(str, others)]))
    for each in among_others:
        warnings.warn(f"left out: {each}", stacklevel=2)
    return list(cards.values())


async def plan_calendars(
    planner: Planner, cards: Sequence[Path | str], month: str, folder: Path | str, *, replace: bool = False,
    progress: bool = True,
) -> Job:  # fmt: skip
    """A calendar of a month for each persona, in `{folder}/{persona}_{month}.json`.

    Slots that are there, by an earlier plan or by hand, stay; `replace` plans every day anew.

    Raises:
        ConfigError: no month, or an unknown country.
        CardError: a file is no card of personalab's.
        AccessRefused: key, model or quota: nothing could succeed.
        BudgetError: a ceiling is reached.
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    days_of(month)
    _check_readable(folder, cards, month)
    answers = 0

    def answered() -> None:
        nonlocal answers
        answers += 1

    async def work(card: Path) -> Done:
        persona = await asyncio.to_thread(open_persona, card)
        there = await asyncio.to_thread(_calendar_there, folder, persona, month)
        standing = await asyncio.to_thread(_slots_beside, folder, persona, month)
        standing += there.slots if there and not replace else ()
        if replace or there is None or there.missing:
            await asyncio.to_thread(check_writable, folder)
        country = planner.country or (there.holidays if there else "")
        calendar = await replaced(planner, country=country).plan(persona, month, standing, answered)
        state: Literal["made", "kept"] = "made" if calendar.requests else "kept"
        changes = planner.changes(there) if there and state == "kept" else ()
        path = calendar_path(folder, calendar)
        if state == "made":
            path = await asyncio.to_thread(merge_calendar, folder, calendar, replace=replace)
            calendar = (await asyncio.to_thread(load_calendar, path)).model_copy(
                update={"problems": calendar.problems}
            )
        return Done(
            card=str(card),
            persona=persona.name,
            month=month,
            state="failed" if calendar.problems else state,
            made=len(calendar.slots),
            missing=len(calendar.missing),
            file=str(path),
            error="; ".join(calendar.problems) or None,
            note=f"kept as it was planned, with other settings: {'; '.join(changes)}; --replace (replace=True) plans it anew"
            if changes
            else None,
        )

    requests = 1 + len(days_of(month)) / CALENDAR_PART_DAYS
    return await _run(
        planner,
        "calendars",
        [Path(card) for card in cards],
        work,
        lambda: answers / requests,
        month,
        progress,
    )


async def write_tweets(
    planner: Planner, cards: Sequence[Path | str], calendars: Sequence[Path | str], folder: Path | str, *,
    count: int | None = None, progress: bool = True,
) -> Job:  # fmt: skip
    """Tweets for each persona's calendar, in `{folder}/{persona}_{timestamp}.json`, never over another file.

    Each calendar goes to the persona it was planned for. Where a file has the very same tweets already, it is kept and none
    is written.

    Raises:
        ConfigError: a persona without a calendar, a calendar of nobody's, or fewer slots than `count`; nothing is sent.
        CardError, OutputError: a card or a calendar that cannot be read, or a folder that cannot be written.
        AccessRefused: key, model or quota: nothing could succeed.
        BudgetError: a ceiling is reached.
    """
    matched = match_calendars(cards, calendars)
    answers, wanted = 0, 0
    for card, calendar in matched:
        wanted += len(chosen_slots(open_persona(card), load_calendar(calendar), count))
    await asyncio.to_thread(check_writable, Path(folder))

    def answered() -> None:
        nonlocal answers
        answers += 1

    async def work(pair: tuple[Path, Path]) -> Done:
        card, file = pair
        persona, calendar = await asyncio.to_thread(lambda: (open_persona(card), load_calendar(file)))
        tweets = await planner.write(persona, calendar, count, answered)
        tweets = tweets.model_copy(update={"calendar": file.name})
        same = await asyncio.to_thread(find_same, tweets, folder) if tweets.tweets else None
        path = same or await asyncio.to_thread(save_tweets, tweets, Path(folder))
        reasons = "; ".join(f"{slot.date}: {slot.error}" for slot in tweets.failed)
        return Done(
            card=str(card),
            persona=persona.name,
            month=calendar.month,
            state="failed" if tweets.failed else "kept" if same else "made",
            made=len(tweets.tweets),
            missing=len(tweets.failed),
            file=str(path),
            error=reasons or None,
        )

    each = wanted / len(matched) if matched else 1
    return await _run(planner, "tweets", matched, work, lambda: answers / each, "", progress)


def match_calendars(cards: Sequence[Path | str], calendars: Sequence[Path | str]) -> list[tuple[Path, Path]]:
    """Each persona's card with its calendars, by the persona's identity.

    Raises:
        ConfigError: a persona without a calendar, or a calendar of nobody's; all are named.
    """
    owners = {open_persona(card).identity: Path(card) for card in cards}
    loaded = [(file, load_calendar(file)) for file in dict.fromkeys(map(Path, calendars))]
    strangers = [f"{file} is {calendar.persona}'s ({calendar.persona_id})" for file, calendar in loaded if calendar.persona_id not in owners]  # fmt: skip
    if strangers:
        raise ConfigError(f"not a calendar of these personas: {'; '.join(strangers)}")
    matched = [(owners[calendar.persona_id], file) for file, calendar in loaded]
    without = [card for card in owners.values() if card not in {owner for owner, _ in matched}]
    if without:
        raise ConfigError(
            f"no calendar for {', '.join(map(str, without))}: plan one with personalab calendar CARD --month 2026-12"
        )
    return matched


def calendars_of(cards: Sequence[Path | str], folder: Path | str, month: str = "") -> list[Path]:
    """The calendars of some personas in a folder, of one month, or the only one that each has.

    Raises:
        ConfigError: no month, or a persona has none, or several and no month was given.
    """
    found: list[Path] = []
    month = month and month_of(month)
    for card in cards:
        persona = open_persona(card)
        paths = find_calendars(Path(folder), persona.identity, persona.name)
        if month:
            paths = [path for path in paths if load_calendar(path).month == month]
        if len(paths) != 1:
            asked = f"personalab calendar {card} --month {month or '2026-12'}"
            raise ConfigError(
                f"{persona.name} has no calendar{f' of {month}' if month else ''} in {folder}: plan one with {asked}"
                if not paths
                else f"{persona.name} has several calendars: choose one with --month or --calendar "
                f"({', '.join(path.name for path in paths)})"
            )
        found += paths
    return found


def _check_readable(folder: Path, cards: Sequence[Path | str], month: str) -> None:
    """Every calendar that is there, read before anything is sent; all that are broken are named."""
    broken = []
    for card in cards:
        try:
            for each in (month, *months_beside(month)):
                _calendar_there(folder, open_persona(card), each)
        except OutputError as error:
            broken.append(str(error))
    if broken:
        raise OutputError("; ".join(broken))


def _slots_beside(folder: Path, persona: Persona, month: str) -> tuple[Slot, ...]:
    calendars = (_calendar_there(folder, persona, each) for each in months_beside(month))
    return tuple(slot for calendar in calendars if calendar for slot in calendar.slots)


def _calendar_there(folder: Path, persona: Persona, month: str) -> Calendar | None:
    wanted = Calendar(
        notice=notice(persona.language, ""),
        persona_id=persona.identity,
        persona=persona.name,
        language=persona.language,
        month=month,
    )
    path = calendar_path(folder, wanted)
    return load_calendar(path) if path.exists() else None


async def _run(
    planner: Planner,
    kind: Kind,
    items: Sequence[Item],
    work: Callable[[Item], Awaitable[Done]],
    share: Callable[[], float],
    month: str,
    progress: bool,
) -> Job:
    """The work of all items in a bounded window; an item that fails is a row, what stops everything is raised."""
    job, before, began = Job(kind), planner.pool.counts, time.monotonic()
    rows: dict[int, Done] = {}

    async def one(numbered: tuple[int, Item]) -> None:
        number, item = numbered
        try:
            rows[number] = await work(item)
        except (AccessRefused, BudgetError, ConfigError, CardError, OutputError):
            raise
        except PersonalabError as error:
            card = item[0] if isinstance(item, tuple) else item
            rows[number] = Done(str(card), open_persona(str(card)).name, month, "failed", error=str(error))

    def tally() -> Tally:
        states = [row.state for row in rows.values()]
        kept = states.count("kept")
        return Tally(
            what=kind, total=len(items), done=len(states) - states.count("failed"), failed=states.count("failed"),
            kept=kept, in_flight=planner.pool.in_flight, share=max(share(), len(states) - kept),
            counts=planner.pool.counts.since(before), seconds=time.monotonic() - began, waves=planner.pool.waves,
        )  # fmt: skip

    async with watch(tally, progress):
        async for _ in as_finished(numbered(items), one, planner.pool.window):
            pass
    job.rows = [rows[number] for number in sorted(rows)]
    job.counts, job.seconds = planner.pool.counts.since(before), time.monotonic() - began
    return job
