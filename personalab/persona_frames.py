"""A set of personas as frames: who they are, what repeats among them, who is nearly the same, who contradicts themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personalab import attributes, diversity, slop
from personalab.contradictions import Contradiction, Dated, find_contradictions
from personalab.errors import unknown
from personalab.frames import Runs, labelled
from personalab.personas import persona_id
from personalab.row_metrics import copy_rate
from personalab.runs import Run
from personalab.schemas import CorePersona, ExampleTweets
from personalab.tweet_files import each_tweet, find_tweets
from personalab.words import plain_text

if TYPE_CHECKING:
    import pandas as pd

ATTRIBUTES = ("first_name", "surname", "occupation", "location", "age")

_ALIKE_MIN = 60.0
"""`rapidfuzz.fuzz.ratio` (0 to 100) of two descriptions, names left out, from which they are listed.

Descriptions of unrelated personas have 45 to 54, as any two English texts of that length.
"""

Tweets = Path | str | Mapping[str, Sequence[Dated]]
"""A folder of tweets files, or tweets by the identity of their persona."""

PERSONA_COLUMNS: dict[str, Callable[[Run, CorePersona], Any]] = {
    "run": lambda run, core: run.name,
    "image": lambda run, core: Path(run.source).name if run.source else run.name,
    "replicate": lambda run, core: run.replicate,
    "model": lambda run, core: run.model,
    "persona": lambda run, core: core.name,
    "persona_id": lambda run, core: persona_id(core, run.brief),
    "first_name": lambda run, core: core.name.split()[0],
    "surname": lambda run, core: core.name.split()[-1] if len(core.name.split()) > 1 else None,
    "age": lambda run, core: core.age,
    "occupation": lambda run, core: core.occupation,
    "location": lambda run, core: core.location,
    "description": lambda run, core: core.description,
    "slop_rate": lambda run, core: slop.slop_rate(_prose(run, core)),
    "copy_rate": lambda run, core: _copied(run),
}


def personas_df(runs: Runs, tweets: Tweets | None = None) -> pd.DataFrame:
    """One row per persona; runs without one are left out. Of an experiment, with condition, image and replicate.

    `contradictions` counts what `contradictions_df` lists. `slop_rate`: worn phrases per 1,000 words of card and tweets.
    `copy_rate`: share of the example tweets' runs of 5 words that stand in the prompt they were asked for with.
    """
    written = _tweets(tweets)

    def rows_of(run: Run) -> Iterator[dict[str, Any]]:
        if core := _core(run):
            row = {name: column(run, core) for name, column in PERSONA_COLUMNS.items()}
            yield row | {"contradictions": len(_contradictions(run, core, written))}

    return labelled(runs, [*PERSONA_COLUMNS, "contradictions"], rows_of)


def contradictions_df(runs: Runs, tweets: Tweets | None = None) -> pd.DataFrame:
    """One row per contradiction: its rule, the place (`where`) with what it says, and the place it goes against."""
    written = _tweets(tweets)

    def rows_of(run: Run) -> Iterator[dict[str, Any]]:
        if core := _core(run):
            for each in _contradictions(run, core, written):
                yield {"run": run.name, "persona": core.name, **each.model_dump()}

    return labelled(runs, ["run", "persona", "rule", "where", "says", "against", "stands"], rows_of)


def repeats_df(personas: pd.DataFrame, by: str | Sequence[str] = ()) -> pd.DataFrame:
    """One row per value that several personas share: attribute, value, count, share; most frequent first.

    `personas` is a frame of `personas_df`, or one with some of its attributes; `by` keeps conditions apart.
    """
    import pandas as pd

    rows = [
        {**keys, "attribute": name, "value": value, "count": count, "share": count / len(part)}
        for keys, part in _groups(personas, by)
        for name in _attributes(part)
        for value, count in attributes.counted(part[name].tolist()).most_common()
        if count > 1
    ]
    return pd.DataFrame(rows, columns=[*_keys(by), "attribute", "value", "count", "share"])


def spread_df(personas: pd.DataFrame, by: str | Sequence[str] = ()) -> pd.DataFrame:
    """One row per attribute: how its values are spread over the personas.

    `effective` is the number of equally frequent values that would be as diverse, `evenness` 1 if all differ and 0 if all
    are the same. Compare conditions only over the same images.
    """
    import pandas as pd

    rows = []
    for keys, part in _groups(personas, by):
        for name in _attributes(part):
            counts = attributes.counted(part[name].tolist())
            top = counts.most_common(1)
            rows.append(
                {
                    **keys,
                    "attribute": name,
                    "n": counts.total(),
                    "distinct": len(counts),
                    "effective": attributes.effective_number(list(counts.values())) if counts else None,
                    "evenness": attributes.evenness(part[name].tolist()),
                    "top": top[0][0] if top else None,
                    "top_share": top[0][1] / counts.total() if top else None,
                }
            )
    columns = [*_keys(by), "attribute", "n", "distinct", "effective", "evenness", "top", "top_share"]
    return pd.DataFrame(rows, columns=columns)


def near_personas_df(personas: pd.DataFrame, threshold: float = _ALIKE_MIN) -> pd.DataFrame:
    """One row per pair of personas whose descriptions are nearly the same, the most alike first.

    `alike`: 0 to 100, with the personas' own names left out. `shared`: attributes in which they agree. Other words for
    the same are not found.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = personas.to_dict("records")  # type: ignore[assignment]
    texts = [_nameless(row["description"], row["persona"]) for row in rows]
    found = []
    for one, other, alike in diversity.near_duplicate_pairs(texts, threshold=threshold):
        pair = rows[one], rows[other]
        shared = [name for name in _attributes(personas) if _same(*(row[name] for row in pair))]
        found.append(
            {
                "run_a": pair[0]["run"],
                "run_b": pair[1]["run"],
                "persona_a": pair[0]["persona"],
                "persona_b": pair[1]["persona"],
                "alike": alike,
                "shared": ", ".join(shared),
            }
        )
    return pd.DataFrame(found, columns=["run_a", "run_b", "persona_a", "persona_b", "alike", "shared"])


