"""The PNG that carries a card: its chunks, read without decoding pixels, its pixels, and rules 10 to 12 of the checks.

Source: the PNG specification. A card is base64 of UTF-8 JSON in a tEXt chunk, V2 under the keyword `chara`,
V3 under `ccv3`.
"""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from personalab import card_format
from personalab.card_format import V2, V3
from personalab.card_structure import Problem, error, shown, warning
from personalab.config import PICTURE_PIXELS_MAX
from personalab.errors import CardError
from personalab.records import JsonObject

if TYPE_CHECKING:
    from PIL.Image import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHUNKS_MAX = 100_000
"""Chunks of a PNG that are read; an encoder with small chunks makes some 10,000 of a large picture."""
KEYWORDS = {"chara": V2, "ccv3": V3}
"""Keywords of the text chunks that hold a card, in the order in which they are written."""

BYTES_MAX = 5 * 1000**2
WIDTHS = (512, 1200)
HEIGHTS = (768, 1800)
_RATIO_TOLERANCE = 0.02
"""How far from 2:3 a portrait may be, as a share."""
_PIXEL_CHUNKS = ("IHDR", "PLTE", "tRNS", "IDAT", "IEND", "sRGB", "gAMA", "cHRM", "sBIT", "bKGD", "pHYs")
_TEXT_CHUNKS = ("tEXt", "zTXt", "iTXt")


class Chunk(NamedTuple):
    """One chunk of a PNG: its type, its data, and the offset in bytes where it ends in the file."""

    kind: str
    data: memoryview
    end: int

    @property
    def keyword(self) -> str:
        """The keyword of a text chunk as it is written; "" for any other chunk."""
        if self.kind not in _TEXT_CHUNKS:
            return ""
        return bytes(self.data[:80]).split(b"\0")[0].decode("latin-1")

    @property
    def text(self) -> bytes:
        """What follows the keyword of a tEXt chunk."""
        return bytes(self.data).partition(b"\0")[2]


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG up to IEND, one at a time, without decoding any.

    Raises:
        ValueError: no PNG, cut off, a wrong checksum, or more than `CHUNKS_MAX` chunks.
    """
    if not data.startswith(SIGNATURE):
        raise ValueError("it is no PNG")
    view = memoryview(data)
    position = len(SIGNATURE)
    for number in range(CHUNKS_MAX):
        if len(data) - position < 12:
            raise ValueError(f"it is cut off after {number} chunks: IEND is missing")
        length, name = struct.unpack_from(">I4s", data, position)
        if not name.isalpha():
            raise ValueError(f"chunk {number} has a type of other than four letters")
        kind = name.decode("ascii")
        if length > len(data) - position - 12:
            raise ValueError(f"chunk {number} ({kind}) says it has {length} bytes, which are not there")
        body = view[position + 8 : position + 8 + length]
        end = position + 12 + length
        if zlib.crc32(body, zlib.crc32(name)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ValueError(f"chunk {number} ({kind}) has a wrong checksum")
        yield Chunk(kind, body, end)
        if kind == "IEND":
            return
        position = end
    raise ValueError(f"it has more than {CHUNKS_MAX} chunks")


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels, as the head of a PNG says.

    Raises:
        ValueError: no PNG, or without a head.
    """
    head = next(png_chunks(data))
    if head.kind != "IHDR" or len(head.data) != 13:
        raise ValueError("its first chunk is no head (IHDR)")
    width, height = struct.unpack_from(">II", head.data)
    return width, height


def from_base64(text: bytes) -> bytes:
    """What a text chunk holds. White space and missing padding are forgiven, everything else is not.

    Raises:
        ValueError: not base64.
    """
    packed = b"".join(text.split()).rstrip(b"=")
    return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)


def pixels(picture: bytes) -> Image:
    """The pixels of a PNG, without anything else that it holds.

    Raises:
        CardError: it cannot be read, or has too many.
    """
    from PIL import Image

    try:
        width, height = png_size(picture)
        if width * height > PICTURE_PIXELS_MAX:
            problem = f"has {width} × {height} pixels, more than {PICTURE_PIXELS_MAX // 10**6} million"
            raise CardError("picture", f"{problem}; make it smaller")
        with Image.open(io.BytesIO(picture), formats=("PNG",)) as opened:
            kept = opened.convert("RGBA" if opened.has_transparency_data else "RGB")
    # Pillow lets decoders raise what they like on broken data.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError) as fault:
        raise CardError("picture", f"is no readable PNG ({fault}); save it as PNG again") from fault
    kept.info.clear()
    return kept


def bare(picture: bytes) -> bytes:
    """A PNG of the pixels of a PNG and nothing else.

    Raises:
        CardError: as `pixels`.
    """
    file = io.BytesIO()
    pixels(picture).save(file, "PNG")
    return file.getvalue()


