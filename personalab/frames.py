"""Runs as pandas frames. The name of a function gives the grain: `stages_df` has one row per stage of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personalab.runs import Run, StageRecord, find_runs
from personalab.schemas import ExampleTweets, Tweet
from personalab.tweet_text import weighted_length

if TYPE_CHECKING:
    import pandas as pd

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
    "temperature": lambda run, record: record.request.sampling.temperature if record.request else None,
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

TWEET_COLUMNS: dict[str, Callable[[Run, Tweet], Any]] = {
    "run": lambda run, tweet: run.name,
    "persona": lambda run, tweet: run["core_persona"].name,
    "content_type": lambda run, tweet: tweet.content_type,
    "text": lambda run, tweet: tweet.text,
    "weighted_length": lambda run, tweet: weighted_length(tweet.text),
}


def runs_df(runs: Runs) -> pd.DataFrame:
    """One row per run. Tokens are those paid in it; what came from the cache cost nothing."""
    return _frame([_row(RUN_COLUMNS, run) for run in _each(runs)], RUN_COLUMNS)


def stages_df(runs: Runs) -> pd.DataFrame:
    """One row per stage of a run. `started` and `ended` are seconds since the run began; usage is of the reply, also a cached one."""
    rows = [_row(STAGE_COLUMNS, run, record) for run in _each(runs) for record in run.stages.values()]
    return _frame(rows, STAGE_COLUMNS)


def tweets_df(runs: Runs) -> pd.DataFrame:
    """One row per example tweet."""
    rows = []
    for run in _each(runs):
        tweets = run.outputs.get("example_tweets")
        if isinstance(tweets, ExampleTweets):
            rows += [_row(TWEET_COLUMNS, run, tweet) for tweet in tweets.tweets]
    return _frame(rows, TWEET_COLUMNS)


def _each(runs: Runs) -> Iterable[Run]:
    if isinstance(runs, Run):
        return [runs]
    return find_runs(runs) if isinstance(runs, Path | str) else runs


def _row(columns: dict[str, Callable[..., Any]], *values: Any) -> dict[str, Any]:
    return {name: column(*values) for name, column in columns.items()}


def _frame(rows: list[dict[str, Any]], columns: dict[str, Callable[..., Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=list(columns))
