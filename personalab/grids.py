"""A grid of conditions: what is varied, at which stages, to which values, and how often each is asked again.

    grid(stage="social_network", temperature=[0.3, 0.7, 1.1], prompt={"v1": "v1.md", "v2": "v2.md"}, replicates=3)
    grid(stage="tweet_strategy", temperature=[0.3, 1.1]) * grid(stage="example_tweets", model=["small", "large"])
    grid(stage="social_network", conditions=[{"temperature": 0.3}, {"temperature": 1.1, "prompt": "v2.md"}])

Lists are multiplied out, the last one fastest. Prompt files are read here, so a grid stays what it was when a file is edited.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from numbers import Number
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from personalab.errors import ConfigError, unknown
from personalab.prompts import PromptTemplate, as_prompt
from personalab.records import Record, SamplingParams, explain

UNCHANGED = "unchanged"
"""Name of a condition that leaves everything as the pipeline has it."""

_PARAMETERS = ("prompt", "model", *SamplingParams.model_fields)

Value = PromptTemplate | str | float | int | None


class Setting(Record):
    """One parameter of one stage at one value. `label` is the value as it is read in names and tables."""

    stage: str
    parameter: str
    label: str
    value: Value

    @property
    def shown(self) -> str | float | int:
        """The value as it stands in frames: a number itself, anything else by its label."""
        return self.value if isinstance(self.value, int | float) else self.label


class Condition(Record):
    """One point of a grid. `stages` are those under study: each is asked once per replicate, changed or not.

    `given` says that the name was given and not made of the settings.
    """

    name: str
    stages: tuple[str, ...]
    settings: tuple[Setting, ...] = ()
    given: bool = False

    def changes(self, stage: str) -> dict[str, Any]:
        """What this condition changes at a stage, as `Pipeline.vary` takes it."""
        return {setting.parameter: setting.value for setting in self.settings if setting.stage == stage}


class Grid(Record):
    """Conditions in order, each asked `replicates` times. `a * b` gives every condition of one with every one of the other.

    Raises:
        ConfigError: no condition, two of one name or with one content, or a count of replicates below 1.
    """

    conditions: tuple[Condition, ...]
    replicates: int = 1

    def model_post_init(self, context: Any) -> None:
        """Refuse what could not be told apart afterwards."""
        if not self.conditions:
            raise ConfigError("a grid needs a condition: conditions=[…] is empty")
        if self.replicates < 1:
            raise ConfigError(
                f"replicates={self.replicates}: each condition is asked once at least, so 1 or more"
            )
        by_name: dict[str, Condition] = {}
        by_content: dict[frozenset[tuple[str, str, Any]], Condition] = {}
        for each in self.conditions:
            content = frozenset(
                (part.stage, part.parameter, _comparable(part.value)) for part in each.settings
            )
            if content in by_content:
                raise ConfigError(
                    f"conditions {by_content[content].name!r} and {each.name!r} are the same: leave one out "
                    "(to ask the same again, say replicates=2)"
                )
            if each.name in by_name:
                raise ConfigError(
                    f"two conditions are called {each.name!r}: give them names, conditions={{'name': {{…}}}}"
                )
            by_name[each.name] = by_content[content] = each

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages under study, in the order they were named."""
        return tuple(dict.fromkeys(stage for each in self.conditions for stage in each.stages))

    @property
    def factors(self) -> dict[str, tuple[str, str]]:
        """What varies: the name of its column in frames, with stage and parameter.

        `temperature` where one stage is under study, `social_network_temperature` where several are.
        """
        pairs = dict.fromkeys(
            (part.stage, part.parameter) for each in self.conditions for part in each.settings
        )
        return {
            _column(stage, parameter, len(self.stages) > 1): (stage, parameter) for stage, parameter in pairs
        }

    def levels(self, factor: str) -> list[str | float | int]:
        """The values of a factor as frames show them, in the order of the grid."""
        found = (row[factor] for row in map(self.row, self.conditions))
        return list(dict.fromkeys(value for value in found if value is not None))

    def row(self, condition: Condition) -> dict[str, str | float | int | None]:
        """A condition's value for each factor; None where it leaves it as the pipeline has it."""
        there = {(part.stage, part.parameter): part.shown for part in condition.settings}
        return {factor: there.get(pair) for factor, pair in self.factors.items()}

    def __mul__(self, other: Grid) -> Self:
        replicates = {self.replicates, other.replicates} - {1}
        if len(replicates) > 1:
            raise ConfigError(
                f"replicates={self.replicates} times replicates={other.replicates}: say replicates in one of the grids"
            )
        several = len({*self.stages, *other.stages}) > 1
        conditions = tuple(
            _product(one, two, several) for one, two in itertools.product(self.conditions, other.conditions)
        )
        return type(self)(conditions=conditions, replicates=max(replicates, default=1))

    def __str__(self) -> str:
        names = "\n".join(f"  {each.name}" for each in self.conditions)
        return f"{self._head()}\n{names}"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in ("condition", *self.factors))
        rows = "".join(
            f"<tr><td>{escape(each.name)}</td>{''.join(_cell(value) for value in self.row(each).values())}</tr>"
            for each in self.conditions
        )
        return f"<p>{escape(self._head())}</p><table><tr>{head}</tr>{rows}</table>"

    def _head(self) -> str:
        count, times = len(self.conditions), self.replicates
        of = f" × {times} replicates" if times > 1 else ""
        return f"{count} condition{'s' if count > 1 else ''}{of} of {', '.join(self.stages)}"


