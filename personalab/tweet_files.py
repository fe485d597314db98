"""Files of tweets: written once, never again; found and read."""

from __future__ import annotations

import itertools
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from personalab.errors import OutputError
from personalab.files import write_new
from personalab.names import slug
from personalab.records import explain
from personalab.tweets import Tweets

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
    """The first file in a folder with the very same tweets, as a command that is started again writes; None without one."""
    told = [(tweet.date, tweet.text, tweet.request.key) for tweet in tweets.tweets]
    for path in sorted(Path(folder).glob(f"{slug(tweets.persona)}_*.json")):
        with suppress(OutputError):
            other = load_tweets(path)
            there = [(tweet.date, tweet.text, tweet.request.key) for tweet in other.tweets]
            if other.persona_id == tweets.persona_id and there == told:
                return path
    return None


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
