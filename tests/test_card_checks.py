import base64
import contextlib
import io
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sample_cards import LANGUAGES, card_data, document, entry, picture

from personalab.card_checks import Problem, check_card, check_png, require_valid
from personalab.cards import CharacterCard
from personalab.errors import CardError, CardInvalid
from personalab.records import JsonObject

Change = Callable[[JsonObject], object]
"""Breaks the `data` of a good card."""


def problems_at(found: tuple[Problem, ...], check: int, path: str) -> list[Problem]:
    """The problems of one rule at one place."""
    return [problem for problem in found if problem.check == check and problem.path == path]


def put(field: str, value: Any) -> Change:
    """Set a field of `data`."""
    return lambda data: data.__setitem__(field, value)


def drop(field: str) -> Change:
    """Take a field of `data` away."""
    return lambda data: data.pop(field)


def in_book(field: str, value: Any) -> Change:
    """Set a field of the lorebook."""
    return lambda data: data["character_book"].__setitem__(field, value)


def in_entry(field: str, value: Any, number: int = 0) -> Change:
    """Set a field of a lorebook entry."""
    return lambda data: data["character_book"]["entries"][number].__setitem__(field, value)


def without_in_entry(field: str) -> Change:
    """Take a field of a lorebook entry away."""
    return lambda data: data["character_book"]["entries"][0].pop(field)


def in_extensions(field: str, value: Any) -> Change:
    """Set a field of `extensions`."""
    return lambda data: data["extensions"].__setitem__(field, value)


def in_own(field: str, value: Any) -> Change:
    """Set a field of our own extension."""
    return lambda data: data["extensions"]["personalab"].__setitem__(field, value)


def with_asset(**fields: Any) -> Change:
    """Give the card one asset, a good one but for some fields."""
    asset = {"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"}
    return lambda data: data.__setitem__("assets", [asset | fields])


OWN = "data.extensions.personalab"
ENTRY = "data.character_book.entries[0]"
ICON = {"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"}

