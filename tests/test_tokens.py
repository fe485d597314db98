import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalab.tokens import TOKENIZER, count_tokens

# Counted with the o200k_base vocabulary.
COUNTED = {
    "This setup offers many advantages, especially over local version control systems. For example, everyone "
    "knows to a certain degree what everyone else on the project is doing.": 31,
    "她想一辈子住在闸房里，却一直没敢在租约上签字。被人夸奖就换话题，被人反驳就去翻书。": 42,
    "Entre semana abre las compuertas a las seis, apunta cada barco en un libro que nadie lee y discute con "
    "los pescadores.": 28,
    '{"name": "Moira", "age": 41, "tags": ["canal", "lock keeper"], "weights": [0.25, 0.1, 0.65]}': 42,
}


@pytest.mark.parametrize(("text", "counted"), COUNTED.items())
def test_is_near_a_real_tokenizer(text: str, counted: int) -> None:
    """Prose in three languages and JSON are estimated within a fifth of what a real vocabulary gives."""
    assert abs(count_tokens(text) - counted) <= 0.2 * counted


def test_chinese_is_not_counted_by_four_characters() -> None:
    """A Chinese character takes most of a token, an English letter a quarter."""
    assert count_tokens("水闸管理员" * 20) > 3 * count_tokens("lock keeper " * 8)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        (" ", 1),
        ("\n\n", 1),
        ("a", 1),
        ("😀", 1),
        ("lock", 1),
        ("2026", 2),
        ("esclusión", 3),
        ("……", 2),
    ],
)
def test_small_texts(text: str, tokens: int) -> None:
    """An empty text has no token, any other at least one; accents and signs count."""
    assert count_tokens(text) == tokens


def test_long_runs_count_by_the_piece() -> None:
    """A word, number or rule of a thousand signs is not one token."""
    assert count_tokens("a" * 1000) == 100
    assert count_tokens("1" * 999) == 333
    assert count_tokens("-" * 1000) == 300


@given(st.text(), st.text())
def test_more_text_is_never_fewer_tokens(one: str, other: str) -> None:
    """Appending a line adds tokens or leaves them; no text makes the estimate fail."""
    assert count_tokens(f"{one}\n{other}") >= count_tokens(one)


def test_names_itself() -> None:
    """The number can be stored with the name of the rule that gave it."""
    assert TOKENIZER == "estimate"
