"""A sweep as one HTML file that opens with no connection: its grid, what was recorded, every trial, what it cost.

Everything in it comes from notebooks and files, so all text is escaped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from personalab.charts import Figure
from personalab.meters import total
from personalab.progress import duration
from personalab.records import JsonObject
from personalab.stores import Place, name_of, write_below
from personalab.sweep_progress import cells
from personalab.trial_frames import collect
from personalab.trial_grids import value_text, varied_names
from personalab.trials import (
    EXECUTED,
    HASH_LENGTH,
    LOG,
    Trial,
    find_trials,
    offline_note,
    points_of,
    sweep_copy,
    sweep_place,
)

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.html"
_CHARTS_MOST = 12
_LEVELS_MOST = 24
_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:24px auto;max-width:1200px;padding:0 16px;color:#1a1a1a;background:#fff}
h1{font-size:22px;margin:0}h2{font-size:17px;margin:24px 0 6px}
table{border-collapse:collapse}td,th{padding:3px 12px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}
td{overflow-wrap:break-word;max-width:20em}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.wide{overflow:auto;max-height:85vh}.wide th{position:sticky;top:0;background:#fff}.dim{color:#595959}.failed{color:#a3140c;font-weight:600}
figure{display:inline-block;vertical-align:top;margin:8px 16px 8px 0}a{color:#0b5cad}td:last-child{white-space:nowrap}
"""


def report(sweep: Path | str) -> Place:
    """Write the report of a sweep beside its trials; gives where it is.

    Raises:
        ConfigError: no such sweep.
        OutputError: a trial's files cannot be read, or the folder cannot be written.
    """
    with sweep_copy(sweep) as folder:
        page = report_html(folder)
    return write_below(sweep_place(sweep), REPORT, page.encode("utf-8", "replace"))


def report_html(sweep: Path | str) -> str:
    """The report of a sweep of this machine; links are to its folder."""
    trials = list(find_trials(sweep).values())
    points = points_of(trials)
    varied = varied_names(points)
    frame = collect(sweep)
    columns = list(frame.columns)
    recorded = columns[columns.index("cost") + 1 :]
    charts = _charts(frame[frame["status"] == "done"], recorded, varied)
    name = escape(name_of(sweep_place(sweep)))
    body = [f"<h1>{name}</h1>", _summary(trials), _grid(points, varied)]
    body += [f"<h2>Recorded</h2>{charts}"] if charts else []
    body += [_table(trials, points, frame[recorded], varied)]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{"".join(body)}</body></html>'


def _summary(trials: list[Trial]) -> str:
    states = {
        status: sum(trial.status == status for trial in trials)
        for status in ("done", "failed", "interrupted", "running")
    }
    every = [counts for trial in trials for counts in (trial.counts, trial.earlier)]
    known = [counts for counts in every if counts is not None]
    calls, tokens, cost = cells(total(known))
    least = "" if len(known) == len(every) else "at least "
    parts = [f"{number} {status}" for status, number in states.items() if number]
    parts += [f"{least}{calls} requests sent", f"{least}{tokens} tokens paid", f"cost {least}{cost}"]
    parts += [f"{duration(sum(trial.seconds or 0 for trial in trials))} in kernels"]
    versions = {(trial.notebook, trial.notebook_sha256, trial.package_version) for trial in trials}
    notes = ", ".join(
        f"{notebook} {sha[:8]} with personalab {version}" for notebook, sha, version in sorted(versions)
    )
    mixed = (
        '<p class="failed">The trials are of different versions and may not be compared.</p>'
        if len(versions) > 1
        else ""
    )
    said = offline_note(trials)
    offline = f"<p><strong>{said[0].upper()}{said[1:]}.</strong></p>" if said else ""
    return f'<p>{escape(" · ".join(parts))}</p><p class="dim">{escape(notes)}</p>{offline}{mixed}'


