import base64
import contextlib
import copy
import io
import json
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sample_cards import LANGUAGES, card_data, document, picture

from personalab import card_format
from personalab.card_checks import check_card, check_png
from personalab.cards import FILE_BYTES_MAX, CharacterCard, read_card
from personalab.errors import CardError, ConfigError

V1 = {
    "name": "Moira",
    "description": "a lock keeper",
    "personality": "dry",
    "scenario": "dusk",
    "first_mes": "Late.",
    "mes_example": "",
}
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def packed(value: Any) -> bytes:
    """JSON as it stands in a text chunk."""
    return base64.b64encode(json.dumps(value).encode())


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text_chunk(keyword: bytes, text: bytes, kind: bytes = b"tEXt") -> bytes:
    """A text chunk of a PNG."""
    return chunk(kind, keyword + b"\0" + text)


def png_with(*chunks: bytes, after_pixels: bool = False) -> bytes:
    """A picture with chunks before or after its pixels."""
    plain = picture()
    cut = len(plain) - 12 if after_pixels else 33
    return plain[:cut] + b"".join(chunks) + plain[cut:]


def texts_of(png: bytes) -> dict[str, Any]:
    """The documents of a PNG as Pillow finds them, before it has read a pixel."""
    with Image.open(io.BytesIO(png)) as image:
        return {keyword: json.loads(base64.b64decode(text)) for keyword, text in image.info.items()}


# Writing


@pytest.mark.parametrize("language", LANGUAGES)
def test_written_json_is_a_valid_v2_card(language: str) -> None:
    """A JSON file is UTF-8 without BOM, ends with a line end, and holds a V2 card that no rule objects to."""
    written = CharacterCard.from_data(card_data(language)).to_json()
    assert written.startswith(b"{\n")
    assert written.endswith(b"}\n")
    assert json.loads(written) == document("chara_card_v2", language)
    assert check_card(json.loads(written)) == ()


@pytest.mark.parametrize("language", LANGUAGES)
def test_written_png_holds_both_versions(language: str) -> None:
    """A PNG holds V2 and V3 before its pixels, agrees with itself, and Pillow reads the same."""
    card = CharacterCard.from_data(card_data(language))
    png = card.to_png(picture(512, 768))
    assert check_png(png) == ()
    texts = texts_of(png)
    assert list(texts) == ["chara", "ccv3"]
    assert texts["ccv3"] == document("chara_card_v3", language)
    assert texts["chara"]["data"]["creator_notes"].endswith(card_format.LOADED_AS_V2)
    assert check_card(texts["chara"]) == check_card(texts["ccv3"]) == ()
    assert read_card(png) == card


def test_png_keeps_pixels_and_nothing_else() -> None:
    """Size and colours of the picture stay; its text, EXIF, time, profile and gamma go."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("prompt", "secret workflow")
    info.add_itxt("Comment", "taken at home")
    info.add(b"tIME", b"\x07\xea\x01\x01\x00\x00\x00")
    exif = Image.Exif()
    exif[271] = "camera"
    source = picture(pnginfo=info, exif=exif, icc_profile=b"profile", dpi=(72, 72))
    assert {b"tEXt", b"iTXt", b"tIME", b"eXIf", b"iCCP"} <= set(kinds(source))
    written = CharacterCard.from_data(card_data()).to_png(source)
    assert kinds(written) == [b"IHDR", b"tEXt", b"tEXt", b"IDAT", b"IEND"]
    with Image.open(io.BytesIO(source)) as before, Image.open(io.BytesIO(written)) as after:
        assert before.size == after.size
        assert before.tobytes() == after.tobytes()


def kinds(png: bytes) -> list[bytes]:
    """The types of a PNG's chunks."""
    found, position = [], 8
    while position < len(png):
        found.append(png[position + 4 : position + 8])
        position += struct.unpack_from(">I", png, position)[0] + 12
    return found


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "LA"])
def test_png_takes_every_mode(mode: str) -> None:
    """A picture of any mode keeps its look, transparency included."""
    with Image.open(io.BytesIO(picture())) as image:
        file = io.BytesIO()
        clear = {"transparency": 0} if mode in ("P", "L") else {}
        if mode in ("RGBA", "LA"):
            image.putalpha(image.convert("L"))
        image.convert(mode).save(file, "PNG", **clear)
    written = CharacterCard.from_data(card_data()).to_png(file.getvalue())
    with Image.open(file) as before, Image.open(io.BytesIO(written)) as after:
        assert before.convert("RGBA").tobytes() == after.convert("RGBA").tobytes()


