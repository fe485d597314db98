"""Files of tweets: written once, never again; found and read."""

from __future__ import annotations

import itertools
import json
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from personalab.errors import OutputError
from personalab.files import write_new
from personalab.names import slug
from personalab.records import explain
from personalab.tweets import Tweets, WrittenTweet

_NAME = re.compile(r".+_\d{8}T\d{6}_\d{6}Z(-\d+)?\.json")


def save_tweets(tweets: Tweets, folder: Path | str) -> Path:
    """Write `{persona_name}_{timestamp}.json`, under a name that nobody has, whoever writes at the same moment.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    stem = f"{slug(tweets.persona)}_{datetime.now(UTC):%Y%m%dT%H%M%S_%fZ}"
    content = json.dumps(tweets.model_dump(mode="json"), ensure_ascii=False, indent=1)
    later = (folder / f"{stem}-{number}.json" for number in itertools.count(2))
    return write_new(itertools.chain([folder / f"{stem}.json"], later), content.encode())


def find_same(tweets: Tweets, folder: Path | str) -> Path | None:
    """The first file in a folder with the very same tweets and the same slots without one; None if there is none."""
    told = _told(tweets)
    for path in sorted(Path(folder).glob(f"{slug(tweets.persona)}_*.json")):
        with suppress(OutputError):
            if _told(load_tweets(path)) == told:
                return path
    return None


def each_tweet(
    files: Iterable[tuple[Path, Tweets]], *, repeats: bool = False
) -> Iterator[tuple[Path, Tweets, WrittenTweet]]:
    """The tweets of files, each with its file. What a later file repeats is left out, unless `repeats`.

    A tweet is the same if its persona, its slot, its request and its text are.
    """
    seen = set()
    for path, tweets in files:
        for tweet in tweets.tweets:
            told = _same(tweets, tweet)
            if repeats or told not in seen:
                yield path, tweets, tweet
            seen.add(told)


def _told(tweets: Tweets) -> list[tuple[str, ...]]:
    return [
        *(_same(tweets, tweet) for tweet in tweets.tweets),
        *((tweets.persona_id, f"{slot.date}", slot.content_type, slot.topic) for slot in tweets.failed),
    ]


def _same(tweets: Tweets, tweet: WrittenTweet) -> tuple[str, ...]:
    """What makes two tweets one."""
    slot = (f"{tweet.date}", tweet.time_of_day, tweet.content_type, tweet.topic, tweet.mood)
    return (tweets.persona_id, *slot, tweet.request.key, tweet.text)


def load_tweets(path: Path | str) -> Tweets:
    """The tweets in a file.

    Raises:
        OutputError: missing, or no file of tweets.
    """
    try:
        return Tweets.model_validate(json.loads(Path(path).read_bytes()))
    except ValidationError as error:
        raise OutputError(f"{path} is no file of tweets: {explain(error)}") from error
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read as a file of tweets: {error}") from error


def find_tweets(folder: Path | str) -> Iterator[tuple[Path, Tweets]]:
    """The files of tweets in a folder, told by their names. One that cannot be read is left out with a warning."""
    for path in sorted(Path(folder).glob("*.json")):
        if not _NAME.fullmatch(path.name):
            continue
        try:
            yield path, load_tweets(path)
        except OutputError as error:
            warnings.warn(str(error), stacklevel=2)
