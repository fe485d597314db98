"""CHARX, and lorebooks on their own: written, read again, refused where they could do harm."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sample_cards import LANGUAGES, card_data, document, picture

from personalab.card_checks import check_card, check_carrier
from personalab.cards import CharacterCard, read_assets, read_card, read_picture
from personalab.charx import CARD, FILES_MAX, MAIN_ICON
from personalab.errors import CardError, ConfigError


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of files by name, in this order."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return file.getvalue()


def card_json(**assets: Any) -> bytes:
    """A good card.json; `assets` replaces its assets."""
    held = document()
    held["data"] |= assets
    return json.dumps(held).encode()


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_charx_is_read_as_it_was_written(language: str) -> None:
    """Card and portrait come back, no rule objects, and the main icon is spelled as the specification has it."""
    card = CharacterCard.from_data(card_data(language))
    written = card.to_charx(picture(16, 24))
    again = read_card(written)
    assert again.data == card.v3()["data"] | {
        "assets": [
            {"type": "icon", "uri": "embeded://assets/icon/images/main.png", "name": "main", "ext": "png"}
        ]
    }
    assert check_card(again.document) == ()
    with (
        Image.open(io.BytesIO(read_picture(written) or b"")) as icon,
        Image.open(io.BytesIO(picture(16, 24))) as was,
    ):
        assert icon.tobytes() == was.tobytes()
        assert icon.info == {}
    assert read_card(card.to_charx()) == card
    assert again.to_charx(picture(16, 24)) == written


def test_a_charx_is_a_plain_zip() -> None:
    """Stored files, the card first, and the same bytes in another process at another time."""
    code = (
        "import hashlib; from sample_cards import *; from personalab.cards import CharacterCard as C;"
        "print(hashlib.sha256(C.from_data(card_data()).to_charx(picture())).hexdigest())"
    )
    folders = f"{Path(__file__).parent}:{Path(__file__).parents[1]}"
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONPATH": folders, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1
    with zipfile.ZipFile(io.BytesIO(CharacterCard.from_data(card_data()).to_charx(picture()))) as archive:
        assert archive.namelist() == [CARD, MAIN_ICON]
        assert archive.testzip() is None
        assert {(info.compress_type, info.date_time[:3]) for info in archive.infolist()} == {
            (zipfile.ZIP_STORED, (1980, 1, 1))
        }


def test_assets_of_others_are_kept() -> None:
    """A CHARX of somebody else's goes through with all that is in it; what it names and does not hold is left out."""
    listed = [
        {"type": "icon", "uri": "embeded://assets/icon/images/a.webp", "name": "main", "ext": "webp"},
        {"type": "emotion", "uri": "embeded://assets/emotion/images/joy.png", "name": "joy", "ext": "png"},
        {"type": "emotion", "uri": "embeded://assets/emotion/images/lost.png", "name": "lost", "ext": "png"},
        {"type": "background", "uri": "https://example.org/b.png", "name": "main", "ext": "png"},
    ]
    joy = ("assets/emotion/images/joy.png", b"joy")
    theirs = zipped(
        (CARD, card_json(assets=listed)), ("assets/icon/images/a.webp", b"webp"), joy, ("module.json", b"{}")
    )
    assert read_picture(theirs) == b"webp"
    again = read_card(theirs).to_charx(None, read_assets(theirs))
    assert read_assets(again) == {"assets/icon/images/a.webp": b"webp", joy[0]: joy[1]}
    assert read_card(again).data["assets"] == [listed[0], listed[1], listed[3]]
    ours = read_card(read_card(theirs).to_charx(picture(), read_assets(theirs)))
    assert [asset["name"] for asset in ours.data["assets"]] == ["main", "joy", "main"]


def test_a_picture_that_is_missing_is_a_problem() -> None:
    """`personalab card` names what a CHARX promises and does not hold; front ends refuse the whole file for it."""
    lost = [{"type": "icon", "uri": "embeded://assets/icon/images/Main.png", "name": "main", "ext": "png"}]
    written = zipped((CARD, card_json(assets=lost)), (MAIN_ICON, picture()))
    (problem,) = check_carrier(written)
    assert (problem.check, problem.path) == (8, "charx data.assets[0]")
    assert check_carrier(CharacterCard.from_data(card_data()).to_charx(picture())) == ()
    assert [each.check for each in check_carrier(b"PK\x03\x04")] == [8]


