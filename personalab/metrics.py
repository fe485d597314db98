"""Score frames: registered metrics over rows, sets of texts and populations of personas.

`python -m personalab.metrics` prints the table of the metrics as it stands in docs/metrics.md. Register your own with
`@metric`, in a notebook or anywhere.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict

from personalab import row_metrics, set_metrics
from personalab.attributes import known
from personalab.errors import ConfigError, unknown
from personalab.records import Record
from personalab.registry import (
    PART,
    VECTORS,
    Group,
    Metric,
    find_metric,
    known_metrics,
    metric,
    shown_range,
)
from personalab.row_metrics import format_distance

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Metric",
    "diversities",
    "find_metric",
    "format_distance",
    "known_metrics",
    "metric",
    "metrics_df",
    "score",
    "score_rows",
]

Embed = Callable[[list[str]], ArrayLike]
"""Texts to vectors, one a text. An attribute `model` names the embedding model."""
Params = Mapping[str, Mapping[str, Any]]
"""Settings by metric: `{"distinct_2": {"budget": 90}}`."""

_BUILT_IN = (row_metrics, set_metrics)  # importing them registers theirs
_DIRECTIONS = {1: "higher", 0: "neither", -1: "lower"}


class Scored(Record):
    """Scores with what they were computed with. `params` and `versions` by metric; `warnings` one line each."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    frame: Any
    params: dict[str, dict[str, Any]]
    warnings: tuple[str, ...]


def score(
    frame: pd.DataFrame,
    metrics: str | Iterable[str] | None = None,
    by: str | Sequence[str] | None = None,
    *,
    across: str | None = None,
    params: Params | None = None,
    embed: Embed | None = None,
) -> pd.DataFrame:
    """One row per group of `by`, one column per metric, `n_rows` the rows it was computed from. Unknown is NaN.

    A metric of a row is the mean over the group. Without `metrics`: all that the frame has the columns for. Without
    `by`: condition, image (else persona_id) and replicate, as far as they are columns. `across="replicate"` or `across="image"` compares only
    texts of different replicates, or images, with each other. The budgets used are in `.attrs["params"]`.

    Raises:
        ConfigError: a metric, column or setting that is not known; texts of several images or replicates in one set.
    """
    scored = scored_groups(frame, metrics, by, across=across, params=params, embed=embed)
    for each in scored.warnings:
        warnings.warn(each, stacklevel=2)
    found: pd.DataFrame = scored.frame
    found.attrs["params"] = scored.params
    return found


def score_rows(
    frame: pd.DataFrame, metrics: str | Iterable[str] | None = None, *, params: Params | None = None
) -> pd.DataFrame:
    """The frame with a column for each metric of a row.

    Raises:
        ConfigError: a metric of another level, or a column that is not there.
    """
    chosen = _chosen(frame, metrics, lambda each: each.level == "row" and each.name not in frame.columns)
    for each in chosen:
        if each.level != "row":
            raise ConfigError(
                f"metric {each.name} is of a {each.level}, not of a row: use score(frame, by=…)"
            )
    return frame.assign(**{each.name: _row_values(frame, each, _settings(each, params)) for each in chosen})


def diversities(
    frame: pd.DataFrame,
    metrics: str | Iterable[str] = (
        "near_duplicate_rate",
        "shared_4gram_rate",
        "jaccard_mean",
        "template_rate",
    ),
    by: str | Sequence[str] = "condition",
    *,
    params: Params | None = None,
) -> pd.DataFrame:
    """The three diversities apart: one row per condition, image (none for `across images`) and diversity.

    `within`: texts of one persona's run; `across replicates`: of one image, other replicates; `across images`: of other
    images. They differ in what they say and are never put into one number.

    Raises:
        ConfigError: a metric that cannot tell parts apart, or no column `image`.
    """
    import pandas as pd

    names = [metrics] if isinstance(metrics, str) else list(metrics)
    for name in names:
        if not find_metric(name).compares_parts:
            able = [each.name for each in known_metrics() if each.compares_parts]
            raise ConfigError(
                f"metric {name} cannot leave comparisons out; those that can: {', '.join(able)}"
            )
    keys = [by] if isinstance(by, str) else list(by)
    _require(frame, [*keys, "image"])
    replicate = ["replicate"] if "replicate" in frame.columns else []
    parts = {"within": score(frame, names, [*keys, "image", *replicate], params=params)}
    if replicate:
        parts["across replicates"] = score(frame, names, [*keys, "image"], across="replicate", params=params)
    parts["across images"] = score(frame, names, [*keys, *replicate], across="image", params=params)
    whole = pd.concat([part.assign(diversity=name) for name, part in parts.items()], ignore_index=True)
    return whole[["diversity", *keys, "image", *replicate, "n_rows", *names]]


