"""Lorebooks: which entries speak and why; macros and decorators."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_cards import card_data

from personalab.card_format import without_decorators
from personalab.decorators import IGNORED, split_content
from personalab.lorebooks import Moment, Verdict, in_order, open_book, verdicts
from personalab.macros import Macros, with_original

MACROS = Macros(char="Moira", user="Ann")


def entry(content: str = "Something.", **fields: Any) -> dict[str, Any]:
    """An entry as it stands in a card."""
    required = {
        "keys": ["ledger"],
        "extensions": {},
        "enabled": True,
        "insertion_order": 100,
        "use_regex": False,
    }
    return required | {"content": content} | fields


def judged(
    *entries: dict[str, Any], said: str | tuple[str, ...] = "the ledger", **more: Any
) -> tuple[Verdict, ...]:
    """The verdicts on a book of these entries; `more` are fields of the book or of the moment."""
    moment = {name: more.pop(name) for name in list(more) if name in Moment.model_fields}
    messages = (said,) if isinstance(said, str) else said
    book = open_book({"extensions": {}, "entries": list(entries), **more})
    return verdicts(book, Moment(messages=messages, **moment), MACROS)


def speaks(*entries: dict[str, Any], **more: Any) -> list[bool]:
    """Which of these entries speak."""
    return [verdict.speaks for verdict in judged(*entries, **more)]


# Keys


@pytest.mark.parametrize(
    ("keys", "said", "found"),
    [
        (["ledger"], "Show me the LEDGER.", True),
        (["ledger"], "ledgers", False),
        (["art"], "a party", False),
        (["art"], "Art!", True),
        (["kettle", "ledger"], "the ledger", True),
        (["red door"], "behind the red door,", True),
        (["red door"], "a red doormat", False),
        (["C++"], "she writes C++ at night", True),
        (["簿子"], "给我看看那本簿子吧", True),
        (["Moira"], "我想问Moira的事", True),
        (["모이라"], "모이라는 어디 있어?", True),
        (["café"], "the CAFÉ on the corner", True),
        (["caf\u00e9"], "the cafe\u0301", True),
        (["straße"], "in der STRASSE", True),
        (["café"], "cafés", False),
        (["{{user}}'s boat"], "is Ann's boat here?", True),
        ([""], "anything", False),
        (["   "], "   ", False),
        ([], "anything", False),
        (["/led.*/"], "the ledger", False),
        (["a.b"], "axb", False),
    ],
)
def test_keys(keys: list[str], said: str, found: bool) -> None:
    """A key is found as a whole word, whatever its case; in scripts without spaces, anywhere."""
    assert speaks(entry(keys=keys), said=said) == [found]


def test_case_and_part_words_where_the_entry_says_so() -> None:
    """`case_sensitive` counts case; an entry that front ends match within words is matched within words."""
    assert speaks(entry(keys=["Rose"], case_sensitive=True), said="a rose") == [False]
    assert speaks(entry(keys=["Rose"], case_sensitive=True), said="Rose!") == [True]
    assert speaks(entry(extensions={"match_whole_words": False}), said="ledgers") == [True]


@pytest.mark.parametrize(
    ("key", "said", "found"),
    [
        ("/led.er/", "LEDGER", False),
        ("/led.er/i", "LEDGER", True),
        ("led.er", "LEDGER", True),
        (r"/\bkey\b/", "keys", False),
        ("/a.b/s", "a\nb", True),
        ("/^b/m", "a\nb", True),
        ("/(?<year>\\d{4})/", "in 2009", True),
        ("/a/b/i", "A/B", True),
        ("/ledger/x", "ledger", False),
        ("(", "(", False),
        ("/(a+)+$/", "a" * 40 + "!", False),
    ],
)
def test_patterns(key: str, said: str, found: bool) -> None:
    """With `use_regex` keys are patterns; one that is none, or goes astray, does not match."""
    assert speaks(entry(keys=[key], use_regex=True), said=said) == [found]


def test_one_broken_pattern_silences_its_entry() -> None:
    """As the specification has it, and `constant` and secondary keys are not looked at."""
    assert speaks(entry(keys=["ledger", "("], use_regex=True)) == [False]
    assert speaks(entry(keys=["x"], use_regex=True, constant=True)) == [False]
    assert speaks(entry(keys=["ledger"], use_regex=True, selective=True, secondary_keys=["not there"])) == [
        True
    ]


def test_secondary_keys() -> None:
    """With `selective` one of them is needed too, if there are any."""
    both = entry(selective=True, secondary_keys=["ink", "paper"])
    assert speaks(both) == [False]
    assert speaks(both, said="paper in the ledger") == [True]
    assert speaks(both | {"selective": False}) == [True]
    assert speaks(both | {"secondary_keys": []}) == [True]
    assert judged(both)[0].why == "key 'ledger', but no secondary key"


def test_constant_and_enabled() -> None:
    """A constant entry always speaks, one that is not enabled never, and an empty one has nothing to say."""
    assert speaks(entry(constant=True), entry(enabled=False), entry(" "), said="x") == [True, False, False]
    assert speaks(entry("@@activate\nx", enabled=False)) == [False]


# How far back, and how much


def test_scan_depth() -> None:
    """Only so many of the last messages are looked at; an entry may say how many for itself."""
    talk = ("the ledger", "yes?", "no", "well")
    assert speaks(entry(), said=talk, scan_depth=4) == [True]
    assert speaks(entry(), said=talk, scan_depth=3) == [False]
    assert speaks(entry("@@scan_depth 4\nx"), said=talk, scan_depth=3) == [True]
    assert speaks(entry("@@scan_depth 1\nx"), said=talk, scan_depth=9) == [False]
    assert speaks(entry(), entry(constant=True), said=talk, scan_depth=0) == [False, True]


def test_budget_leaves_out_the_least_important() -> None:
    """Over the budget the least priority goes first, then the least insertion order; constant entries too."""
    words = "one two three four five"  # five tokens
    low, high = entry(words, priority=1, constant=True), entry(words, priority=9)
    assert speaks(low, high, token_budget=5) == [False, True]
    assert speaks(low, high, token_budget=10) == [True, True]
    assert speaks(low, high, token_budget=4) == [False, False]
    early, late = entry(words, insertion_order=10), entry(words, insertion_order=20)
    assert speaks(early, late, token_budget=5) == [False, True]
    verdict = judged(low, high, token_budget=5)[0]
    assert (verdict.matched, verdict.why) == (True, "constant, but over the budget of 5 tokens")
    assert verdict.text == ""


def test_insertion_order() -> None:
    """What speaks stands in the order of insertion, then of the book."""
    book = open_book(
        {
            "entries": [
                entry("b", insertion_order=2),
                entry("a", insertion_order=1),
                entry("c", insertion_order=2),
            ]
        }
    )
    said = verdicts(book, Moment(messages=("ledger",)), MACROS)
    assert [verdict.text for _, verdict in in_order(book, said)] == ["a", "b", "c"]


@pytest.mark.parametrize("number", [10**400, -(10**400), float("nan"), float("inf"), True, "4", None, 3.7])
def test_odd_numbers(number: Any) -> None:
    """A number that is none, or beyond all measure, counts as not given; a fraction of a message is none."""
    odd = entry(insertion_order=number, priority=number)
    assert speaks(odd, said=("x", "ledger", "x"), scan_depth=number, token_budget=number) == [True]


def test_recursive_scanning() -> None:
    """What an entry says wakes others, in any order and over any distance, if the book says so."""
    chain = [entry("no more", keys=["boat"]), entry("the boat", keys=["brother"]), entry("her brother")]
    assert speaks(*chain, recursive_scanning=True) == [True, True, True]
    assert speaks(*chain) == [False, False, True]
    assert speaks(*chain, recursive_scanning=True, scan_depth=0) == [False, False, False]
    chain[1]["extensions"] = {"prevent_recursion": True}
    assert speaks(*chain, recursive_scanning=True) == [False, True, True]
    chain[1]["extensions"] = {"exclude_recursion": True}
    assert speaks(*chain, recursive_scanning=True) == [False, False, True]


def test_hidden_keys_wake_entries_and_are_not_said() -> None:
    """`{{hidden_key:…}}` is read by a recursive scan; `{{// …}}` by nobody."""
    first = entry("A book.{{hidden_key:boat}}{{// engine}}")
    others = [entry("Boats.", keys=["boat"]), entry("Engines.", keys=["engine"])]
    said = judged(first, *others, recursive_scanning=True)
    assert [verdict.speaks for verdict in said] == [True, True, False]
    assert said[0].text == "A book."


# Decorators


@pytest.mark.parametrize(
    ("decorators", "moment", "found"),
    [
        ("@@activate_only_after 2", {"replies": 1}, False),
        ("@@activate_only_after 2", {"replies": 2}, True),
        ("@@activate_only_every 2", {"replies": 3}, False),
        ("@@activate_only_every 2", {"replies": 4}, True),
        ("@@activate_only_every 0", {"replies": 3}, True),
        ("@@keep_activate_after_match", {"matched": {0}, "said": "x"}, True),
        ("@@keep_activate_after_match", {"said": "x"}, False),
        ("@@dont_activate_after_match", {"matched": {0}}, False),
        ("@@dont_activate_after_match", {}, True),
        ("@@is_greeting 1", {"greeting": 0}, False),
        ("@@is_greeting 1", {"greeting": 1}, True),
        ("@@dont_activate", {}, False),
        ("@@dont_activate\n@@activate", {}, True),
        ("@@activate", {"said": "x"}, True),
        ("@@additional_keys ink,paper", {}, False),
        ("@@additional_keys ink,paper", {"said": "ledger, paper"}, True),
        ("@@additional_keys ink\n@@additional_keys paper", {"said": "ledger, paper"}, False),
        ("@@exclude_keys burnt", {"said": "the burnt ledger"}, False),
        ("@@exclude_keys burnt", {}, True),
        ("@@unheard_of 4\n@@@dont_activate", {}, False),
        ("@@unheard_of 4\n@@@unheard_of_too\n@@@x\n@@@y\n@@@dont_activate", {}, False),
        ("@@scan_depth many\n@@@dont_activate", {}, False),
        ("@@depth 4\n@@@dont_activate", {}, True),
        ("@@is_user_icon x\n@@@dont_activate", {}, False),
    ],
)  # fmt: skip
def test_decorators(decorators: str, moment: dict[str, Any], found: bool) -> None:
    """The lines on top of a content decide, and are not said; a fallback counts where the line above is not known."""
    verdict = judged(entry(f"{decorators}\n\nSomething."), **moment)[0]
    assert (verdict.speaks, verdict.text) == (found, "Something." if found else "")


def test_the_first_of_a_name_counts() -> None:
    """Of two decorators with one name the second is ignored, and case does not count in names."""
    said, text = split_content("@@depth 4\n@@DEPTH 1\n@@role user\n@@position nowhere\nText\n@@depth 9")
    assert (said.depth, said.role, said.position, text) == (4, "user", None, "Text\n@@depth 9")


@pytest.mark.parametrize("name", IGNORED)
def test_what_a_chat_cannot_honour_falls_back(name: str) -> None:
    """A decorator of the specification that has no meaning here gives way to its fallback."""
    assert split_content(f"@@{name} 1\n@@@depth 7\nText")[0].depth == 7


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["@@depth 1", "@@@role user", "@@x y", "@@", "text", "", "  ", "@@@", "a @@b", "@@ x"]
        ),
        st.text(max_size=12),
    ),
    max_size=8,
)


@given(LINES)
def test_decorators_are_cut_as_for_the_v2_copy(lines: list[str]) -> None:
    """What a chat says is what a V2 copy of the card says."""
    content = "\n".join(lines)
    assert split_content(content)[1].strip() == without_decorators(content).strip()


# Macros


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{char}} meets {{User}} and {{ CHAR }}", "Moira meets Ann and Moira"),
        ("<BOT> and <user>, <b>", "Moira and Ann, <b>"),
        ("{{// a note}}x{{comment: y}}{{hidden_key:z}}", "x"),
        ("{{reverse:abc}}", "cba"),
        ("{{unknown:1}} {{time}}", "{{unknown:1}} {{time}}"),
        ("{{random:{{user}}}}", "Ann"),
        ("{{random:a\\,b}}", "a,b"),
        (
            "{{roll:d1}} {{roll:x}} {{roll:0}} {{roll:²}}" + "{{roll:" + "9" * 5000 + "}}",
            "1 {{roll:x}} {{roll:0}} {{roll:²}}" + "{{roll:" + "9" * 5000 + "}}",
        ),
    ],
)
def test_macros(text: str, filled: str) -> None:
    """They are replaced whatever their case; what nobody knows stays."""
    assert MACROS.fill(text) == filled


def test_draws_are_of_the_moment() -> None:
    """Random macros draw the same at the same moment and differ between moments; a pick never changes."""
    rolls = [Macros(char="a", user="b", moment=moment).fill("{{roll:1000}}") for moment in range(20)]
    picks = {Macros(char="a", user="b", moment=moment).fill("{{pick:x,y,z}}") for moment in range(20)}
    randoms = {Macros(char="a", user="b", moment=moment).fill("{{random::x::y}}") for moment in range(20)}
    assert rolls[3] == Macros(char="a", user="b", moment=3).fill("{{roll:1000}}")
    assert len(set(rolls)) > 10
    assert len(picks) == 1
    assert randoms == {"x", "y"}


def test_original() -> None:
    """`{{original}}` is what would stand there; an empty text gives way to it."""
    assert with_original("A. {{Original}} B.", "main") == "A. main B."
    assert with_original(" ", "main") == "main"


# Whatever comes


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    ["keys", "content", "extensions", "enabled", "insertion_order", "case_sensitive", "name", "priority", "selective",
     "secondary_keys", "constant", "position", "use_regex"]
)  # fmt: skip
GOOD = st.builds(
    entry,
    st.text(max_size=20) | st.sampled_from(["@@activate\nx", "@@depth 2\ny", "the ledger", "{{random:a,b}}"]),
    keys=st.lists(st.text(max_size=6) | st.sampled_from(["ledger", "boat", "(", "{{char}}"]), max_size=3),
    insertion_order=st.integers(-5, 5),
    priority=st.integers(-5, 5),
    constant=st.booleans(),
    use_regex=st.booleans(),
)


@given(
    st.lists(st.dictionaries(FIELDS, VALUES), max_size=4),
    st.dictionaries(st.text(max_size=12), VALUES, max_size=3),
)
def test_any_book_can_be_opened(entries: list[dict[str, Any]], fields: dict[str, Any]) -> None:
    """A field of another type counts as not given: nothing that JSON can hold breaks a chat."""
    book = open_book({**fields, "entries": entries})
    assert len(verdicts(book, Moment(messages=("ledger",)), MACROS)) == len(entries)


@settings(max_examples=200)
@given(st.lists(GOOD, max_size=6), st.text(max_size=30), st.integers(0, 30), st.booleans())
def test_rules_that_always_hold(
    entries: list[dict[str, Any]], said: str, budget: int, recursive: bool
) -> None:
    """Within the budget; nothing that speaks is less important than what was left out; the same again; in any order."""
    fields = {"said": (said, "ledger"), "token_budget": budget, "recursive_scanning": recursive}
    given_ = judged(*entries, **fields)
    assert sum(verdict.tokens for verdict in given_ if verdict.speaks) <= budget
    dropped = [
        entries[verdict.number]["priority"] for verdict in given_ if verdict.matched and not verdict.speaks
    ]
    kept = [entries[verdict.number]["priority"] for verdict in given_ if verdict.speaks]
    assert not dropped or not kept or max(dropped) <= min(kept)
    assert given_ == judged(*entries, **fields)
    turned = judged(*entries[::-1], **fields)
    assert [verdict.matched for verdict in turned] == [verdict.matched for verdict in given_[::-1]]


@given(st.text(max_size=40))
def test_a_card_without_macros_is_left_alone(text: str) -> None:
    """Text without braces and angles is what it was."""
    clean = text.replace("{", "").replace("<", "")
    assert MACROS.fill(clean) == clean


def test_the_sample_cards_speak_by_their_keys() -> None:
    """Each entry of the sample cards, in three languages, wakes by each of its own keys."""
    for language in ("english", "chinese", "spanish"):
        document = card_data(language)["character_book"]
        book = open_book(document)
        for number, one in enumerate(document["entries"]):
            for key in one["keys"]:
                said = verdicts(book, Moment(messages=(f"… {key}?",)), MACROS)
                assert said[number].speaks, (language, key)
