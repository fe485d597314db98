"""Lorebooks: which entries speak at a moment of a chat, and why. Pure: the same moment always gives the same answer.

    book = open_book(card.character_book)
    said = verdicts(book, Moment(messages=("Tell me about the ledger.",)), macros)

Source: the V2 and V3 specifications of character cards. Where they leave a choice: a key is found as a whole word in
scripts that put spaces between words, and anywhere in those that do not; case counts only if the entry says so; a book
that does not say how far back it looks looks at the last `SCAN_DEPTH` messages; `exclude_keys` are looked for in messages
only, never in what other entries say, so that the order of scanning changes nothing.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeGuard

import regex
from pydantic import Field

from personalab.card_format import ENTRY_FIELDS, fits
from personalab.decorators import Decorators, split_content
from personalab.macros import Macros
from personalab.records import JsonObject, Record
from personalab.tokens import count_tokens

SCAN_DEPTH = 4
"""Messages that are looked at where the book says nothing."""
REGEX_SECONDS = 0.2
"""What one pattern of an entry may take; one that takes longer does not match."""
PATTERN_CHARACTERS_MAX = 2_000
_NUMBER_MAX = 1e15
"""Larger numbers, and those that are none, count as not given."""

# Scripts without spaces between words, and Korean, where particles are written onto the word.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"[[\p{{L}}\p{{M}}\p{{N}}_]--[{_UNSPACED}]]"
_STARTS_WORD = regex.compile(rf"\A{_LETTER}", regex.V1)
_ENDS_WORD = regex.compile(rf"{_LETTER}\Z", regex.V1)
_SLASHED = regex.compile(r"/(?P<pattern>.+)/(?P<flags>[a-z]*)", regex.DOTALL)
_FLAGS = {
    "i": regex.IGNORECASE,
    "m": regex.MULTILINE,
    "s": regex.DOTALL,
    "g": 0,
    "u": 0,
    "v": 0,
    "y": 0,
    "d": 0,
}


class Entry(Record):
    """An entry as it is used. `number` is its place in the book; `content` comes without its decorators.

    A field that somebody has written with another type counts as not given. `whole_words` and `recursive` are what front
    ends keep in its extensions: None and both True where they do not.
    """

    number: int
    name: str = ""
    keys: tuple[str, ...] = ()
    secondary_keys: tuple[str, ...] = ()
    content: str = ""
    decorators: Decorators = Decorators()
    enabled: bool = True
    insertion_order: float = 0.0
    priority: float = 0.0
    case_sensitive: bool = False
    selective: bool = False
    constant: bool = False
    use_regex: bool = False
    before: bool = True
    whole_words: bool | None = None
    triggered_by_entries: bool = True
    triggers_entries: bool = True


class Lorebook(Record):
    """The entries of a card and how far they look. `token_budget` None is no limit."""

    entries: tuple[Entry, ...] = ()
    scan_depth: int = SCAN_DEPTH
    token_budget: float | None = None
    recursive: bool = False


class Moment(Record):
    """What decides which entries speak: the messages so far, oldest first, how many of them are the character's, which
    greeting began the chat (0 is `first_mes`), and which entries matched at earlier moments, by number."""

    messages: tuple[str, ...] = ()
    replies: int = 0
    greeting: int = 0
    matched: frozenset[int] = frozenset()


class Verdict(Record):
    """Whether an entry speaks and why. `matched` without `speaks` is an entry that the budget left out.

    `text` is what it says, macros replaced, and `tokens` an estimate of its size.
    """

    number: int
    name: str = ""
    matched: bool = False
    speaks: bool = False
    why: str = ""
    tokens: int = 0
    text: str = Field(default="", repr=False)


def open_book(document: JsonObject | None) -> Lorebook:
    """The lorebook in a card's `character_book`; an empty one for None."""
    if document is None:
        return Lorebook()
    listed = document.get("entries")
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    depth, budget = document.get("scan_depth"), document.get("token_budget")
    return Lorebook(
        entries=tuple(_entry(number, entry) for number, entry in enumerate(entries)),
        scan_depth=max(0, int(depth)) if _is_number(depth) else SCAN_DEPTH,
        token_budget=float(budget) if _is_number(budget) else None,
        recursive=document.get("recursive_scanning") is True,
    )


