"""CHARX: a zip with the card as `card.json` and its pictures under `assets/`, read in memory and written.

Source: the V3 specification, "CHARX"; addresses inside are spelled `embeded://`, with one d. Nothing is ever unpacked to
disk, and a file that could do harm if somebody did is refused. Files are stored, not packed: pictures are packed already,
and the same card is the same bytes whatever library packs here.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from typing import Any

from personalab import card_format
from personalab.card_format import JSON_BYTES_MAX
from personalab.card_structure import Problem, error
from personalab.records import JsonObject

SIGNATURE = b"PK\x03\x04"
SCHEME = "embeded://"
CARD = "card.json"
MAIN_ICON = "assets/icon/images/main.png"
FILES_MAX = 2_000
"""Files of a CHARX that are looked at, at most."""
ASSETS_BYTES_MAX = 64 * 1024**2
"""Bytes of all assets together, unpacked."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_IN_DIRECTORY = b"PK\x01\x02"
_ENCRYPTED = 0x1
_EPOCH = (1980, 1, 1, 0, 0, 0)
_HARMFUL = re.compile(r"\A[/\\]|\A[A-Za-z]:|\\|[\x00-\x1f]|(?:\A|/)\.\.(?:/|\Z)")
_FILE_MODE = 0o100644 << 16
# What zipfile raises on damaged files; NotImplementedError is a method that it does not know.
_DAMAGED = (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, IndexError)


def card_in(content: bytes) -> bytes:
    """The JSON of the card in a CHARX.

    Raises:
        ValueError: damaged, encrypted, with names that lead out of it, too many files, or a card that is missing or too large.
    """
    with _opened(content) as archive:
        if CARD not in archive.namelist():
            raise ValueError(f"holds no {CARD} at its root, so it is no CHARX")
        return _unpacked(archive, archive.getinfo(CARD), JSON_BYTES_MAX)


def assets_in(content: bytes) -> dict[str, bytes]:
    """The files under `assets/` of a CHARX by their paths.

    Raises:
        ValueError: as `card_in`, or more than `ASSETS_BYTES_MAX` bytes in all.
    """
    found: dict[str, bytes] = {}
    left = ASSETS_BYTES_MAX
    with _opened(content) as archive:
        for info in archive.infolist():
            if info.filename.startswith("assets/") and not info.is_dir():
                found[info.filename] = _unpacked(archive, info, left)
                left -= len(found[info.filename])
    return found


def check_charx(content: bytes) -> tuple[Problem, ...]:
    """Rule 8 for a CHARX: whatever the card names as embedded is there. The document in it is checked by `check_card`."""
    try:
        document, assets = card_format.from_bytes(card_in(content)), assets_in(content)
    except ValueError as fault:
        return (error(8, "charx", str(fault), "write the file again"),)
    return tuple(
        error(
            8,
            f"charx data.assets[{index}]",
            f"names {path[:60]!a}, which is not in it",
            "add it or drop the asset",
        )
        for index, asset in enumerate(_listed(document))
        if (path := _path(asset)) is not None and path not in assets
    )


def pack(document: JsonObject, assets: Mapping[str, bytes]) -> bytes:
    """A CHARX of a V3 document and its assets by path: the same bytes for the same content.

    Raises:
        ValueError: the path of an asset is no ASCII path below `assets/`; UnicodeEncodeError: half of a surrogate pair.
    """
    for path in assets:
        if not re.fullmatch(r"assets/[\x21-\x7e]+", path) or _HARMFUL.search(path):
            raise ValueError(f"{path!r} is no ASCII path below assets/")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for path, content in ((CARD, card_format.to_bytes(document, indent=1)), *sorted(assets.items())):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.create_system = 3  # the same on every system
            info.external_attr = _FILE_MODE
            archive.writestr(info, content)
    return file.getvalue()


def with_assets(document: JsonObject, assets: Mapping[str, bytes], *, icon: bool) -> JsonObject:
    """A V3 document that names what stands beside it: with `icon` its main icon, and no address that leads nowhere.

    Front ends refuse a whole file for one picture that is missing.
    """
    data = document["data"]
    kept = [asset for asset in _listed(document) if _leads_somewhere(asset, assets)]
    if icon:
        main = {"type": "icon", "uri": SCHEME + MAIN_ICON, "name": "main", "ext": "png"}
        kept = [main, *(asset for asset in kept if not _is_main_icon(asset))]
    if not kept and not data.get("assets"):
        return document
    return {**document, "data": {**data, "assets": kept}}


def main_icon(document: JsonObject, assets: Mapping[str, bytes]) -> bytes | None:
    """The picture of the character among the assets of a CHARX; None where there is none."""
    icons = [asset for asset in _listed(document) if _is_icon(asset)]
    for asset in sorted(icons, key=lambda asset: asset.get("name") != "main"):
        if found := assets.get(_path(asset) or ""):
            return found
    return None


def _opened(content: bytes) -> zipfile.ZipFile:
    if content.count(_IN_DIRECTORY) > FILES_MAX:  # before a list of them takes memory
        raise ValueError(f"holds more than {FILES_MAX} files")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        infos = archive.infolist()
    except _DAMAGED as error:
        raise ValueError(f"is a damaged zip ({error})") from error
    names = [info.filename for info in infos]
    for info in infos:
        if _HARMFUL.search(info.orig_filename):
            raise ValueError(f"holds a file {info.orig_filename[:60]!a}, a path that leads out of it")
        if info.flag_bits & _ENCRYPTED:
            raise ValueError("is encrypted")
        if info.compress_type not in _METHODS:
            raise ValueError("is packed by a method that CHARX does not use")
    if len(set(names)) < len(names):  # readers differ in which of the two they take
        raise ValueError("holds two files of one name")
    return archive


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """A file of the archive. What its head says of its size is not believed: no more than the limit is ever unpacked."""
    try:
        with archive.open(info) as file:
            content = file.read(limit + 1)
    except _DAMAGED as error:
        raise ValueError(f"is a damaged zip ({info.filename}: {error})") from error
    if len(content) > limit:
        raise ValueError(f"holds more than {limit // 1024**2} MiB in {info.filename}, which no card needs")
    return content


def _listed(document: Any) -> list[Any]:
    """The assets that a document names."""
    data = document.get("data") if isinstance(document, dict) else None
    listed = data.get("assets") if isinstance(data, dict) else None
    return listed if isinstance(listed, list) else []


def _is_icon(asset: Any) -> bool:
    return isinstance(asset, dict) and asset.get("type") == "icon"


def _is_main_icon(asset: Any) -> bool:
    return _is_icon(asset) and asset.get("name") == "main"


def _path(asset: Any) -> str | None:
    """Where an asset lies in the zip; None for one that lies elsewhere."""
    uri = asset.get("uri") if isinstance(asset, dict) else None
    return uri.removeprefix(SCHEME) if isinstance(uri, str) and uri.startswith(SCHEME) else None


def _leads_somewhere(asset: Any, assets: Mapping[str, bytes]) -> bool:
    path = _path(asset)
    return path is None or path in assets
