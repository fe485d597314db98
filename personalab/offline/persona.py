"""The person a text is about: invented for stage 1, read back out of the prompt for the stages after it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from personalab.offline.choice import Chooser, number
from personalab.offline.lexicon import Entry, Lexicon, open_lexicon
from personalab.offline.pen import Pen
from personalab.offline.prompt_reader import Asked, plain
from personalab.records import JsonObject

YOUNGEST, OLDEST = 29, 71
YOUNGER_BELOW = 45

_AGE = re.compile(r"(?<![\d.,])(1[89]|[2-9]\d)(?![\d.,]*\d)")
_SEPARATORS = re.compile(r"\s*[,，、·]\s*")
_NAME_LENGTH = 40


@dataclass(frozen=True)
class Persona:
    """Who they are, and which of the lexicon's entries belong to them. `identity` fixes every preference."""

    name: str
    gender: str
    age: int
    title: str
    occupation: Entry
    district: str
    town: str
    pastime: Entry
    grudge: Entry
    keepsake: Entry
    flaws: tuple[Entry, Entry]
    identity: str

    @property
    def first(self) -> str:
        """How others call them."""
        return self.name.split()[0]

    def facts(self) -> dict[str, str]:
        """What fills holes about them."""
        work = {key: value for key, value in self.occupation.items() if key not in ("title", "keys")}
        return work | {
            "name": self.name,
            "first": self.first,
            "age": str(self.age),
            "title": self.title,
            "district": self.district,
            "town": self.town,
            "pastime": self.pastime["line"],
            "grudge": self.grudge["line"],
            "keepsake": self.keepsake["line"],
            "circle": self.pastime["circle"],
            "flaw1": self.flaws[0]["line"],
            "flaw2": self.flaws[1]["line"],
        }


def invent(asked: Asked, lexicon: Lexicon) -> tuple[Persona, Pen]:
    """Somebody new, by the picture or the description, and a pen to write about them."""
    pen = Pen(lexicon, Chooser(asked.source_id, asked.seed, asked.temperature, asked.top_p))
    gender = _gender_said(asked.source, lexicon) or ("m" if pen.chooser.share("gender") < 0.5 else "f")
    age = _age_said(asked.source) or pen.between("age", YOUNGEST, OLDEST)
    pen = pen.about(gender, {})
    occupation = _named_occupation(asked.source, lexicon) or pen.choose("occupations")
    district, town = _home(asked.location, pen)
    persona = Persona(
        name=full_name(pen, gender, age),
        gender=gender,
        age=age,
        title=pen.fill(occupation["title"]),
        occupation=occupation,
        district=district,
        town=town,
        pastime=pen.choose("pastimes"),
        grudge=pen.choose("grudges"),
        keepsake=pen.choose("keepsakes"),
        flaws=(pen.choose("flaws"), pen.choose("flaws")),
        identity=asked.source_id,
    )
    return persona, pen.about(gender, _with_numbers(persona, pen))


def recall(asked: Asked, lexicon: Lexicon) -> tuple[Persona, Pen]:
    """The persona in the prompt and a pen to write about them; without one, somebody by the prompt's hash."""
    core = asked.persona
    if core is None or not isinstance(core.get("name"), str) or not plain(core["name"]):
        persona, pen = invent(asked, lexicon)
    else:
        persona = _read(core, lexicon)
        pen = Pen(
            lexicon, Chooser(persona.identity, asked.seed, asked.temperature, asked.top_p), persona.gender
        )
    return persona, pen.about(persona.gender, _with_numbers(persona, pen))


def known(core: JsonObject, lexicon: Lexicon, chooser: Chooser) -> tuple[Persona, Pen]:
    """The persona of a name and texts about them, and a pen that draws as the chooser says."""
    persona = _read(core, lexicon)
    pen = Pen(lexicon, chooser, persona.gender)
    return persona, pen.about(persona.gender, _with_numbers(persona, pen))


def full_name(pen: Pen, gender: str, age: int) -> str:
    """An ordinary name for somebody of that age."""
    given = pen.say(f"given_{'younger' if age < YOUNGER_BELOW else 'older'}_{gender}")
    return pen.knowing(given=given).say("name_line")


def _with_numbers(persona: Persona, pen: Pen) -> Mapping[str, str]:
    """The facts and a number of years in the job that their age allows."""
    numbers = pen.lexicon.texts["numbers"]
    most = min(len(numbers) - 1, max(1, persona.age - 23))
    return persona.facts() | {"years": numbers[number(persona.identity + persona.name) % most]}