def verdicts(book: Lorebook, moment: Moment, macros: Macros) -> tuple[Verdict, ...]:
    """A verdict on each entry, in the order of the book."""
    found = {entry.number: _outright(entry, moment) for entry in book.entries}
    shown = {entry.number: macros.fill(entry.content) for entry in book.entries}
    for number, text in shown.items():
        if not text.strip():
            found[number] = (False, "it says nothing")
    _scan(book, moment, macros, found)
    matched = [entry for entry in book.entries if found[entry.number][0]]
    tokens = {entry.number: count_tokens(shown[entry.number]) for entry in matched}
    kept = _within(book.token_budget, matched, tokens)
    return tuple(
        Verdict(
            number=entry.number,
            name=entry.name,
            matched=found[entry.number][0] is True,
            speaks=entry.number in kept,
            why=_why(entry, found[entry.number], kept, book.token_budget),
            tokens=tokens.get(entry.number, 0),
            text=shown[entry.number] if entry.number in kept else "",
        )
        for entry in book.entries
    )


def in_order(book: Lorebook, given: Iterable[Verdict]) -> Iterator[tuple[Entry, Verdict]]:
    """The entries that speak, in the order of their insertion; those of one order as they stand in the book."""
    speaking = [(book.entries[verdict.number], verdict) for verdict in given if verdict.speaks]
    yield from sorted(speaking, key=lambda pair: (pair[0].insertion_order, pair[0].number))


_Found = tuple[bool | None, str]
"""Whether an entry matches, and why; None while only its keys can tell, and why they do not yet."""


def _outright(entry: Entry, moment: Moment) -> _Found:
    """What is settled without looking for a key."""
    said = entry.decorators
    if not entry.enabled:
        return False, "it is not enabled"
    if said.activate:
        return True, "@@activate"
    if said.dont_activate:
        return False, "@@dont_activate"
    if entry.number in moment.matched and said.dont_activate_after_match:
        return False, "@@dont_activate_after_match: it matched before"
    if entry.number in moment.matched and said.keep_activate_after_match:
        return True, "@@keep_activate_after_match: it matched before"
    if said.is_greeting is not None and said.is_greeting != moment.greeting:
        return False, f"@@is_greeting {said.is_greeting}: the chat began with greeting {moment.greeting}"
    if said.activate_only_after is not None and moment.replies < said.activate_only_after:
        return False, f"@@activate_only_after {said.activate_only_after}: {moment.replies} replies so far"
    if said.activate_only_every is not None and moment.replies % said.activate_only_every:
        return False, f"@@activate_only_every {said.activate_only_every}: {moment.replies} replies so far"
    return None, ""


def _scan(book: Lorebook, moment: Moment, macros: Macros, found: dict[int, _Found]) -> None:
    """Look for keys in the messages, then in what the entries say that matched, until no more do."""
    for entry in book.entries:
        if found[entry.number][0] is None and (excluded := _excluded(book, entry, moment, macros)):
            found[entry.number] = (False, f"@@exclude_keys {excluded!r}")
    said: list[str] = []
    newly = [entry for entry in book.entries if found[entry.number][0]]
    while True:
        if book.recursive:
            said += [macros.fill(entry.content, hidden=True) for entry in newly if entry.triggers_entries]
        newly = []
        for entry in book.entries:
            if found[entry.number][0] is not None:
                continue
            texts = _window(book, entry, moment) + (said if entry.triggered_by_entries else [])
            found[entry.number] = _fires(entry, texts, macros)
            if found[entry.number][0]:
                newly.append(entry)
        if not newly or not book.recursive:
            return


def _window(book: Lorebook, entry: Entry, moment: Moment) -> list[str]:
    depth = book.scan_depth if entry.decorators.scan_depth is None else entry.decorators.scan_depth
    return list(moment.messages[-depth:]) if depth > 0 else []


def _excluded(book: Lorebook, entry: Entry, moment: Moment, macros: Macros) -> str | None:
    if entry.use_regex:
        return None
    return _first_found(entry.decorators.exclude_keys, entry, _window(book, entry, moment), macros)


def _fires(entry: Entry, texts: list[str], macros: Macros) -> _Found:
    """Whether the entry's keys match these texts."""
    if entry.use_regex:
        pattern = _first_pattern(entry, texts)
        return (None, "no pattern matches") if pattern is None else (True, f"pattern {pattern!r}")
    for keys in entry.decorators.additional_keys:
        if _first_found(keys, entry, texts, macros) is None:
            return None, f"none of @@additional_keys {', '.join(keys)} was found"
    if entry.constant:
        return True, "constant"
    key = _first_found(entry.keys, entry, texts, macros)
    if key is None:
        return None, "no key was found"
    if not entry.selective or not entry.secondary_keys:
        return True, f"key {key!r}"
    second = _first_found(entry.secondary_keys, entry, texts, macros)
    if second is None:
        return None, f"key {key!r}, but no secondary key"
    return True, f"keys {key!r} and {second!r}"


