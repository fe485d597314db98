"""Runs as pandas frames. The name of a function gives the grain: `stages_df` has one row per stage of a run."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from personalab.calendar_files import load_calendar
from personalab.calendars import Asking, Calendar, Slot
from personalab.config import load_settings
from personalab.errors import OutputError
from personalab.personas import persona_id
from personalab.runs import Run, StageRecord, find_runs
from personalab.schemas import ExampleTweets, Tweet
from personalab.tweet_files import find_tweets, load_tweets
from personalab.tweet_text import weighted_length
from personalab.tweets import Tweets, WrittenTweet

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

Runs = Run | Iterable[Run] | Path | str
"""One run, several, or a folder of run files."""

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
    "attempts": lambda run, record: record.reply.attempts if record.reply else None,
    "input_tokens": lambda run, record: record.reply.usage.input_tokens if record.reply else None,
    "output_tokens": lambda run, record: record.reply.usage.output_tokens if record.reply else None,
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
    """One row per run. Tokens are those paid in it; what came from the cache cost nothing."""
    return _frame([_row(RUN_COLUMNS, run) for run in _each(runs)], RUN_COLUMNS)


def stages_df(runs: Runs) -> pd.DataFrame:
    """One row per stage of a run. `started` and `ended` are seconds since the run began; usage is of the reply, also a cached one."""
    rows = [_row(STAGE_COLUMNS, run, record) for run in _each(runs) for record in run.stages.values()]
    return _frame(rows, STAGE_COLUMNS)


def tweets_df(source: Runs | Sequence[Path | str] | None = None) -> pd.DataFrame:
    """One row per tweet: of a folder of tweet files (`outputs/tweets` if none is given), of such files, or the example
    tweets of runs.

    `source` says which of the two; columns that the other kind does not have are empty. Dates are days (datetime64).

    Raises:
        OutputError: there is no such folder, or a file is no file of tweets.
    """

    if source is None:
        source = load_settings().outputs / "tweets"
    runs: Iterable[Run] = ()
    if isinstance(source, Path | str):
        if not Path(source).is_dir():
            raise OutputError(f"there is no folder {source}: write tweets with personalab tweets PERSONA")
        files, runs = find_tweets(source), find_runs(source)
    else:
        each = [source] if isinstance(source, Run) else list(source)
        runs = [run for run in each if isinstance(run, Run)]
        files = ((Path(path), load_tweets(path)) for path in each if isinstance(path, Path | str))
    rows = [_row(TWEET_COLUMNS, path, tweets, tweet) for path, tweets in files for tweet in tweets.tweets]
    for run in runs:
        examples = run.outputs.get("example_tweets")
        if isinstance(examples, ExampleTweets):
            rows += [_row(EXAMPLE_COLUMNS, run, tweet) for tweet in examples.tweets]
    return _dated(_frame(rows, TWEET_COLUMNS))


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
    for run in _each(runs):
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


def as_table(rows: pd.DataFrame | Iterable[BaseModel]) -> Styler:
    """A frame, or outputs of a stage, as a table to read: text whole and on the left, the items of a list on lines."""
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
        .hide(axis="index")
    )


def _each(runs: Runs) -> Iterable[Run]:
    if isinstance(runs, Run):
        return [runs]
    return find_runs(runs) if isinstance(runs, Path | str) else runs


def _row(columns: dict[str, Callable[..., Any]], *values: Any) -> dict[str, Any]:
    return {name: column(*values) for name, column in columns.items()}


def _frame(rows: list[dict[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))