def test_writing_is_deterministic() -> None:
    """The same persona is the same bytes, in another process with another hash seed, at another time."""
    code = (
        "import hashlib; from sample_cards import *; from personalab.cards import CharacterCard as C;"
        "c = C.from_data(card_data()); print(hashlib.sha256(c.to_json() + c.to_png(picture())).hexdigest())"
    )
    folders = f"{Path(__file__).parent}:{Path(__file__).parents[1]}"

    def digest(seed: str) -> bytes:
        environment = {"PYTHONPATH": folders, "PYTHONHASHSEED": seed}
        return subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=True
        ).stdout

    assert digest("1") == digest("2")
    assert "date" not in json.dumps(CharacterCard.from_data(card_data()).v3())


def test_key_order_is_canonical() -> None:
    """However the fields were given, they are written in the order of the specification."""
    data = card_data()
    backwards = dict(reversed(data.items()))
    assert CharacterCard.from_data(backwards).to_json() == CharacterCard.from_data(data).to_json()
    assert list(CharacterCard.from_data(backwards).v2()["data"])[:3] == ["name", "description", "personality"]


def test_from_data_completes_but_never_invents_fields() -> None:
    """Missing required fields are empty, an unknown field outside extensions is refused."""
    card = CharacterCard.from_data({"name": "Moira"})
    assert card.v3()["data"]["group_only_greetings"] == []
    assert card.v3()["data"]["extensions"] == {}
    assert "character_book" not in card.v3()["data"]
    with pytest.raises(CardError, match=r"tweets.*extensions"):
        CharacterCard.from_data({"name": "Moira", "tweets": []})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, object(), b"bytes", {1: "key"}])
def test_what_is_not_json_is_refused(value: Any) -> None:
    """NaN, sets, bytes and keys that are no text never get into a card."""
    with pytest.raises(CardError, match="is not JSON"):
        CharacterCard.from_data({"name": "Moira", "extensions": {"personalab": value}})


def test_half_an_emoji_is_not_written() -> None:
    """A lone surrogate is refused at writing with a card error, not a crash of the encoder."""
    card = CharacterCard.from_data(card_data() | {"scenario": "cut \ud83d"})
    for write in (card.to_json, lambda: card.to_png(picture())):
        with pytest.raises(CardError, match="surrogate"):
            write()


def test_cards_are_values() -> None:
    """Two cards of the same content are equal; changing what they were made of does not change them."""
    data = card_data()
    card = CharacterCard.from_data(data)
    data["tags"].append("later")
    data["extensions"]["personalab"]["age"] = 17
    assert card == CharacterCard.from_data(card_data())
    card.v3()["data"]["tags"].append("later")
    card.v2()["data"]["character_book"]["entries"].clear()
    assert card == CharacterCard.from_data(card_data())


@pytest.mark.parametrize("broken", [b"", b"no picture", SIGNATURE, picture()[:50], picture()[:-40]])
def test_broken_picture_is_a_card_error(broken: bytes) -> None:
    """A picture that cannot be decoded is named as such."""
    with pytest.raises(CardError, match="picture"):
        CharacterCard.from_data(card_data()).to_png(broken)