def _first_found(keys: tuple[str, ...], entry: Entry, texts: list[str], macros: Macros) -> str | None:
    for key in keys:
        filled = macros.fill(key).strip()
        if filled and any(stands_in(filled, text, entry) for text in texts):
            return filled
    return None


def stands_in(key: str, text: str, entry: Entry) -> bool:
    """Whether a key stands in a text by the rules of its entry."""
    key, text = (unicodedata.normalize("NFC", each) for each in (key, text))
    if not entry.case_sensitive:
        key, text = (unicodedata.normalize("NFC", each.casefold()) for each in (key, text))
    if key not in text:  # the usual case, and quick
        return False
    if entry.whole_words is False:
        return True
    before = rf"(?<!{_LETTER})" if _STARTS_WORD.search(key) else ""
    after = rf"(?!{_LETTER})" if _ENDS_WORD.search(key) else ""
    return regex.search(f"{before}{regex.escape(key)}{after}", text, regex.V1) is not None


def _first_pattern(entry: Entry, texts: list[str]) -> str | None:
    """The first pattern that matches; none does if one of them is no pattern, as the specification has it."""
    patterns = [_pattern(key, entry.case_sensitive) for key in entry.keys]
    if any(pattern is None for pattern in patterns):
        return None
    for key, pattern in zip(entry.keys, patterns, strict=True):
        for text in texts:
            try:
                if pattern.search(text, timeout=REGEX_SECONDS):
                    return key
            except TimeoutError:  # a pattern that goes astray counts as one that is not there
                return None
    return None


def _pattern(key: str, case_sensitive: bool) -> Any:
    """A compiled pattern of `/pattern/flags`, or of a bare pattern; None if it is none."""
    if len(key) > PATTERN_CHARACTERS_MAX:
        return None
    slashed = _SLASHED.fullmatch(key)
    flags = 0 if slashed or case_sensitive else regex.IGNORECASE
    for flag in slashed["flags"] if slashed else "":
        if flag not in _FLAGS:
            return None
        flags |= _FLAGS[flag]
    try:
        return regex.compile(slashed["pattern"] if slashed else key, flags)
    except (regex.error, RecursionError, OverflowError):
        return None


def _within(budget: float | None, matched: list[Entry], tokens: Mapping[int, int]) -> set[int]:
    """The numbers of the entries that stay: while they are too many, the one of least priority goes, then of least
    insertion order, then the last of the book."""
    leaving = sorted(matched, key=lambda entry: (entry.priority, entry.insertion_order, -entry.number))
    total = sum(tokens.values())
    while budget is not None and leaving and total > budget:
        total -= tokens[leaving.pop(0).number]
    return {entry.number for entry in leaving}


def _why(entry: Entry, found: _Found, kept: set[int], budget: float | None) -> str:
    matches, why = found
    return f"{why}, but over the budget of {budget:g} tokens" if matches and entry.number not in kept else why


def _entry(number: int, document: JsonObject) -> Entry:
    given = {
        field: document[field] for field, kind in ENTRY_FIELDS.items() if fits(kind, document.get(field))
    }
    extensions = given.get("extensions", {})
    decorators, content = split_content(given.get("content", ""))
    whole_words = extensions.get("match_whole_words")
    return Entry(
        number=number,
        name=given.get("name") or given.get("comment") or "",
        keys=given.get("keys", ()),
        secondary_keys=given.get("secondary_keys", ()),
        content=content,
        decorators=decorators,
        enabled=given.get("enabled", True),
        insertion_order=_finite(given.get("insertion_order")),
        priority=_finite(given.get("priority")),
        case_sensitive=given.get("case_sensitive", False),
        selective=given.get("selective", False),
        constant=given.get("constant", False),
        use_regex=given.get("use_regex", False),
        before=given.get("position") != "after_char",
        whole_words=whole_words if isinstance(whole_words, bool) else None,
        triggered_by_entries=extensions.get("exclude_recursion") is not True,
        triggers_entries=extensions.get("prevent_recursion") is not True,
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return fits("a number", value) and abs(value) < _NUMBER_MAX


def _finite(value: Any) -> float:
    return float(value) if _is_number(value) else 0.0