V3_ERRORS: dict[str, tuple[Change, int, str]] = {
    "missing field": (drop("scenario"), 1, "data.scenario"),
    "missing greetings of V3": (drop("group_only_greetings"), 1, "data.group_only_greetings"),
    "null for text": (put("system_prompt", None), 1, "data.system_prompt"),
    "number for text": (put("creator", 7), 1, "data.creator"),
    "array for extensions": (put("extensions", []), 1, "data.extensions"),
    "nickname is a number": (put("nickname", 3), 1, "data.nickname"),
    "source is text": (put("source", "https://example.com"), 1, "data.source"),
    "null book": (put("character_book", None), 3, "data.character_book"),
    "greetings are text": (put("alternate_greetings", "Hello"), 3, "data.alternate_greetings"),
    "a greeting is null": (put("alternate_greetings", ["Hello", None]), 3, "data.alternate_greetings"),
    "tags are an object": (put("tags", {"a": 1}), 3, "data.tags"),
    "version is a number": (put("character_version", 1.0), 3, "data.character_version"),
    "book without entries": (
        lambda data: data["character_book"].pop("entries"),
        2,
        "data.character_book.entries",
    ),
    "book without extensions": (
        lambda data: data["character_book"].pop("extensions"),
        2,
        "data.character_book.extensions",
    ),
    "entries are an object": (in_book("entries", {"0": {}}), 2, "data.character_book.entries"),
    "an entry is text": (in_book("entries", ["bees"]), 2, "data.character_book.entries"),
    "scan depth is text": (in_book("scan_depth", "4"), 2, "data.character_book.scan_depth"),
    "entry without keys": (without_in_entry("keys"), 2, f"{ENTRY}.keys"),
    "entry without content": (without_in_entry("content"), 2, f"{ENTRY}.content"),
    "entry without extensions": (without_in_entry("extensions"), 2, f"{ENTRY}.extensions"),
    "entry without enabled": (without_in_entry("enabled"), 2, f"{ENTRY}.enabled"),
    "entry without order": (without_in_entry("insertion_order"), 2, f"{ENTRY}.insertion_order"),
    "entry without use_regex": (without_in_entry("use_regex"), 2, f"{ENTRY}.use_regex"),
    "keys are text": (in_entry("keys", "bees"), 2, f"{ENTRY}.keys"),
    "keys are blank": (in_entry("keys", ["", "  "]), 2, f"{ENTRY}.keys"),
    "keys are numbers": (in_entry("keys", [1]), 2, f"{ENTRY}.keys"),
    "enabled is a number": (in_entry("enabled", 1), 2, f"{ENTRY}.enabled"),
    "order is true": (in_entry("insertion_order", True), 2, f"{ENTRY}.insertion_order"),
    "position is unknown": (in_entry("position", "at_depth"), 2, f"{ENTRY}.position"),
    "position is a number": (in_entry("position", 0), 2, f"{ENTRY}.position"),
    "content is blank": (in_entry("content", " \n"), 2, f"{ENTRY}.content"),
    "content is decorators alone": (in_entry("content", "@@depth 4\n"), 2, f"{ENTRY}.content"),
    "same id twice": (in_entry("id", 1), 2, "data.character_book.entries"),
    "id from one": (in_entry("id", 2), 2, "data.character_book.entries"),
    "one id missing": (without_in_entry("id"), 2, "data.character_book.entries"),
    "id is text": (in_entry("id", "0"), 2, f"{ENTRY}.id"),
    "own field in data": (put("tweets", []), 4, "data.tweets"),
    "own field in book": (in_book("mood", "calm"), 4, "data.character_book.mood"),
    "own field in entry": (in_entry("mood", "calm"), 4, f"{ENTRY}.mood"),
    "own part beside our key": (in_extensions("tweets", []), 4, "data.extensions.tweets"),
    "front end's name taken": (in_extensions("world", {"city": "Fenny"}), 4, "data.extensions.world"),
    "own extension is text": (in_extensions("personalab", "x"), 4, OWN),
    "own extension without version": (
        lambda data: data["extensions"]["personalab"].pop("schema_version"),
        4,
        f"{OWN}.schema_version",
    ),
    "own age is text": (in_own("age", "41"), 4, f"{OWN}.age"),
    "own tweets are text": (in_own("tweets", ["a tweet"]), 4, f"{OWN}.tweets"),
    "empty name": (put("name", ""), 6, "data.name"),
    "name of dots": (put("name", "..."), 6, "data.name"),
    "name of two lines": (put("name", "Moira\nKettley"), 6, "data.name"),
    "name with slash": (put("name", "AC/DC"), 6, "data.name"),
    "reserved name": (put("name", "CON"), 6, "data.name"),
    "name with macro": (put("name", "{{user}}'s friend"), 6, "data.name"),
    "name that is not NFC": (put("name", "On\u0303ate"), 6, "data.name"),
    "long name": (put("name", "x" * 65), 6, "data.name"),
    "nan": (in_extensions("other", {"x": [float("nan")]}), 7, "data.extensions.other.x[0]"),
    "half an emoji": (put("first_mes", "cut \ud83d"), 7, "data.first_mes"),
    "half an emoji in a key": (in_extensions("cut \udc00", 1), 7, "data.extensions.'cut \\udc00'"),
    "control character": (in_entry("content", "bees\x07"), 7, f"{ENTRY}.content"),
    "carriage return": (put("description", "one\r\ntwo"), 7, "data.description"),
    "date as text": (put("creation_date", "2026-01-01"), 1, "data.creation_date"),
    "date in milliseconds": (put("creation_date", 1_700_000_000_000), 7, "data.creation_date"),
    "date with a fraction": (put("modification_date", 1_700_000_000.5), 7, "data.modification_date"),
    "asset without name": (
        put("assets", [{"type": "icon", "uri": "ccdefault:", "ext": "png"}]),
        8,
        "data.assets[0].name",
    ),
    "asset of unknown type": (with_asset(type="video"), 8, "data.assets[0].type"),
    "asset with dotted ext": (with_asset(ext=".png"), 8, "data.assets[0].ext"),
    "asset with capital ext": (with_asset(ext="PNG"), 8, "data.assets[0].ext"),
    "asset spelled with two d": (with_asset(uri="embedded://a.png"), 8, "data.assets[0].uri"),
    "asset path not ASCII": (with_asset(uri="embeded://ñ.png"), 8, "data.assets[0].uri"),
    "two main icons": (put("assets", [ICON, ICON]), 8, "data.assets"),
    "no main icon": (put("assets", [ICON | {"name": "a"}, ICON | {"name": "b"}]), 8, "data.assets"),
    "notes with a region": (
        put("creator_notes_multilingual", {"zh-CN": "x"}),
        9,
        "data.creator_notes_multilingual.zh-CN",
    ),
    "notes that are no text": (
        put("creator_notes_multilingual", {"zh": 1}),
        9,
        "data.creator_notes_multilingual.zh",
    ),
}