def grid(
    stage: str | None = None,
    *,
    conditions: Iterable[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]] | None = None,
    replicates: int = 1,
    **parameters: Any,
) -> Grid:
    """A grid over parameters of one stage, or of conditions that are listed.

    A parameter (`prompt`, `model`, `temperature`, `top_p`, `seed`, `max_tokens`) takes one value, a list, or a mapping of
    labels to values. `conditions` lists what is changed instead, by name if it is a mapping; without a `stage` each of
    them says the stage as well: `{"tweet_strategy": {"temperature": 0.3}, "example_tweets": {"prompt": "v2.md"}}`.

    Raises:
        ConfigError: unknown parameter, a value out of range, an empty list, conditions that are the same, or no stage.
        PromptError: a prompt file that is missing or no template.
    """
    if conditions is None:
        if stage is None:
            raise ConfigError("a grid of which stage? say grid(stage='social_network', …)")
        levels = [_levels(stage, name, values) for name, values in parameters.items()]
        made = tuple(_condition((stage,), settings, several=False) for settings in itertools.product(*levels))
        return Grid(conditions=made, replicates=replicates)
    if parameters:
        raise ConfigError(
            f"conditions=[…] and {', '.join(parameters)}: list everything in conditions, or multiply two grids"
        )
    named = isinstance(conditions, Mapping)
    items: list[tuple[str, Mapping[str, Any]]]
    items = (
        list(conditions.items()) if isinstance(conditions, Mapping) else [("", each) for each in conditions]
    )
    listed = [(name, _by_stage(stage, each)) for name, each in items]
    stages = tuple(dict.fromkeys(name for _, each in listed for name in each)) or ((stage,) if stage else ())
    if listed and not stages:
        raise ConfigError(
            "conditions change nothing: say stage='social_network', or name stages in the conditions"
        )
    return Grid(
        conditions=tuple(_listed(name, each, stages, given=named) for name, each in listed),
        replicates=replicates,
    )