@pytest.mark.parametrize(
    "name",
    ["../card.json", "/etc/passwd", "assets/../../x", "C:/x", "assets\\x", "..", "assets/..", "a\x01b"],
)
def test_names_that_lead_out_are_refused(name: str) -> None:
    """Nothing is ever unpacked here, but the next reader may do it."""
    with pytest.raises(CardError, match="leads out of it"):
        read_card(zipped((CARD, card_json()), (name, b"x")))


def test_bombs_are_refused() -> None:
    """A card or assets that grow too large are not unpacked further, whatever the head of the zip says."""
    huge = zipped((CARD, b" " * (17 << 20)))
    assert len(huge) < 1 << 16
    with pytest.raises(CardError, match=r"more than 16 MiB in card\.json"):
        read_card(huge)
    larger = zipped((CARD, b" " * (1 << 27)))
    tracemalloc.start()
    with pytest.raises(CardError, match="more than 16 MiB"):
        read_card(larger)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 26
    small = struct.pack("<L", 10)
    lying = huge.replace(struct.pack("<L", 17 << 20), small)
    with pytest.raises(CardError, match=r"damaged zip|more than"):
        read_card(lying)
    many = zipped((CARD, card_json()), *((f"assets/{number}", b" " * (40 << 20)) for number in range(2)))
    with pytest.raises(CardError, match="MiB in assets/1"):
        read_assets(many)
    assert read_card(many).name == "Moira Kettley"


def encrypted() -> bytes:
    """A CHARX that says it is encrypted."""
    plain = bytearray(zipped((CARD, card_json())))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        plain[plain.index(mark) + at] |= 1
    return bytes(plain)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lambda: zipped(("other.json", card_json())), "holds no card.json at its root"),
        (lambda: zipped(("sub/card.json", card_json())), "holds no card.json at its root"),
        (encrypted, ": is encrypted;"),
        (lambda: zipped((CARD, card_json()), method=zipfile.ZIP_LZMA), "a method that CHARX does not use"),
        (lambda: zipped((CARD, card_json()))[:200], "is a damaged zip"),
        (lambda: zipped((CARD, b"{")), "cannot be read as JSON"),
        (lambda: zipped((CARD, b"[]")), "is no character card"),
        (lambda: zipped(*((str(number), b"") for number in range(FILES_MAX + 1))), "more than 2000 files"),
        (lambda: b"PK\x03\x04" + b"\0" * 60, "is a damaged zip"),
    ],
)
def test_other_zips_are_refused(content: Any, problem: str) -> None:
    """Each with what is wrong, in one line."""
    with pytest.raises(CardError, match=problem) as refused:
        read_card(content())
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_cards_in_one_zip_are_refused() -> None:
    """Readers differ in which of the two they take."""
    with pytest.raises(CardError, match="two files of one name"):
        read_card(zipped((CARD, card_json()), (CARD, card_json())))


@given(st.binary(max_size=400), st.integers(0, 3000), st.integers(0, 255))
def test_damage_is_a_card_error(tail: bytes, place: int, value: int) -> None:
    """Whatever happens to the bytes: a card or a CardError."""
    whole = bytearray(CharacterCard.from_data(card_data()).to_charx())
    whole[place % len(whole)] = value
    for content in (bytes(whole), b"PK\x03\x04" + tail, bytes(whole[: place % len(whole) + 4])):
        try:
            read_card(content)
            read_picture(content)
        except CardError:
            pass


PATHS = st.from_regex(r"assets/[a-z]{1,8}/images/[a-z0-9_]{1,12}\.png", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    TEXTS,
    st.dictionaries(PATHS, st.binary(max_size=50), max_size=4),
    st.dictionaries(TEXTS, TEXTS, max_size=3),
)
def test_round_trip(description: str, assets: dict[str, bytes], extension: dict[str, str]) -> None:
    """Any card and any assets come back as they were."""
    card = CharacterCard.from_data(card_data() | {"description": description, "extensions": {"x": extension}})
    written = card.to_charx(None, assets)
    assert read_card(written) == card
    assert read_assets(written) == assets


