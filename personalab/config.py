"""Every default, as a named value with its unit, and the settings a person can give.

Arguments win over the environment, the environment over `.env`. Read: `OPENAI_API_KEY`, `OPENAI_BASE_URL`,
`PERSONALAB_MODEL`, `MAX_CONCURRENT`, `REQUESTS_PER_MINUTE`, `TOKENS_PER_MINUTE`, `PERSONALAB_BATCH`,
`PERSONALAB_OUTPUTS`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator

from personalab.errors import ConfigError
from personalab.records import Record, explain

OPENAI_URL = "https://api.openai.com/v1"
OFFLINE_MODEL = "personalab-offline"

MAX_CONCURRENT = 20
"""Requests in flight at once."""
TIMEOUT_SECONDS = 300.0
"""For one attempt; local models are slow."""
CONNECT_TIMEOUT_SECONDS = 10.0
CHECK_TIMEOUT_SECONDS = 120.0
"""For one request of `personalab check`; some local servers load a model when it is first asked."""
CHECK_OUTPUT_TOKENS = 512
"""Most that an answer to `personalab check` may take; one that thinks first needs more than its few words."""
ATTEMPTS_MAX = 6
"""Tries of one request that meets connection errors, time-outs or server errors, the first included."""
ASKS_MAX = 6
"""Times a question is put, the first included, while answers come that cannot be used."""
BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 30.0
RETRY_AFTER_MIN_SECONDS = 0.01
"""Shortest wait after a rate limit, doubled each time, whatever the endpoint says."""
PATIENCE_SECONDS = 900.0
"""Longest time one request spends between its attempts, rate limits included."""
BUDGET_OUTPUT_TOKENS = 4_000
"""What an answer may take, for a budget, before a stage was ever answered and without `max_tokens`."""
PICTURE_SIDE_MAX = 1024
"""Pixels of the longer side of a picture that is sent; larger ones are made smaller."""
PICTURE_PIXELS_MAX = 64_000_000
"""Pixels of a picture that is opened at all."""
PICTURE_PIXELS_LARGE = 8_000_000
"""Pixels from which pictures are decoded one at a time, to keep memory flat."""
PICTURE_BYTES_MAX = 100_000_000
"""Bytes of an image file that is read at all."""
WINDOW_SPARE = 4
"""Items under way in a batch beyond `max_concurrent`: each has a request in flight or waiting, but for moments of its own
work, so this many keep the gate full, and more would only hold more memory."""

USUAL_OUTPUT_TOKENS = {
    "core_persona": 1250,
    "tweet_strategy": 370,
    "example_tweets": 310,
    "social_network": 1200,
    "authenticity": 150,
    "visual_profile": 390,
    "character_book": 480,
}
"""Tokens of a stage's reply, for plans, until replies of the model itself are there: means of the embedded provider's."""
USUAL_PICTURE_TOKENS = 800
"""Tokens that a picture of a portrait's size takes, for plans; by provider between 250 and 1,500."""

MEMORY_ROWS = 50
"""Personas after which a batch gives freed memory back."""
BATCH_NOTES_MAX = 3
"""Changed settings that a row of a batch names."""

CALENDAR_PART_DAYS = 8
"""Days of a calendar that are worked out in one request, at most."""
TOPIC_WINDOW_DAYS = 7
"""Days within which no topic comes back."""
TOPIC_LIKENESS_MAX = 85.0
"""From which likeness (0 to 100) two topics are the same one."""
TWEET_LIKENESS_MAX = 80.0
"""From which likeness (0 to 100) a tweet is a near copy of another."""
TWEET_ROUNDS = 3
"""Times that near copies of a batch are asked again."""

JUDGEMENTS = 3
"""Times that a judge is asked about one text, as it does not say the same twice."""

BATCH_FILE_SECONDS = 1800.0
"""For a file to go up or to come down."""
BATCH_POLL_GROWTH = 1.5
BATCH_JOBS = 16
"""Trials of a sweep at once that send their requests in batches: kernels that wait take memory and nothing else."""

_VARIABLES = {
    "api_key": "OPENAI_API_KEY",
    "api_base": "OPENAI_BASE_URL",
    "model": "PERSONALAB_MODEL",
    "max_concurrent": "MAX_CONCURRENT",
    "requests_per_minute": "REQUESTS_PER_MINUTE",
    "tokens_per_minute": "TOKENS_PER_MINUTE",
    "batch": "PERSONALAB_BATCH",
    "outputs": "PERSONALAB_OUTPUTS",
}
_COUNTS = ("max_concurrent", "requests_per_minute", "tokens_per_minute")
ROOT_MARKS = (".env", "pyproject.toml", "environment.yml")