V2_ERRORS: dict[str, tuple[Change, int, str]] = {
    "V3 field": (put("nickname", "Mo"), 4, "data.nickname"),
    "V3 greetings": (put("group_only_greetings", []), 4, "data.group_only_greetings"),
    "V3 field of an entry": (in_entry("use_regex", False), 4, f"{ENTRY}.use_regex"),
    "decorators": (in_entry("content", "@@depth 4\nbees"), 9, f"{ENTRY}.content"),
}

TOP_ERRORS: dict[str, tuple[Change, int, str]] = {
    "no spec": (lambda card: card.pop("spec"), 1, "spec"),
    "spec of a lorebook": (put("spec", "lorebook_v3"), 1, "spec"),
    "spec is an array": (put("spec", []), 1, "spec"),
    "version is a number": (put("spec_version", 3.0), 1, "spec_version"),
    "version of V2": (put("spec_version", "2.0"), 1, "spec_version"),
    "no data": (lambda card: card.pop("data"), 1, "data"),
    "data is an array": (put("data", []), 1, "data"),
    "V1 fields beside data": (put("first_mes", "Hello"), 4, "first_mes"),
}

LONG = "She keeps bees, badly, and counts them every evening by hand. " * 40

WARNINGS: dict[str, tuple[Change, int, str]] = {
    "unbalanced braces": (put("scenario", "{{user} arrives"), 15, "data.scenario"),
    "translated macro": (put("scenario", "{{usuario}} llega"), 15, "data.scenario"),
    "original in a greeting": (put("first_mes", "{{original}} who are you?"), 15, "data.first_mes"),
    "broken macro in a key": (in_entry("keys", ["{{char}"]), 15, f"{ENTRY}.keys[0]"),
    "broken macro in a prompt": (put("system_prompt", "{char}} waits"), 15, "data.system_prompt"),
    "stand-in for the user": (put("scenario", "[Your name] arrives"), 15, "data.scenario"),
    "user with angle brackets": (in_entry("content", "<USER> knows"), 15, f"{ENTRY}.content"),
    "example not opened": (put("mes_example", "{{char}}: hi"), 15, "data.mes_example"),
    "one example": (put("mes_example", "<START>\n{{user}}: a\n{{char}}: b"), 15, "data.mes_example"),
    "example without char": (put("mes_example", "<START>\n{{user}}: a\n" * 2), 15, "data.mes_example"),
    "start translated": (put("mes_example", "<INICIO>\n{{user}}: a\n{{char}}: b"), 15, "data.mes_example"),
    "speech for the user": (put("first_mes", 'Hm.\n{{user}}: "I know you"'), 16, "data.first_mes"),
    "acts for the user": (put("first_mes", "{{user}} smiles at her. What now?"), 16, "data.first_mes"),
    "acts in Spanish": (put("first_mes", "{{user}} asiente. ¿Y ahora?"), 16, "data.first_mes"),
    "acts in Chinese": (put("first_mes", "{{user}}点了点头。怎么了？"), 16, "data.first_mes"),
    "nothing to answer": (put("first_mes", "She closes the gate and goes home."), 16, "data.first_mes"),
    "same greeting": (
        lambda data: data["alternate_greetings"].__setitem__(1, data["first_mes"] + " Well?"),
        16,
        "data.alternate_greetings[1]",
    ),
    "no other greetings": (put("alternate_greetings", []), 16, "data.alternate_greetings"),
    "refusal": (put("personality", "I'm sorry, but I cannot help."), 17, "data.personality"),
    "refusal in Chinese": (put("personality", "作为一个AI语言模型，我不能"), 17, "data.personality"),
    "fence": (put("description", "```json\nMoira```"), 17, "data.description"),
    "thinking": (put("description", "<think>a lock keeper</think> Moira"), 17, "data.description"),
    "placeholder": (in_entry("content", "TODO"), 17, f"{ENTRY}.content"),
    "note to the author": (put("description", "Here is the description: Moira."), 17, "data.description"),
    "cut off": (put("description", "Moira keeps the lock and,"), 17, "data.description"),
    "permanent tokens": (put("description", LONG * 3), 18, "data"),
    "total tokens": (put("mes_example", "<START>\n{{user}}: a\n{{char}}: b\n" * 2 + LONG * 9), 18, "data"),
    "total tokens of a lorebook": (
        lambda data: data["character_book"].update(
            entries=[
                entry(number, "bees", [f"bee {number}"], LONG[number : number + 500]) for number in range(60)
            ]
        ),
        18,
        "data",
    ),
    "short greeting": (put("first_mes", "Late. Tea?"), 18, "data.first_mes"),
    "long greeting": (put("first_mes", LONG + "Tea?"), 18, "data.first_mes"),
    "fat entry": (in_entry("content", LONG), 18, f"{ENTRY}.content"),
    "fat constants": (
        lambda data: [
            entry.update(constant=True, content=LONG[:500]) for entry in data["character_book"]["entries"]
        ],
        18,
        "data.character_book.entries",
    ),
    "worn name": (put("name", "Elara Voss"), 19, "data.name"),
    "worn name in the network": (
        in_own("social_network", {"close_friends": [{"name": "Sarah Chen"}]}),
        19,
        f"{OWN}.social_network.close_friends[0].name",
    ),
    "names with one letter": (
        in_own(
            "social_network", {"online_friends": [{"name": name} for name in ("Mo", "Mia", "Max", "Ada")]}
        ),
        19,
        f"{OWN}.social_network",
    ),
    "worn phrase": (put("personality", "Her eyes sparkle with mischief."), 19, "data.personality"),
    "list of adjectives": (put("personality", "kind, brave, curious, loyal"), 19, "data.personality"),
    "copied field": (
        lambda data: data.__setitem__("scenario", data["description"][:150] + " At dusk."),
        19,
        "data.scenario",
    ),
    "copied entry": (
        lambda data: data["character_book"]["entries"][1].update(
            content=data["character_book"]["entries"][0]["content"]
        ),
        19,
        "data.character_book.entries[1].content",
    ),
    "another age": (put("description", "Moira is a 29-year-old lock keeper."), 20, "data.description"),
    "another age in Spanish": (put("description", "Una mujer de 29 años."), 20, "data.description"),
    "another age in Chinese": (put("description", "她今年29岁。"), 20, "data.description"),
    "a minor": (in_own("age", 16), 20, f"{OWN}.age"),
    "a minor in the network": (
        in_own("social_network", {"close_friends": [{"name": "Dessa", "age": 15}]}),
        20,
        f"{OWN}.social_network.close_friends[0].age",
    ),
    "person without entry": (
        in_own("social_network", {"close_friends": [{"name": "Rufus Lyle"}]}),
        21,
        f"{OWN}.social_network",
    ),
    "person twice": (
        in_own("social_network", {"close_friends": [{"name": "Dessa"}, {"name": "Dessa"}]}),
        21,
        f"{OWN}.social_network.close_friends[1].name",
    ),
    "persona in the network": (
        in_own("social_network", {"close_friends": [{"name": "Moira Kettley"}]}),
        21,
        f"{OWN}.social_network.close_friends[0].name",
    ),
    "own name as key": (in_entry("keys", ["moira kettley"]), 21, f"{ENTRY}.keys[0]"),
    "comma in key": (in_entry("keys", ["ledger, logbook"]), 2, f"{ENTRY}.keys[0]"),
    "key in two entries": (in_entry("keys", ["Dessa"]), 2, "data.character_book.entries[1].keys[1]"),
    "long tweet": (
        in_own("tweets", [{"content_type": "boats", "text": "水" * 141}]),
        22,
        f"{OWN}.tweets[0].text",
    ),
    "empty tweet": (in_own("tweets", [{"content_type": "boats", "text": ""}]), 22, f"{OWN}.tweets[0].text"),
    "tweet with macro": (
        in_own("tweets", [{"content_type": "boats", "text": "hi {{user}}"}]),
        22,
        f"{OWN}.tweets[0].text",
    ),
    "tweet to no user name": (
        in_own("tweets", [{"content_type": "boats", "text": "thanks @a_name_that_is_too_long"}]),
        22,
        f"{OWN}.tweets[0].text",
    ),
    "tweet twice": (
        in_own("tweets", [{"content_type": "boats", "text": "rain"}] * 2),
        22,
        f"{OWN}.tweets[1].text",
    ),
    "tweet of unknown type": (
        in_own("tweets", [{"content_type": "trains", "text": "rain"}]),
        22,
        f"{OWN}.tweets[0].content_type",
    ),
    "text in another script": (in_own("language", "中文"), 23, "data.description"),
    "text in another language": (in_own("language", "Español"), 23, "data.description"),
    "chinese in an english card": (
        put("scenario", "她想一辈子住在闸房里，却没敢签字。"),
        23,
        "data.scenario",
    ),
    "capital tag": (put("tags", ["Canal"]), 23, "data.tags[0]"),
    "tag twice": (put("tags", ["canal", "canal"]), 23, "data.tags"),
    "many tags": (put("tags", [f"tag {number}" for number in range(16)]), 23, "data.tags"),
    "notes without fiction": (put("creator_notes", "Made by AI."), 24, "data.creator_notes"),
    "notes without AI": (put("creator_notes", "Fictional."), 24, "data.creator_notes"),
    "key in provenance": (
        in_own("provenance", {"key": "sk-abcdefghijklmnop1234"}),
        24,
        f"{OWN}.provenance.key",
    ),
    "path in provenance": (
        in_own("provenance", {"stages": [{"prompt": "/home/moira/a.md"}]}),
        24,
        f"{OWN}.provenance.stages[0].prompt",
    ),
}