def _grid(points: list[JsonObject], varied: list[str]) -> str:
    rows = []
    for name in dict.fromkeys(name for point in points for name in point):
        levels = dict.fromkeys(value_text(point[name]) for point in points if name in point)
        kind = "varied" if name in varied else "fixed"
        rows.append(f"<tr><td>{escape(name)}</td><td>{kind}</td><td>{escape(' · '.join(levels))}</td></tr>")
    table = f"<table><tr><th>parameter</th><th></th><th>values</th></tr>{''.join(rows)}</table>"
    return f"<h2>Grid</h2>{table if rows else '<p>The defaults of the notebook.</p>'}"


def _table(trials: list[Trial], points: list[JsonObject], recorded: pd.DataFrame, varied: list[str]) -> str:
    named = (escape(each).replace("_", "_<wbr>") for each in ("trial", *varied, "status", *recorded.columns))
    head = "".join(f"<th>{each}</th>" for each in named)
    head += "".join(f'<th class="n">{each}</th>' for each in ("seconds", "calls", "tokens", "cost"))
    rows = "".join(
        _row(trial, [value_text(point[name]) if name in point else "" for name in varied], values)
        for trial, point, values in zip(trials, points, recorded.itertuples(index=False), strict=True)
    )
    return f'<h2>Trials</h2><div class="wide"><table><tr>{head}<th>files</th></tr>{rows}</table></div>'


def _row(trial: Trial, given: list[str], values: Iterable[Any]) -> str:
    link = quote(trial.name)
    mark = "" if trial.status == "done" else ' class="failed"'
    told = f"{trial.status}: {trial.error}" if trial.error else trial.status
    numbers = ["" if trial.seconds is None else f"{trial.seconds:.1f}", *cells(trial.counts)]
    row = f'<td><a href="{link}/{EXECUTED}">{trial.name[-HASH_LENGTH:]}</a></td>'
    row += "".join(f"<td>{escape(word)}</td>" for word in given) + f"<td{mark}>{escape(told)}</td>"
    row += "".join(f"<td>{escape(_short(value))}</td>" for value in values)
    row += "".join(f'<td class="n">{each}</td>' for each in numbers)
    return f'<tr>{row}<td><a href="{link}/{LOG}">log</a> <a href="{link}/">folder</a></td></tr>'


def _charts(frame: pd.DataFrame, recorded: list[str], varied: list[str]) -> str:
    """Each recorded number over each varied parameter, as many as are read at a glance."""
    pairs = [
        (number, name)
        for number, name in itertools.product(recorded, varied)
        if _is_number(frame[number]) and frame[name].nunique() <= _LEVELS_MOST
    ]
    drawn = "".join(
        f"<figure>{_chart(frame[name], frame[number])}</figure>" for number, name in pairs[:_CHARTS_MOST]
    )
    more = (
        f'<p class="dim">The first {_CHARTS_MOST} of {len(pairs)} charts.</p>'
        if len(pairs) > _CHARTS_MOST
        else ""
    )
    return drawn + more


def _is_number(column: pd.Series[Any]) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(column) and not is_bool_dtype(column) and bool(column.notna().any())


def _chart(levels: pd.Series[Any], values: pd.Series[Any]) -> str:
    """A point a trial, and their mean: a line where levels are numbers, else a stroke."""
    import altair as alt
    import pandas as pd

    numeric = _is_number(levels)
    # Names may hold dots and brackets, which mean something to Vega.
    data = pd.DataFrame({"x": levels if numeric else levels.map(_short), "y": values}).dropna()
    if numeric:
        x = alt.X("x:Q", title=str(levels.name), scale=alt.Scale(zero=False))
    else:
        x = alt.X("x:N", title=str(levels.name), sort=None, axis=alt.Axis(labelAngle=0))
    base = alt.Chart(data)
    points = base.mark_circle(size=45, opacity=0.55, color="#0072B2")
    points = points.encode(x=x, y=alt.Y("y:Q", title=str(values.name), scale=alt.Scale(zero=False)))
    mean = (
        base.mark_line(color="#D55E00") if numeric else base.mark_tick(color="#D55E00", thickness=3, size=30)
    )
    return Figure((points + mean.encode(x=x, y="mean(y):Q")).properties(width=300, height=200)).svg()


def _short(value: Any) -> str:
    if value is None or value != value:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else value_text(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