def test_picture_bomb_is_refused_before_decoding() -> None:
    """A head that announces a huge picture is enough to refuse it."""
    bomb = (
        SIGNATURE
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(CardError, match="60000 × 60000"):
        CharacterCard.from_data(card_data()).to_png(bomb)


# Versions


def v3_only() -> dict[str, Any]:
    """A V3 document with everything that V2 does not know."""
    full = document()
    full["data"] |= {
        "group_only_greetings": ["all of you?"],
        "assets": [{"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"}],
        "nickname": "Mo",
        "creator_notes_multilingual": {"es": "Ficción"},
        "source": ["https://example.com/1"],
        "creation_date": 1,
        "modification_date": 2,
    }
    entry = full["data"]["character_book"]["entries"][0]
    entry["content"] = "@@depth 4\n@@@scan_depth 2\n" + entry["content"]
    return full


def test_v2_copy_loses_the_documented_list_and_no_more() -> None:
    """V3 → V2 → V3 loses the V3 fields, `use_regex` and decorators; everything else comes back equal."""
    full = v3_only()
    back = CharacterCard(document=CharacterCard(document=full).v2()).v3()
    for field in card_format.V3_DATA_FIELDS:
        full["data"].pop(field)
    full["data"]["group_only_greetings"] = []
    full["data"]["character_book"] = document()["data"]["character_book"]
    assert back == full
    assert set(card_format.V3_DATA_FIELDS) == set(v3_only()["data"]) - set(document("chara_card_v2")["data"])


def test_v2_copy_is_valid_v2() -> None:
    """The V2 copy of a card with all V3 features passes the strict V2 check."""
    full = v3_only()
    full["data"]["group_only_greetings"] = []
    assert check_card(full) == ()
    assert check_card(CharacterCard(document=full).v2()) == ()


@pytest.mark.parametrize(
    ("content", "bare"),
    [
        ("@@depth 4\nShe keeps bees.", "She keeps bees."),
        ("@@depth 4\n@@@scan_depth 2\n\n@@role user\nBees.\n@@not at the top", "Bees.\n@@not at the top"),
        ("@@activate", ""),
        ("an @@address in text", "an @@address in text"),
        ("@@ no name\ntext", "@@ no name\ntext"),
    ],
)
def test_decorators_are_removed(content: str, bare: str) -> None:
    """Only decorator lines at the top go, fallback lines with them."""
    assert card_format.without_decorators(content) == bare


def test_v2_keeps_unknown_fields_that_v3_would_know() -> None:
    """A V2 card with a field of V3's name keeps it as V2: it is somebody's own there."""
    foreign = document("chara_card_v2")
    foreign["data"]["nickname"] = "Mo"
    assert CharacterCard(document=foreign).v2() == foreign


def test_notice_is_added_once() -> None:
    """A V2 copy that already says that it is one does not say it twice."""
    backfill = card_format.to_backfill(document())
    assert card_format.to_backfill(backfill) == backfill


# Reading


def test_ccv3_wins_over_chara() -> None:
    """Of two copies the V3 one counts, in whatever order they stand."""
    old, new = document("chara_card_v2"), document()
    new["data"]["description"] = "newer"
    png = png_with(text_chunk(b"chara", packed(old)), text_chunk(b"ccv3", packed(new)))
    assert read_card(png).description == "newer"
    assert (
        read_card(png_with(text_chunk(b"ccv3", packed(new)), text_chunk(b"chara", packed(old)))).spec
        == "chara_card_v3"
    )


def test_first_of_two_copies_counts() -> None:
    """Of two chunks with one keyword the first is read, as front ends do."""
    other = document()
    other["data"]["description"] = "second"
    png = png_with(text_chunk(b"ccv3", packed(document())), text_chunk(b"ccv3", packed(other)))
    assert read_card(png).document == document()


@pytest.mark.parametrize("keyword", [b"chara", b"Chara", b"CHARA", b"CCv3"])
@pytest.mark.parametrize("after_pixels", [False, True])
def test_chunk_is_found(keyword: bytes, after_pixels: bool) -> None:
    """The keyword's case does not matter, nor does the place before or after the pixels."""
    png = png_with(
        text_chunk(b"other", b"x"), text_chunk(keyword, packed(document())), after_pixels=after_pixels
    )
    assert read_card(png).document == document()


def test_line_breaks_and_missing_padding_in_base64_are_forgiven() -> None:
    """Some writers break base64 into lines or leave the padding out."""
    text = packed(document())
    lines = b"\r\n".join(text[start : start + 76] for start in range(0, len(text), 76)).rstrip(b"=")
    assert read_card(png_with(text_chunk(b"chara", lines))).document == document()


def test_v1_becomes_v2_and_loses_nothing() -> None:
    """The six fields move under data, everything else stays where it stood, in JSON and in PNG."""
    foreign = {**V1, "create_date": "2023-1-1", "metadata": {"tool": {"deep": [None, 1.5]}}, "avatar": "none"}
    for source in (json.dumps(foreign).encode(), png_with(text_chunk(b"chara", packed(foreign)))):
        card = read_card(source)
        assert {field: card.data[field] for field in V1} == V1
        rest = {
            field: value
            for field, value in card.document.items()
            if field not in ("spec", "spec_version", "data")
        }
        assert rest == {field: value for field, value in foreign.items() if field not in V1}
        assert json.loads(card.to_json())["metadata"] == foreign["metadata"]


def test_wrong_types_are_held_for_the_check_to_name() -> None:
    """A card with numbers for text is read, kept as it is and shows empty fields."""
    foreign = document("chara_card_v2")
    foreign["data"] |= {
        "character_version": 1.2,
        "tags": None,
        "first_mes": 5,
        "extensions": [],
        "character_book": None,
    }
    card = read_card(json.dumps(foreign).encode())
    assert card.document == foreign
    assert (card.tags, card.first_mes, card.extensions, card.character_book) == ((), "", {}, None)
    assert {problem.path for problem in check_card(card.document) if problem.level == "error"} == {
        "data.character_version", "data.tags", "data.first_mes", "data.extensions", "data.character_book",
    }  # fmt: skip


def test_bom_is_forgiven(tmp_path: Path) -> None:
    """JSON with a byte order mark is read, from a path as text or as Path, and written without."""
    path = tmp_path / "карта.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(document()).encode())
    assert read_card(path) == read_card(str(path)) == CharacterCard(document=document())
    assert not read_card(path).to_json().startswith(b"\xef\xbb\xbf")


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "text": (b"once upon a time", "JSON"),
    "truncated json": (json.dumps(document()).encode()[:-20], "JSON"),
    "utf-16": (json.dumps(document()).encode("utf-16"), "UTF-8"),
    "latin-1": ('{"name": "Oñate", "first_mes": ""}'.encode("latin-1"), "UTF-8"),
    "nan": (b'{"spec": "chara_card_v2", "data": {"x": NaN}}', "NaN"),
    "infinity": (b'{"spec": "chara_card_v2", "data": {"x": 1e999}}', "inf"),
    "long integer": (b'{"spec": "chara_card_v2", "data": {"x": ' + b"1" * 9000 + b"}}", "JSON"),
    "key twice": (b'{"spec": "chara_card_v2", "data": {"name": "a", "name": "b"}}', "'name' stands twice"),
    "deep arrays": (
        b'{"spec": "chara_card_v2", "data": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        "nested",
    ),
    "deep objects": (b'{"spec": "chara_card_v2", "data": ' + b'{"a":' * 200 + b"1" + b"}" * 201, "nested"),
    "array": (b"[]", "list"),
    "null": (b"null", "NoneType"),
    "package": (b'{"name": "left-pad", "description": "pads", "version": "1"}', "spec"),
    "lorebook": (b'{"spec": "lorebook_v3", "data": {}}', "lorebook_v3"),
    "no spec": (b'{"data": {"name": "a"}}', "spec"),
    "data is text": (b'{"spec": "chara_card_v2", "data": "x"}', "data"),
    "spec is an array": (b'{"spec": ["chara_card_v2"], "data": {}}', "spec"),
    "zip": (b"PK\x03\x04rest", "damaged zip"),
    "jpeg": (b"\xff\xd8\xff\xe0rest", "JPEG"),
    "webp": (b"RIFF\0\0\0\0WEBP", "WEBP"),
    "gif": (b"GIF89a\xff\xff", "UTF-8"),
    "png without card": (picture(), "not in it"),
    "png of a signature": (SIGNATURE, "cut off"),
    "png cut off": (png_with(text_chunk(b"chara", packed(document())))[:-30], "cut off|not there"),
    "png with huge chunk": (SIGNATURE + b"\xff\xff\xff\xfftEXtchara\0", "4294967295"),
    "png with wrong checksum": (png_with(text_chunk(b"chara", packed(document()))[:-1] + b"?"), "checksum"),
    "png with odd chunk type": (SIGNATURE + chunk(b"tE\0t", b""), "letters"),
    "png with plain json": (png_with(text_chunk(b"chara", json.dumps(document()).encode())), "base64"),
    "png with nul in text": (png_with(text_chunk(b"chara", packed(document()) + b"\0AAAA")), "base64"),
    "png with base64 of nothing": (png_with(text_chunk(b"chara", b"")), "JSON"),
    "png with base64 of text": (png_with(text_chunk(b"chara", base64.b64encode(b"hello"))), "JSON"),
    "png with broken ccv3": (
        png_with(text_chunk(b"chara", packed(document("chara_card_v2"))), text_chunk(b"ccv3", b"%%%%")),
        "ccv3",
    ),
    "card in ztxt": (png_with(text_chunk(b"chara", b"\0" + zlib.compress(packed(V1)), b"zTXt")), "zTXt"),
    "card in itxt": (png_with(text_chunk(b"ccv3", b"\0\0\0\0" + packed(V1), b"iTXt")), "iTXt"),
    "ztxt bomb": (png_with(text_chunk(b"chara", b"\0" + zlib.compress(b"A" * 10**7), b"zTXt")), "zTXt"),
    "png in png": (png_with(text_chunk(b"chara", base64.b64encode(picture()))), "JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_garbage_is_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    """What is no card gives a card error of one line that names the file and what is wrong."""
    content, reason = REFUSED[name]
    path = tmp_path / "card.png"
    path.write_bytes(content)
    with pytest.raises(CardError, match=reason) as caught:
        read_card(path)
    assert str(caught.value).startswith(f"card {path}: ")
    assert "\n" not in str(caught.value)
    with pytest.raises(CardError, match=reason):
        read_card(content)


@pytest.mark.parametrize("source", ["no/such/file.json", "\0", "", Path("/"), "x" * 5000, '{"name": "text"}'])
def test_unreadable_paths(source: Path | str) -> None:
    """A missing file, a folder, a NUL, JSON in place of a path: all are card errors."""
    with pytest.raises(CardError):
        read_card(source)


def test_large_files_are_not_read(tmp_path: Path) -> None:
    """A file above the limit is refused without being held in memory."""
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.write(SIGNATURE)
        file.truncate(FILE_BYTES_MAX + 1)
    with pytest.raises(CardError, match="64 MiB"):
        read_card(path)


def test_many_chunks_are_read() -> None:
    """Ten thousand chunks in front of the card do no harm, a million are refused."""
    card = text_chunk(b"chara", packed(document()))
    assert read_card(png_with(text_chunk(b"a", b"") * 10_000, card)).name == "Moira Kettley"
    with pytest.raises(CardError, match="more than 100000 chunks"):
        read_card(png_with(chunk(b"IDAT", b"") * 200_000, card))


def test_large_extensions_survive() -> None:
    """Six megabytes of somebody's extension and two hundred entries are kept."""
    foreign = document()
    foreign["data"]["extensions"]["other"] = {"blob": "é" * 2_500_000}
    entry = foreign["data"]["character_book"]["entries"][0]
    foreign["data"]["character_book"]["entries"] = [{**entry, "id": number} for number in range(200)]
    assert read_card(read_card(json.dumps(foreign).encode()).to_png(picture())).document == foreign


# Changing


def test_changing_a_field_leaves_the_rest() -> None:
    """A changed card keeps foreign extensions, unknown fields and the copies for V1 readers in step."""
    foreign = document("chara_card_v2") | {
        "name": "Moira Kettley",
        "create_date": "2024",
        "x": {"deep": [None]},
    }
    foreign["data"]["unknown"] = {"kept": True}
    foreign["data"]["extensions"]["risuai"] = {"emotions": [["a", "b"]]}
    card = read_card(json.dumps(foreign).encode())
    changed = read_card(card.with_data(name="Dessa Howe", tags=("canal",)).to_json())
    expected = copy.deepcopy(foreign) | {"name": "Dessa Howe"}
    expected["data"] |= {"name": "Dessa Howe", "tags": ["canal"]}
    assert changed.document == expected
    assert card.document == foreign


def test_changing_an_unknown_field_names_the_nearest() -> None:
    """A slip of the pen is an error that says what was meant."""
    with pytest.raises(ConfigError, match="'first_mes'"):
        CharacterCard(document=document()).with_data(first_message="Hello")


def test_repr_is_short() -> None:
    """A card shows its name and version, not its whole document."""
    assert repr(CARD) == str(CARD) == "CharacterCard('Moira Kettley', chara_card_v3)"


def test_properties_are_the_fields() -> None:
    """Properties carry the names of the specification and give what stands under data."""
    card = CharacterCard(document=document())
    data = document()["data"]
    for field in (
        "name",
        "description",
        "personality",
        "scenario",
        "first_mes",
        "mes_example",
        "creator_notes",
    ):
        assert getattr(card, field) == data[field]
    assert card.alternate_greetings == tuple(data["alternate_greetings"])
    assert card.tags == tuple(data["tags"])
    assert card.character_book == data["character_book"]
    assert card.extensions == data["extensions"]
    assert card.spec == "chara_card_v3"


def test_token_counts_add_up() -> None:
    """Permanent fields and the total are sums of what is listed; greetings that wait do not count."""
    counts = CharacterCard.from_data(card_data()).token_counts()
    permanent = ("name", "description", "personality", "scenario")
    once = ("first_mes", "mes_example", "system_prompt", "post_history_instructions", "character_book")
    assert counts["permanent"] == sum(counts[field] for field in permanent) > 0
    assert counts["total"] == counts["permanent"] + sum(counts[field] for field in once)
    assert counts["alternate_greetings"] > counts["first_mes"]


def test_token_counts_leave_out_what_never_reaches_a_prompt() -> None:
    """Disabled entries and decorators cost nothing."""
    data = card_data()
    before = CharacterCard.from_data(data).token_counts()["character_book"]
    data["character_book"]["entries"][0]["content"] = (
        "@@depth 4\n" + data["character_book"]["entries"][0]["content"]
    )
    assert CharacterCard.from_data(data).token_counts()["character_book"] == before
    data["character_book"]["entries"][0]["enabled"] = False
    assert 0 < CharacterCard.from_data(data).token_counts()["character_book"] < before


# Properties of every card

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
OWN_NAMES = st.dictionaries(TEXT.map(lambda key: f"own {key}"), JSON, max_size=3)
ENTRY = st.fixed_dictionaries(
    {"keys": st.lists(TEXT, max_size=2), "content": TEXT.map(lambda text: f"x{text}")}
)
PICTURE = picture()


@st.composite
def foreign_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A V2 or V3 document with any text, unknown fields everywhere and other applications' extensions."""
    spec = draw(st.sampled_from(["chara_card_v2", "chara_card_v3"]))
    held = document(spec)
    data = held["data"] | {field: draw(TEXT) for field in V1} | draw(OWN_NAMES)
    data["extensions"] = draw(st.dictionaries(TEXT, JSON, max_size=3))
    required = {"use_regex": False} if spec == "chara_card_v3" else {}
    entries = draw(st.lists(ENTRY, max_size=3))
    data["character_book"]["entries"] = [{**entry, **required, **draw(OWN_NAMES)} for entry in entries]
    return {**held, "data": data, **draw(OWN_NAMES)}


@settings(max_examples=60, deadline=None)
@given(foreign_documents())
def test_everything_survives_a_round_trip(foreign: dict[str, Any]) -> None:
    """Any text, extension and unknown field comes back equal from JSON (as V2) and from PNG (as V3)."""
    card = read_card(json.dumps(foreign).encode())
    assert card.document == foreign
    assert read_card(card.to_json()).document == card.v2()
    assert read_card(card.to_png(PICTURE)).document == card.v3()
    if card.spec == "chara_card_v2":
        assert card.v2() == foreign
    else:
        assert card.v3() == foreign


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_card_or_a_card_error(data: st.DataObject) -> None:
    """Whatever happens to the bytes of a card, reading gives a card or a CardError."""
    source = bytearray(data.draw(st.sampled_from(SOURCES)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(source) - 1))
        source[position : position + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        source = source or bytearray(b"x")
    with contextlib.suppress(CardError):
        read_card(bytes(source))


def repaired(source: bytes) -> bytes:
    """A PNG whose checksums are right again, so that damage gets past them."""
    result, position = bytearray(source), 8
    while position + 12 <= len(result):
        (length,) = struct.unpack_from(">I", result, position)
        end = position + 8 + length
        if end + 4 > len(result):
            break
        struct.pack_into(">I", result, end, zlib.crc32(result[position + 4 : end]))
        position = end + 4
    return bytes(result)


CARD = CharacterCard.from_data(card_data())
SOURCES = (CARD.to_json(), CARD.to_png(PICTURE), json.dumps(V1).encode())


def test_damage_behind_right_checksums_gives_a_card_or_a_card_error() -> None:
    """The same for three thousand seeded damages of a PNG whose checksums were mended."""
    chance = random.Random(20)
    read = 0
    for _ in range(3000):
        source = bytearray(SOURCES[1])
        for _ in range(chance.randint(1, 3)):
            source[chance.randrange(33, len(source))] = chance.randrange(256)
        try:
            read_card(repaired(source))
            read += 1
        except CardError:
            pass
    assert 0 < read < 3000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_card_or_a_card_error(source: bytes) -> None:
    """Random bytes and random JSON never give another error."""
    with contextlib.suppress(CardError):
        read_card(source)