def metrics_df() -> pd.DataFrame:
    """One row per metric: what it is, which way is better, what it needs."""
    import pandas as pd

    rows = [
        {
            "metric": each.name,
            "level": each.level,
            "unit": each.unit,
            "range": shown_range(each.range),
            "better": _DIRECTIONS[each.direction],
            "length_sensitive": each.length_sensitive,
            "needs": each.needs,
            "min_n": each.min_n,
            "reads": ", ".join(each.columns),
            "version": each.version,
            "description": each.description,
            "reference": each.reference,
        }
        for each in known_metrics()
    ]
    return pd.DataFrame(rows)


def metrics_markdown() -> str:
    """The metrics as a table in Markdown."""
    lines = ["| metric | of a | unit | range | better | what it is |", "|---|---|---|---|---|---|"]
    for each in known_metrics():
        notes = [each.description.replace("\n\n", " ").replace("\n", " ")]
        if each.reference:
            notes.append(f"({each.reference})")
        if each.length_sensitive:
            notes.append("Moves with length.")
        if each.needs != "nothing":
            notes.append(f"Needs {each.needs}.")
        cells = (
            f"`{each.name}`",
            each.level,
            each.unit,
            shown_range(each.range),
            _DIRECTIONS[each.direction],
        )
        lines.append(f"| {' | '.join(cells)} | {' '.join(notes)} |")
    return "\n".join(lines)


def scored_groups(
    frame: pd.DataFrame,
    metrics: str | Iterable[str] | None = None,
    by: str | Sequence[str] | None = None,
    *,
    across: str | None = None,
    params: Params | None = None,
    embed: Embed | None = None,
) -> Scored:
    """As `score`, with settings and warnings as values."""
    sets = _Sets(frame, by, across, embed)
    chosen = _chosen(frame, metrics, lambda each: sets.unfit(each) is None)
    for each in chosen:
        if problem := sets.unfit(each):
            raise ConfigError(f"metric {each.name}: {problem}")
    table = frame.iloc[[place[0] for place in sets.places]][sets.keys].reset_index(drop=True)
    table["n_rows"] = [len(place) for place in sets.places]
    vectors = _embedded(frame, chosen, embed)
    used: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for each in chosen:
        settings = _settings(each, params)
        if each.level == "row":
            values = _row_values(frame, each, settings)
            table[each.name] = [_mean(values[place]) for place in sets.places]
        else:
            columns = [_group(each, part, across, vectors) for part in sets.parts]
            settings |= _prepared(each, columns, settings)
            found = [_set_value(each, group, settings) for group in columns]
            table[each.name] = np.array(found, dtype=np.float64)
            notes += _unknown_sets(each, found, settings)
        used[each.name] = {"version": each.version, **settings}
        if each.needs == "embeddings":
            model = getattr(embed, "model", getattr(embed, "__name__", "unnamed"))
            used[each.name]["embedding_model"] = str(model)
    return Scored(frame=table, params=used, warnings=tuple(notes))


class _Sets:
    """The groups of a frame, and what may be said of them."""

    def __init__(
        self, frame: pd.DataFrame, by: str | Sequence[str] | None, across: str | None, embed: Embed | None
    ) -> None:
        # Of tweets files the persona is known, and not always the image it comes from.
        self.unit = "persona_id" if "image" not in frame and "persona_id" in frame else "image"
        usual = [each for each in ("condition", self.unit, "replicate") if each in frame.columns]
        self.keys = usual if by is None else [by] if isinstance(by, str) else list(by)
        self.across, self.embed = across, embed
        _require(frame, self.keys + ([across] if across else []))
        if across in self.keys:
            keys = ", ".join(self.keys)
            raise ConfigError(
                f"across={across!r} compares what by={keys} keeps apart: leave {across} out of by"
            )
        self.places = _places(frame, self.keys)
        self.parts = [frame.iloc[place] for place in self.places]
        self.mixed = [each for each in (self.unit, "replicate") if _mixes(self.parts, each)]

    def unfit(self, each: Metric) -> str | None:
        """Why a metric cannot be computed for these groups; None where it can."""
        if each.needs == "judge":
            return "is given by a judge, not computed"
        if each.needs == "embeddings" and self.embed is None:
            return "needs embeddings: give embed=, a function from a list of texts to vectors"
        if each.level == "row":
            return None
        if each.level == "population" and self.unit in self.keys:
            return f"is of all personas of a condition: leave {self.unit} out of by"
        if self.across is not None and each.level == "set" and not each.compares_parts:
            return f"cannot leave out comparisons within one {self.across}: leave out across"
        allowed = {self.across, self.unit if each.level == "population" else None}
        for column in self.mixed:
            if column not in allowed:
                across = f", or give across={column!r}" if each.compares_parts else ""
                mend = f"add {column!r} to by{across}"
                return f"a group holds several {column}s, which would mix different diversities: {mend}"
        return None


def _chosen(
    frame: pd.DataFrame, metrics: str | Iterable[str] | None, fits: Callable[[Metric], bool]
) -> list[Metric]:
    """The metrics asked for, each with its columns there; else all that fit and have theirs."""
    if metrics is not None:
        chosen = [
            find_metric(name) for name in ([metrics] if isinstance(metrics, str) else dict.fromkeys(metrics))
        ]
        for each in chosen:
            _require(frame, _read(each), f"metric {each.name}: ")
        return chosen
    return [each for each in known_metrics() if set(_read(each)) <= set(frame.columns) and fits(each)]


