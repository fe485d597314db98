"""Character cards: read others' (V1, V2, V3, as JSON, PNG or CHARX), change them, write them as all three.

Reading asks only that a card can be held without loss; whether it is a good one is for `card_checks` to say.
What the specification does not know is kept where it stood, in reading, changing and writing.
"""

from __future__ import annotations

import base64
import io
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import field_validator

from personalab import card_format, card_png, charx
from personalab.card_format import DATA_FIELDS, TOP_FIELDS, V1_FIELDS, V2, V3
from personalab.card_png import KEYWORDS
from personalab.errors import CardError, ConfigError, unknown
from personalab.files import write_whole
from personalab.lorebook_formats import lorebook_v3, world_info
from personalab.records import JsonObject, Record
from personalab.tokens import count_tokens

Held = TypeVar("Held")

FILE_BYTES_MAX = 64 * 1024**2
"""Bytes of a file that is read at all; larger cards carry films, not personas."""

_PERMANENT_FIELDS = ("name", "description", "personality", "scenario")
_PROMPT_FIELDS = (
    *_PERMANENT_FIELDS,
    "first_mes",
    "mes_example",
    "system_prompt",
    "post_history_instructions",
)
_OTHER_CARRIERS = {
    b"\xff\xd8\xff": "is a JPEG, which carries no card; download the original PNG",
    b"RIFF": "is a WEBP, which carries no card; download the original PNG",
}


