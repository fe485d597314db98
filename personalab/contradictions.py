"""Where a persona contradicts itself, by rules: age, pronouns, home, kin, weekdays; each with its evidence.

Rules of thumb for English, made to be right rather than complete: each finding is shown with both places, for a reader
to judge. Nothing here asks a model.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from personalab.card_words import AGE
from personalab.records import Record
from personalab.schemas import (
    CharacterBook,
    CorePersona,
    ExampleTweets,
    SocialNetwork,
    StageOutput,
)

RULES_VERSION = 1


class Contradiction(Record):
    """Two places that cannot both be right: `says` stands at `where`, `against` at `stands`."""

    rule: str
    where: str
    says: str
    against: str
    stands: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where} says {self.says!r}, but {self.stands} says {self.against!r}"


class Dated(Record):
    """A tweet with its day."""

    text: str
    date: dt.date


class _Persona:
    """What the rules read: texts about the persona, texts by the persona, and the people around."""

    def __init__(
        self, core: CorePersona, outputs: Mapping[str, StageOutput], tweets: Sequence[Dated]
    ) -> None:
        self.core = core
        self.tweets = {f"tweets[{number}]": tweet for number, tweet in enumerate(tweets)}
        network, book, examples = (
            outputs.get(name) for name in ("social_network", "character_book", "example_tweets")
        )
        people = network.people() if isinstance(network, SocialNetwork) else ()
        self.people = {f"social_network.{person.name}": person for person in people}
        self.others = {person.name.split()[0].casefold() for person in people} - {self.first_name}
        self.about = {
            f"core_persona.{field}": self._own(getattr(core, field))
            for field in ("description", "personality", "scenario", "appearance")
        }
        self.book: dict[str, str] = {}
        if isinstance(book, CharacterBook):
            self.book = {f"character_book.{entry.name}": entry.content for entry in book.entries}
        self.by = {"core_persona.first_mes": core.first_mes}
        self.by |= {
            f"core_persona.alternate_greetings[{n}]": text for n, text in enumerate(core.alternate_greetings)
        }
        if isinstance(examples, ExampleTweets):
            self.by |= {f"example_tweets[{n}]": tweet.text for n, tweet in enumerate(examples.tweets)}
        self.by |= {path: tweet.text for path, tweet in self.tweets.items()}

    @property
    def first_name(self) -> str:
        return self.core.name.split()[0].casefold()

    @property
    def about_in_book(self) -> dict[str, str]:
        """Of the book, the sentences that name the persona and nobody else."""
        found = {}
        for path, text in self.book.items():
            kept = [
                each
                for each in _sentences(self._own(text))
                if self.first_name in _names(each) or "{{char}}" in each
            ]
            if kept:
                found[path] = " ".join(kept)
        return found

    def _own(self, text: str) -> str:
        """The sentences that name nobody of the network."""
        return " ".join(each for each in _sentences(text) if not _names(each) & self.others)


def find_contradictions(
    outputs: Mapping[str, StageOutput], tweets: Sequence[Dated] = ()
) -> tuple[Contradiction, ...]:
    """The contradictions among the outputs of a run, and between them and tweets with a date.

    Without a core persona there are none to find.
    """
    core = outputs.get("core_persona")
    if not isinstance(core, CorePersona):
        return ()
    persona = _Persona(core, outputs, tweets)
    found = [each for rule in _RULES for each in rule(persona)]
    return tuple(dict.fromkeys(found))


def _ages(persona: _Persona) -> Iterator[Contradiction]:
    age, stands = persona.core.age, "core_persona.age"
    for path, text in (persona.about | persona.about_in_book).items():
        for match in (*AGE.finditer(text), *_told_age(persona.core.name).finditer(text)):
            if int("".join(filter(None, match.groups()))) != age:
                yield _found("age", path, match.group(), age, stands)
    for path, text in persona.by.items():
        for match in _MY_AGE.finditer(text):
            coming = match["coming"] is not None
            if int(match["age"]) not in ({age, age + 1} if coming else {age}):
                yield _found("age", path, match.group(), age, stands)


def _ages_of_others(persona: _Persona) -> Iterator[Contradiction]:
    for person_path, person in persona.people.items():
        told = _told_age(person.name)
        texts = (
            persona.by | persona.book | {f"core_persona.{name}": text for name, text in _prose(persona.core)}
        )
        for path, text in texts.items():
            for match in told.finditer(text):
                if int(match.group(1)) != person.age:
                    yield _found("age", path, match.group(), person.age, f"{person_path}.age")


def _told_age(name: str) -> re.Pattern[str]:
    """A name with an age beside it, as in `Ana Lima, 31,` or `Ana (31)`."""
    first = re.escape(name.split()[0])
    return re.compile(rf"\b{first}\b(?: [A-Z][\w'’-]+)*(?: \(|, )(?:aged )?(\d{{2}})(?:\)|(?=[,.]))")


def _pronouns(persona: _Persona) -> Iterator[Contradiction]:
    first: tuple[str, str] | None = None
    for path, text in (persona.about | persona.about_in_book).items():
        kind = _gender(text)
        if kind is None:
            continue
        if first is None:
            first = (kind, path)
        elif kind != first[0]:
            yield _found("pronouns", path, kind, *first)
    for path, person in persona.people.items():
        wanted = next((kind for kind, words in _GENDERED.items() if words.search(person.relation)), None)
        used = _gender(f"{person.current_status} {person.personality}")
        if wanted and used and wanted != used:
            yield _found("pronouns", f"{path}.current_status", used, person.relation, f"{path}.relation")


def _homes(persona: _Persona) -> Iterator[Contradiction]:
    location = persona.core.location
    home = _names(location)
    told = persona.about | persona.about_in_book
    whole = [each for text in (*told.values(), *persona.by.values()) for each in _sentences(text)]
    places = [(path, _LIVES.finditer(text)) for path, text in told.items()]
    places += [(path, _I_LIVE.finditer(text)) for path, text in persona.by.items()]
    for path, matches in places:
        for match in matches:
            named = _names(match["place"])
            # A district is no other place: somewhere both are named together.
            together = any(named <= _names(each) and home & _names(each) for each in whole)
            if not named & (home | _NO_PLACES) and not together:
                yield _found("home", path, match.group(), location, "core_persona.location")


def _kin(persona: _Persona) -> Iterator[Contradiction]:
    texts = persona.about | persona.about_in_book | persona.by
    relations = {path: person.relation for path, person in persona.people.items()}
    for denied, had in _DENIALS:
        for path, text in texts.items():
            if said := denied.search(text):
                for other, words in (texts | relations).items():
                    if other != path and (kin := had.search(words if other in texts else f"my {words}")):
                        yield _found("kin", other, kin.group(), said.group(), path)
    yield from _named_kin(persona, texts)


def _named_kin(persona: _Persona, texts: Mapping[str, str]) -> Iterator[Contradiction]:
    """A brother, sister, parent or partner who has another name than in the network."""
    for role in _ROLES:
        there = {
            person.name.split()[0].casefold(): path
            for path, person in persona.people.items()
            if re.search(rf"\b{role}\b", person.relation.casefold()) and not _PAST.search(person.relation)
        }
        if not there:
            continue
        for path, text in texts.items():
            for match in re.finditer(rf"\b(?:[Mm]y|[Hh]er|[Hh]is|[Tt]heir) {role},? ([A-Z][a-z'’]+)\b", text):
                if match.group(1).casefold() not in there and match.group(1) not in _NO_NAMES:
                    name, stands = next(iter(there.items()))
                    yield _found("kin", path, match.group(), f"{role} {name.title()}", stands)


def _weekdays(persona: _Persona) -> Iterator[Contradiction]:
    for path, tweet in persona.tweets.items():
        day = calendar.day_name[tweet.date.weekday()]
        for match in _TODAY.finditer(tweet.text):
            said = next(name for name in match.groups() if name)
            if said.casefold() != day.casefold():
                yield _found(
                    "weekday", path, match.group(), f"{tweet.date:%Y-%m-%d}, a {day}", f"{path}.date"
                )


def _found(rule: str, where: str, says: object, against: object, stands: str) -> Contradiction:
    return Contradiction(rule=rule, where=where, says=str(says).strip(), against=str(against), stands=stands)


def _gender(text: str) -> str | None:
    """`he` or `she`, where a text says one twice or more and the other never."""
    counts = Counter(
        "he" if word in _HE else "she" for word in re.findall(r"\w+", text.casefold()) if word in _HE | _SHE
    )
    return next((kind for kind, count in counts.items() if count >= 2 and len(counts) == 1), None)


def _sentences(text: str) -> list[str]:
    return [each for each in re.split(r"(?<=[.!?。！？])\s+|\n+", text) if each]


def _names(text: str) -> set[str]:
    return {word.casefold().removesuffix("'s").removesuffix("’s") for word in re.findall(r"[\w'’-]+", text)}


def _prose(core: CorePersona) -> Iterator[tuple[str, str]]:
    for field in ("description", "personality", "scenario", "mes_example"):
        yield field, getattr(core, field)


_HE, _SHE = {"he", "him", "his", "himself"}, {"she", "her", "hers", "herself"}
_GENDERED = {
    "he": re.compile(r"\b(?:brother|father|dad|husband|boyfriend|ex-boyfriend|ex-husband|uncle|son|nephew|grandfather)\b", re.I),
    "she": re.compile(r"\b(?:sister|mother|mum|mom|wife|girlfriend|ex-girlfriend|ex-wife|aunt|daughter|niece|grandmother)\b", re.I),
}  # fmt: skip
_ROLES = (
    "brother",
    "sister",
    "mother",
    "father",
    "husband",
    "wife",
    "boyfriend",
    "girlfriend",
    "son",
    "daughter",
)
_PAST = re.compile(r"\b(?:ex|former|late)\b", re.I)
_NO_NAMES = frozenset(
    ["And", "But", "Or", "So", "Just", "Then", "When", "Who", "Is", "Was", "Has", "Had", "Says", "Said", "I"]
)

_MY_AGE = re.compile(
    r"\b(?:(?:i['’]?m|i am) (?P<coming>turning )?|(?:i(?:['’]ve)? )?just turned )(?P<age>\d{2})"
    r"(?= years old|[.,!?;]|\s*$| (?:today|and|next|this)\b)",
    re.IGNORECASE | re.MULTILINE,
)

_PLACE = r"(?P<place>[A-Z][\w'’-]+(?: [A-Z][\w'’-]+)*)"
_LIVES = re.compile(rf"\b(?:lives|living|resides|residing|based) in {_PLACE}")
_I_LIVE = re.compile(
    rf"\b(?:[Ii] live in|[Ii]['’]?m (?:living|based) in|my (?:flat|apartment|house|place) in|[Hh]ere in) {_PLACE}"
)
_NO_PLACES = {name.casefold() for name in (*calendar.month_name, *calendar.day_name) if name}

_DENIALS = (
    (
        re.compile(r"\b(?:only child|no siblings|no brothers or sisters)\b", re.I),
        re.compile(r"\bmy (?:\w+ )?(?:brothers?|sisters?|siblings?|twin)\b", re.I),
    ),
    (
        re.compile(r"\b(?:childless|childfree|child-free|(?:no|never had) (?:children|kids))\b", re.I),
        re.compile(r"\bmy (?:\w+ )?(?:son|daughter|kids?|children)\b", re.I),
    ),
    (
        re.compile(r"\b(?:never (?:been )?married|unmarried)\b", re.I),
        re.compile(r"\bmy (?:ex-)?(?:husband|wife)\b", re.I),
    ),
    (
        re.compile(r"\b(?:orphan(?:ed)?|both (?:\w+ )?parents (?:died|are dead))\b", re.I),
        re.compile(
            r"\bmy (?:mom|mum|mother|dad|father) (?:just |still |always )?(?:calls?|called|texts?|texted|says|is|wants|keeps)\b",
            re.I,
        ),
    ),
)

_DAY = "|".join(calendar.day_name)
_TODAY = re.compile(
    rf"\bhappy ({_DAY})\b|\bit['’]?s (?:finally |only |already )?({_DAY})\b(?! (?:night|morning|evening) was)|^({_DAY}) (?:mornings?|nights?|evenings?|vibes|mood)\b"
    rf"|#({_DAY})(?:mood|motivation|vibes|morning|night)?\b",
    re.IGNORECASE,
)

_RULES = (_ages, _ages_of_others, _pronouns, _homes, _kin, _weekdays)
