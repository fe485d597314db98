"""Charts: interactive where JavaScript runs, a picture where it doesn't, and never a connection needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from personalab.frames import Runs, stages_df

if TYPE_CHECKING:
    import altair as alt

# JupyterLab 4 draws Vega-Lite 5 by itself. Altair 6 writes 6, which says the same for the charts here.
_VEGALITE_MIME = "application/vnd.vegalite.v5+json"
_VEGALITE_SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {"paid": "#0072B2", "cached": "#56B4E9", "failed": "#D55E00"}


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
