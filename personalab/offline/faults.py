"""Faults on order: what goes wrong, how often, and how slow the server is.

    parse_faults(fault=["rate_limit=0.2", "no_json_schema", "key=secret"], latency=["0.1..0.5", "core_persona=2"])

Rates are shares of requests and exclude each other. Draws depend on a seed and on how many requests came before, so a
retry gets another draw and a run of the server can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from personalab.errors import ConfigError, unknown
from personalab.records import Record

RATES = ("rate_limit", "server_error", "reset", "broken_json", "wrong_shape", "cut_off", "refusal", "empty")
QUIRKS = (
    "no_json_schema", "no_json_mode", "no_temperature", "no_max_tokens", "no_images", "no_quota",
    "no_retry_after", "quota_headers", "no_batches", "batch_fails",
)  # fmt: skip

Rate = Annotated[float, Field(ge=0, le=1)]


class Latency(Record):
    """Seconds before an answer, uniform between two bounds; `stage` is a schema's name, or empty for all others."""

    stage: str = ""
    low: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    high: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class Faults(Record):
    """What goes wrong. The default is: nothing, at once.

    Rates are shares of requests; quirks hold for all of them. `key` is the only one accepted, `models` the only ones
    known; None and () accept any. `max_concurrent`, `requests_per_minute` and `tokens_per_minute` answer 429 beyond
    them, with Retry-After unless `no_retry_after`; what is left is told with every answer if `quota_headers`.
    `window_seconds` is the time over which both rates are counted: 600 a minute in windows of 1 s are ten a second.
    Of batches `batch_fails` refuses each as a whole, `batch_expires` is the share of requests that are not asked in time,
    and `batch_polls` is how often one is looked at before it is over. Limits and latency do not hold in them.
    """

    rate_limit: Rate = 0.0
    server_error: Rate = 0.0
    reset: Rate = 0.0
    broken_json: Rate = 0.0
    wrong_shape: Rate = 0.0
    cut_off: Rate = 0.0
    refusal: Rate = 0.0
    empty: Rate = 0.0
    no_json_schema: bool = False
    no_json_mode: bool = False
    no_temperature: bool = False
    no_max_tokens: bool = False
    no_images: bool = False
    no_quota: bool = False
    no_retry_after: bool = False
    quota_headers: bool = False
    no_batches: bool = False
    batch_fails: bool = False
    batch_expires: Rate = 0.0
    batch_polls: int = Field(default=0, ge=0)
    key: str | None = Field(default=None, repr=False)
    models: tuple[str, ...] = ()
    max_concurrent: int | None = Field(default=None, ge=1)
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    window_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    retry_after: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    latency: tuple[Latency, ...] = ()
    seed: int = 0

    @model_validator(mode="after")
    def _rates_fit(self) -> Faults:
        if sum(getattr(self, name) for name in RATES) > 1 + 1e-9:
            raise ValueError(f"the rates of {', '.join(RATES)} must not sum to more than 1")
        return self

    def drawn(self, count: int) -> str | None:
        """Which of the faults with a rate befalls request number `count`, or None."""
        left = Random(f"{self.seed} fault {count}").random()
        for name in RATES:
            left -= getattr(self, name)
            if left < 0:
                return name
        return None

    def seconds(self, stage: str, count: int) -> float:
        """How long request number `count` for a stage takes."""
        fitting = [latency for latency in self.latency if latency.stage in ("", stage)]
        if not fitting:
            return 0.0
        latency = max(fitting, key=lambda one: bool(one.stage))
        return Random(f"{self.seed} latency {count}").uniform(latency.low, latency.high)


def parse_faults(fault: Iterable[str] = (), latency: Iterable[str] = ()) -> Faults:
    """Faults from words, as the command line takes them.

    `fault` items are `name=value`, or a quirk's name alone; models are separated by commas. `latency` items are seconds
    (`0.2`), a range (`0.1..0.5`), or either for one stage (`core_persona=2`).

    Raises:
        ConfigError: a name nobody knows, or a value that does not fit; says which.
    """
    values: dict[str, object] = {}
    for item in fault:
        name, equals, value = item.partition("=")
        name = name.strip()
        if name not in Faults.model_fields or name == "latency":
            raise unknown("fault", name, set(Faults.model_fields) - {"latency"})
        if not equals and name not in QUIRKS:
            raise ConfigError(f"fault {name!r} needs a value: {name}=…")
        values[name] = _models(value) if name == "models" else value.strip() if equals else True
    try:
        return Faults.model_validate({**values, "latency": tuple(_latency(item) for item in latency)})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "faults"
        raise ConfigError(f"fault {where}: {first['msg']}") from error


def _models(value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _latency(item: str) -> Latency:
    stage, _, seconds = item.rpartition("=")
    low, dots, high = seconds.partition("..")
    try:
        latency = Latency(stage=stage.strip(), low=float(low), high=float(high if dots else low))
    except ValueError as error:
        raise ConfigError(
            f"latency {item!r}: write seconds (0.2), a range (0.1..0.5) or stage=seconds"
        ) from error
    if latency.high < latency.low:
        raise ConfigError(f"latency {item!r}: the range ends before it begins")
    return latency