def assert_named(found: tuple[Problem, ...], check: int, path: str, level: str) -> None:
    """There is a problem of this rule at this place, and it can be acted upon."""
    named = problems_at(found, check, path)
    assert named, f"nothing at {path} among {[str(problem) for problem in found]}"
    for problem in named:
        assert problem.level == level
        assert problem.reason
        assert problem.mend
        assert "\n" not in str(problem)
        assert str(problem).startswith(f"{path}: ")


@pytest.mark.parametrize("spec", ["chara_card_v2", "chara_card_v3"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_good_cards_have_no_problem(spec: str, language: str) -> None:
    """A good card in English, Chinese or Spanish passes every rule without a warning, as V2 and as V3."""
    assert check_card(document(spec, language)) == ()
    require_valid(document(spec, language))


@pytest.mark.parametrize("kind", V3_ERRORS)
def test_broken_v3_is_an_error(kind: str) -> None:
    """Every breach of V3 is an error that names the place and how to mend it."""
    change, check, path = V3_ERRORS[kind]
    card = document()
    change(card["data"])
    assert_named(check_card(card), check, path, "error")
    with pytest.raises(CardInvalid):
        require_valid(card)


@pytest.mark.parametrize("kind", V2_ERRORS)
def test_broken_v2_is_an_error(kind: str) -> None:
    """What only V3 knows is an error in V2, and fine in V3."""
    change, check, path = V2_ERRORS[kind]
    card = document("chara_card_v2")
    change(card["data"])
    assert_named(check_card(card), check, path, "error")
    allowed = document()
    change(allowed["data"])
    assert not [problem for problem in check_card(allowed) if problem.level == "error"]


@pytest.mark.parametrize("kind", V3_ERRORS)
def test_what_v2_shares_is_checked_in_v2_too(kind: str) -> None:
    """A V2 card with the same breach does not pass either."""
    change, _, _ = V3_ERRORS[kind]
    card = document("chara_card_v2") | {"data": document()["data"]}
    change(card["data"])
    with pytest.raises(CardInvalid):
        require_valid(card)


@pytest.mark.parametrize("kind", TOP_ERRORS)
def test_broken_document_is_an_error(kind: str) -> None:
    """The frame around data is checked as strictly."""
    change, check, path = TOP_ERRORS[kind]
    card = document()
    change(card)
    assert_named(check_card(card), check, path, "error")


@pytest.mark.parametrize("kind", WARNINGS)
def test_poor_text_is_a_warning(kind: str) -> None:
    """Every rule of thumb can be broken, says where and how to mend it, and stops nothing."""
    change, check, path = WARNINGS[kind]
    card = document()
    change(card["data"])
    found = check_card(card)
    assert_named(found, check, path, "warning")
    assert all(problem.level == "warning" for problem in found)
    require_valid(card)


@pytest.mark.parametrize(
    "change",
    [
        put("description", "Moira, a lock keeper. Her 8-year-old son Kit lives with her sister."),
        put("description", "她八岁那年父亲走了，12岁时开始画招牌。"),
        put("description", "Una mujer que a los 12 años ya pintaba rótulos en todo el pueblo."),
        put(
            "description", "Moira is as an AI engineer would be: patient. She has a todo list. Todo va bien."
        ),
        put("system_prompt", "{{original}} Stay in character."),
        in_entry("keys", ["/bees?,hives/i"]),
        lambda data: [held.pop("id") for held in data["character_book"]["entries"]],
        lambda data: data["extensions"].pop("personalab"),
        lambda data: data.pop("character_book") and data["extensions"]["personalab"].pop("social_network"),
        in_extensions("fav", False),
        in_extensions("depth_prompt", {"prompt": "", "depth": 4, "role": "system"}),
        in_extensions("other/app", {"null": None, "deep": [[1.5]]}),
        with_asset(type="x_voice", uri="embeded://voice.ogg", ext="ogg", name="a"),
        put("creator_notes_multilingual", {"es": "Ficción"}),
        put("creation_date", 0),
    ],
)
def test_what_is_allowed_is_no_problem(change: Change) -> None:
    """Rules do not fire on what only looks like a breach."""
    card = document()
    change(card["data"])
    assert [str(problem) for problem in check_card(card) if problem.check not in (18, 23)] == []


@pytest.mark.parametrize(
    ("language", "names"),
    [
        ("english", ("English", "en", "英语", "German")),
        ("spanish", ("Español", "es", "Spanish", "西班牙语")),
        ("chinese", ("中文", "Chinese (simplified)", "zh-CN", "简体中文")),
    ],
)
def test_languages_have_many_names(language: str, names: tuple[str, ...]) -> None:
    """A language is known by its names in several languages; of others only the script is judged."""
    for name in names:
        card = document(language=language)
        card["data"]["extensions"]["personalab"]["language"] = name
        assert check_card(card) == (), name


def test_problems_speak_json() -> None:
    """A value is shown as it stands in the file, and nobody is told that an empty number will do."""
    card = document()
    in_book("entries", [{}])(card["data"])
    card["data"]["name"] = None
    said = {problem.path: str(problem) for problem in check_card(card)}
    assert "is null; make it a string" in said["data.name"]
    assert "an empty one will do" in said[f"{ENTRY}.keys"]
    for field in ("enabled", "insertion_order"):
        assert "is missing; add it as " in said[f"{ENTRY}.{field}"]
        assert "empty" not in said[f"{ENTRY}.{field}"]


def test_language_rules_are_silent_without_a_language() -> None:
    """Somebody else's Chinese card is not measured against English."""
    card = document(language="chinese")
    del card["data"]["extensions"]["personalab"]
    assert check_card(card) == ()


def test_every_error_is_raised_at_once() -> None:
    """The exception carries every error, with path and mend in its one line; errors stand before warnings."""
    card = document()
    card["data"] |= {"name": "", "tags": None, "personality": "kind, brave, curious"}
    with pytest.raises(CardInvalid) as caught:
        require_valid(card, source="moira.png")
    assert isinstance(caught.value, CardError)
    assert [problem.path for problem in caught.value.problems] == ["data.tags", "data.name"]
    assert str(caught.value).startswith("card moira.png: data.tags: ")
    assert [problem.level for problem in check_card(card)] == ["error", "error", "warning"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything inside a JSON value."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [path, *(place for key, child in children for place in places(child, (*path, key)))]


PLACES = [path for path in places(document()) if path]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), JSON), min_size=1, max_size=4))
def test_no_document_makes_a_check_fail(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    """Whatever stands wherever in a document, the checks give problems and never an exception."""
    card: Any = document()
    for path, value in changes:
        with contextlib.suppress(TypeError, LookupError):  # an earlier change took the place away
            target = card
            for key in path[:-1]:
                target = target[key]
            if isinstance(target, dict) == isinstance(path[-1], str):
                target[path[-1]] = value
    assert all(isinstance(str(problem), str) for problem in check_card(card))


@pytest.mark.parametrize("card", [None, [], "text", {}, {"spec": "chara_card_v3"}])
def test_what_is_no_card_is_an_error(card: Any) -> None:
    """Also what is no document at all gets a problem with a path."""
    assert check_card(card)[0].level == "error"


def test_checks_stay_quick_on_a_library() -> None:
    """A thousand entries, and one text of half a megabyte, take no more than work in proportion."""
    card = document()
    card["data"]["character_book"]["entries"] = [
        entry(number, "bees", [f"bee {number}"], f"Bee number {number} " * 20) for number in range(1000)
    ]
    card["data"]["description"] = "Moira {{user}} , (" * 30_000
    assert check_card(card)


# PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def card_chunk(keyword: bytes, card: Any, kind: bytes = b"tEXt") -> bytes:
    """A text chunk with a document."""
    return chunk(kind, keyword + b"\0" + base64.b64encode(json.dumps(card).encode()))


def png_of(*chunks: bytes, after_pixels: bool = False) -> bytes:
    """A portrait with chunks before or after its pixels."""
    plain = picture(512, 768)
    cut = len(plain) - 12 if after_pixels else 33
    return plain[:cut] + b"".join(chunks) + plain[cut:]


CARD = CharacterCard.from_data(card_data())
CHARA = {**CARD.v2(), "data": {**CARD.v2()["data"]}}
CHARA["data"]["creator_notes"] += (
    "\n\nThis is a Character Card V3, loaded as V2: what only V3 holds is missing."
)
V2_CHUNK = card_chunk(b"chara", CHARA)
V3_CHUNK = card_chunk(b"ccv3", CARD.v3())
UNPADDED = base64.b64encode(json.dumps(CHARA).encode().ljust(60_001)).rstrip(b"=")
LINES = base64.encodebytes(json.dumps(CARD.v3()).encode())

PNG_ERRORS: dict[str, tuple[bytes, str]] = {
    "no PNG": (b"GIF89a", "png"),
    "cut off": (png_of(V2_CHUNK, V3_CHUNK)[:-5], "png"),
    "wrong checksum": (png_of(V2_CHUNK[:-1] + b"?", V3_CHUNK), "png"),
    "bytes after the end": (png_of(V2_CHUNK, V3_CHUNK) + b"zip", "png"),
    "no card": (png_of(), "png"),
    "V2 alone": (png_of(V2_CHUNK), "png"),
    "V3 first": (png_of(V3_CHUNK, V2_CHUNK), "png"),
    "other text first": (png_of(chunk(b"tEXt", b"Title\0x"), V2_CHUNK, V3_CHUNK), "png"),
    "twice": (png_of(V2_CHUNK, V3_CHUNK, V2_CHUNK), "png"),
    "after the pixels": (png_of(V2_CHUNK, V3_CHUNK, after_pixels=True), "png.ccv3"),
    "as iTXt": (png_of(V2_CHUNK, card_chunk(b"ccv3", CARD.v3(), b"iTXt")), "png.ccv3"),
    "base64 in lines": (png_of(V2_CHUNK, chunk(b"tEXt", b"ccv3\0" + LINES)), "png.ccv3"),
    "base64 without padding": (png_of(chunk(b"tEXt", b"chara\0" + UNPADDED), V3_CHUNK), "png.chara"),
    "plain JSON": (png_of(V2_CHUNK, chunk(b"tEXt", b"ccv3\0{}")), "png.ccv3"),
    "no JSON": (png_of(V2_CHUNK, chunk(b"tEXt", b"ccv3\0" + base64.b64encode(b"hello"))), "png.ccv3"),
    "deep JSON": (png_of(V2_CHUNK, chunk(b"tEXt", b"ccv3\0" + base64.b64encode(b"[" * 9999))), "png.ccv3"),
    "array": (png_of(V2_CHUNK, card_chunk(b"ccv3", [])), "png.ccv3"),
    "V2 under ccv3": (png_of(V2_CHUNK, card_chunk(b"ccv3", CARD.v2())), "png.ccv3"),
    "V3 under chara": (png_of(card_chunk(b"chara", CARD.v3()), V3_CHUNK), "png.chara"),
    "two different cards": (
        png_of(V2_CHUNK, card_chunk(b"ccv3", CARD.with_data(name="Dessa Howe").v3())),
        "png.chara data.name",
    ),
    "V2 copy with less": (
        png_of(card_chunk(b"chara", {**CHARA, "data": {**CHARA["data"], "tags": []}}), V3_CHUNK),
        "png.chara data.tags",
    ),
}


@pytest.mark.parametrize("kind", PNG_ERRORS)
def test_broken_png_is_an_error(kind: str) -> None:
    """Every way in which a PNG hides its card from some reader is an error."""
    png, path = PNG_ERRORS[kind]
    assert_named(check_png(png), 10, path, "error")


def test_good_png_has_no_problem() -> None:
    """The chunks that the broken ones were made of are good together."""
    assert check_png(png_of(V2_CHUNK, V3_CHUNK)) == ()


def test_v2_copy_should_say_that_it_is_one() -> None:
    """A V2 copy without the sentence is warned about, and agrees otherwise."""
    (problem,) = check_png(png_of(card_chunk(b"chara", CARD.v2()), V3_CHUNK))
    assert (problem.check, problem.level) == (24, "warning")


def test_what_tells_of_the_picture_is_a_warning() -> None:
    """Prompts, EXIF, times and profiles of the source picture are named by chunk."""
    info = PngInfo()
    info.add_text("prompt", "secret")
    info.add(b"tIME", b"\x07\xea\x01\x01\x00\x00\x00")
    exif = Image.Exif()
    exif[271] = "camera"
    source = picture(512, 768, pnginfo=info, exif=exif, icc_profile=b"profile")
    cut = 33
    found = check_png(source[:cut] + V2_CHUNK + V3_CHUNK + source[cut:])
    assert {problem.path for problem in found} == {"png.tEXt", "png.tIME", "png.eXIf", "png.iCCP"}
    assert {(problem.check, problem.level) for problem in found} == {(11, "warning")}
    assert any("prompt" in problem.reason for problem in found)


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [
        (512, 768, True),
        (1200, 1800, True),
        (600, 900, True),
        (768, 512, False),
        (768, 768, False),
        (256, 384, False),
    ],
)
def test_portrait_format(width: int, height: int, fits: bool) -> None:
    """A portrait is 2:3 and neither tiny nor huge."""
    found = check_png(CARD.to_png(picture(width, height)))
    assert [problem.check for problem in found] == ([] if fits else [12])


def test_large_png_is_a_warning() -> None:
    """More than five megabytes is more than sites take."""
    noise = random.Random(1).randbytes(1200 * 1800 * 3)
    file = io.BytesIO()
    Image.frombytes("RGB", (1200, 1800), noise).save(file, "PNG", compress_level=1)
    assert problems_at(check_png(CARD.to_png(file.getvalue())), 12, "png")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_png_makes_the_check_fail(data: st.DataObject) -> None:
    """Damaged bytes give problems, never an exception."""
    source = bytearray(CARD.to_png(picture()))
    position = data.draw(st.integers(0, len(source) - 1))
    source[position : position + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    assert check_png(bytes(source)) is not None
