"""What each stage gives: one pydantic model a stage. Its JSON schema is sent along; its validators decide if a reply fits.

Checks that need the outputs of earlier stages (a tweet's content type, say) read them from the validation context
and are left out where there is none. A validator's message goes back to the model word for word, so it says what to do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from personalab.names import card_name_problem
from personalab.records import text_html
from personalab.tweet_text import TWEET_LENGTH_MAX, fits_in_tweet, weighted_length

EXAMPLE_TWEETS = 8
BOOK_ENTRIES = 6
ADULT = 18

_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_text(text: str) -> str:
    """NFC, trimmed, and without what no card may hold: lone surrogates and control characters but newline and tab."""
    if text.isascii() and text.isprintable():  # most are, and a persona has hundreds
        return text.strip()
    text = _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return unicodedata.normalize("NFC", text).strip()


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _card_name(name: str) -> str:
    name = name.rstrip(". ")
    if problem := card_name_problem(name):
        raise ValueError(problem)
    return name


def _key(key: str) -> str:
    if "," in key:
        raise ValueError("a key must not contain a comma: give several keys instead")
    return key


def _postable(text: str) -> str:
    if not fits_in_tweet(text):
        raise ValueError(
            f"takes {weighted_length(text)} of {TWEET_LENGTH_MAX} units (emoji and Chinese characters count 2, a "
            "link 23): write it shorter, do not cut it"
        )
    return text


Text = Annotated[str, AfterValidator(clean_text), AfterValidator(_not_empty)]
TweetText = Annotated[Text, AfterValidator(_postable)]
Line = Annotated[str, AfterValidator(clean_text), AfterValidator(_one_line), AfterValidator(_not_empty)]
Name = Annotated[Line, AfterValidator(_card_name)]
Key = Annotated[Line, AfterValidator(_key)]
Rate = Annotated[float, Field(ge=0, le=1)]
Age = Annotated[int, Field(ge=ADULT, le=110)]

Item = TypeVar("Item")
OneToThree = Annotated[tuple[Item, ...], Field(min_length=1, max_length=3)]
OneOrTwo = Annotated[tuple[Item, ...], Field(min_length=1, max_length=2)]
TwoOrThree = Annotated[tuple[Item, ...], Field(min_length=2, max_length=3)]
TwoToSix = Annotated[tuple[Item, ...], Field(min_length=2, max_length=6)]
Some = Annotated[tuple[Item, ...], Field(min_length=2, max_length=8)]


class StageOutput(BaseModel):
    """Base of every stage's output: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __str__(self) -> str:
        """The output for reading: fields and lists indented, texts as they are."""
        return "\n".join(_readable(self.model_dump(mode="json")))

    def _repr_html_(self) -> str:
        return text_html(str(self))

    def prose(self) -> str:
        """What is read of it, as one text: by default every text it holds, a line each."""
        return "\n".join(_texts(self))

    def units(self) -> Iterator[tuple[str, str]]:
        """Its texts one by one, each with the field it stands in: a field's text, or one item of a list."""
        for field in type(self).model_fields:
            value = getattr(self, field)
            for item in value if isinstance(value, tuple | list) else (value,):
                text = item.prose() if isinstance(item, StageOutput) else item
                if isinstance(text, str) and text:
                    yield field, text


class CorePersona(StageOutput):
    """Stage 1: who this is, in the fields of a character card."""

    name: Name
    age: Age
    occupation: Line
    location: Line
    description: Text
    personality: Text
    scenario: Text
    first_mes: Text
    mes_example: Text
    alternate_greetings: TwoOrThree[Text]
    tags: Annotated[tuple[Line, ...], Field(min_length=3, max_length=12)]
    appearance: Text

    @field_validator("tags")
    @classmethod
    def _tags_differ(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tag.lower().lstrip("#") for tag in tags))

    @field_validator("mes_example")
    @classmethod
    def _opened(cls, text: str) -> str:
        if not text.startswith("<START>"):
            raise ValueError("each example dialogue must be opened by a line <START>")
        return text


class ContentType(StageOutput):
    """One kind of tweet this persona writes, and its share of all."""

    name: Line
    description: Text
    weight: Rate


class TweetStrategy(StageOutput):
    """Stage 2: how this persona tweets."""

    voice: Text
    content_types: Annotated[tuple[ContentType, ...], Field(min_length=5, max_length=8)]
    cadence: Text

    @field_validator("content_types")
    @classmethod
    def _weights_sum_to_one(cls, types: tuple[ContentType, ...]) -> tuple[ContentType, ...]:
        names = [kind.name.casefold() for kind in types]
        if len(set(names)) < len(names):
            raise ValueError("two content types have the same name")
        total = sum(kind.weight for kind in types)
        if not 0.95 <= total <= 1.05:
            raise ValueError(f"the weights must sum to 1, not {total:.2f}")
        return tuple(kind.model_copy(update={"weight": round(kind.weight / total, 4)}) for kind in types)


class Tweet(StageOutput):
    """One tweet."""

    content_type: Line
    text: TweetText

    def prose(self) -> str:
        """The tweet itself."""
        return self.text