def _core(run: Run) -> CorePersona | None:
    core = run.outputs.get("core_persona")
    return core if isinstance(core, CorePersona) else None


def _contradictions(
    run: Run, core: CorePersona, written: Mapping[str, Sequence[Dated]]
) -> tuple[Contradiction, ...]:
    return find_contradictions(run.outputs, written.get(persona_id(core, run.brief), ()))


def _tweets(tweets: Tweets | None) -> Mapping[str, Sequence[Dated]]:
    if tweets is None or isinstance(tweets, Mapping):
        return tweets or {}
    found: dict[str, list[Dated]] = {}
    for _, file, tweet in each_tweet(find_tweets(tweets)):
        found.setdefault(file.persona_id, []).append(Dated(text=tweet.text, date=tweet.date))
    return found


def _prose(run: Run, core: CorePersona) -> list[str]:
    examples = run.outputs.get("example_tweets")
    tweets = [tweet.text for tweet in examples.tweets] if isinstance(examples, ExampleTweets) else []
    return [
        core.description,
        core.personality,
        core.scenario,
        core.first_mes,
        *core.alternate_greetings,
        *tweets,
    ]


def _copied(run: Run) -> float | None:
    examples, record = run.outputs.get("example_tweets"), run.stages.get("example_tweets")
    if not isinstance(examples, ExampleTweets) or record is None or record.request is None:
        return None
    shown = "\n".join(message.text for message in record.request.messages)
    rates = [rate for tweet in examples.tweets if (rate := copy_rate(tweet.text, shown)) is not None]
    return sum(rates) / len(rates) if rates else None


def _nameless(text: str, name: str) -> str:
    plain = plain_text(text)
    for part in name.lower().split():
        plain = plain.replace(part, "_")
    return plain


def _same(one: Any, other: Any) -> bool:
    return list(attributes.counted([one, other]).values()) == [2]


def _attributes(frame: pd.DataFrame) -> list[str]:
    found = [name for name in ATTRIBUTES if name in frame.columns]
    if not found:
        raise unknown("columns of personas", ", ".join(map(str, frame.columns)), ATTRIBUTES)
    return found


def _keys(by: str | Sequence[str]) -> list[str]:
    return [by] if isinstance(by, str) else list(by)


def _groups(frame: pd.DataFrame, by: str | Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    keys = _keys(by)
    for key in keys:
        if key not in frame.columns:
            raise unknown("column", key, map(str, frame.columns))
    if not keys:
        yield {}, frame
        return
    for values, part in frame.groupby(keys, sort=False, observed=True):
        yield dict(zip(keys, values, strict=True)), part