class CharacterCard(Record):
    """A character card: the whole document, V2 or V3, with everything that others have put into it.

    Not to be changed in place: `with_data` gives a changed card. The properties are fields of `data` under
    the names of the specification; where somebody has written another type, or nothing, they are empty.
    """

    document: JsonObject

    @field_validator("document", mode="before")
    @classmethod
    def _hold(cls, document: Any) -> JsonObject:
        return _held(document)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> CharacterCard:
        """A V3 card of the fields of `data`, in canonical order; missing required fields are added empty.

        Raises:
            CardError: a field outside `extensions` that the specification does not know, or no JSON.
        """
        for field in data:
            if field not in DATA_FIELDS:
                raise CardError("data", f"unknown field {field!r}; own data goes under extensions")
        held = cls(document={"spec": V3, "data": dict(data)})
        return cls(document=held.v3())

    def __repr__(self) -> str:
        return f"CharacterCard({self.name!r}, {self.spec})"

    __str__ = __repr__

    @property
    def spec(self) -> str:
        """`chara_card_v2` or `chara_card_v3`."""
        return str(self.document["spec"])

    @property
    def data(self) -> JsonObject:
        """Everything under `data`."""
        data: JsonObject = self.document["data"]
        return data

    @property
    def name(self) -> str:
        """Whom the card is of, as `{{char}}` is spoken."""
        return self._text("name")

    @property
    def description(self) -> str:
        """Who this is; in every prompt."""
        return self._text("description")

    @property
    def personality(self) -> str:
        """How they are; in every prompt."""
        return self._text("personality")

    @property
    def scenario(self) -> str:
        """Where and how `{{user}}` meets them; in every prompt."""
        return self._text("scenario")

    @property
    def first_mes(self) -> str:
        """What they say first."""
        return self._text("first_mes")

    @property
    def mes_example(self) -> str:
        """Example dialogues, each opened by a line `<START>`."""
        return self._text("mes_example")

    @property
    def creator_notes(self) -> str:
        """What the author tells users; never in a prompt."""
        return self._text("creator_notes")

    @property
    def alternate_greetings(self) -> tuple[str, ...]:
        """Other first messages."""
        return self._texts("alternate_greetings")

    @property
    def tags(self) -> tuple[str, ...]:
        """Words to find the card by; never in a prompt."""
        return self._texts("tags")

    @property
    def character_book(self) -> JsonObject | None:
        """The lorebook, or None for a card without one."""
        book = self.data.get("character_book")
        return book if isinstance(book, dict) else None

    @property
    def extensions(self) -> JsonObject:
        """What applications have added, each under a name of its own."""
        extensions = self.data.get("extensions")
        return extensions if isinstance(extensions, dict) else {}

    def _text(self, field: str) -> str:
        value = self.data.get(field)
        return value if isinstance(value, str) else ""

    def _texts(self, field: str) -> tuple[str, ...]:
        value = self.data.get(field)
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

    def with_data(self, **changes: Any) -> CharacterCard:
        """A card with some fields of `data` changed; everything else is as it was.

        The copies that front ends keep at the top level for V1 readers change with their field.

        Raises:
            ConfigError: no such field; names the nearest.
            CardError: a value that is not JSON.
        """
        for field in changes:
            if field not in DATA_FIELDS:
                raise unknown("card field", field, DATA_FIELDS)
        mirrors = {field for field in V1_FIELDS if field in changes and field in self.document}
        document = {**self.document, "data": {**self.data, **changes}}
        return CharacterCard(document=document | {field: changes[field] for field in mirrors})

    def v2(self) -> JsonObject:
        """The card as a V2 document; a V3 card loses what `card_format.to_v2` names and nothing else."""
        return card_format.to_v2(self.document)

    def v3(self) -> JsonObject:
        """The card as a V3 document."""
        return card_format.to_v3(self.document)

    def to_json(self) -> bytes:
        """A V2 file: UTF-8 without BOM, indented, the same bytes for the same card.

        Raises:
            CardError: a text holds half of a surrogate pair, which text cut in the middle of an emoji has.
        """
        return _encoded(self.v2(), indent=2) + b"\n"

    def to_png(self, picture: bytes) -> bytes:
        """A PNG file of the pixels of `picture` (a PNG itself), the V2 copy and the V3 document, no more.

        V2 stands first because some readers take the first text chunk whatever it is, and both stand before
        the pixels because some read no further. The same card and pixels give the same bytes.

        Raises:
            CardError: no readable PNG, or a text holds half of a surrogate pair.
        """
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        for keyword, spec in KEYWORDS.items():
            document = card_format.to_backfill(self.document) if spec == V2 else self.v3()
            chunks.add_text(keyword, base64.b64encode(_encoded(document)).decode("ascii"))
        file = io.BytesIO()
        card_png.pixels(picture).save(file, "PNG", pnginfo=chunks)
        return file.getvalue()

    def to_charx(self, picture: bytes | None = None, assets: Mapping[str, bytes] | None = None) -> bytes:
        """A CHARX file: the V3 document, `picture` (a PNG) as its main icon, and other `assets` by their paths in it.

        Assets that the document names and nobody gives are left out of it, because front ends refuse a file in which one
        is missing. The same card and pictures give the same bytes.

        Raises:
            CardError: no readable PNG, half of a surrogate pair, or a path that is no ASCII path below `assets/`.
        """
        held = dict(assets or {})
        if picture is not None:
            held[charx.MAIN_ICON] = card_png.bare(picture)
        document = charx.with_assets(self.v3(), held, icon=picture is not None)
        _encoded(document)  # says what is wrong with a text
        try:
            return charx.pack(document, held)
        except ValueError as error:
            raise CardError("assets", str(error)) from error

    def save(self, path: Path | str, picture: bytes | None = None) -> Path:
        """Write the card, whole or not at all, as the ending says: `.json` (V2), `.png` or `.charx`, with `picture` (a PNG).

        Raises:
            ConfigError: another ending, or a PNG without a picture.
            CardError: no readable picture, or a text that cannot be written.
            OutputError: the file cannot be written.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".json":
                content = self.to_json()
            case ".charx":
                content = self.to_charx(picture)
            case ".png" if picture is not None:
                content = self.to_png(picture)
            case ".png":
                raise ConfigError(f"{path} needs a picture: card.save(path, picture=png_bytes)")
            case _:
                raise ConfigError(f"cannot tell the format of {path.name!r}: end it in .json, .png or .charx")
        return write_whole(path, content)

    def lorebook(self) -> JsonObject:
        """The lorebook on its own, as the V3 specification has it.

        Raises:
            CardError: the card has none.
        """
        return lorebook_v3(self._book())

    def world_info(self) -> JsonObject:
        """The lorebook on its own, as SillyTavern's world info, which RisuAI reads too.

        Raises:
            CardError: the card has none.
        """
        return world_info(self._book())

    def _book(self) -> JsonObject:
        if self.character_book is None:
            raise CardError(
                self.name, "has no lorebook; make one with the stages social_network and character_book"
            )
        return self.character_book

    def token_counts(self) -> dict[str, int]:
        """Estimated tokens (see `tokens.TOKENIZER`) of each field that reaches a prompt, and two sums.

        `character_book` is the content of all enabled entries, `permanent` what is in every prompt (name,
        description, personality, scenario), `total` the most that one chat can hold: every field but
        `alternate_greetings`, which stand in for `first_mes`.
        """
        fields = {field: count_tokens(self._text(field)) for field in _PROMPT_FIELDS}
        book = sum(count_tokens(content) for content in card_format.contents(self.data))
        return fields | {
            "alternate_greetings": sum(count_tokens(greeting) for greeting in self.alternate_greetings),
            "character_book": book,
            "permanent": sum(fields[field] for field in _PERMANENT_FIELDS),
            "total": sum(fields.values()) + book,
        }


def read_card(source: Path | str | bytes) -> CharacterCard:
    """The card in a file (JSON, PNG or CHARX, told apart by content) or in a file's bytes.

    V1 becomes V2: its six fields move under `data`, everything else stays at the top level where it stood.
    Of the two copies in a PNG `ccv3` counts. A BOM in front of JSON is forgiven. Fields of a wrong type and
    halves of surrogate pairs are held as they are, for `check_card` to name.

    Raises:
        CardError: missing, too large, damaged, in a carrier that holds no card, or JSON that is no card.
    """
    name = "(bytes)" if isinstance(source, bytes) else str(source)
    if isinstance(source, str) and source.lstrip().startswith("{"):
        raise CardError("(text)", "is JSON and not a path; give it as bytes")
    content = _content(source, name)
    if content.startswith(card_png.SIGNATURE):
        content = _card_in_png(content, name)
    elif content.startswith(charx.SIGNATURE):
        content = _from_charx(charx.card_in, content, name)
    for magic, problem in _OTHER_CARRIERS.items():
        if content.startswith(magic):
            raise CardError(name, problem)
    try:
        return CharacterCard(document=_upgraded(_parsed(content, name)))
    except CardError as error:
        raise CardError(name, error.problem) from error


def read_picture(source: Path | str | bytes) -> bytes | None:
    """The portrait that a card's file carries: a PNG itself, the main icon of a CHARX; None for JSON.

    Raises:
        CardError: missing, too large or damaged.
    """
    content = _content(source, "(bytes)" if isinstance(source, bytes) else str(source))
    if content.startswith(charx.SIGNATURE):
        return charx.main_icon(read_card(content).document, read_assets(content))
    return content if content.startswith(card_png.SIGNATURE) else None


def read_assets(source: Path | str | bytes) -> dict[str, bytes]:
    """The files that a CHARX carries beside its card, by their paths in it; none for other files.

    Raises:
        CardError: missing, too large or damaged.
    """
    name = "(bytes)" if isinstance(source, bytes) else str(source)
    content = _content(source, name)
    return _from_charx(charx.assets_in, content, name) if content.startswith(charx.SIGNATURE) else {}


def _from_charx(read: Callable[[bytes], Held], content: bytes, name: str) -> Held:
    try:
        return read(content)
    except ValueError as error:
        raise CardError(name, f"{error}; export or download it again") from error


def _content(source: Path | str | bytes, name: str) -> bytes:
    if isinstance(source, bytes):
        content = source
    else:
        try:
            if not stat.S_ISREG(Path(source).stat().st_mode):  # opening a pipe waits for a writer
                raise CardError(name, "is no ordinary file (a folder, pipe or device); give a card file")
            with Path(source).open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise CardError(name, f"cannot be read: {error.strerror or error}; check the path") from error
        except ValueError as error:  # a NUL in the path
            raise CardError(repr(name), "is not a path") from error
    if not content:
        raise CardError(name, "is empty (0 bytes); export or download it again")
    if len(content) > FILE_BYTES_MAX:
        raise CardError(name, f"is larger than {FILE_BYTES_MAX // 1024**2} MiB, which no card needs")
    return content


def _card_in_png(content: bytes, name: str) -> bytes:
    found: dict[str, bytes] = {}
    elsewhere = ""
    try:
        for chunk in card_png.png_chunks(content):
            keyword = chunk.keyword.lower()
            if keyword in KEYWORDS and chunk.kind == "tEXt":
                found.setdefault(keyword, chunk.text)
            elif keyword in KEYWORDS:
                elsewhere = chunk.kind
    except ValueError as error:
        raise CardError(name, f"is a damaged PNG: {error}; export or download it again") from error
    keyword = "ccv3" if "ccv3" in found else "chara"
    if keyword not in found:
        where = f"in {elsewhere}, where the format has none" if elsewhere else "not in it"
        raise CardError(name, f"is a PNG, but the card is {where}; export it again from where it came")
    try:
        return card_png.from_base64(found[keyword])
    except ValueError as error:
        raise CardError(name, f"text chunk {keyword} is not base64; export the card again") from error


def _parsed(content: bytes, name: str) -> Any:
    try:
        return card_format.from_bytes(content)
    except ValueError as error:
        raise CardError(name, f"cannot be read as JSON: {error}; export it as PNG or JSON") from error


def _upgraded(document: Any) -> Any:
    """A V1 document as V2, everything else as it is."""
    if not isinstance(document, dict) or document.get("spec") is not None or "data" in document:
        return document
    # Many JSON files have a name and a description; only a card has one of the others.
    if not isinstance(document.get("name"), str) or not any(field in document for field in V1_FIELDS[2:]):
        return document
    data = {field: document[field] for field in V1_FIELDS if field in document}
    rest = {field: value for field, value in document.items() if field not in (*V1_FIELDS, *TOP_FIELDS)}
    return card_format.to_v2({"spec": V2, "data": data, **rest})


def _held(document: Any) -> JsonObject:
    """A copy of a V2 or V3 document, made sure to be JSON."""
    if not isinstance(document, dict):
        raise CardError("document", f"is no character card but {type(document).__name__}; give a JSON object")
    spec = document.get("spec")
    if spec not in (V2, V3):
        found = f"spec is {str(spec)[:40]!r}" if spec else "it has neither spec nor the fields of a V1 card"
        raise CardError("document", f"is no character card: {found}; known are V1, {V2} and {V3}")
    if not isinstance(document.get("data"), dict):
        raise CardError("document", "is a card without data; give it an object data with the card's fields")
    try:
        held: JsonObject = card_format.plain(document)
    except ValueError as error:
        raise CardError("document", f"cannot be held: {error}") from error
    return held


def _encoded(document: JsonObject, *, indent: int | None = None) -> bytes:
    try:
        return card_format.to_bytes(document, indent=indent)
    except UnicodeEncodeError as error:
        problem = "holds half of a surrogate pair; check_card says where: write that text anew"
        raise CardError("document", problem) from error