class ExampleTweets(StageOutput):
    """Stage 3: eight tweets."""

    tweets: Annotated[tuple[Tweet, ...], Field(min_length=EXAMPLE_TWEETS, max_length=EXAMPLE_TWEETS)]

    @model_validator(mode="after")
    def _of_known_types(self, info: ValidationInfo) -> Self:
        strategy = _earlier(info, "tweet_strategy")
        if isinstance(strategy, TweetStrategy):
            known = {kind.name for kind in strategy.content_types}
            strange = sorted({tweet.content_type for tweet in self.tweets} - known)
            if strange:
                raise ValueError(
                    f"content types {strange} are not among {sorted(known)}: copy the names exactly"
                )
        if len({tweet.text for tweet in self.tweets}) < len(self.tweets):
            raise ValueError("two tweets are the same")
        return self


class Relation(StageOutput):
    """A person in this persona's life."""

    name: Line
    age: Age
    relation: Line
    personality: Text
    backstory: Text
    current_status: Text
    memorable_moments: OneToThree[Text]
    contact: Annotated[Text, Field(description="how they keep in touch")]


class SocialNetwork(StageOutput):
    """Stage 4: friends, past relationships and online friends."""

    close_friends: TwoOrThree[Relation]
    past_relationships: OneOrTwo[Relation]
    online_friends: TwoOrThree[Relation]

    def people(self) -> tuple[Relation, ...]:
        """Everybody, close friends first."""
        return self.close_friends + self.past_relationships + self.online_friends

    @model_validator(mode="after")
    def _different_people(self, info: ValidationInfo) -> Self:
        names = [person.name.casefold() for person in self.people()]
        core = _earlier(info, "core_persona")
        if isinstance(core, CorePersona) and core.name.casefold() in names:
            raise ValueError(f"{core.name} is the persona, not a person of their own network")
        if len(set(names)) < len(names):
            raise ValueError("two people have the same name: everybody needs a name of their own")
        return self


class WritingHabits(StageOutput):
    """How often each habit shows, as a share of the tweets (0 never, 1 always)."""

    lower_case: Rate
    dropped_full_stops: Rate
    typos: Rate
    fillers: Rate
    slang: Rate


class Flaw(StageOutput):
    """Something that makes the persona less than perfect on purpose."""

    flaw: Line
    frequency: Rate
    shows: Annotated[Text, Field(description="how it shows in what they write")]


class Authenticity(StageOutput):
    """Stage 5: writing habits and strategic flaws."""

    writing_habits: WritingHabits
    flaws: TwoToSix[Flaw]


class VisualProfile(StageOutput):
    """Stage 6: how pictures of this persona look."""

    outfits: Some[Line]
    props: Some[Line]
    colours: Some[Line]
    light: Some[Line]
    poses: Some[Line]
    mood: Some[Line]
    camera_angles: Some[Line]


class BookEntry(StageOutput):
    """One lorebook entry: `content` reaches the model when one of `keys` is mentioned."""

    name: Line
    keys: TwoToSix[Key]
    content: Text

    def prose(self) -> str:
        """What the entry says."""
        return self.content


class CharacterBook(StageOutput):
    """Stage 7: six lorebook entries."""

    entries: Annotated[tuple[BookEntry, ...], Field(min_length=BOOK_ENTRIES, max_length=BOOK_ENTRIES)]

    @model_validator(mode="after")
    def _keys_differ(self, info: ValidationInfo) -> Self:
        core = _earlier(info, "core_persona")
        own = core.name.casefold() if isinstance(core, CorePersona) else None
        seen: dict[str, str] = {}
        for entry in self.entries:
            for key in entry.keys:
                if key.casefold() == own:
                    raise ValueError(
                        f"{key!r} is the persona's own name and would match all the time: use another key"
                    )
                other = seen.setdefault(key.casefold(), entry.name)
                if other != entry.name:
                    raise ValueError(
                        f"key {key!r} stands in the entries {other!r} and {entry.name!r}: keep it in one"
                    )
        return self


@cache
def bare_schema(output: type[BaseModel], title: str) -> dict[str, Any]:
    """The JSON schema of a model as it is sent: titled with the stage's name, without Python's own names and docstrings.

    What is left changes only with the shape of the data, so editing a docstring costs no call.
    """
    return {"title": title, **_bare(output.model_json_schema())}


def _bare(schema: dict[str, Any]) -> dict[str, Any]:
    bare: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "title" or (key == "description" and "properties" in schema):
            continue
        if key in ("properties", "$defs"):
            bare[key] = {name: _bare(inner) for name, inner in value.items()}
        elif isinstance(value, dict):
            bare[key] = _bare(value)
        elif isinstance(value, list):
            bare[key] = [_bare(inner) if isinstance(inner, dict) else inner for inner in value]
        else:
            bare[key] = value
    return bare


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, StageOutput):
        for field in type(value).model_fields:
            yield from _texts(getattr(value, field))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _texts(item)


def _readable(value: Any, indent: str = "") -> Iterator[str]:
    pairs = value.items() if isinstance(value, dict) else (("-", item) for item in value)
    for label, item in pairs:
        head = f"{indent}{label}" if label == "-" else f"{indent}{label}:"
        if isinstance(item, dict | list):
            yield head
            yield from _readable(item, indent + "  ")
        else:
            first, *rest = str(item).split("\n")
            yield f"{head} {first}"
            yield from (f"{indent}  {line}" for line in rest)


def _earlier(info: ValidationInfo, stage: str) -> Any:
    done: Mapping[str, StageOutput] = (info.context or {}).get("done", {})
    return done.get(stage)
