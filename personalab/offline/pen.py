"""Filling the holes of a lexicon's sentences.

A hole is [name], where name is a fact or a list to draw from; [^name] begins with a capital; [a name] puts a or an in
front; [he|she] is chosen by gender. What fills a hole may have holes itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from personalab.offline.choice import Chooser
from personalab.offline.lexicon import Entry, Lexicon

_HOLE = re.compile(r"\[(?P<capital>\^?)(?P<article>a )?(?P<name>[^\[\]|]*)(?:\|(?P<other>[^\[\]]*))?\]")
_SILENT = ("hour", "honest", "heir")
_VOICED = ("one", "once", "uni", "use", "eu")
_ODD_ABOVE = 1.2
_ODD_SHARE = 0.5


@dataclass(frozen=True)
class Pen:
    """Writes in one language about one person. `facts` fill holes by name."""

    lexicon: Lexicon
    chooser: Chooser
    gender: str = "f"
    facts: Mapping[str, str] = field(default_factory=dict)

    def about(self, gender: str, facts: Mapping[str, str]) -> Pen:
        """The same pen for another person."""
        return Pen(self.lexicon, self.chooser, gender, facts)

    def knowing(self, **facts: str) -> Pen:
        """The same pen with more facts."""
        return Pen(self.lexicon, self.chooser, self.gender, {**self.facts, **facts})

    def say(self, name: str) -> str:
        """One item of a list of texts, with its holes filled."""
        items = self.lexicon.texts[name]
        return self.fill(items[self.chooser.index(name, len(items))])

    def say_some(self, name: str, count: int) -> list[str]:
        """Several different items of a list."""
        return [self.say(name) for _ in range(count)]

    def choose(self, name: str) -> Entry:
        """One entry of a list of entries, its holes still open."""
        items = self.lexicon.entries[name]
        return items[self.chooser.index(name, len(items))]

    def between(self, name: str, low: int, high: int) -> int:
        """A whole number in a range."""
        return low + round(self.chooser.share(name) * (high - low))

    def fill(self, text: str) -> str:
        """The text without holes, tidied by the rules of the language."""
        return self._tidy(self._filled(text))

    def odd(self) -> str:
        """Above a temperature of 1.2 now and then a sentence that is not quite right, otherwise nothing."""
        above = self.chooser.temperature - _ODD_ABOVE
        return self.say("odd") if above > 0 and self.chooser.chance(above * _ODD_SHARE) else ""

    def _filled(self, text: str) -> str:
        return _HOLE.sub(self._hole, text) if "[" in text else text

    def _hole(self, match: re.Match[str]) -> str:
        if match["other"] is not None:
            word = match["name"] if self.gender == "m" else match["other"]
        else:
            word = (
                self._filled(self.facts[match["name"]])
                if match["name"] in self.facts
                else self.say(match["name"])
            )
        if match["article"]:
            word = f"{article(word)} {word}"
        return word[:1].upper() + word[1:] if match["capital"] else word

    def _tidy(self, text: str) -> str:
        for rule in self.lexicon.entries["tidy"]:
            text = re.sub(rule["find"], rule["put"], text)
        return text


def article(word: str) -> str:
    """A or an, by how the word sounds."""
    low = word.lower()
    vowel = low.startswith(_SILENT) or (low[:1] in "aeiou" and not low.startswith(_VOICED))
    return "an" if vowel else "a"


def join(*sentences: str, code: str = "en") -> str:
    """Sentences in a row; Chinese takes no spaces between them."""
    return ("" if code == "zh" else " ").join(sentence for sentence in sentences if sentence)


def keys_of(entry: Entry) -> tuple[str, ...]:
    """The keys of an entry, as in a lorebook's field: separated by commas."""
    return tuple(key.strip() for key in entry["keys"].split(","))