def check_png(data: bytes) -> tuple[Problem, ...]:
    """Rules 10 to 12 for the bytes of a PNG card: how it carries its documents, and what else it carries.

    The documents in it are checked by `check_card`, each on its own.
    """
    chunks: list[Chunk] = []
    try:
        chunks.extend(png_chunks(data))
    except ValueError as fault:
        return (error(10, "png", str(fault), "write the file again"),)
    return (*_check_chunks(chunks, len(data)), *_check_copies(chunks), *_check_portrait(data))


def _check_chunks(chunks: list[Chunk], size: int) -> Iterator[Problem]:
    if chunks[-1].end != size:
        yield error(10, "png", f"{size - chunks[-1].end} bytes stand after IEND", "cut them off")
    kinds = [chunk.kind for chunk in chunks]
    pixels_at = kinds.index("IDAT") if "IDAT" in kinds else len(kinds)
    keywords = [chunk.keyword for chunk in chunks if chunk.kind in _TEXT_CHUNKS]
    of_cards = [keyword for keyword in keywords if keyword.lower() in KEYWORDS]
    if not keywords[:2] == of_cards == list(KEYWORDS):
        found = ", ".join(map(shown, keywords[:4])) or "none"
        yield error(10, "png", f"its text chunks are {found}", "write chara first, then ccv3, once each")
    for index, chunk in enumerate(chunks):
        if chunk.keyword.lower() in KEYWORDS:
            if chunk.kind != "tEXt":
                yield error(10, f"png.{chunk.keyword}", f"is a {chunk.kind} chunk", "write it as tEXt")
            if index > pixels_at:
                yield error(10, f"png.{chunk.keyword}", "stands after the pixels", "write it before IDAT")
        elif chunk.kind not in _PIXEL_CHUNKS:
            keyword = f" with the keyword {shown(chunk.keyword)}" if chunk.keyword else ""
            reason = f"is a chunk{keyword} that can tell where or how the picture was made"
            yield warning(11, f"png.{chunk.kind}", reason, "write the picture from its pixels alone")


def _check_copies(chunks: list[Chunk]) -> Iterator[Problem]:
    copies: dict[str, JsonObject] = {}
    for chunk in chunks:
        spec = KEYWORDS.get(chunk.keyword)
        if spec and chunk.kind == "tEXt":
            document, fault = _document(chunk.text)
            if document is None:
                yield error(10, f"png.{chunk.keyword}", fault, "write the card again")
            elif document.get("spec") != spec:
                found = shown(document.get("spec"))
                yield error(10, f"png.{chunk.keyword}", f"holds spec {found}", f"write {spec}")
            else:
                copies[spec] = document
    if len(copies) == 2 and all(isinstance(copy.get("data"), dict) for copy in copies.values()):
        yield from _compare(copies[V2]["data"], card_format.to_backfill(copies[V3])["data"])


def _document(text: bytes) -> tuple[JsonObject | None, str]:
    if len(text) % 4 or not re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", text):
        return None, "is not plain base64"
    try:
        document = card_format.plain(card_format.from_bytes(from_base64(text)))
    except ValueError as fault:
        return None, f"holds no JSON ({fault})"
    return (document, "") if isinstance(document, dict) else (None, "holds no JSON object")


def _compare(v2: JsonObject, expected: JsonObject) -> Iterator[Problem]:
    if card_format.LOADED_AS_V2 not in str(v2.get("creator_notes")):
        reason = "does not say that it is the V2 copy of a V3 card"
        yield warning(24, "png.chara data.creator_notes", reason, "end it with that sentence")
        expected = expected | {"creator_notes": v2.get("creator_notes")}
    for field in sorted(expected.keys() | v2.keys()):
        if v2.get(field) != expected.get(field):
            reason = "is not the same in chara and ccv3"
            yield error(10, f"png.chara data.{field}", reason, "write both from one card")


def _check_portrait(data: bytes) -> Iterator[Problem]:
    try:
        width, height = png_size(data)
    except ValueError as fault:
        yield error(10, "png", str(fault), "write the file again")
        return
    in_range = WIDTHS[0] <= width <= WIDTHS[1] and HEIGHTS[0] <= height <= HEIGHTS[1]
    if not in_range or abs(3 * width / (2 * height) - 1) > _RATIO_TOLERANCE:
        mend = "make it 2:3, from 512 × 768 to 1200 × 1800"
        yield warning(12, "png", f"is {width} × {height} pixels", mend)
    if len(data) > BYTES_MAX:
        yield warning(12, "png", f"has {len(data)} bytes", f"make it smaller than {BYTES_MAX} bytes")