def _home(location: str, pen: Pen) -> tuple[str, str]:
    if not location:
        return _split_place(pen.say("places"))
    district, town = _split_location(location, pen.lexicon.code)
    return (district, town) if town else (pen.say("areas"), location)


def _split_location(location: str, code: str) -> tuple[str, str]:
    """District and town; Chinese names the larger place first."""
    first, second = _split_place(location)
    return (second, first) if second and code == "zh" else (first, second)


def _split_place(place: str) -> tuple[str, str]:
    district, *rest = _SEPARATORS.split(place, maxsplit=1)
    return district, rest[0] if rest else ""


def _age_said(text: str) -> int | None:
    found = _AGE.search(text)
    return int(found[1]) if found else None


def _gender_said(text: str, lexicon: Lexicon) -> str | None:
    """Which gender a text speaks of, by the words that only fit one."""
    women, men = (_count(text, lexicon.texts[name], lexicon.code) for name in ("woman_words", "man_words"))
    return None if women == men else "f" if women > men else "m"


def _count(text: str, words: tuple[str, ...], code: str) -> int:
    if code == "zh":
        return sum(text.count(word) for word in words)
    found = re.findall(r"\w+", text.lower())
    return sum(found.count(word) for word in words)


def _read(core: JsonObject, lexicon: Lexicon) -> Persona:
    name = plain(core["name"])[:_NAME_LENGTH]
    said = " ".join(value for value in core.values() if isinstance(value, str))
    occupation_said, location = (
        plain(str(core.get("occupation") or "")),
        plain(str(core.get("location") or "")),
    )
    identity = "\0".join((name, occupation_said, location))
    gender = _gender_of_name(name, lexicon) or _gender_said(said, lexicon) or "mf"[number(identity) % 2]
    places = lexicon.texts["places"]
    drawn = _split_place(places[number(identity) % len(places)])
    district, town = _split_location(location, lexicon.code) if location else drawn
    occupation = _named_occupation(occupation_said, lexicon)
    flaws = _found("flaws", said, lexicon, gender, identity, 2)
    return Persona(
        name=name,
        gender=gender,
        age=_age(core.get("age")),
        title=_spoken(occupation["title"], gender)
        if occupation
        else occupation_said or lexicon.texts["some_work"][0],
        occupation=occupation or lexicon.entries["other_work"][0],
        district=district,
        town=town or district,
        pastime=_found("pastimes", said, lexicon, gender, identity)[0],
        grudge=_found("grudges", said, lexicon, gender, identity)[0],
        keepsake=_found("keepsakes", said, lexicon, gender, identity)[0],
        flaws=(flaws[0], flaws[1]),
        identity=identity,
    )


def _age(value: Any) -> int:
    return min(max(value, 18), 110) if isinstance(value, int) else 40


def _found(name: str, said: str, lexicon: Lexicon, gender: str, identity: str, count: int = 1) -> list[Entry]:
    """The entries whose line stands in a text, filled up with others by hash."""
    entries = lexicon.entries[name]
    here = [entry for entry in entries if _spoken(entry["line"], gender) in said]
    start = number(f"{identity}\0{name}")
    others = (entries[(start + step) % len(entries)] for step in range(len(entries)))
    return (here + [entry for entry in others if entry not in here])[:count]


def _named_occupation(text: str, lexicon: Lexicon) -> Entry | None:
    """The occupation whose title stands in a text; the longest, if several do."""
    titles = _titles(lexicon.code)
    low = text.casefold()
    found = [title for title in titles if title in low]
    return lexicon.entries["occupations"][titles[max(found, key=len)]] if found else None


@cache
def _titles(code: str) -> dict[str, int]:
    entries = open_lexicon(code).entries["occupations"]
    return {_spoken(entry["title"], g).casefold(): at for at, entry in enumerate(entries) for g in "mf"}


@cache
def _spoken(text: str, gender: str) -> str:
    """A text of which only the gender is open, as it is said of a man or a woman."""
    return re.sub(r"\[([^\[\]|]*)\|([^\[\]]*)\]", r"\1" if gender == "m" else r"\2", text)


def _gender_of_name(name: str, lexicon: Lexicon) -> str | None:
    for gender in "mf":
        for age in ("older", "younger"):
            if any(_is_given(name, given, lexicon.code) for given in lexicon.texts[f"given_{age}_{gender}"]):
                return gender
    return None


def _is_given(name: str, given: str, code: str) -> bool:
    return name.endswith(given) if code == "zh" else name.split()[0] == given
