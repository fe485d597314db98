"""A sweep as one HTML file that opens with no connection: its grid, what was recorded, every trial, what it cost.

Everything in it comes from notebooks and files, so all text is escaped.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from personalab.charts import Figure
from personalab.files import write_whole
from personalab.meters import total
from personalab.progress import duration
from personalab.sweep_progress import cells
from personalab.trial_frames import collect
from personalab.trial_grids import value_text, varied_names
from personalab.trials import EXECUTED, LOG, Trial, find_trials, sweep_folder

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.html"
_CHARTS_MOST = 12
_LEVELS_MOST = 24
_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:24px auto;max-width:1200px;padding:0 16px;color:#1a1a1a;background:#fff}
h1{font-size:22px;margin:0}h2{font-size:17px;margin:24px 0 6px}
table{border-collapse:collapse}td,th{padding:3px 12px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid #ddd}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto}.dim{color:#595959}.failed{color:#a3140c;font-weight:600}
figure{display:inline-block;margin:8px 16px 8px 0}a{color:#0b5cad}
"""


def report(sweep: Path | str) -> Path:
    """Write the report of a sweep into its folder; gives its path.

    Raises:
        ConfigError: no such sweep.
        OutputError: a trial's files cannot be read, or the folder cannot be written.
    """
    folder = sweep_folder(sweep)
    return write_whole(folder / REPORT, report_html(sweep).encode("utf-8", "replace"), durable=False)


def report_html(sweep: Path | str) -> str:
    """The report of a sweep; links are to its folder."""
    trials = find_trials(sweep)
    varied = varied_names(trial.parameters for trial in trials.values())
    frame = collect(sweep)
    name = escape(sweep_folder(sweep).name)
    body = [f"<h1>{name}</h1>", _summary(list(trials.values())), _grid(list(trials.values()), varied)]
    body += [f"<h2>Recorded</h2>{charts}" for charts in [_charts(frame, trials, varied)] if charts]
    body += [_table(trials, varied, _recorded(frame, trials))]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{name}</title>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{"".join(body)}</body></html>'


def _summary(trials: list[Trial]) -> str:
    states = {
        status: sum(trial.status == status for trial in trials)
        for status in ("done", "failed", "interrupted", "running")
    }
    known = [trial.counts for trial in trials if trial.counts is not None]
    calls, tokens, cost = cells(total(known))
    least = "" if len(known) == len(trials) else "at least "
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
    return f'<p>{escape(" · ".join(parts))}</p><p class="dim">{escape(notes)}</p>{mixed}'


def _grid(trials: list[Trial], varied: list[str]) -> str:
    rows = []
    for name in dict.fromkeys(name for trial in trials for name in trial.parameters):
        levels = dict.fromkeys(
            value_text(trial.parameters[name]) for trial in trials if name in trial.parameters
        )
        kind = "varied" if name in varied else "fixed"
        rows.append(f"<tr><td>{escape(name)}</td><td>{kind}</td><td>{escape(' · '.join(levels))}</td></tr>")
    table = f"<table><tr><th>parameter</th><th></th><th>values</th></tr>{''.join(rows)}</table>"
    return f"<h2>Grid</h2>{table if rows else '<p>The defaults of the notebook.</p>'}"


def _table(trials: Mapping[Path, Trial], varied: list[str], recorded: list[str]) -> str:
    from personalab.recording import read_values

    heads = ["trial", *varied, "status", *recorded]
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    head += (
        "".join(f'<th class="n">{each}</th>' for each in ("seconds", "calls", "tokens", "cost"))
        + "<th>files</th>"
    )
    rows = []
    for folder, trial in trials.items():
        values = read_values(folder)
        link = quote(trial.name)
        status = "" if trial.status == "done" else ' class="failed"'
        told = f"{trial.status}: {trial.error}" if trial.error else trial.status
        words = [value_text(trial.parameters[name]) if name in trial.parameters else "" for name in varied]
        row = f'<td><a href="{link}/{EXECUTED}">{escape(trial.name)}</a></td>'
        row += "".join(f"<td>{escape(word)}</td>" for word in words) + f"<td{status}>{escape(told)}</td>"
        row += "".join(f"<td>{escape(_short(values.get(name)))}</td>" for name in recorded)
        seconds = "" if trial.seconds is None else f"{trial.seconds:.1f}"
        row += "".join(f'<td class="n">{each}</td>' for each in (seconds, *cells(trial.counts)))
        rows.append(f'<tr>{row}<td><a href="{link}/{LOG}">log</a> <a href="{link}/">folder</a></td></tr>')
    return f'<h2>Trials</h2><div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _recorded(frame: pd.DataFrame, trials: Mapping[Path, Trial]) -> list[str]:
    from personalab.recording import read_values

    return list(dict.fromkeys(name for folder in trials for name in read_values(folder)))


def _charts(frame: pd.DataFrame, trials: Mapping[Path, Trial], varied: list[str]) -> str:
    """Each recorded number over each varied parameter, as many as are read at a glance."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    numbers = [
        name
        for name in (
            f"{each}_recorded" if f"{each}_recorded" in frame else each for each in _recorded(frame, trials)
        )
        if name in frame and is_numeric_dtype(frame[name]) and not is_bool_dtype(frame[name])
    ]
    pairs = [
        (number, name)
        for number, name in itertools.product(numbers, varied)
        if frame[name].nunique() <= _LEVELS_MOST
    ]
    drawn = "".join(
        f"<figure>{_chart(frame, number, name)}</figure>" for number, name in pairs[:_CHARTS_MOST]
    )
    more = (
        f'<p class="dim">The first {_CHARTS_MOST} of {len(pairs)} charts.</p>'
        if len(pairs) > _CHARTS_MOST
        else ""
    )
    return drawn + more


def _chart(frame: pd.DataFrame, number: str, name: str) -> str:
    import altair as alt
    import pandas as pd

    numeric = pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name])
    # Names may hold dots and brackets, which mean something to Vega.
    data = pd.DataFrame(
        {"x": frame[name] if numeric else frame[name].map(_short), "y": frame[number]}
    ).dropna()
    kind = "Q" if numeric else "N"
    x = alt.X(f"x:{kind}", title=name, sort=None, scale=alt.Scale(zero=False) if numeric else alt.Undefined)
    y = alt.Y("y:Q", title=number, scale=alt.Scale(zero=False))
    base = alt.Chart(data)
    points = base.mark_circle(size=45, opacity=0.55, color="#0072B2").encode(x=x, y=y)
    mean = (
        base.mark_line(color="#D55E00") if numeric else base.mark_tick(color="#D55E00", thickness=3, size=30)
    )
    return Figure(
        (points + mean.encode(x=x, y=alt.Y("mean(y):Q", title=number))).properties(width=300, height=200)
    ).svg()


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else value_text(value)
    return text if len(text) <= 120 else f"{text[:119]}…"
