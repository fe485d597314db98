"""What a metric is, and the list of those that are known.

A metric is a function with facts about it. Its positional parameters are columns of a frame: values for a metric of a
row, lists for one of a set. Its keyword-only parameters are settings; `prepare` may set some once for all sets, so that
they are compared at one budget.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, Field

from personalab.errors import ConfigError, unknown
from personalab.records import Record

Level = Literal["row", "set", "population"]
Need = Literal["nothing", "embeddings", "judge"]
Group = tuple[Sequence[Any], ...]
"""The columns of one set, in the order of the metric's positional parameters."""

PART, VECTORS = "part", "vectors"
"""Parameters that no column gives: what not to compare with each other, and the embeddings of `text`."""

Function = TypeVar("Function", bound=Callable[..., Any])


class Metric(Record):
    """A number computed by code.

    `level`: of a row (a tweet), a set (texts that belong together), or a population (a condition's personas).
    `direction`: 1 if higher is better, −1 if lower, 0 if neither. `range`: lowest and highest value, None where open.
    `length_sensitive`: whether it moves with the length of the texts although the writer is the same. `min_n`: rows
    below which it is unknown. `columns`: what it reads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str
    version: int = 1
    level: Level
    unit: str
    range: tuple[float | None, float | None]
    direction: Literal[-1, 0, 1]
    length_sensitive: bool = False
    needs: Need = "nothing"
    min_n: int = 1
    params: dict[str, Any] = Field(default_factory=dict)
    description: str
    reference: str = ""
    columns: tuple[str, ...]
    compute: Callable[..., Any]
    prepare: Callable[[Sequence[Group]], Mapping[str, Any]] | None = None
    built_in: bool = False

    @property
    def compares_parts(self) -> bool:
        """Whether it can leave out comparisons within a part: within an image, or within a replicate."""
        return PART in self.columns

    def checked(self, value: Any) -> float | None:
        """A value as a number within the range; None is unknown.

        Raises:
            ConfigError: no number, or one outside the range.
        """
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"metric {self.name} gave {value!r}: it has to give a number or None"
            ) from error
        low, high = self.range
        if number != number:
            return None
        beyond = (low is not None and number < low - 1e-9) or (high is not None and number > high + 1e-9)
        if beyond or math.isinf(number):
            raise ConfigError(
                f"metric {self.name} gave {number:g}, outside its range {shown_range(self.range)}: mend either"
            )
        return number


def metric(
    *,
    level: Level = "row",
    unit: str = "",
    range: tuple[float | None, float | None] = (None, None),  # noqa: A002 — the word of the facts
    direction: Literal[-1, 0, 1] = 0,
    length_sensitive: bool = False,
    needs: Need = "nothing",
    min_n: int = 1,
    version: int = 1,
    reference: str = "",
    prepare: Callable[[Sequence[Group]], Mapping[str, Any]] | None = None,
) -> Callable[[Function], Function]:
    """Register a function as a metric under its own name; its docstring is the description.

        @metric(unit="share", range=(0, 1))
        def shouting(text):
            "Share of the letters that are capitals."
            return sum(map(str.isupper, text)) / max(1, len(text))

    Registered again, as when a notebook's cell is run again, it replaces the earlier one.

    Raises:
        ConfigError: no docstring, no column to read, or the name of one of personalab's own metrics.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        parameters = inspect.signature(function).parameters.values()
        columns = tuple(each.name for each in parameters if each.kind is not each.KEYWORD_ONLY)
        description = inspect.getdoc(function)
        if not columns:
            raise ConfigError(f"metric {name} reads no column: give it a parameter named like one, as text")
        if not description:
            raise ConfigError(f"metric {name} has no docstring: write one that says what it measures")
        if name in _REGISTRY and _REGISTRY[name].built_in:
            raise ConfigError(f"metric {name} is one of personalab's own: give yours another name")
        _REGISTRY[name] = Metric(
            name=name,
            version=version,
            level=level,
            unit=unit,
            range=range,
            direction=direction,
            length_sensitive=length_sensitive,
            needs=needs,
            min_n=min_n,
            params={
                each.name: each.default
                for each in parameters
                if each.kind is each.KEYWORD_ONLY and each.default is not each.empty
            },
            description=description,
            reference=reference,
            columns=columns,
            compute=function,
            prepare=prepare,
            built_in=(function.__module__ or "").startswith("personalab."),
        )
        return function

    return register


def known_metrics() -> tuple[Metric, ...]:
    """Every metric, in the order they were registered."""
    return tuple(_REGISTRY.values())


def find_metric(name: str) -> Metric:
    """The metric of a name.

    Raises:
        ConfigError: there is none; names the nearest.
    """
    if name not in _REGISTRY:
        raise unknown("metric", name, _REGISTRY)
    return _REGISTRY[name]


def shown_range(bounds: tuple[float | None, float | None]) -> str:
    """A range for reading: `0 to 1`, `0 and more`, `any`."""
    low, high = bounds
    if low is None and high is None:
        return "any"
    if high is None:
        return f"{low:g} and more"
    return f"{high:g} and less" if low is None else f"{low:g} to {high:g}"


_REGISTRY: dict[str, Metric] = {}
