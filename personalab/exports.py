"""What was kept, in the formats that others read: tables, chat messages, preferred and rejected answers.

Each row says that it is AI-made and where it comes from. Nothing is exported that nobody kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from personalab.errors import ConfigError, OutputError, unknown
from personalab.files import write_whole
from personalab.records import JsonObject
from personalab.reviews import clean, clean_frame, item_keys

if TYPE_CHECKING:
    import pandas as pd

NOTICE = "AI-made fiction: this person does not exist."
"""What each exported row says, unless the frame has a notice of its own."""
Settle = Literal["any", "most", "all"]
"""How many of its raters must have kept a tweet."""

_PROVENANCE = ("item", "persona", "persona_id", "condition", "image", "replicate", "model", "temperature", "prompt", "file", "run", "card")  # fmt: skip
_ASKED = ("content_type", "topic", "mood", "date", "time_of_day")
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""How a cell begins that some spreadsheet computes; the wide ones where Chinese or Japanese is the language."""
_SUFFIXES = (".csv", ".jsonl", ".parquet")


def with_reviews(frame: pd.DataFrame, reviews: pd.DataFrame, text: str = "text") -> pd.DataFrame:
    """The frame with what its raters say of each row: `raters`, `kept_share` (0 to 1), `mean_rating` (1 to 5), `tags`, `notes`.

    Shares and means are over those who decided, and empty where nobody did.
    """
    import pandas as pd

    said_before = ["raters", "kept_share", "mean_rating", "tags", "notes"]
    keyed = frame.drop(columns=said_before, errors="ignore").assign(item=item_keys(frame, text))
    said = reviews[reviews["item"].isin(keyed["item"])].groupby("item")
    summary = pd.DataFrame(
        {
            "raters": said["rater"].nunique(),
            "kept_share": said["kept"].mean().astype("Float64"),
            "mean_rating": said["rating"].mean().astype("Float64"),
            "tags": said["tags"].agg(_joined_tags),
            "notes": said["note"].agg(_joined_notes),
        }
    )
    joined = keyed.merge(summary, how="left", left_on="item", right_index=True)
    joined.index = frame.index
    for name in ("tags", "notes"):
        joined[name] = [value if isinstance(value, tuple) else () for value in joined[name]]
    return joined.assign(raters=joined["raters"].fillna(0).astype(int))


def kept_df(
    frame: pd.DataFrame, reviews: pd.DataFrame, *, settle: Settle = "most", text: str = "text"
) -> pd.DataFrame:
    """The rows that people kept, as in `with_reviews`, with a `notice` that they are AI-made.

    `settle`: of its raters any, more than half, or all must have kept a tweet.
    """
    joined = with_reviews(frame, reviews, text)
    share = joined["kept_share"]
    enough = {"any": share > 0, "most": share > 0.5, "all": share == 1}
    if settle not in enough:
        raise unknown("way to settle", settle, enough)
    kept = joined[enough[settle].fillna(False).astype(bool)]
    return kept if "notice" in kept.columns else kept.assign(notice=NOTICE)