def _by_stage(stage: str | None, condition: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    if stage is not None:
        return {stage: condition}
    for name, changes in condition.items():
        if not isinstance(changes, Mapping):
            raise ConfigError(
                f"condition {dict(condition)!r}: of which stage is {name}? say stage=…, or {{'social_network': {{{name!r}: …}}}}"
            )
    return dict(condition)


def _listed(
    name: str, changes: Mapping[str, Mapping[str, Any]], stages: tuple[str, ...], *, given: bool
) -> Condition:
    settings = tuple(
        _one_level(stage, parameter, value)
        for stage, each in changes.items()
        for parameter, value in each.items()
    )
    if given:
        return Condition(name=name, stages=stages, settings=settings, given=True)
    return _condition(stages, settings, several=len(stages) > 1)


def _one_level(stage: str, parameter: str, value: Any) -> Setting:
    found = _levels(stage, parameter, value)
    if len(found) > 1:
        raise ConfigError(
            f"{stage}: a condition has one {parameter}, not {len(found)}; for a list leave out conditions="
        )
    return found[0]


def _levels(stage: str, parameter: str, values: Any) -> tuple[Setting, ...]:
    """The settings of one parameter."""
    if parameter not in _PARAMETERS:
        raise unknown(f"parameter of stage {stage}", parameter, _PARAMETERS)
    labelled: Iterable[tuple[str | None, Any]]
    if isinstance(values, Mapping):
        labelled = values.items()
    elif isinstance(values, Iterable) and not isinstance(values, str | PromptTemplate):
        labelled = ((None, value) for value in values)
    else:
        labelled = ((None, values),)
    settings = tuple(_setting(stage, parameter, label, value) for label, value in labelled)
    if not settings:
        raise ConfigError(f"{parameter}=[] of stage {stage} is empty: give a value at least")
    return _told_apart(settings)


def _setting(stage: str, parameter: str, label: str | None, value: Any) -> Setting:
    if parameter == "prompt":
        if label is None and isinstance(value, str) and "\n" in value:
            raise ConfigError(f"{stage}: a prompt given as text needs a label: prompt={{'v1': …}}")
        template = as_prompt(value)
        return Setting(
            stage=stage, parameter=parameter, label=label or Path(template.name).stem, value=template
        )
    if parameter == "model":
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{stage}: model={value!r} is no name of a model")
        return Setting(stage=stage, parameter=parameter, label=label or value, value=value)
    value = value.item() if hasattr(value, "item") else value  # a number of numpy's
    if value is not None and (not isinstance(value, Number) or isinstance(value, bool)):
        raise ConfigError(f"{stage}: {parameter}={value!r} is no number")
    try:
        value = getattr(SamplingParams.model_validate({parameter: value}), parameter)
    except ValidationError as error:
        raise ConfigError(f"{stage}: {explain(error)}") from error
    return Setting(stage=stage, parameter=parameter, label=label or _number(value), value=value)


def _told_apart(settings: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """Prompt files of one name in two folders are called by their paths."""
    labels = [setting.label for setting in settings]
    return tuple(
        setting.model_copy(update={"label": setting.value.name})
        if labels.count(setting.label) > 1 and isinstance(setting.value, PromptTemplate)
        else setting
        for setting in settings
    )


def _number(value: float | int | None) -> str:
    return "not sent" if value is None else f"{value:.10g}" if isinstance(value, float) else str(value)


def _comparable(value: Value) -> Any:
    return value.sha256 if isinstance(value, PromptTemplate) else value


def _condition(stages: tuple[str, ...], settings: Sequence[Setting], *, several: bool) -> Condition:
    return Condition(name=_name(settings, several) or UNCHANGED, stages=stages, settings=tuple(settings))


def _name(settings: Iterable[Setting], several: bool) -> str:
    return ", ".join(f"{_column(part.stage, part.parameter, several)}={part.label}" for part in settings)


def _column(stage: str, parameter: str, several: bool) -> str:
    return f"{stage}_{parameter}" if several else parameter


def _product(one: Condition, two: Condition, several: bool) -> Condition:
    settings = (*one.settings, *two.settings)
    seen: set[tuple[str, str]] = set()
    for part in settings:
        if (part.stage, part.parameter) in seen:
            raise ConfigError(f"both grids vary {part.parameter} of {part.stage}: vary it in one of them")
        seen.add((part.stage, part.parameter))
    parts = [each.name if each.given else _name(each.settings, several) for each in (one, two)]
    return Condition(
        name=", ".join(part for part in parts if part) or UNCHANGED,
        stages=tuple(dict.fromkeys((*one.stages, *two.stages))),
        settings=settings,
        given=one.given or two.given,
    )


def _cell(value: str | float | int | None) -> str:
    return f"<td>{'' if value is None else escape(str(value))}</td>"
