"""Any other schema: a value that fits it, with texts chosen by the names of the properties.

Covers what pydantic and strict mode write: $ref, anyOf, allOf, enum, const, ranges, lengths, patterns, formats, nesting.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from personalab.offline.choice import Chooser, number
from personalab.offline.lexicon import Lexicon
from personalab.offline.pattern_sample import sample
from personalab.offline.pen import Pen, join
from personalab.offline.persona import Persona, full_name, recall
from personalab.offline.prompt_reader import Asked
from personalab.offline.stage_tweets import some_tweet
from personalab.offline.wire import ApiError
from personalab.records import JsonObject

_DEPTH_EASY, _DEPTH_MAX = 6, 40
_ITEMS = (2, 4)
_FREE_PROPERTIES = 2
_TRIES = 30
_SHARES = ("rate", "weight", "share", "probability", "confidence", "frequency", "fraction")
_AGES = ("age", "years")
_DATE_LENGTH = 10
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")


def fill(schema: JsonObject, asked: Asked, lexicon: Lexicon) -> Any:
    """A value that fits the schema.

    Raises:
        ApiError: 400, the schema cannot be filled: endless, or with parts that contradict each other.
    """
    persona, pen = recall(asked, lexicon)
    # What is judged stands in the prompt beside the persona, so here the whole prompt decides.
    pen = replace(pen, chooser=Chooser(str(number(asked.text)), asked.seed, asked.temperature, asked.top_p))
    dates = tuple(dict.fromkeys(_DATE.findall(asked.text)))
    names = [
        kind.get("name") for kind in (asked.strategy or {}).get("content_types", []) if isinstance(kind, dict)
    ]
    colours = {entry["id"]: entry["adjective"] for entry in lexicon.entries["colours"]}
    filler = _Filler(
        schema,
        persona,
        pen,
        dates,
        tuple(name for name in names if isinstance(name, str)),
        colour_seen=colours[asked.seen[0].colours[0]] if asked.seen else "",
    )
    try:
        return filler.value(schema, "", 0)
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise ApiError(
            400, f"The offline provider cannot fill this schema: {error!r}", param="response_format"
        ) from error


@cache
def _fields() -> dict[str, str]:
    data: dict[str, str] = json.loads((Path(__file__).parent / "fields.json").read_text(encoding="utf-8"))
    return data


@dataclass
class _Filler:
    """One walk over a schema. `dates` are those of the prompt, given out in order; `colour_seen` is a picture's."""

    root: JsonObject
    persona: Persona
    pen: Pen
    dates: tuple[str, ...]
    content_types: tuple[str, ...]
    colour_seen: str
    given_dates: int = 0
    written: dict[str, int] = field(default_factory=dict)

    def value(self, schema: Any, name: str, depth: int) -> Any:
        """A value for one schema; `name` is the property it stands in."""
        if depth > _DEPTH_MAX:
            raise ValueError("it refers to itself without an end")
        schema = self._resolved({} if schema is True else schema, name, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._one(f"enum {name}", schema["enum"])
        return self._by_type(schema)(schema, name, depth)

    def _by_type(self, schema: JsonObject) -> Callable[[JsonObject, str, int], Any]:
        writers: Mapping[str, Callable[[JsonObject, str, int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
            "boolean": lambda _schema, name, _depth: self._one(f"flag {name}", [True, False]),
            "null": lambda _schema, _name, _depth: None,
        }
        return writers[_type(schema)]

    def _resolved(self, schema: JsonObject, name: str, depth: int) -> JsonObject:
        """The schema with references followed, parts put together and one branch chosen."""
        for _ in range(_DEPTH_MAX):
            rest = {
                key: value for key, value in schema.items() if key not in ("$ref", "allOf", "anyOf", "oneOf")
            }
            if "$ref" in schema:
                schema = _merged(self._target(schema["$ref"]), rest)
            elif "allOf" in schema:
                for part in schema["allOf"]:
                    rest = _merged(rest, self._resolved(part, name, depth))
                schema = rest
            elif branches := schema.get("anyOf") or schema.get("oneOf"):
                schema = _merged(self._branch(branches, name, depth), rest)
            else:
                return schema
        raise ValueError("its references go in a circle")

    def _branch(self, branches: list[JsonObject], name: str, depth: int) -> JsonObject:
        """One of several schemas: where it is deep the one that ends soonest, else rather not null."""
        if depth >= _DEPTH_EASY:
            return min(branches, key=lambda branch: len(json.dumps(branch)) + 1000 * ("$ref" in branch))
        full = [branch for branch in branches if branch.get("type") != "null"]
        chosen: JsonObject = self._one(f"branch {name}", full or branches)
        return chosen

    def _target(self, reference: str) -> JsonObject:
        if not reference.startswith("#"):
            raise ValueError(f"{reference} is outside of it")
        target: Any = self.root
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            target = target[int(step)] if isinstance(target, list) else target[step]
        return {} if target is True else dict(target)

    def _object(self, schema: JsonObject, _name: str, depth: int) -> JsonObject:
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        wanted = [key for key in properties if key in required or depth < _DEPTH_EASY]
        wanted += [key for key in required if key not in properties]
        extra = schema.get("additionalProperties", True)
        made = {key: self.value(properties.get(key, extra), key, depth + 1) for key in wanted}
        least = schema.get(
            "minProperties", _FREE_PROPERTIES if isinstance(extra, dict) and extra and not properties else 0
        )
        at = 0
        while len(made) < min(least, schema.get("maxProperties", least)):
            key = self._key(schema, at)
            at += 1
            if key not in made:
                made[key] = self.value(extra, key, depth + 1)
        return made

    def _key(self, schema: JsonObject, at: int) -> str:
        rules = schema.get("propertyNames", {})
        names = self.pen.lexicon.texts["tags"]
        return (
            str(self.value(rules, "", _DEPTH_EASY))
            if rules
            else names[at % len(names)] + (f" {at}" if at >= len(names) else "")
        )

    def _array(self, schema: JsonObject, name: str, depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        items = schema.get("items", True)
        made = [self.value(part, name, depth + 1) for part in first[: schema.get("maxItems", len(first))]]
        if items is False:
            return made
        count = self._count(schema, name, items, depth)
        for _ in range(_TRIES * max(count, 1)):
            if len(made) >= count:
                break
            item = self.value(items, name, depth + 1)
            if not schema.get("uniqueItems") or item not in made:
                made.append(item)
        return made

    def _count(self, schema: JsonObject, name: str, items: Any, depth: int) -> int:
        least = schema.get("minItems", 0)
        if depth >= _DEPTH_EASY:
            return int(least)
        if self.dates and "maxItems" not in schema and self._dated(items):
            return max(int(least), len(self.dates))
        low, high = (
            max(least, min(_ITEMS[0], schema.get("maxItems", _ITEMS[0]))),
            schema.get("maxItems", max(least, _ITEMS[1])),
        )
        return self.pen.between(f"count {name}", int(low), int(min(high, max(low, least + _ITEMS[1]))))

    def _dated(self, items: Any) -> bool:
        schema = self._target(items["$ref"]) if isinstance(items, dict) and "$ref" in items else items
        return isinstance(schema, dict) and "date" in schema.get("properties", {})

    def _integer(self, schema: JsonObject, name: str, _depth: int) -> int:
        low, high = _bounds(schema, (18, 80) if name in _AGES else (1, 10))
        step = schema.get("multipleOf", 1)
        first, last = math.ceil(low / step), math.floor(high / step)
        if first > last:
            raise ValueError(f"there is no whole number from {low} to {high} for {name!r}")
        return int((first + round(self._score(name) * (last - first))) * step)

    def _number(self, schema: JsonObject, name: str, _depth: int) -> float:
        low, high = _bounds(schema, (0, 1) if any(word in name.lower() for word in _SHARES) else (0, 10))
        if "multipleOf" in schema:
            step = float(schema["multipleOf"])
            first, last = math.ceil(low / step), math.floor(high / step)
            return (first + round(self._score(name) * (last - first))) * step
        value = low + self._score(name) * (high - low)
        rounded = round(value, 2)
        return float(rounded if low < rounded < high else value)

    def _score(self, name: str) -> float:
        """A share in 0–1, rather above the middle, as scores are given."""
        at = self.written[name] = self.written.get(name, 0) + 1
        shares = [self.pen.chooser.share(f"{name} {at} {part}") for part in range(2)]
        return min(1.0, 0.1 + 0.45 * sum(shares))

    def _string(self, schema: JsonObject, name: str, _depth: int) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if "pattern" in schema:
            return self._fitting(schema["pattern"], least, most)
        dated = name == "date" and least <= _DATE_LENGTH and (most is None or most >= _DATE_LENGTH)
        if "format" in schema or dated:
            return self._formatted(schema.get("format", name), name)
        text = self._words(name)
        while len(text) < least:
            text = join(text, self.pen.say("sentences"), code=self.pen.lexicon.code)
        return text if most is None or len(text) <= most else _shortened(text, least, most)

    def _fitting(self, pattern: str, least: int, most: int | None) -> str:
        random = self.pen.chooser.random
        for _ in range(_TRIES):
            text = sample(pattern, random)
            if text is not None and len(text) >= least and (most is None or len(text) <= most):
                return text
        raise ValueError(f"no text was found for the pattern {pattern!r}")

    def _formatted(self, kind: str, name: str) -> str:
        if kind == "date":
            self.given_dates += 1
            return (
                self.dates[(self.given_dates - 1) % len(self.dates)]
                if self.dates
                else f"2026-{self._two(1, 12)}-{self._two(1, 28)}"
            )
        clock = f"{self._two(6, 23)}:{self._two(0, 59)}:00"
        formats = {
            "date-time": f"2026-{self._two(1, 12)}-{self._two(1, 28)}T{clock}Z",
            "time": f"{clock}Z",
            "duration": f"P{self._two(1, 28)}D",
            "email": f"reader{self._two(10, 99)}@example.org",
            "uri": f"https://example.org/{self._two(10, 99)}",
            "uuid": f"00000000-0000-4000-8000-{self.pen.chooser.random.randrange(16**12):012x}",
            "ipv4": f"192.0.2.{self._two(10, 99)}",
        }
        return formats.get(kind) or self._words(name)

    def _two(self, low: int, high: int) -> str:
        self.given_dates += 1
        return f"{self.pen.between(f'number {self.given_dates}', low, high):02d}"

    def _words(self, name: str) -> str:
        """A text for a property, by its name."""
        if name == "content_type" and self.content_types:
            return str(self._one("content type", list(self.content_types)))
        kind = _kind(name)
        if kind == "tweet":
            return some_tweet(self.persona, self.pen)
        if kind == "person":
            return full_name(self.pen, self._one("gender", ["m", "f"]), self.persona.age)
        if kind == "colour":
            seen = self.colour_seen if name in ("colour", "color") else ""
            return seen or self.pen.choose("colours")["adjective"]
        if kind == "sentences":
            return join(*self.pen.say_some(kind, 2), code=self.pen.lexicon.code)
        return self.pen.facts[kind] if kind in self.pen.facts else self.pen.say(kind)

    def _one(self, name: str, items: list[Any]) -> Any:
        """One of several; anew each time it is asked for."""
        at = self.written[name] = self.written.get(name, 0) + 1
        return items[self.pen.chooser.index(f"{name} {at}", len(items))]


def _kind(name: str) -> str:
    words = re.findall(r"[A-Z]?[a-z]+", name)
    return next((kind for word in reversed(words) if (kind := _fields().get(word.lower()))), "themes")


def _type(schema: JsonObject) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        hints = {
            "properties": "object",
            "items": "array",
            "prefixItems": "array",
            "minimum": "number",
            "maximum": "number",
        }
        kind = next((meant for hint, meant in hints.items() if hint in schema), "string")
    return str(kind)


def _merged(base: JsonObject, more: JsonObject) -> JsonObject:
    """Two schemas that both hold."""
    merged = {**base, **more}
    if "properties" in base and "properties" in more:
        merged["properties"] = {**base["properties"], **more["properties"]}
    if "required" in base and "required" in more:
        merged["required"] = list(dict.fromkeys([*base["required"], *more["required"]]))
    return merged


def _bounds(schema: JsonObject, usual: tuple[float, float]) -> tuple[float, float]:
    """Lowest and highest value, exclusive bounds moved inwards."""
    whole = schema.get("type") == "integer"
    inward = 1 if whole else 1e-6
    low, high = schema.get("minimum"), schema.get("maximum")
    if (above := schema.get("exclusiveMinimum")) is not None:
        low = max(above + inward, low if low is not None else -math.inf)
    if (below := schema.get("exclusiveMaximum")) is not None:
        high = min(below - inward, high if high is not None else math.inf)
    width = usual[1] - usual[0]
    if low is None:
        low = usual[0] if high is None or high >= usual[0] else high - width
    if high is None:
        high = usual[1] if usual[1] >= low else low + width
    return low, high


def _shortened(text: str, least: int, most: int) -> str:
    """The text up to a word's end within `most` characters."""
    cut = text[:most]
    at_word = cut.rsplit(" ", 1)[0].rstrip(" ,;:") if " " in cut else cut
    return at_word if len(at_word) >= max(least, 1) else cut