def save_frame(frame: pd.DataFrame, path: Path | str) -> Path:
    """Write a frame as CSV, JSON lines or Parquet, as its ending says: whole or not at all, in UTF-8.

    What UTF-8 cannot hold is replaced by U+FFFD. In CSV a text that a spreadsheet would take for a formula begins with `'`.

    Raises:
        ConfigError: another ending.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    cleaned = clean_frame(frame)
    match path.suffix:
        case ".csv":
            content = cleaned.map(_harmless).to_csv(index=False).encode()
        case ".jsonl":
            content = cleaned.to_json(
                orient="records", lines=True, force_ascii=False, date_format="iso"
            ).encode()
        case ".parquet":
            content = _parquet(cleaned, path)
        case _:
            raise ConfigError(f"cannot tell the format of {path.name!r}: end it in {', '.join(_SUFFIXES)}")
    return write_whole(path, content)


def _parquet(frame: pd.DataFrame, path: Path) -> bytes:
    try:
        return bytes(frame.to_parquet(index=False))
    except (TypeError, ValueError) as error:  # Arrow's own are both of these
        reason = str(error).splitlines()[0]
        raise OutputError(
            f"cannot write {path}: Parquet holds one type a column, and {reason}; convert it, as with astype(str)"
        ) from error


def load_frame(path: Path | str) -> pd.DataFrame:
    """A frame that `save_frame` wrote. Parquet brings every type back, CSV only text and numbers.

    Raises:
        ConfigError: another ending.
        OutputError: missing, or not in this format.
    """
    import pandas as pd

    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"cannot tell the format of {path.name!r}: it has to end in {', '.join(_SUFFIXES)}")
    try:
        match path.suffix:
            case ".csv":
                # Only what is empty is missing: a tweet may say "NA" or "None".
                return pd.read_csv(path, keep_default_na=False, na_values=[""]).map(_as_it_was)
            case ".jsonl":
                return pd.read_json(path, orient="records", lines=True, dtype=False)  # or "007" became 7
            case _:
                return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error


def chats(kept: pd.DataFrame, text: str = "text") -> list[JsonObject]:
    """Kept tweets as chats for fine-tuning: system, user, assistant, with `metadata` of where each comes from.

    The system message says who writes and that it is fiction; the user's asks for the slot.
    """
    return [
        {"messages": [*_prompt(row), {"role": "assistant", "content": _clean(row[text])}], "metadata": _metadata(row)}
        for row in _rows(kept)
    ]  # fmt: skip


def ratings(frame: pd.DataFrame, text: str = "text") -> list[JsonObject]:
    """Rated tweets of `with_reviews` as examples: prompt, completion, `rating` (mean, 1 to 5) and `label` (kept by most).

    Both are None where nobody said so; trainers that read the label (KTO) need those rows left out.
    """
    examples = []
    for row in _rows(frame):
        rating, share = _known(row.get("mean_rating")), _known(row.get("kept_share"))
        if rating is None and share is None:
            continue
        examples.append(
            {
                "prompt": _prompt(row),
                "completion": [{"role": "assistant", "content": _clean(row[text])}],
                "rating": rating,
                "label": None if share is None else share > 0.5,
                "metadata": _metadata(row),
            }
        )
    return examples


def preferences(frame: pd.DataFrame, text: str = "text", *, same: Iterable[str] = ("persona_id", "content_type")) -> list[JsonObject]:  # fmt: skip
    """Pairs of `with_reviews` for preference tuning: prompt, chosen (kept by most), rejected (by most), of the same persona and
    content type; each tweet stands in one pair at most.

    Raises:
        ConfigError: the frame lacks one of the columns in `same`.
    """
    keys = list(same)
    for column in keys:
        if column not in frame.columns:
            raise unknown("column", column, map(str, frame.columns))
    decided = frame[frame["kept_share"].notna()]
    pairs = []
    for _, rows in decided.groupby(keys, sort=False, observed=True, dropna=False):
        chosen, rejected = rows[rows["kept_share"] > 0.5], rows[rows["kept_share"] < 0.5]
        for good, bad in zip(_rows(chosen), _rows(rejected), strict=False):
            pairs.append(_preference(_prompt(_shared(good, bad)), good[text], bad[text], {"chosen": _metadata(good), "rejected": _metadata(bad)}))  # fmt: skip
    return pairs


def pair_preferences(pairs: pd.DataFrame) -> list[JsonObject]:
    """Decided pairs of `preferences_df` for preference tuning; ties say nothing and are left out."""
    found = []
    for row in _rows(pairs):
        if row["outcome"] not in ("a", "b"):
            continue
        good, bad = ("a", "b") if row["outcome"] == "a" else ("b", "a")
        told = {
            "rater": row["rater"],
            "image": row["image"],
            "chosen": row[good],
            "rejected": row[bad],
            "notice": NOTICE,
        }
        asked = [
            {"role": "system", "content": NOTICE},
            {"role": "user", "content": "Write a post in the voice of this fictional person."},
        ]
        found.append(_preference(asked, row[f"{good}_text"], row[f"{bad}_text"], told))
    return found


def hosted(rows: Iterable[JsonObject]) -> list[JsonObject]:
    """Lines of `chats`, `preferences` or `pair_preferences` as hosted services take them, which refuse a column they don't know.

    Chats keep `messages` only. Preferences become `input`, `preferred_output` and `non_preferred_output`. That it is
    AI-made stays in the system message; where each line comes from is in the file with `metadata`, in the same order.
    """
    return [
        {"messages": row["messages"]}
        if "messages" in row
        else {
            "input": {"messages": row["prompt"]},
            "preferred_output": row["chosen"],
            "non_preferred_output": row["rejected"],
        }
        for row in rows
    ]


def save_lines(rows: Iterable[JsonObject], path: Path | str) -> Path:
    """Write objects as JSON lines, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return write_whole(Path(path), content.encode())


def _joined_tags(each: Any) -> Any:
    return tuple(dict.fromkeys(tag for tags in each for tag in tags))


def _joined_notes(each: Any) -> Any:
    return tuple(note for note in each if note)


def _preference(prompt: list[JsonObject], good: Any, bad: Any, metadata: JsonObject) -> JsonObject:
    return {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": _clean(good)}],
        "rejected": [{"role": "assistant", "content": _clean(bad)}],
        "metadata": metadata,
    }


def _shared(good: JsonObject, bad: JsonObject) -> JsonObject:
    """The row without what was asked of it alone: a prompt with one's own topic would decide for it."""
    return good | {name: None for name in _ASKED if _known(good.get(name)) != _known(bad.get(name))}


def _prompt(row: JsonObject) -> list[JsonObject]:
    who = _known(row.get("persona")) or "a fictional person"
    slot = ", ".join(
        f"{name.replace('_', ' ')}: {value}" for name in _ASKED if (value := _known(row.get(name)))
    )
    return [
        {"role": "system", "content": f"You write posts of {_clean(who)}. {_notice(row)}"},
        {"role": "user", "content": f"Write one post. {_clean(slot)}".strip()},
    ]


def _metadata(row: JsonObject) -> JsonObject:
    named = {name: _known(row.get(name)) for name in _PROVENANCE}
    return {
        "notice": _notice(row),
        **{name: _clean(value) for name, value in named.items() if value is not None},
    }


def _notice(row: JsonObject) -> str:
    return str(_known(row.get("notice")) or NOTICE)


def _rows(frame: pd.DataFrame) -> list[JsonObject]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _known(value: Any) -> Any:
    """A cell as JSON holds it; None for what is missing."""
    import pandas as pd

    if value is None or value is pd.NA or value != value:
        return None
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d}"
    return value.item() if hasattr(value, "item") else value


def _clean(value: Any) -> Any:
    return clean(value) if isinstance(value, str) else value


def _harmless(value: Any) -> Any:
    if isinstance(value, tuple | list):
        value = "; ".join(map(str, value))
    return f"'{value}" if _formula(value) else value


def _as_it_was(value: Any) -> Any:
    return value[1:] if isinstance(value, str) and value[:1] == "'" and _formula(value[1:]) else value


def _formula(value: Any) -> bool:
    """Whether a spreadsheet might take it for a formula, or it is one with a guard before it."""
    return isinstance(value, str) and value.lstrip("'").startswith(_FORMULAS)
