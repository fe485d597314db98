"""What the pages show of the code, drawn from the code: the stage graph, and an example of every file. A test holds them current.

python docs/drawn.py
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from personalab import STAGES, Pipeline
from personalab.frames import tweets_df
from personalab.jobs import plan_calendars, write_tweets
from personalab.planner import Planner
from personalab.reviews import ReviewFile
from personalab.stages import Stage
from personalab.sweeps import sweep

DOCS = Path(__file__).parent
PORTRAIT = DOCS.parent / "data" / "portraits" / "silver_bun.png"
GRAPH = DOCS / "pictures" / "stages.svg"
FILES = DOCS / "files.md"

WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 170, 46, 60, 16, 20

SOMEWHERE = "/home/anna/study"
TEXT_LENGTH = 56
CHANGING = {
    "begun", "started", "ended", "seconds", "spans", "written", "time", "sitting", "id", "endpoint", "package_version", "reply_sha256",
}  # fmt: skip
"""Fields that are others each time; those of a card are not, so that the same persona is the same bytes."""


def stage_graph(stages: Sequence[Stage] = STAGES) -> str:
    """The stages as SVG: a column is what can run at once, an arrow what a stage waits for."""
    columns = _columns(stages)
    rows = _rows(stages, columns)
    number = {stage.name: place for place, stage in enumerate(stages, 1)}

    def corner(name: str) -> tuple[float, float]:
        return MARGIN + columns[name] * (WIDTH + GAP_X), MARGIN + rows[name] * (HEIGHT + GAP_Y)

    boxes, arrows = [], []
    middle = max(rows.values()) / 2
    image = (MARGIN, MARGIN + middle * (HEIGHT + GAP_Y))
    boxes.append(_box(*image, "image", "or a description", "source"))
    for stage in stages:
        boxes.append(
            _box(
                *corner(stage.name),
                f"{number[stage.name]} {stage.name}",
                f"temperature {stage.sampling.temperature}",
                "stage",
            )
        )
        starts = [corner(need) for need in _direct(stage, stages)] or [image]
        arrows += [_arrow(start, corner(stage.name)) for start in starts]
    wide = 2 * MARGIN + (1 + max(columns.values())) * (WIDTH + GAP_X) - GAP_X
    high = 2 * MARGIN + (1 + max(rows.values())) * (HEIGHT + GAP_Y) - GAP_Y
    body = "\n".join([*arrows, *boxes])
    return _SVG.format(wide=wide, high=high, body=body)


_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" role="img">
<title>The stages and what each waits for</title>
<style>
text {{ font: 13px system-ui, sans-serif; fill: #1f2328 }}
.small {{ font-size: 11px; fill: #656d76 }}
rect {{ fill: #eef4fb; stroke: #3f7cbf; rx: 8px }}
.source {{ fill: #fdf3e4; stroke: #c9862b }}
path {{ fill: none; stroke: #8b949e; stroke-width: 1.5 }}
.paper {{ fill: #ffffff; stroke: none }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" style="fill:#8b949e;stroke:none"/></marker></defs>
<rect class="paper" width="{wide}" height="{high}"/>
{body}
</svg>
"""


def _box(x: float, y: float, title: str, below: str, kind: str) -> str:
    centre = x + WIDTH / 2
    return (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="8"/>'
        f'<text x="{centre:g}" y="{y + 20:g}" text-anchor="middle">{escape(title)}</text>'
        f'<text class="small" x="{centre:g}" y="{y + 36:g}" text-anchor="middle">{escape(below)}</text>'
    )


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x, y = start[0] + WIDTH, start[1] + HEIGHT / 2
    to_x, to_y = end[0] - 2, end[1] + HEIGHT / 2
    bend = (to_x - x) / 2
    return (
        f'<path d="M{x:g} {y:g}C{x + bend:g} {y:g} {to_x - bend:g} {to_y:g} {to_x:g} {to_y:g}" '
        'marker-end="url(#tip)"/>'
    )


def _columns(stages: Sequence[Stage]) -> dict[str, int]:
    columns: dict[str, int] = {}
    for stage in stages:
        columns[stage.name] = 1 + max((columns[need] for need in stage.needs), default=0)
    return columns


def _rows(stages: Sequence[Stage], columns: dict[str, int]) -> dict[str, float]:
    """A stage that nothing waits for has a row of its own; another stands in the middle of those that wait for it."""
    waiting = {
        stage.name: [other.name for other in stages if stage.name in _direct(other, stages)]
        for stage in stages
    }
    rows: dict[str, float] = {}
    free = iter(range(len(stages)))

    def place(name: str) -> float:
        if name not in rows:
            below = [place(other) for other in waiting[name]]
            rows[name] = (min(below) + max(below)) / 2 if below else next(free)
        return rows[name]

    for stage in sorted(stages, key=lambda each: columns[each.name]):
        place(stage.name)
    return rows