class Address(Record):
    """One address with its key and its limits. No rate is no limit; `models` are others that it has besides `model`.

    None for key and base URL together means the embedded provider.
    """

    api_key: SecretStr | None = None
    api_base: str | None = None
    model: str | None = None
    models: tuple[str, ...] = ()
    max_concurrent: int = Field(default=MAX_CONCURRENT, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)

    @field_validator("api_key")
    @classmethod
    def _sendable(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        plain = key.get_secret_value().strip()
        if not plain or not plain.isascii() or not plain.isprintable():
            raise ValueError("must be printable ASCII characters; copy it again")
        return SecretStr(plain)

    @field_validator("api_base")
    @classmethod
    def _address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            good = False
        if not good:
            raise ValueError("must be an address such as https://host:8000/v1")
        if parts.username or parts.password:
            raise ValueError("must not hold a name or password; give the key as OPENAI_API_KEY")
        if parts.query or parts.fragment:  # messages and run files name the address
            raise ValueError("must not hold anything after a '?' or '#'; give the key as OPENAI_API_KEY")
        return url.strip().rstrip("/")

    @property
    def offline(self) -> bool:
        """Whether the embedded provider answers."""
        return self.api_key is None and self.api_base is None


class EndpointSettings(Address):
    """One of several endpoints of a pool; nothing of it comes from the environment.

    Raises:
        ConfigError: a value that cannot be, or a name nobody knows.
    """

    def __init__(self, **values: Any) -> None:
        problem = None
        try:
            super().__init__(**values)
        except ValidationError as error:
            problem = explain(error)
        del values  # so that no traceback with local variables shows the key
        if problem:
            raise ConfigError(f"endpoint: {problem}")


class BatchSettings(Record):
    """How requests go through a provider's batch endpoint.

    A batch is sent when no request has come for `quiet_seconds`, or when it has `requests_max` or would pass `bytes_max`.
    It is looked at after `poll_first_seconds`, then less and less often, down to every `poll_max_seconds`; a provider that
    does not answer is waited for up to `unreachable_seconds`. `settle_seconds` is how long a batch that was ordered and
    not confirmed may take to show up in the provider's list. `window` personas are under way at once: a wave of
    requests holds no more than theirs.
    """

    requests_max: int = Field(default=50_000, ge=1)
    bytes_max: int = Field(default=200_000_000, ge=1)
    quiet_seconds: float = Field(default=2.0, ge=0)
    poll_first_seconds: float = Field(default=1.0, gt=0)
    poll_max_seconds: float = Field(default=60.0, gt=0)
    settle_seconds: float = Field(default=30.0, ge=0)
    unreachable_seconds: float = Field(default=3600.0, ge=0)
    window: int = Field(default=1000, ge=1)


class Settings(Address):
    """What a person can set: one endpoint, the folder for results, and whether requests go in batches."""

    outputs: Path
    batch: bool = False


def load_settings(**arguments: Any) -> Settings:
    """The settings in force, from arguments, environment and `.env`. An argument that is None was not given.

    Raises:
        ConfigError: a value that cannot be, naming its variable.
    """
    root = project_root()
    values: dict[str, Any] = {"outputs": root / "outputs"}
    values |= {field: value for field, value in _from_environment(root).items() if value}
    values |= {field: value for field, value in arguments.items() if value is not None}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False)[0]
        raise ConfigError(_explain_setting(str(detail["loc"][0]), detail["input"], detail["msg"])) from None


def _explain_setting(field: str, value: object, problem: str) -> str:
    if field in _COUNTS:
        problem = f"must be a whole number of 1 or more, not {value!r}"
    return f"setting {_VARIABLES.get(field, field)} {problem.removeprefix('Value error, ')}"


def project_root() -> Path:
    """The nearest folder above the working directory with a `.env`, `pyproject.toml` or `environment.yml`, else it.

    So a notebook in `notebooks/` and a command in the folder above share outputs and cache.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if any((folder / mark).is_file() for mark in ROOT_MARKS):
            return folder
    return here


def _from_environment(root: Path) -> dict[str, Any]:
    from dotenv import dotenv_values

    try:  # interpolate=False: a "$" in a key is a "$"
        values = {**dotenv_values(root / ".env", interpolate=False), **os.environ}
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{root / '.env'} is no text in UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{root / '.env'} cannot be read: {error.strerror or error}; check its rights"
        ) from None
    found: dict[str, Any] = {field: values.get(variable) for field, variable in _VARIABLES.items()}
    if found["api_key"]:
        found["api_key"] = SecretStr(found["api_key"])  # so that no traceback with local variables shows it
    del values
    return found
