"""How a comparison reads: what differs, by how much, how sure, and what so many images could have shown.

For a reader who knows no statistics: sentences first, tables folded up. Names of levels may come from anywhere, so all of it
is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

from personalab.comparison_checks import each_row, is_shown
from personalab.records import AS_WRITTEN
from personalab.views import plain

if TYPE_CHECKING:
    import pandas as pd

_BAR_WIDTH, _BAR_HEIGHT, _BAR_MARGIN = 260, 22, 8
_STYLE = """<style>
.comparison{max-width:1000px;line-height:1.5;font-size:14px;color:inherit}
.comparison h3{margin:0 0 4px;font-size:18px}
.comparison .dim{opacity:.75}
.comparison ul{margin:6px 0;padding-left:20px}
.comparison li{margin:4px 0}
.comparison .warning{border-left:3px solid #D55E00;padding-left:8px;margin:4px 0}
.comparison table{border-collapse:collapse;margin:6px 0}
.comparison td,.comparison th{text-align:right;padding:2px 10px 2px 0;vertical-align:middle}
.comparison td:first-child,.comparison th:first-child{text-align:left}
.comparison summary{cursor:pointer;font-weight:600}
</style>"""
_LEGEND = (
    "The dot is the mean difference over the images, the line its interval, the upright stroke no difference. An interval that "
    "does not touch the stroke speaks for a difference. p is how often chance alone, flipping each image's two values, "
    "would give a difference as large"
)

_P_SHOWN_MIN = 0.001
"""Below that p is told as being below."""
_SHARE_MAX = 10.0
"""Above that a share of the first mean says nothing: that mean is nearly 0."""
_SETTINGS = {"words": "the first {} words of each text", "others": "{} others beside each text"}
"""How budgets are told; other settings by name."""


class Compared(Protocol):
    """What is shown of a comparison."""

    @property
    def levels(self) -> pd.DataFrame: ...
    @property
    def contrasts(self) -> pd.DataFrame: ...
    @property
    def trend(self) -> pd.DataFrame: ...
    @property
    def length_check(self) -> pd.DataFrame | None: ...
    @property
    def warnings(self) -> tuple[str, ...]: ...
    @property
    def meta(self) -> Mapping[str, Any]: ...


def comparison_text(found: Compared) -> str:
    """A comparison as plain text."""
    lines = [f"{_subject(found.meta)}: {headline(found)}", *_about(found), ""]
    lines += [f"  {row.level}: {_level(row)}" for row in each_row(found.levels)]
    lines.append("")
    lines += [f"  {sentence(row, found.meta)}" for row in each_row(found.contrasts)]
    lines += [f"  {text}" for text in (*_trend(found), *_length(found))]
    lines += [f"  warning: {text}" for text in found.warnings]
    return plain("\n".join(lines))


def comparison_html(found: Compared) -> str:
    """A comparison as HTML: sentences, a bar for each difference, warnings, and the tables folded up."""
    meta = found.meta
    title = f"<h3>{escape(_subject(meta))}: {escape(headline(found))}</h3>"
    about = "".join(f'<div class="dim">{escape(text)}</div>' for text in _about(found))
    said = "".join(_item(row, meta) for row in each_row(found.contrasts))
    said += "".join(f"<li>{escape(text)}</li>" for text in (*_trend(found), *_length(found)))
    warned = "".join(f'<div class="warning">{escape(text)}</div>' for text in found.warnings)
    body = f"{title}{about}{_means(found)}<ul>{said}</ul>{_bars(found)}{warned}"
    body += _folded("All numbers of the levels", found.levels)
    body += _folded("All numbers of the differences", found.contrasts)
    return f'{_STYLE}<div class="comparison {AS_WRITTEN}">{plain(body)}</div>'


def _subject(meta: Mapping[str, Any]) -> str:
    across = f" between {meta['across']}s" if meta["across"] else ""
    return f"{meta['metric']}{across} by {meta['by']}"


def headline(found: Compared) -> str:
    """The result in a few words."""
    contrasts, alpha = found.contrasts, found.meta["alpha"]
    if contrasts.empty:
        return "one level, nothing to compare"
    if contrasts["n_pairs"].max() < 2:
        return "a description only, there is one image or none to compare"
    shown = [row for row in each_row(contrasts) if is_shown(row, alpha)]
    if not shown:
        return "no difference shown"
    return f"{len(shown)} of {len(contrasts)} differences shown"


def sentence(row: Any, meta: Mapping[str, Any]) -> str:
    """One contrast in words."""
    unit, pair = _unit(meta), f"from {row.a} to {row.b}"
    if not row.n_pairs:
        return f"Unknown: {pair}, as no {unit} was seen under both."
    if row.n_pairs == 1:
        return f"Not tested: {pair} it {_change(row)} in the one {unit} there is."
    shown = "Shown" if is_shown(row, meta["alpha"]) else "Not shown"
    changed = f"{_change(row)}{_among(row, unit)}"
    if row.ci_method == "constant":
        how_sure = f"It is the same in each of {row.n_pairs} {unit}s"
        if not row.diff:
            return f"{shown}: {pair} it {changed}. {how_sure}."
    else:
        agree = f"{round(row.agree * row.n_pairs)} of {row.n_pairs} {unit}s go the same way"
        interval = (
            f"between {_number(row.ci_low)} and {_number(row.ci_high)} ({1 - meta['alpha']:.0%} interval)"
        )
        how_sure = f"{agree}; the true difference lies {interval}"
    p = f"p {_p_is(row.p)}"
    if row.n_contrasts > 1:
        p += f", corrected for {row.n_contrasts} comparisons: {_p(row.p_adj)}"
    return f"{shown}: {pair} it {changed}. {how_sure}; {p}.{_so(row, meta)}"


def _among(row: Any, unit: str) -> str:
    """Of which units the difference is, where the means are of others too."""
    return f" over the {row.n_pairs} {unit}s seen under both" if row.n_dropped_units else ""


def _change(row: Any) -> str:
    if not row.diff:
        return "does not change"
    relative = f" ({row.diff_rel:+.0%})".replace("-", "−") if abs(row.diff_rel) < _SHARE_MAX else ""
    return f"{'rises' if row.diff > 0 else 'falls'} by {_number(abs(row.diff))}{relative}"


def _so(row: Any, meta: Mapping[str, Any]) -> str:
    """What follows for the reader."""
    if is_shown(row, meta["alpha"]):
        better = {"a": row.a, "b": row.b}.get(row.favours)
        return f" {_direction(meta)}, so this favours {better}." if better is not None else ""
    if row.ci_method == "constant" and not row.diff:
        return ""
    if row.mde_80 is None or row.mde_80 != row.mde_80:
        return f" With {row.n_pairs} {_unit(meta)}s nothing can be shown, whatever the difference."
    alone = ", had it been the only comparison" if row.n_contrasts > 1 else ""
    return (
        f" That is not the same as no difference: with {row.n_pairs} {_unit(meta)}s one of {_number(row.mde_80)} would have been "
        f"found four times of five{alone}, a smaller one less often."
    )


def _direction(meta: Mapping[str, Any]) -> str:
    if meta["direction"]:
        return "Higher is better" if meta["direction"] > 0 else "Lower is better"
    if meta["asked_again"]:
        return f"Between {meta['across']}s neither is better by itself: it shows how much a condition varies when asked again"
    return "Neither high nor low is better by itself"


def _unit(meta: Mapping[str, Any]) -> str:
    return str(meta["paired"][0]) if len(meta["paired"]) == 1 else "unit"


def _about(found: Compared) -> list[str]:
    meta = found.meta
    parts = [meta["description"].split("\n\n")[0].replace("\n", " ")] if meta["description"] else []
    if meta["unit"]:
        parts.append(f"Unit: {meta['unit']}.")
    parts.append(f"{_direction(meta)}.")
    if meta["params"]:
        parts.append(
            "Computed with "
            + ", ".join(
                _SETTINGS.get(name, f"{name} {{}}").format(_setting(value))
                for name, value in meta["params"].items()
            )
            + "."
        )
    return [" ".join(parts)]


def _level(row: Any) -> str:
    if row.mean is None or row.mean != row.mean:
        return "unknown"
    interval = (
        f", {_number(row.ci_low)} to {_number(row.ci_high)}"
        if row.ci_low == row.ci_low and row.ci_low is not None
        else ""
    )
    failed = f", {row.n_failed} of {row.n_rows} rows failed" if row.n_failed else ""
    return f"{_number(row.mean)}{interval} ({row.n_units} {'unit' if row.n_units == 1 else 'units'}{failed})"


def _trend(found: Compared) -> list[str]:
    lines = []
    for row in each_row(found.trend):
        if row.p is None or row.p != row.p:
            continue
        way = "rises" if row.slope > 0 else "falls"
        interval = (
            f", between {_number(row.ci_low)} and {_number(row.ci_high)}" if row.ci_low == row.ci_low else ""
        )
        lines.append(
            f"Over all levels it {way} by {_number(abs(row.slope))} for each step of 1 in {found.meta['by']} (slope "
            f"{_number(row.slope)}{interval}; p {_p_is(row.p)}; p {_p_is(row.page_p)} by Page's test of an ordered trend)."
        )
    return lines


def _length(found: Compared) -> list[str]:
    if found.length_check is None or not (found.length_check["n_pairs"] > 1).any():
        return []
    changed = [row for row in each_row(found.length_check) if is_shown(row, found.meta["alpha"])]
    name = found.length_check["length"].iloc[0] if len(found.length_check) else "length"
    if not changed:
        return [f"Length ({name}) differs by nothing that can be shown."]
    pairs = ", ".join(f"from {row.a} to {row.b} it {_change(row)}" for row in changed)
    return [f"Length ({name}) differs as well: {pairs}."]


def _item(row: Any, meta: Mapping[str, Any]) -> str:
    verdict, _, rest = sentence(row, meta).partition(":")
    return f"<li><strong>{escape(verdict)}</strong>:{escape(rest)}</li>"


def _means(found: Compared) -> str:
    """A line for each level: its mean, interval and number of images."""
    unit = escape(_unit(found.meta))
    head = f"<tr><th>{escape(str(found.meta['by']))}</th><th>mean</th><th>interval</th><th>{unit}s</th></tr>"
    rows = "".join(
        f"<tr><td>{escape(str(row.level))}</td><td>{_number(row.mean)}</td>"
        f"<td>{_number(row.ci_low)} to {_number(row.ci_high)}</td><td>{row.n_units}</td></tr>"
        for row in each_row(found.levels)
    )
    return f"<table>{head}{rows}</table>"


def _bars(found: Compared) -> str:
    """A drawn interval for each contrast, all on one scale."""
    rows = [row for row in each_row(found.contrasts) if row.ci_low == row.ci_low and row.ci_low is not None]
    if not rows:
        return ""
    low, high = min(0.0, *(row.ci_low for row in rows)), max(0.0, *(row.ci_high for row in rows))
    scale = (_BAR_WIDTH - 2 * _BAR_MARGIN) / ((high - low) or 1.0)

    def place(value: float) -> float:
        return float(round(_BAR_MARGIN + (value - low) * scale, 1))

    drawn = "".join(
        f"<tr><td>{escape(f'{row.a} → {row.b}')}</td><td>{_bar(row, place, found.meta['alpha'])}</td>"
        f"<td>{_number(row.diff)}</td><td>{_number(row.ci_low)} to {_number(row.ci_high)}</td>"
        f"<td>{_p(row.p_adj)}</td></tr>"
        for row in rows
    )
    several = max(row.n_contrasts for row in rows) > 1
    p = "p, corrected" if several else "p"
    legend = f"{_LEGEND}; corrected, because several comparisons are made." if several else f"{_LEGEND}."
    head = f"<tr><th></th><th></th><th>difference</th><th>interval</th><th>{p}</th></tr>"
    return f'<table>{head}{drawn}</table><div class="dim">{escape(legend)}</div>'


def _bar(row: Any, place: Any, alpha: float) -> str:
    colour = "#0072B2" if is_shown(row, alpha) else "#767676"
    middle, zero = _BAR_HEIGHT / 2, place(0.0)
    return (
        f'<svg width="{_BAR_WIDTH}" height="{_BAR_HEIGHT}" role="img" aria-label="interval">'
        f'<line x1="{zero}" x2="{zero}" y1="1" y2="{_BAR_HEIGHT - 1}" stroke="currentColor" stroke-opacity=".6"/>'
        f'<line x1="{place(row.ci_low)}" x2="{place(row.ci_high)}" y1="{middle}" y2="{middle}" stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{place(row.diff)}" cy="{middle}" r="5" fill="{colour}"/></svg>'
    )


def _folded(title: str, frame: pd.DataFrame) -> str:
    """A table, turned: a line for each column of the frame, which has more columns than rows."""
    lines = "".join(
        f"<tr><th>{escape(str(name))}</th>{''.join(f'<td>{escape(_cell(value))}</td>' for value in frame[name])}</tr>"
        for name in frame.columns
    )
    return f"<details><summary>{escape(title)}</summary><table>{lines}</table></details>"


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "–"
    return _number(value) if isinstance(value, float) else str(value)


def _setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:60]


def _number(value: float) -> str:
    """Three digits that count, without exponents where they are not needed."""
    if value is None or value != value:
        return "–"
    text = f"{value:.3g}"
    if "e" in text and 1e-9 < abs(value) < 1e9:
        text = f"{float(text):.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"
    return text.replace("-", "−")


def _p_is(value: float) -> str:
    return _p(value) if value < _P_SHOWN_MIN else f"= {_p(value)}"


def _p(value: float) -> str:
    if value is None or value != value:
        return "–"
    return f"below {_P_SHOWN_MIN:g}" if value < _P_SHOWN_MIN else f"{value:.2g}"