def _direct(stage: Stage, stages: Sequence[Stage]) -> list[str]:
    """What a stage waits for, without what that waits for itself."""
    by_name = {each.name: each for each in stages}

    def before(name: str) -> set[str]:
        return {name}.union(*(before(need) for need in by_name[name].needs))

    return [
        need
        for need in stage.needs
        if not any(need in before(other) for other in stage.needs if other != need)
    ]


def file_examples(folder: Path) -> dict[str, str]:
    """One file of each kind as JSON, made in a folder by the embedded provider, long parts cut short."""
    os.environ["PERSONALAB_OUTPUTS"] = str(folder)
    notebook = folder / "tiny.ipynb"
    notebook.write_text(json.dumps(_TINY), encoding="utf-8")
    (folder / "data").mkdir()
    portrait = shutil.copy(PORTRAIT, folder / "data")
    asyncio.run(_make(folder, str(portrait)))
    sweep(notebook, {"temperature": [0.3]}, progress=False)
    file = ReviewFile(folder / "reviews" / "december.jsonl", rater="anna")
    text = tweets_df(sorted((folder / "tweets").glob("*.json")))["text"][0]
    file.decide("9f2c", "verdict", "keep", seconds=4.2, about={"persona": "…", "text": text})
    found = {
        "run": folder / "personas" / "silver_bun_run.json",
        "persona": folder / "personas" / "silver_bun_persona.json",
        "calendar": next((folder / "calendars").glob("*.json")),
        "tweets": next((folder / "tweets").glob("*.json")),
        "trial": next((folder / "sweeps" / "tiny").glob("*/trial.json")),
        "review": file.path,
        "cache": min((folder / "cache").glob("??/*.json")),
    }
    texts = {name: path.read_text(encoding="utf-8") for name, path in found.items()}
    return {name: shortened(json.loads(text.replace(str(folder), SOMEWHERE))) for name, text in texts.items()}


async def _make(folder: Path, portrait: str) -> None:
    pipeline = Pipeline()
    frame = await pipeline.run_many([portrait], out=folder / "personas").finish()
    planner = Planner(pipeline.pool, country="GB")
    cards = frame["file"].tolist()
    plan = await plan_calendars(planner, cards, "2026-12", folder / "calendars")
    await write_tweets(planner, cards, [row.file for row in plan.rows], folder / "tweets", count=2)


_TINY: dict[str, Any] = {
    "cells": [
        {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "source": "temperature = 1.0", "outputs": [], "execution_count": None},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": "temperature", "outputs": [], "execution_count": None},
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}  # fmt: skip


def shortened(value: Any) -> str:
    """JSON of which lists keep one item and texts their beginning; what changes each time is a dot, dot, dot."""
    return json.dumps(_short(value), ensure_ascii=False, indent=1)


def _short(value: Any) -> Any:
    match value:
        case dict():
            if "properties" in value:
                return "… a JSON schema"
            return {
                name: "…" if _changes(name, inner) else _short(_first(name, inner))
                for name, inner in value.items()
            }
        case list() if len(value) > 1 and not all(isinstance(item, str) and len(item) < 20 for item in value):
            return [_short(value[0]), f"… {len(value) - 1} more"]
        case list():
            return [_short(item) for item in value]
        case str() if len(value) > TEXT_LENGTH:
            return value[:TEXT_LENGTH].rstrip() + " …"
    return value


def _changes(name: str, value: Any) -> bool:
    return name in CHANGING and bool(value) and isinstance(value, str | float | list)


def _first(name: str, value: Any) -> Any:
    """Of stages the first: the others are of its form."""
    if name != "stages":
        return value
    first, *others = value
    return {first: value[first], "…": f"{len(others)} more"}


def with_examples(page: str, examples: dict[str, str]) -> str:
    """A page with its examples put in anew, between `<!-- example: name -->` and the end of the block after it."""

    def block(match: re.Match[str]) -> str:
        return f"<!-- example: {match[1]} -->\n```json\n{examples[match[1]]}\n```"

    return re.sub(r"<!-- example: (\w+) -->\n```json\n.*?```", block, page, flags=re.DOTALL)


def main() -> None:
    """Draw everything anew."""
    GRAPH.write_text(stage_graph(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        FILES.write_text(
            with_examples(FILES.read_text(encoding="utf-8"), file_examples(Path(folder))), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