def _read(each: Metric) -> list[str]:
    """The columns of the frame that a metric reads."""
    return ["text" if name == VECTORS else name for name in each.columns if name != PART]


def _places(frame: pd.DataFrame, keys: Sequence[str]) -> list[NDArray[np.int64]]:
    """The places of the rows of each group, groups in the order in which they appear."""
    if not keys or frame.empty:
        return [np.arange(len(frame))] if len(frame) else []
    numbers = frame.groupby(list(keys), sort=False, observed=True, dropna=False).ngroup().to_numpy()
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _mixes(groups: Sequence[pd.DataFrame], column: str) -> bool:
    return any(column in part.columns and part[column].nunique(dropna=False) > 1 for part in groups)


def _settings(each: Metric, params: Params | None) -> dict[str, Any]:
    given = dict((params or {}).get(each.name, {}))
    allowed = set(each.params) | {"words", "others", "budget"} & set(_keywords(each))
    for name in given:
        if name not in allowed:
            raise unknown(f"setting of metric {each.name}", name, allowed)
    return {**each.params, **given}


def _keywords(each: Metric) -> list[str]:
    code = each.compute.__code__
    return list(code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount])


def _prepared(each: Metric, groups: Sequence[Group], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The budgets that were not given."""
    if each.prepare is None:
        return {}
    wanted = [name for name in _keywords(each) if settings.get(name) is None]
    found = each.prepare(groups) if wanted else {}
    return {name: value for name, value in found.items() if name in wanted}


def _row_values(frame: pd.DataFrame, each: Metric, settings: Mapping[str, Any]) -> NDArray[np.float64]:
    compute = partial(each.compute, **settings)
    # An error that is not there is not an unknown one, so a column may be empty where the metric says so.
    optional = {"error"} & set(each.columns)
    needed = [name not in optional for name in each.columns]
    values = [
        each.checked(compute(*(value if known(value) else None for value in row)))
        if all(known(value) or not need for value, need in zip(row, needed, strict=True))
        else None
        for row in zip(*(frame[name].tolist() for name in each.columns), strict=True)
    ]
    return np.array(values, dtype=np.float64)


def _group(
    each: Metric, part: pd.DataFrame, across: str | None, vectors: Mapping[str, NDArray[np.float64]]
) -> Group:
    """What a metric reads of a set, without the rows where something is unknown."""
    kept = part
    for name in _read(each):
        kept = kept[[known(value) for value in kept[name]]]
    if VECTORS in each.columns:
        kept = kept[[_embeddable(text) for text in kept["text"]]]
    columns: list[Sequence[Any]] = []
    for name in each.columns:
        if name == PART:
            columns.append(kept[across].tolist() if across else list(range(len(kept))))
        elif name == VECTORS:
            columns.append([vectors[text] for text in kept["text"]])
        else:
            columns.append(kept[name].tolist())
    return tuple(columns)


def _set_value(each: Metric, group: Group, settings: Mapping[str, Any]) -> float | None:
    return each.checked(each.compute(*group, **settings)) if len(group[0]) >= each.min_n else None


def _unknown_sets(each: Metric, values: Sequence[float | None], settings: Mapping[str, Any]) -> list[str]:
    missing = sum(value is None for value in values)
    if not missing:
        return []
    budgets = [
        f"{name} {settings[name]}" for name in ("words", "others", "budget") if settings.get(name) is not None
    ]
    shared = f" the shared budget ({', '.join(budgets)})" if budgets else f" {each.min_n} rows"
    return [f"{each.name} is unknown for {missing} of {len(values)} sets, which are below{shared}"]


def _embedded(
    frame: pd.DataFrame, chosen: Sequence[Metric], embed: Embed | None
) -> dict[str, NDArray[np.float64]]:
    """A vector for each different text, asked for in one go."""
    if embed is None or not any(VECTORS in each.columns for each in chosen):
        return {}
    texts = list(dict.fromkeys(text for text in frame["text"] if _embeddable(text)))
    vectors = np.asarray(embed(texts), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ConfigError(
            f"embed gave {len(vectors)} vectors for {len(texts)} texts: it has to give one a text"
        )
    return dict(zip(texts, vectors, strict=True))


def _embeddable(text: Any) -> bool:
    """Whether a text has a vector: an empty one has none."""
    return known(text) and bool(str(text).strip())


def _mean(values: NDArray[np.float64]) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else np.nan


def _require(frame: pd.DataFrame, columns: Iterable[str], whose: str = "") -> None:
    for column in columns:
        if column not in frame.columns:
            error = unknown("column", column, map(str, frame.columns))
            raise ConfigError(f"{whose}{error}")


if __name__ == "__main__":
    sys.stdout.write(metrics_markdown() + "\n")
