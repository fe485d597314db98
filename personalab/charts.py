"""Charts: interactive where JavaScript runs, a picture where it doesn't, and never a connection needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personalab.frames import Runs, in_flight_df, slots_df, stages_df

if TYPE_CHECKING:
    import altair as alt

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
