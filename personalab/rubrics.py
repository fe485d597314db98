"""Rubrics: what a judge scores by, in a file that a researcher can read and change.

    [voice]
    question = "Could this come from this one person, and from hardly anybody else?"
    1 = "Anybody could have written it."
    5 = "A friend would know who wrote it."

Scores are whole numbers from 1 to 5; the levels that are described anchor them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from personalab.errors import ConfigError, unknown
from personalab.records import Record, explain

RUBRIC = Path(__file__).parent / "rubrics" / "persona.toml"
SCORES = (1, 2, 3, 4, 5)


class Criterion(Record):
    """One question to a judge, and what some scores look like."""

    name: str
    question: str = Field(min_length=1)
    levels: dict[int, str]

    @field_validator("levels")
    @classmethod
    def _anchored(cls, levels: dict[int, str]) -> dict[int, str]:
        if strange := sorted(levels.keys() - set(SCORES)):
            raise ValueError(f"scores go from 1 to 5, so there is no {strange[0]}")
        if not {SCORES[0], SCORES[-1]} <= levels.keys():
            raise ValueError("say at least what a 1 and what a 5 look like")
        return dict(sorted(levels.items()))

    def scale(self) -> str:
        """The levels for a prompt, a line each."""
        return "\n".join(f"{score}: {text}" for score, text in self.levels.items())


def load_rubric(path: Path | str = RUBRIC) -> tuple[Criterion, ...]:
    """The criteria of a rubric file, in its order.

    Raises:
        ConfigError: the file cannot be read, or is no rubric; says which criterion and why.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # a TOML error is a ValueError
        raise ConfigError(f"{path} cannot be read as a rubric: {error}") from error
    if not tables:
        raise ConfigError(f"{path} has no criterion: begin one with a line [name] and give it a question")
    return tuple(_criterion(name, table, path) for name, table in tables.items())


def find_criterion(rubric: tuple[Criterion, ...], name: str) -> Criterion:
    """A criterion by name.

    Raises:
        ConfigError: unknown; names the nearest.
    """
    for each in rubric:
        if each.name == name:
            return each
    raise unknown("criterion", name, (each.name for each in rubric))


def _criterion(name: str, table: object, path: Path | str) -> Criterion:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {name} stands outside of a criterion: begin one with a line [name]")
    levels = {int(key): text for key, text in table.items() if key.isascii() and key.isdigit()}
    rest = {key: value for key, value in table.items() if not (key.isascii() and key.isdigit())}
    if "name" in rest:
        raise ConfigError(
            f"{path}: criterion {name}: name: its name stands in the brackets; leave it out here"
        )
    try:
        return Criterion.model_validate({"name": name, "levels": levels, **rest})
    except ValidationError as error:
        raise ConfigError(f"{path}: criterion {name}: {explain(error)}") from error
