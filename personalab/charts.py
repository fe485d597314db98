"""Charts: interactive where JavaScript runs, a picture where it doesn't, and never a connection needed.

Those of comparisons take plain frames, such as `personalab.frames` gives: a column for what varies, `image`, a metric.
What differs is told by shape or place as well as by colour, so that print and colour-blind readers lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from personalab.errors import ConfigError, unknown
from personalab.frames import Runs, in_flight_df, slots_df, stages_df
from personalab.stats import mean_interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

# JupyterLab 4 draws Vega-Lite 5 by itself. Altair 6 writes 6, which says the same for the charts here.
_VEGALITE_MIME = "application/vnd.vegalite.v5+json"
_VEGALITE_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {"paid": "#0072B2", "cached": "#56B4E9", "failed": "#D55E00"}

_KINDS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999"]


class Figure:
    """An Altair chart that shows itself without a connection. `chart` is the chart, to go on with."""

    def __init__(self, chart: alt.Chart | alt.LayerChart | alt.FacetChart) -> None:
        self.chart = chart

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        spec = self.chart.to_dict() | {"$schema": _VEGALITE_SCHEMA}
        return {_VEGALITE_MIME: spec, "image/png": self.png(), "text/plain": "a chart"}

    def png(self) -> bytes:
        """The chart as a PNG at twice the screen's resolution."""
        import vl_convert

        return bytes(vl_convert.vegalite_to_png(self.chart.to_json(), scale=2))

    def svg(self) -> str:
        """The chart as an SVG, for a page."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg(self.chart.to_json()))


def timeline(runs: Runs) -> Figure:
    """When each stage ran: one bar a stage, seconds since its run began; a row of bars for each run."""
    import altair as alt

    frame = stages_df(runs)
    frame["paid"] = "paid"
    frame.loc[frame["cached"].eq(True), "paid"] = "cached"
    frame.loc[frame["status"] != "done", "paid"] = "failed"
    frame["seconds"] = (frame["ended"] - frame["started"]).round(3)
    order = list(dict.fromkeys(frame.sort_values("started")["stage"]))
    chart = (
        alt.Chart(frame)
        .mark_bar(height=14, cornerRadius=2)
        .encode(
            x=alt.X("started:Q", title="seconds since the run began"),
            x2="ended:Q",
            y=alt.Y("stage:N", sort=order, title=None),
            color=alt.Color(
                "paid:N", title=None, scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values()))
            ),
            tooltip=[
                "run",
                "stage",
                "status",
                "seconds",
                "temperature",
                "attempts",
                "input_tokens",
                "output_tokens",
            ],
        )
        .properties(width=520)
    )
    several = frame["run"].nunique() > 1
    return Figure(chart.facet(row=alt.Row("run:N", title=None)) if several else chart)


def gate(runs: Runs, limit: int | None = None) -> Figure:
    """How full the gate was: requests in flight over the time of a batch, with the limit as a line."""
    import altair as alt

    frame = in_flight_df(runs)
    top = max([limit or 1, *frame["in_flight"]])
    area = (
        alt.Chart(frame)
        .mark_area(interpolate="step-after", color="#56B4E9", line={"color": "#0072B2"})
        .encode(
            x=alt.X("seconds:Q", title="seconds since the first request"),
            y=alt.Y("in_flight:Q", title="requests in flight", scale=alt.Scale(domain=[0, top])),
            tooltip=["seconds", "in_flight"],
        )
    )
    if limit is None:
        return Figure(area.properties(width=620, height=180))
    rule = alt.Chart(alt.InlineData(values=[{"limit": limit}])).mark_rule(strokeDash=[6, 4], color="#D55E00")
    return Figure((area + rule.encode(y="limit:Q")).properties(width=620, height=180))


def month(calendars: Any) -> Figure:
    """Calendars as months: a square a day, coloured by content type; point at it to read the slot. A row a persona."""
    import altair as alt

    frame = slots_df(calendars)
    frame["week"] = frame["date"].dt.strftime("%G-W%V")
    frame["day"] = frame["date"].dt.day
    weekdays = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    base = alt.Chart(frame).encode(
        x=alt.X("weekday:N", sort=weekdays, title=None, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("week:O", title=None),
    )
    squares = base.mark_rect(stroke="white", strokeWidth=2, opacity=0.75).encode(
        color=alt.Color(
            "content_type:N", title=None, scale=alt.Scale(range=_KINDS), legend=alt.Legend(labelLimit=260)
        ),
        tooltip=["date", "time_of_day", "content_type", "topic", "mood"],
    )
    chart = (squares + base.mark_text(baseline="middle").encode(text="day:Q")).properties(
        width=420, height=170
    )
    several = frame["persona"].nunique() > 1
    return Figure(
        chart.facet(row=alt.Row("persona:N", title=None)).resolve_scale(color="independent")
        if several
        else chart
    )


def by_level(frame: pd.DataFrame, metric: str, by: str = "temperature") -> Figure:
    """A metric at each level: a thin line for each image, the mean over images with its 95 % interval on top.

    The interval is of the level's own mean and holds what images differ by; whether levels differ is told by the lines'
    slopes, and by `compare`.

    Raises:
        ConfigError: the frame lacks a column.
    """
    import altair as alt
    import pandas as pd

    cells = _image_means(frame, metric, by)
    means = pd.DataFrame([_mean_row(level, rows) for level, rows in cells.groupby("level", sort=False)])
    numeric = pd.api.types.is_numeric_dtype(pd.Index(cells["level"].unique()))
    across = (
        alt.X(
            "level:Q",
            title=by,
            scale=alt.Scale(zero=False, nice=False, padding=24),
            axis=_ticks(cells["level"]),
        )
        if numeric
        else alt.X("level:N", title=by, sort=list(means["level"]), axis=_labels(means["level"]))
    )
    up = alt.Y("value:Q", title=metric, scale=alt.Scale(zero=False))
    said = [alt.Tooltip(name) for name in ("image", "level", "value", "rows", "text") if name in cells]
    thin = alt.Chart(cells).encode(x=across, y=up, detail="image:N", tooltip=said)
    lines = thin.mark_line(color="#999999", strokeWidth=1, opacity=0.7)
    dots = thin.mark_point(color="#666666", filled=True, size=28, opacity=0.8)
    whole = alt.Chart(means).encode(x=across, y=up, tooltip=["level", "value", "low", "high", "images"])
    bars = whole.mark_rule(color="#0072B2", strokeWidth=3).encode(y=alt.Y("low:Q", title=metric), y2="high:Q")
    bold = whole.mark_line(
        color="#0072B2", strokeWidth=3, point={"size": 90, "color": "#0072B2", "filled": True}
    )
    title = _title(
        metric, f"thin: each of {cells['image'].nunique()} images · bold: their mean and its 95 % interval"
    )
    return Figure((lines + dots + bars + bold).properties(width=460, height=300, title=title))


def paired(frame: pd.DataFrame, metric: str, by: str = "prompt", levels: Sequence[Any] = ()) -> Figure:
    """Two levels beside each other for each image, joined by a line; images in the order of their difference.

    `levels` chooses two where there are more.

    Raises:
        ConfigError: the frame lacks a column, or the levels are not two of its own.
    """
    import altair as alt

    cells = _image_means(frame, metric, by)
    there = list(cells["level"].unique())
    chosen = list(levels) or there
    if len(chosen) != 2:
        raise ConfigError(f"two levels of {by} can be paired, not {len(chosen)}: say levels={there[:2]!r}")
    for level in chosen:
        if level not in there:
            raise unknown(f"level of {by}", str(level), map(str, there))
    cells = cells[cells["level"].isin(chosen)]
    wide = cells.pivot(index="image", columns="level", values="value").dropna()
    wide["difference"] = wide[chosen[1]] - wide[chosen[0]]
    order = list(wide.sort_values("difference").index)
    cells = cells[cells["image"].isin(order)].assign(level=cells["level"].map(str))
    names = [str(level) for level in chosen]
    ends = wide.reset_index().rename(columns={chosen[0]: "a", chosen[1]: "b"})
    up = alt.Y("image:N", sort=order, title=None, axis=alt.Axis(grid=True, gridColor="#eeeeee"))
    across = alt.X("value:Q", title=metric, scale=alt.Scale(zero=False))
    rules = (
        alt.Chart(ends)
        .mark_rule(color="#999999", strokeWidth=2)
        .encode(x=alt.X("a:Q", title=metric), x2="b:Q", y=up, tooltip=["image", "a", "b", "difference"])
    )
    said = [alt.Tooltip(name) for name in ("image", "level", "value", "rows", "text") if name in cells]
    dots = alt.Chart(cells).mark_point(filled=True, size=110, opacity=1).encode(
        x=across,
        y=up,
        color=alt.Color("level:N", title=by, sort=names, scale=alt.Scale(domain=names, range=["#E69F00", "#0072B2"])),
        shape=alt.Shape("level:N", title=by, sort=names, scale=alt.Scale(domain=names, range=["circle", "square"])),
        tooltip=said,
    )  # fmt: skip
    higher, lower = int((wide["difference"] > 0).sum()), int((wide["difference"] < 0).sum())
    title = _title(
        metric, f"{names[1]} is higher than {names[0]} for {higher} of {len(wide)} images, lower for {lower}"
    )
    return Figure((rules + dots).properties(width=460, height=alt.Step(26), title=title))


def heat_map(frame: pd.DataFrame, metric: str, rows: str = "stage", columns: str = "condition") -> Figure:
    """The mean of a metric for each pair of a row and a column, such as stage and condition, written into its square.

    Colours go from the row's lowest to its highest value, as stages differ more than conditions do.

    Raises:
        ConfigError: the frame lacks a column.
    """
    import altair as alt

    _require(frame, [metric, rows, columns])
    if frame[metric].isna().all():
        raise ConfigError(
            f"column {metric} is empty, so there is nothing to draw: see why with compare or score"
        )
    means = (
        frame.groupby([rows, columns], observed=True, sort=False)[metric].agg(["mean", "count"]).reset_index()
        .rename(columns={rows: "row", columns: "column", "mean": "value", "count": "values"}).dropna(subset="value")
    )  # fmt: skip
    low, high = (means.groupby("row", observed=True)["value"].transform(name) for name in ("min", "max"))
    means["share"] = ((means["value"] - low) / (high - low)).where(high > low, -1.0)  # no order, no shade
    means["shown"] = means["value"].map(_rounded)
    base = alt.Chart(means.assign(row=means["row"].map(str), column=means["column"].map(str))).encode(
        x=alt.X("column:N", sort=_ordered(frame[columns]), title=columns, axis=alt.Axis(labelAngle=-30, labelLimit=420)),
        y=alt.Y("row:N", sort=_ordered(frame[rows]), title=None, axis=alt.Axis(labelLimit=220)),
    )  # fmt: skip
    shades = alt.Color(
        "share:Q",
        scale=alt.Scale(domain=[0, 1], range=["#f2f6fb", "#2166ac"]),
        legend=alt.Legend(title="in its row", values=[0, 1], labelExpr="datum.value ? 'highest' : 'lowest'", gradientLength=70),
    )  # fmt: skip
    squares = base.mark_rect(stroke="white", strokeWidth=2).encode(
        color=alt.condition("datum.share < 0", alt.value("#e8e8e8"), shades),
        tooltip=[alt.Tooltip("row", title=rows), alt.Tooltip("column", title=columns), alt.Tooltip("value", title=metric), "values"],
    )  # fmt: skip
    words = base.mark_text(fontSize=12).encode(
        text="shown:N", color=alt.condition("datum.share > 0.6", alt.value("white"), alt.value("black"))
    )
    title = _title(metric, "mean; colours are within each row, grey where all are equal")
    return Figure((squares + words).properties(width=alt.Step(88), height=alt.Step(34), title=title))


def telling_words(frame: pd.DataFrame, a: str = "a", b: str = "b", top: int = 15) -> Figure:
    """The words that tell two conditions apart: a bar a word, to the left those of `a`, to the right those of `b`.

    The frame has columns `word` and `z` (log odds in standard errors, positive for `b`), as `marked_words` gives; its
    other columns are shown when pointed at.

    Raises:
        ConfigError: the frame lacks a column.
    """
    import altair as alt
    import pandas as pd

    _require(frame, ["word", "z"])
    ordered = frame.sort_values("z", ascending=False, kind="stable")
    shown = pd.concat([ordered[ordered["z"] > 0].head(top), ordered[ordered["z"] < 0].tail(top)])
    shown = shown.assign(more=(shown["z"] > 0).map({True: b, False: a}))
    bars = alt.Chart(shown).mark_bar().encode(
        x=alt.X("z:Q", title=f"← {a} · z · {b} →"),
        y=alt.Y("word:N", sort=None, title=None),
        color=alt.Color("more:N", title="more often in", scale=alt.Scale(domain=[a, b], range=["#E69F00", "#0072B2"])),
        tooltip=list(shown.columns),
    )  # fmt: skip
    lines = alt.Chart(alt.InlineData(values=[{"z": -1.96}, {"z": 1.96}])).mark_rule(strokeDash=[4, 4], color="#444444").encode(x="z:Q")  # fmt: skip
    title = _title(
        "words that tell them apart", "dashed: |z| = 1.96; many words are looked at, so take it as a hint"
    )
    return Figure((bars + lines).properties(width=420, height=alt.Step(18), title=title))


def network(people: pd.DataFrame) -> Figure:
    """Social networks as graphs: the persona in the middle, around it everybody, each kind in its own direction and shape.

    Takes `people_df`; there is a graph for each run, or for each cell of an experiment. Point at somebody to read about them.

    Raises:
        ConfigError: the frame lacks a column, or nobody is in it.
    """
    import altair as alt
    import pandas as pd

    _require(people, ["persona", "kind", "name", "relation"])
    if people.empty:
        raise ConfigError("nobody to draw: the runs have no stage social_network")
    places = [name for name in ("condition", "image", "replicate") if name in people] or ["run"]
    titles = people[places].astype(str).agg(" · ".join, axis=1)
    placed = people.drop(columns=places).assign(graph=titles)
    placed = pd.concat([_around(rows) for _, rows in placed.groupby("graph", sort=False)])
    base = alt.Chart(placed).encode(
        x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=[-1.6, 1.6])),
        y=alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-1.25, 1.25])),
    )
    kinds = ["persona", *dict.fromkeys(people["kind"])]
    shapes = ["circle", "circle", "square", "triangle-up"]
    below = alt.Legend(title=None, orient="bottom")
    edges = base.transform_filter("datum.kind != 'persona'").transform_calculate(zero="0").mark_rule(color="#bbbbbb").encode(x2="zero:Q", y2="zero:Q")  # fmt: skip
    dots = base.mark_point(filled=True, size=220, opacity=1).encode(
        color=alt.Color("kind:N", legend=below, scale=alt.Scale(domain=kinds, range=["#000000", *_KINDS])),
        shape=alt.Shape("kind:N", legend=below, scale=alt.Scale(domain=kinds, range=shapes)),
        tooltip=[name for name in people.columns if name not in places],
    )
    texts = [
        base.mark_text(dy=dy, fontSize=size, limit=170, **ink).encode(text=f"{name}:N")
        for name, dy, size in (("name", -16, 12), ("relation", 18, 10))
        for ink in (
            {"stroke": "white", "strokeWidth": 4},
            {"color": "#222222"},
        )  # lines end where a text begins
    ]
    chart = alt.layer(edges, dots, *texts)
    if placed["graph"].nunique() == 1:
        return Figure(chart.properties(width=560, height=400, title=str(placed["graph"].iloc[0])))
    graphs = alt.Facet("graph:N", title=None, sort=list(placed["graph"].unique()))
    return Figure(chart.properties(width=420, height=330).facet(facet=graphs, columns=2))


def _around(people: pd.DataFrame) -> pd.DataFrame:
    """A persona in the middle and its people on a circle, those of one kind beside each other."""
    import pandas as pd

    turns = [math.tau * (number + 0.5) / len(people) + math.tau / 4 for number in range(len(people))]
    ring = people.assign(x=[math.cos(turn) for turn in turns], y=[math.sin(turn) for turn in turns])
    middle = {
        "kind": "persona",
        "relation": "",
        "name": people["persona"].iloc[0],
        "graph": people["graph"].iloc[0],
        "x": 0.0,
        "y": 0.0,
    }
    return pd.concat([ring, pd.DataFrame([middle])])


def _image_means(frame: pd.DataFrame, metric: str, by: str) -> pd.DataFrame:
    """One row per image and level: the mean over its rows, their number, and a text of them to show."""
    _require(frame, [metric, by, "image"])
    known = frame.dropna(subset=[metric])
    if known.empty:
        raise ConfigError(
            f"column {metric} is empty, so there is nothing to draw: see why with compare or score"
        )
    groups = known.groupby([by, "image"], observed=True, sort=isinstance(known[by].dtype, _category()))
    cells = groups[metric].agg(["mean", "count"]).reset_index()
    if "text" in frame:
        cells["text"] = (
            groups["text"].first().map(lambda text: text if len(text) <= 280 else f"{text[:280]}…").to_numpy()
        )
    cells = cells.rename(columns={by: "level", "mean": "value", "count": "rows"})
    return cells.assign(level=list(cells["level"]), image=cells["image"].map(str))


def _mean_row(level: Any, cells: pd.DataFrame) -> dict[str, Any]:
    interval = mean_interval(cells["value"].to_numpy())
    return {
        "level": level,
        "value": cells["value"].mean(),
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "images": len(cells),
    }


def _require(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    for name in columns:
        if name not in frame:
            raise unknown("column", name, map(str, frame.columns))


def _category() -> type:
    import pandas as pd

    return pd.CategoricalDtype


def _ordered(values: pd.Series[Any]) -> list[str]:
    """The values in the order of their categories, else as they come."""
    there = values.cat.categories if isinstance(values.dtype, _category()) else values.unique()
    return [str(value) for value in there]


def _labels(levels: pd.Series[Any]) -> alt.Axis:
    """Short names stand upright, long ones lean so that they do not run into each other."""
    import altair as alt

    longest = max(len(str(level)) for level in levels)
    return alt.Axis(labelAngle=0 if longest * len(levels) < 60 else -30, labelLimit=420)


def _ticks(values: pd.Series[Any]) -> alt.Axis:
    import altair as alt

    return alt.Axis(values=sorted(values.unique()), grid=False)


def _title(text: str, below: str) -> alt.TitleParams:
    import altair as alt

    return alt.TitleParams(text, subtitle=below, anchor="start", subtitleColor="#444444")


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
