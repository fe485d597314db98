"""What anybody can see in a picture: its colours, how bright it is, its size, and a hash that tells it from others.

Images are hostile: only data addresses are opened, the size is checked before anything is decoded, and each picture is
decoded once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from personalab.images import BROKEN_IMAGE
from personalab.offline.wire import ApiError

PIXELS_MAX = 32_000_000
SEEN_MAX = 512
COLOURS = 4

_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
_SIDE = 48
_LOCK = threading.Lock()
_SEEN: OrderedDict[bytes, Seen] = OrderedDict()


@dataclass(frozen=True)
class Seen:
    """A picture as it is seen. `colours` are ids of palette.json, most frequent first; `brightness` is in 0–1."""

    sha256: str
    width: int
    height: int
    brightness: float
    colours: tuple[str, ...]


def look(address: str) -> Seen:
    """What is in the picture at a data address.

    Raises:
        ApiError: 400, not a data address, not an image, damaged, or too large.
    """
    key = hashlib.sha256(address.encode(errors="replace")).digest()
    with _LOCK:
        if key in _SEEN:
            _SEEN.move_to_end(key)
            return _SEEN[key]
    seen = _decode(_bytes(address))
    with _LOCK:
        _SEEN[key] = seen
        while len(_SEEN) > SEEN_MAX:
            _SEEN.popitem(last=False)
    return seen


@cache
def palette() -> dict[str, tuple[int, int, int]]:
    """Red, green and blue of each named colour."""
    data = json.loads((Path(__file__).parent / "palette.json").read_text(encoding="utf-8"))
    return {name: (red, green, blue) for name, (red, green, blue) in data.items()}


def _bytes(address: str) -> bytes:
    head, comma, data = address.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise _refused("the offline provider fetches nothing: send the image as a data:…;base64, address")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused("the base64 data of the image is damaged") from error


def _decode(data: bytes) -> Seen:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                return _seen(image)
    except BROKEN_IMAGE as error:
        formats = "['png', 'jpeg', 'gif', 'webp']"
        raise _refused(
            f"You uploaded an unsupported image. Please make sure your image is valid, one of {formats}"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large() from error


def _seen(image: Any) -> Seen:
    width, height = image.size
    if width * height > PIXELS_MAX:
        raise _too_large()
    image.draft("RGB", (4 * _SIDE, 4 * _SIDE))
    plain = image.convert("RGB")
    digest = hashlib.sha256(f"{width} {height} ".encode() + plain.tobytes()).hexdigest()
    small = plain.reduce(max(1, min(width, height) // (4 * _SIDE))).resize((_SIDE, _SIDE))
    pixels = list(small.get_flattened_data() if hasattr(small, "get_flattened_data") else small.getdata())
    light = sum(299 * red + 587 * green + 114 * blue for red, green, blue in pixels) / (255_000 * len(pixels))
    return Seen(digest, width, height, round(light, 3), _named(pixels))


def _named(pixels: Iterable[tuple[int, int, int]]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    for red, green, blue in pixels:
        name = _nearest(red >> 3, green >> 3, blue >> 3)
        counts[name] = counts.get(name, 0) + 1
    return tuple(sorted(counts, key=lambda name: (-counts[name], name))[:COLOURS])


@cache
def _nearest(red: int, green: int, blue: int) -> str:
    """The colour nearest to one given in steps of eight, by the weighted distance known as redmean."""
    r, g, b = red * 8 + 4, green * 8 + 4, blue * 8 + 4

    def distance(name: str) -> float:
        red2, green2, blue2 = palette()[name]
        mean = (r + red2) / 2
        return (
            (2 + mean / 256) * (r - red2) ** 2
            + 4 * (g - green2) ** 2
            + (2 + (255 - mean) / 256) * (b - blue2) ** 2
        )

    return min(palette(), key=distance)


def _refused(problem: str) -> ApiError:
    return ApiError(400, problem, param="messages", code="invalid_image_format")


def _too_large() -> ApiError:
    return _refused(f"the image has more than {PIXELS_MAX // 1_000_000} million pixels; make it smaller")