@pytest.mark.parametrize("path", ["card.json", "assets/../x", "assets/ä.png", "assets/a b"])
def test_paths_of_assets_are_checked(path: str) -> None:
    """Only ASCII paths below assets/ are written."""
    with pytest.raises(CardError, match="no ASCII path below assets/"):
        CharacterCard.from_data(card_data()).to_charx(None, {path: b""})


def test_save_by_ending(tmp_path: Path) -> None:
    """The ending says the form; each can be read again."""
    card = CharacterCard.from_data(card_data())
    for name in ("a.json", "a.png", "a.CHARX"):
        assert read_card(card.save(tmp_path / name, picture())).name == card.name
    with pytest.raises(ConfigError, match="needs a picture"):
        card.save(tmp_path / "b.png")
    with pytest.raises(ConfigError, match="end it in"):
        card.save(tmp_path / "b.yaml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.CHARX", "a.json", "a.png"]


# Lorebooks on their own


def test_lorebook_v3() -> None:
    """The book as it is in the card, with what V3 requires."""
    card = CharacterCard(document=document("chara_card_v2"))
    alone = card.lorebook()
    assert alone["spec"] == "lorebook_v3"
    assert set(alone) == {"spec", "data"}
    assert alone["data"] == document("chara_card_v3")["data"]["character_book"]
    assert card.document == document("chara_card_v2")
    with pytest.raises(CardError, match="has no lorebook"):
        CharacterCard(document={"spec": "chara_card_v3", "data": {"name": "x"}}).lorebook()


def test_world_info() -> None:
    """Entries by their number, in SillyTavern's words."""
    world = CharacterCard.from_data(card_data()).world_info()
    assert list(world["entries"]) == ["0", "1"]
    first = world["entries"]["0"]
    theirs = {"uid": 0, "key": ["ledger", "logbook"], "comment": "The ledger", "disable": False, "position": 0,
              "order": 100, "excludeRecursion": True, "caseSensitive": False, "depth": 4}  # fmt: skip
    assert {name: first[name] for name in theirs} == theirs
    assert world["originalData"] == card_data()["character_book"]


def test_world_info_takes_what_front_ends_keep_in_extensions() -> None:
    """Their own fields come out of the entry's extensions, under their own names."""
    kept = {"position": 4, "depth": 2, "role": 1, "exclude_recursion": True, "scan_depth": 3, "case_sensitive": True,
            "useProbability": False, "selectiveLogic": 2, "match_whole_words": False, "group_override": True}  # fmt: skip
    data = card_data()
    data["character_book"]["entries"][0] |= {"extensions": kept, "enabled": False, "case_sensitive": False}
    first = CharacterCard.from_data(data).world_info()["entries"]["0"]
    theirs = {"position": 4, "depth": 2, "role": 1, "excludeRecursion": True, "scanDepth": 3, "caseSensitive": True,
              "useProbability": False, "selectiveLogic": 2, "matchWholeWords": False, "groupOverride": True,
              "disable": True, "extensions": kept}  # fmt: skip
    assert {name: first[name] for name in theirs} == theirs


@given(st.lists(st.none() | st.integers(0, 3) | st.sampled_from(["a", "0"]), max_size=5))
def test_world_info_loses_no_entry(ids: list[int | str | None]) -> None:
    """Entries of one id, or without, all stay: they are numbered by their places then."""
    listed = [
        {"keys": [f"k{place}"], "content": "x"} | ({} if number is None else {"id": number})
        for place, number in enumerate(ids)
    ]
    card = CharacterCard(
        document={"spec": "chara_card_v3", "data": {"name": "x", "character_book": {"entries": listed}}}
    )
    entries = card.world_info()["entries"]
    assert sorted(one["key"][0] for one in entries.values()) == [f"k{place}" for place in range(len(ids))]
    assert [str(one["uid"]) for one in entries.values()] == list(entries)
