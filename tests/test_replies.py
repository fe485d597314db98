"""Finding the JSON in what a model says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalab.errors import ReplyInvalid
from personalab.replies import find_object, parse_reply
from personalab.schemas import StageOutput

WANTED = {"mood": "calm", "n": 1}


class Mood(StageOutput):
    mood: str
    n: int


@pytest.mark.parametrize(
    "text",
    [
        '{"mood": "calm", "n": 1}',
        '```json\n{"mood": "calm", "n": 1}\n```',
        'Here you are:\n```\n{"mood": "calm", "n": 1}\n```\nAnything else?',
        'Sure! {"mood": "calm", "n": 1} Hope it helps.',
        '<think>{"mood": "no"}</think>\n{"mood": "calm", "n": 1}',
        "{mood: 'calm', n: 1,}",
        '{"mood": “calm”, "n": 1}',
        '[{"mood": "calm", "n": 1}]',
        '```json\n{"mood": "draft", "n": 0}\n```\nBetter:\n```json\n{"mood": "calm", "n": 1}\n```',
        '\ufeff{"mood": "calm", "n": 1}',
    ],
)
def test_damage_is_repaired(text: str) -> None:
    """Fences, prose, thinking, quotes and missing ends do not cost a call."""
    assert parse_reply(text, Mood, "s") == Mood(**WANTED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I can't do that.",
        '{"mood": "calm", "n": 1',
        '{"mood": {"n": 1}, "n": 1, "x": "cut o',
        "[1, 2]",
        "null",
        "{}",
        '"text"',
    ],
)
def test_no_object_is_said(text: str) -> None:
    """What holds no usable object is invalid."""
    with pytest.raises(ReplyInvalid, match="stage s: "):
        parse_reply(text, Mood, "s")


def test_the_problem_names_every_field() -> None:
    """Where it does not fit, in words that can go back to the model."""
    with pytest.raises(
        ReplyInvalid, match="mood: Input should be a valid string; n: Field required; x: Extra inputs"
    ):
        parse_reply('{"mood": 1, "x": 2}', Mood, "s")


@given(st.text())
def test_any_text_is_an_object_or_none(text: str) -> None:
    """No answer raises anything else."""
    found = find_object(text)
    assert found is None or isinstance(found, dict)


@given(
    st.dictionaries(
        st.text(),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5),
        min_size=1,
    ),
    st.text(alphabet="abc \n.`"),
)
def test_whole_json_is_found_as_it_is(data: dict[str, object], around: str) -> None:
    """An object amid prose comes back equal."""
    assert find_object(around + json.dumps(data) + around) == data
