"""Calendars on disk: loaded, found, and edited by several at once without losing anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from personalab.calendars import Calendar
from personalab.dry import check_inside
from personalab.errors import OutputError
from personalab.files import cannot_write, check_writable, write_whole
from personalab.names import slug
from personalab.records import explain

_LOCK_SECONDS = 60.0


def load_calendar(path: Path | str) -> Calendar:
    """The calendar in a file, which may have been edited by hand.

    Raises:
        OutputError: missing, or no calendar; says in which line or at which slot, and why.
    """
    path = Path(path)
    try:
        return Calendar.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        raise OutputError(f"{path} is no whole calendar: {explain(error)}; mend it there") from error
    except OSError as error:
        raise OutputError(
            f"calendar {path} cannot be read: {error.strerror or error}; plan one with personalab calendar"
        ) from error
    except ValueError as error:
        raise OutputError(f"{path} cannot be read as a calendar: {error}; mend or remove it") from error


def edit_calendar(path: Path | str, edit: Callable[[Calendar], Calendar]) -> Calendar:
    """Read a calendar, change it, write it whole: under a lock, so that edits at the same time all count.

        edit_calendar(path, lambda calendar: calendar.with_slots([slot]))

    Raises:
        OutputError: the file cannot be read or written, or the change would break it.
    """
    path = Path(path)
    with _locked(path):
        return _written(path, edit(load_calendar(path)))


def merge_calendar(folder: Path, calendar: Calendar, *, replace: bool = False) -> Path:
    """Write a planned calendar into a folder; slots that are there by now stay, unless `replace`.

    Raises:
        OutputError: the folder cannot be written, or the calendar that is there cannot be read.
    """
    check_writable(folder)
    with _locked(folder / "names"):
        path = calendar_path(folder, calendar)
        if not path.exists():  # so that the name is taken
            _written(path, calendar.model_copy(update={"slots": (), "requests": ()}))

    def merged(there: Calendar) -> Calendar:
        old, new = ({slot.date: slot for slot in each.slots} for each in (there, calendar))
        if replace:  # a day that could not be planned keeps what it had
            return calendar.with_slots(slot for day, slot in old.items() if day not in new)
        fresh = [slot for day, slot in new.items() if day not in old]
        if not fresh:
            return there
        requests = (*there.requests, *calendar.requests)
        return there.with_slots(fresh).model_copy(
            update={"requests": requests, "instructions": calendar.instructions}
        )

    edit_calendar(path, merged)
    return path


def calendar_path(folder: Path, calendar: Calendar) -> Path:
    """Where a calendar lies, or would: `{persona_name}_{month}.json`, with a mark where another persona has that name."""
    stem = slug(calendar.persona)
    plain = folder / f"{stem}_{calendar.month}.json"
    marked = folder / f"{stem}-{slug(calendar.persona_id)[:8]}_{calendar.month}.json"
    if marked.exists() and load_calendar(marked).persona_id == calendar.persona_id:
        return marked
    if not plain.exists() or load_calendar(plain).persona_id == calendar.persona_id:
        return plain
    return marked


def find_calendars(folder: Path, identity: str, name: str) -> list[Path]:
    """The calendars of a persona, by its identity, month after month."""
    stem = slug(name)
    paths = sorted({*folder.glob(f"{stem}_*.json"), *folder.glob(f"{stem}-{slug(identity)[:8]}_*.json")})
    return [path for path in paths if load_calendar(path).persona_id == identity]


def _written(path: Path, calendar: Calendar) -> Calendar:
    try:
        checked = Calendar.model_validate(calendar.model_dump())
    except ValidationError as error:
        raise OutputError(f"{path} is not written: {explain(error)}") from error
    content = json.dumps(checked.model_dump(mode="json"), ensure_ascii=False, indent=1)
    write_whole(path, content.encode())
    return checked


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    check_inside(path)
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_SECONDS):
            yield
    except Timeout as error:
        raise OutputError(f"{path} is held by another process: {error.lock_file}") from error
    except OSError as error:
        raise cannot_write(path, error) from error
