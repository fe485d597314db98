"""Runs and experiments as pandas frames. The name of a function gives the grain: `stages_df` has one row per stage of a run.

The frames of an experiment begin with `condition`, a column for everything that varies, `image` and `replicate`; the first
ones and the image are categorical, in the order of the grid.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

from personalab.browser import picture_html
from personalab.calendar_files import load_calendar
from personalab.calendars import Asking, Calendar, Slot
from personalab.config import load_settings
from personalab.designs import Cell
from personalab.errors import ConfigError, OutputError
from personalab.experiments import Experiment
from personalab.grids import Condition, Grid
from personalab.personas import persona_id
from personalab.records import AS_WRITTEN, Usage
from personalab.runs import Run, StageRecord, find_runs
from personalab.schemas import ExampleTweets, Relation, SocialNetwork, Tweet
from personalab.tweet_files import each_tweet, find_tweets, load_tweets
from personalab.tweet_text import weighted_length
from personalab.tweets import Tweets, WrittenTweet

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

Runs = Run | Cell | Experiment | Iterable[Run | Cell] | Path | str
"""One run, several, a folder of run files; an experiment, or cells of one."""

RUN_COLUMNS: dict[str, Callable[[Run], Any]] = {
    "run": lambda run: run.name,
    "status": lambda run: run.status,
    "persona": lambda run: run["core_persona"].name if run.status != "failed" else None,
    "model": lambda run: run.model,
    "language": lambda run: run.brief.language,
    "replicate": lambda run: run.replicate,
    "calls": lambda run: run.calls,
    "input_tokens": lambda run: run.paid.input_tokens,
    "output_tokens": lambda run: run.paid.output_tokens,
    "seconds": lambda run: run.seconds,
    "cached": lambda run: run.status == "done" and run.calls == 0,
    "error": lambda run: "; ".join(run.errors) or None,
}

STAGE_COLUMNS: dict[str, Callable[[Run, StageRecord], Any]] = {
    "run": lambda run, record: run.name,
    "stage": lambda run, record: record.stage,
    "status": lambda run, record: record.status,
    "model": lambda run, record: record.reply.model if record.reply else None,
    "temperature": lambda run, record: _temperature(record),
    "prompt": lambda run, record: record.prompt,
    "prompt_sha256": lambda run, record: record.prompt_sha256,
    "cached": lambda run, record: record.reply.cached if record.reply else None,
    "attempts": lambda run, record: record.attempts,
    "input_tokens": lambda run, record: record.reply.usage.input_tokens if record.reply else None,
    "output_tokens": lambda run, record: record.reply.usage.output_tokens if record.reply else None,
    "seconds": lambda run, record: record.reply.seconds if record.reply else None,
    "started": lambda run, record: record.started,
    "ended": lambda run, record: record.ended,
    "error": lambda run, record: record.error.message if record.error else None,
}

EXAMPLE_COLUMNS: dict[str, Callable[[Run, Tweet], Any]] = {
    "source": lambda run, tweet: "example",
    "run": lambda run, tweet: run.name,
    "file": lambda run, tweet: None,
    "card": lambda run, tweet: f"{run.name}_persona.json",
    "persona": lambda run, tweet: run["core_persona"].name,
    "persona_id": lambda run, tweet: persona_id(run["core_persona"], run.brief),
    "date": lambda run, tweet: None,
    "time_of_day": lambda run, tweet: None,
    "content_type": lambda run, tweet: tweet.content_type,
    "topic": lambda run, tweet: None,
    "mood": lambda run, tweet: None,
    "text": lambda run, tweet: tweet.text,
    "weighted_length": lambda run, tweet: weighted_length(tweet.text),
    "model": lambda run, tweet: run.model,
    "temperature": lambda run, tweet: _temperature(run.stages["example_tweets"]),
    "prompt": lambda run, tweet: run.stages["example_tweets"].prompt,
}

TEXT_COLUMNS: dict[str, Callable[[Run, StageRecord, str, str], Any]] = {
    "run": lambda run, record, part, text: run.name,
    "persona": lambda run, record, part, text: run["core_persona"].name,
    "persona_id": lambda run, record, part, text: persona_id(run["core_persona"], run.brief),
    "stage": lambda run, record, part, text: record.stage,
    "part": lambda run, record, part, text: part,
    "text": lambda run, record, part, text: text,
    "model": lambda run, record, part, text: record.reply.model if record.reply else None,
    "temperature": lambda run, record, part, text: _temperature(record),
    "prompt": lambda run, record, part, text: record.prompt,
}

PEOPLE_COLUMNS: dict[str, Callable[[Run, str, Relation], Any]] = {
    "run": lambda run, kind, person: run.name,
    "persona": lambda run, kind, person: run["core_persona"].name,
    "kind": lambda run, kind, person: kind,
    "name": lambda run, kind, person: person.name,
    "age": lambda run, kind, person: person.age,
    "relation": lambda run, kind, person: person.relation,
    "personality": lambda run, kind, person: person.personality,
    "backstory": lambda run, kind, person: person.backstory,
    "current_status": lambda run, kind, person: person.current_status,
    "contact": lambda run, kind, person: person.contact,
}

TWEET_COLUMNS: dict[str, Callable[[Path, Tweets, WrittenTweet], Any]] = {
    "source": lambda path, tweets, tweet: "calendar",
    "run": lambda path, tweets, tweet: None,
    "file": lambda path, tweets, tweet: path.name,
    "card": lambda path, tweets, tweet: tweets.card or None,
    "persona": lambda path, tweets, tweet: tweets.persona,
    "persona_id": lambda path, tweets, tweet: tweets.persona_id,
    "date": lambda path, tweets, tweet: tweet.date,
    "time_of_day": lambda path, tweets, tweet: tweet.time_of_day,
    "content_type": lambda path, tweets, tweet: tweet.content_type,
    "topic": lambda path, tweets, tweet: tweet.topic,
    "mood": lambda path, tweets, tweet: tweet.mood,
    "text": lambda path, tweets, tweet: tweet.text,
    "weighted_length": lambda path, tweets, tweet: tweet.weighted_length,
    "model": lambda path, tweets, tweet: tweet.request.model,
    "temperature": lambda path, tweets, tweet: _applied(tweet.request),
    "prompt": lambda path, tweets, tweet: tweet.request.prompt,
}

SLOT_COLUMNS: dict[str, Callable[[Calendar, Slot], Any]] = {
    "persona": lambda calendar, slot: calendar.persona,
    "persona_id": lambda calendar, slot: calendar.persona_id,
    "date": lambda calendar, slot: slot.date,
    "weekday": lambda calendar, slot: slot.date.strftime("%A"),
    "time_of_day": lambda calendar, slot: slot.time_of_day,
    "content_type": lambda calendar, slot: slot.content_type,
    "topic": lambda calendar, slot: slot.topic,
    "mood": lambda calendar, slot: slot.mood,
}


def runs_df(runs: Runs) -> pd.DataFrame:
    """One row per run, which for an experiment is one per cell. Tokens are those paid in it; what came from the cache cost nothing.

    What the shared stages of an image cost stands in its first cell, so that sums are right.
    """
    return labelled(runs, RUN_COLUMNS, lambda run: [_row(RUN_COLUMNS, run)])


def stages_df(runs: Runs) -> pd.DataFrame:
    """One row per stage of a run. `started` and `ended` are seconds since the run began, `seconds` the time at the endpoint;
    usage is of the reply, also a cached one.

    `temperature`, `model` and `prompt` are the stage's own; where an experiment varies one of them, what the condition says
    has its name in full: `social_network_temperature`.
    """
    return labelled(
        runs,
        STAGE_COLUMNS,
        lambda run: [_row(STAGE_COLUMNS, run, record) for record in run.stages.values()],
        own=True,
    )


def texts_df(runs: Runs, stages: Iterable[str] | str | None = None, *, shown: bool = False) -> pd.DataFrame:
    """One row per text of a stage: a person of the network, an entry of the book, a tweet, a field of the core persona.

    `part` is the field it stands in. Of an experiment the stages under study are given, of runs all, unless `stages` says which.
    A cell in which such a stage failed has one row, without a text, that says why in `error`. `shown` adds a column with what
    the model was shown, which the metric `copy_rate` reads.
    """
    if stages is None:
        stages = runs.grid.stages if isinstance(runs, Experiment) else None
    wanted = {stages} if isinstance(stages, str) else None if stages is None else set(stages)

    def rows(run: Run) -> Iterator[dict[str, Any]]:
        for record in run.stages.values():
            if record.output is not None and (wanted is None or record.stage in wanted):
                sent = {"shown": record.request and str(record.request)} if shown else {}
                for part, text in record.output.units():
                    yield _row(TEXT_COLUMNS, run, record, part, text) | sent

    return labelled(runs, [*TEXT_COLUMNS, *(["shown"] if shown else [])], rows, failed=wanted)


def people_df(runs: Runs) -> pd.DataFrame:
    """One row per person of a social network. `kind` says whether a close friend, a past relationship or an online friend."""

    def rows(run: Run) -> Iterator[dict[str, Any]]:
        network = run.outputs.get("social_network")
        if isinstance(network, SocialNetwork):
            for kind in type(network).model_fields:
                for person in getattr(network, kind):
                    yield _row(PEOPLE_COLUMNS, run, kind.replace("_", " "), person)

    return labelled(runs, PEOPLE_COLUMNS, rows)


def conditions_df(cells: Experiment | Iterable[Cell]) -> pd.DataFrame:
    """One row per condition: its cells that have run, how many of them failed, and what its stages under study sent and paid.

    What the shared stages cost is no condition's. `seconds` is the time a reply took at the endpoint, on average.

    Raises:
        ConfigError: runs of no experiment.
    """
    source = _opened(cells)
    if source.grid is None:
        raise ConfigError("conditions_df takes an experiment, or cells of one")
    names = _factor_columns(source.grid)
    rows = [
        _condition_row(condition, [run for cell, run in source.runs if cell and cell.condition == condition])
        | _factors(source.grid, condition, names)
        for condition in source.grid.conditions
    ]
    columns = ("cells", "failed", "calls", "input_tokens", "output_tokens", "seconds")
    return _categorical(_frame(rows, ["condition", *names, *columns]), source, names)


def _condition_row(condition: Condition, runs: Sequence[Run]) -> dict[str, Any]:
    records = [run.stages[name] for run in runs for name in condition.stages if name in run.stages]
    paid = sum((record.paid for record in records), Usage())
    seconds = [record.reply.seconds for record in records if record.reply]
    return {
        "condition": condition.name,
        "cells": len(runs),
        "failed": sum(run.status != "done" for run in runs),
        "calls": sum(record.sent for record in records),
        "input_tokens": paid.input_tokens,
        "output_tokens": paid.output_tokens,
        "seconds": sum(seconds) / len(seconds) if seconds else None,
    }


def tweets_df(source: Runs | Sequence[Path | str] | None = None, *, repeats: bool = False) -> pd.DataFrame:
    """One row per tweet: of a folder of tweet files (`outputs/tweets` if none is given), of such files, or the example
    tweets of runs.

    `source` says which of the two; columns that the other kind does not have are empty. Dates are days (datetime64). A cell
    of an experiment in which the tweets failed has one row, without a text, that says why in `error`. What files repeat (one
    persona's slot, request and text) is one row, of the oldest file, or of the first that is given; `repeats` keeps all.

    Raises:
        OutputError: there is no such folder, or a file is no file of tweets.
    """

    if source is None:
        source = load_settings().outputs / "tweets"
    files: Iterable[tuple[Path, Tweets]] = ()
    runs: Runs
    if isinstance(source, Path | str):
        if not Path(source).is_dir():
            raise OutputError(f"there is no folder {source}: write tweets with personalab tweets PERSONA")
        files, runs = find_tweets(source), find_runs(source)
    elif isinstance(source, Run | Cell | Experiment):
        runs = source
    else:
        each = list(source)
        runs = [run for run in each if isinstance(run, Run | Cell)]
        files = ((Path(path), load_tweets(path)) for path in each if isinstance(path, Path | str))
    written = [_row(TWEET_COLUMNS, *each) for each in each_tweet(files, repeats=repeats)]
    return _dated(labelled(runs, TWEET_COLUMNS, _examples, before=written, failed=("example_tweets",)))


def _examples(run: Run) -> Iterator[dict[str, Any]]:
    examples = run.outputs.get("example_tweets")
    if isinstance(examples, ExampleTweets):
        for tweet in examples.tweets:
            yield _row(EXAMPLE_COLUMNS, run, tweet)


def slots_df(calendars: Calendar | Iterable[Calendar | Path | str] | Path | str) -> pd.DataFrame:
    """One row per slot: of a calendar or its file, of several, or of a folder of them."""
    if isinstance(calendars, Path | str) and Path(calendars).is_dir():
        calendars = sorted(Path(calendars).glob("*.json"))
    listed = [calendars] if isinstance(calendars, Calendar | Path | str) else calendars
    loaded = [each if isinstance(each, Calendar) else load_calendar(each) for each in listed]
    return _dated(
        _frame([_row(SLOT_COLUMNS, each, slot) for each in loaded for slot in each.slots], SLOT_COLUMNS)
    )


def _dated(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return frame.assign(date=pd.to_datetime(frame["date"]))


def in_flight_df(runs: Runs, idle_seconds: float = 30.0) -> pd.DataFrame:
    """One row per moment at which the number of requests in flight changed.

    `seconds` since the first request, `in_flight` from then on. Only what was sent counts, not what came from the cache.
    Where nothing was in flight for more than `idle_seconds`, as between two starts of a batch, that time is left out.
    """
    changes: Counter[float] = Counter()
    for _, run in _opened(runs).runs:
        for record in run.stages.values():
            if record.reply and not record.reply.cached:
                for begin, end in record.reply.spans:
                    changes[begin] += 1
                    changes[end] -= 1
    rows, level, left_out = [], 0, 0.0
    moments = sorted(changes)
    for before, moment in itertools.pairwise([*moments[:1], *moments]):
        if level == 0 and moment - before > idle_seconds:
            left_out += moment - before - 1
        level += changes[moment]
        rows.append({"seconds": round(moment - moments[0] - left_out, 4), "in_flight": level})
    return _frame(rows, ("seconds", "in_flight"))


def _applied(request: Asking) -> float | None:
    """The temperature that a tweet was written at; None where the model takes none."""
    return None if "temperature" in request.not_applied else request.sampling.temperature


def _temperature(record: StageRecord) -> float | None:
    return record.request.sampling.temperature if record.request else None


def as_table(rows: pd.DataFrame | Iterable[BaseModel], *, pictures: str | None = None) -> Styler:
    """A frame, or outputs of a stage, as a table to read: text whole and on the left, the items of a list on lines.

    `pictures` is a column of paths of images, shown as small pictures.
    """
    import pandas as pd

    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame([row.model_dump() for row in rows])
    lines = frame.map(lambda cell: "\n".join(map(str, cell)) if isinstance(cell, list | tuple) else cell)
    texts = list(lines.select_dtypes(exclude=["number", "bool"]).columns)
    left: list[tuple[str, str | float]] = [("text-align", "left")]
    wrapped: list[tuple[str, str | float]] = [("white-space", "pre-line"), ("overflow-wrap", "break-word")]
    return (
        lines.style.format(escape="html", precision=2)
        .format_index(escape="html", axis="columns")
        .set_properties(subset=texts, **dict(left + wrapped))  # type: ignore[arg-type]
        .set_table_styles(
            [{"selector": "th", "props": left}, {"selector": "td", "props": [("vertical-align", "top")]}]
        )
        .set_table_attributes(f'class="{AS_WRITTEN}"')
        .hide(axis="index")
        .format(picture_html, subset=[pictures] if pictures else [])
    )


class _Source(NamedTuple):
    """Runs, each with its cell if it is one's. `grid` is None where none is; `images` and `stages` are those of cells."""

    grid: Grid | None
    images: list[str]
    runs: Iterable[tuple[Cell | None, Run]]
    stages: Collection[str] = ()


def _opened(runs: Runs) -> _Source:
    if isinstance(runs, Path | str):
        return _Source(None, [], ((None, run) for run in find_runs(runs)))
    if isinstance(runs, Experiment):
        design = runs.design
        stages = [*(stage.name for stage in design.shared), *design.stages]
        return _Source(runs.grid, list(design.images), [(cell, cell.run) for cell in runs.cells], stages)
    each = iter([runs] if isinstance(runs, Run | Cell) else runs)
    first = next(each, None)
    if not isinstance(first, Cell):
        return _Source(
            None, [], ((None, run) for run in (*filter(None, [first]), *each) if isinstance(run, Run))
        )
    cells = [first, *(cell for cell in each if isinstance(cell, Cell))]
    grid = Grid(conditions=tuple(dict.fromkeys(cell.condition for cell in cells)))
    images = list(dict.fromkeys(cell.image for cell in cells))
    stages = list(dict.fromkeys(name for cell in cells for name in cell.run.stages))
    return _Source(grid, images, [(cell, cell.run) for cell in cells], stages)


def labelled(
    runs: Runs, columns: Iterable[str], rows_of: Callable[[Run], Iterable[dict[str, Any]]], *,
    before: Iterable[dict[str, Any]] = (), own: bool = False, failed: Collection[str] | None = (),
) -> pd.DataFrame:  # fmt: skip
    """The rows of runs after others; of cells with where they stand. `own` keeps columns that a factor's name would hide.

    `failed` are stages of which a cell that lacks their output has a row that says why (None: all), as what is left out
    would make a condition look better than it is.
    """
    source = _opened(runs)
    rows = list(before)
    lost = [name for name in source.stages if failed is None or name in failed]
    columns = [*columns, *(["error"] if source.grid and failed != () else [])]
    names = _factor_columns(source.grid, columns if own else ()) if source.grid else {}
    for cell, run in source.runs:
        label: dict[str, Any] = {}
        if cell and source.grid:
            place = {"condition": cell.condition.name, "image": cell.image, "replicate": cell.replicate}
            label = place | _factors(source.grid, cell.condition, names)
        rows += [row | label for row in rows_of(run)]
        rows += [row | label for row in (_failures(run, lost) if cell else ())]
    labels = ["condition", *names, "image", "replicate"] if source.grid else []
    frame = _frame(rows, [*labels, *(name for name in columns if name not in labels)])
    return _categorical(frame, source, names)


def _failures(run: Run, stages: Iterable[str]) -> Iterator[dict[str, Any]]:
    """A row for each stage that gave nothing, or was never asked as there was nothing to begin with."""
    for name in stages:
        record = run.stages.get(name)
        if record is None or record.output is None:
            said = record.error.message if record and record.error else "; ".join(run.errors)
            yield {"run": run.name, "stage": name, "error": said}


def _factor_columns(grid: Grid, taken: Iterable[str] = ()) -> dict[str, str]:
    """The columns of a grid's factors, with the factor each is of; a name that is taken is said in full."""
    return {"_".join(pair) if name in taken else name: name for name, pair in grid.factors.items()}


def _factors(grid: Grid, condition: Condition, names: Mapping[str, str]) -> dict[str, Any]:
    said = grid.row(condition)
    return {column: said[factor] for column, factor in names.items()}


def _categorical(frame: pd.DataFrame, source: _Source, names: Mapping[str, str]) -> pd.DataFrame:
    """With the columns of the grid as categories, in its order."""
    import pandas as pd

    if source.grid is None:
        return frame
    order: dict[str, list[Any]] = {"condition": [each.name for each in source.grid.conditions]}
    order |= {column: list(source.grid.levels(factor)) for column, factor in names.items()}
    order |= {"image": source.images} if "image" in frame else {}
    return frame.assign(**{name: pd.Categorical(frame[name], values) for name, values in order.items()})


def _row(columns: dict[str, Callable[..., Any]], *values: Any) -> dict[str, Any]:
    return {name: column(*values) for name, column in columns.items()}


def _frame(rows: Iterable[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(columns))
