"""Names that come from a model: what a card may be called, and safe file names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalab.names import SLUG_BYTES, card_name_problem, slug

HOSTILE = [
    "../../etc/passwd",
    "a/b\\c",
    "..",
    ".",
    "",
    " ",
    "a\0b",
    "CON",
    "con.txt",
    "LPT1",
    "x" * 300,
    "人" * 300,
    "\u202egnp.exe",
    "-",
    "_",
    "a" * 79 + "é",
    "\ud83d",
]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_become_safe_slugs(name: str, tmp_path: Path) -> None:
    """A slug is one path component that can be created in its folder."""
    path = tmp_path / f"{slug(name)}.json"
    path.write_text("x")
    assert path.resolve().parent == tmp_path.resolve()


@given(st.text())
def test_slugs_hold_for_any_text(name: str) -> None:
    """Never empty, one component, bounded, NFC, without dots or separators; the same for the same."""
    made = slug(name)
    assert made == slug(name) == unicodedata.normalize("NFC", made)
    assert 0 < len(made.encode()) <= SLUG_BYTES
    assert not set(made) & set('./\\:*?"<>| \0\n')
    assert slug(made) == made


def test_names_of_any_script_stay_readable() -> None:
    """Letters of other scripts are kept."""
    assert slug("王 秀英") == "王-秀英"
    assert slug("José Niño") == "José-Niño"
    assert slug("अनीता") == "अनीता"


@pytest.mark.parametrize(
    "name",
    ["", "...", "CON", "a/b", "a:b", "x" * 65, "名" * 70, "a\nb", " a", "a.", "{{char}}", "a\x07", "e\u0301"],
    ids=ascii,
)
def test_names_no_card_can_have(name: str) -> None:
    """Each is refused with a reason."""
    assert card_name_problem(name)


@pytest.mark.parametrize("name", ["Ana", "O'Brien-Smith", "王秀英", "Zoë 🌊", "J. R. Hall"])
def test_names_a_card_can_have(name: str) -> None:
    """Ordinary names of any script pass."""
    assert card_name_problem(name) is None
