"""What an endpoint says of its limits: how many requests or tokens are left, and when there will be more.

Read are the headers of OpenAI and its kin (`x-ratelimit-remaining-requests: 59`, `x-ratelimit-reset-requests: 6m0s`;
Mistral and Cerebras add `-minute` or `-day`, Mistral says `req`), the plain `x-ratelimit-remaining` and
`x-ratelimit-reset`, and those of the IETF draft "RateLimit header fields for HTTP": `ratelimit-remaining` up to version 6,
`ratelimit: "default";r=59;t=30` since version 8. A reset is a number of seconds, a duration, or seconds or
milliseconds since 1970. What cannot be read is as if it were not there.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from ctypes import Structure
from typing import Annotated, Literal, NamedTuple
from zlib import crc32

from pydantic import Field

from personalab.board import laid_out
from personalab.records import Record

Kind = Literal["requests", "tokens"]

_SECONDS_MAX = 60.0
"""However long an endpoint says that nothing is left, somebody tries again after this."""
_QUOTAS_MAX = 8
_NAME = re.compile(
    r"(?:x-)?ratelimit-(?P<field>limit|remaining|reset)(?P<name>(?:-(?P<kind>req|requests|tokens))?(?:-(?P<unit>second|minute|day))?)"
)
_UNIT_SECONDS = {"second": 1.0, "minute": 60.0, "day": 86_400.0}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_DURATION_SECONDS = (86_400, 3_600, 60, 1, 1 / 1000)
_ITEM = re.compile(r'"?(?P<name>[\w.*/-]+)"?\s*;\s*(?P<parameters>[^,]*)')
_MILLISECONDS_SINCE_1970 = 1e11
_SECONDS_SINCE_1970 = 1e8


class Quota(Record):
    """What is left of one limit; `reset_seconds` is the time until it is whole again."""

    name: str
    kind: Kind
    remaining: float = Field(ge=0)
    reset_seconds: float = Field(ge=0)


def quotas_in(headers: Mapping[str, str]) -> tuple[Quota, ...]:
    """The quotas that the headers of an answer tell of; those without a reset or a remaining number are left out."""
    told: dict[str, dict[str, str]] = {}
    kinds: dict[str, tuple[Kind, str | None]] = {}
    found: list[Quota] = []
    for header, value in headers.items():
        header = header.lower()
        if "ratelimit" not in header:
            continue
        if header == "ratelimit":
            found += _items(value, headers.get("ratelimit-policy", ""))
        elif match := _NAME.fullmatch(header):
            told.setdefault(match["name"], {})[match["field"]] = value
            kinds[match["name"]] = ("tokens" if match["kind"] == "tokens" else "requests", match["unit"])
    for name, fields in told.items():
        kind, unit = kinds[name]
        found += _quota(name, kind, fields, _UNIT_SECONDS.get(unit or ""))
    return tuple(found)


def seconds_in(text: str) -> float | None:
    """Seconds of `1`, `0.5`, `120ms`, `6m0s`, `1h2m3s`, or until a time in seconds or milliseconds since 1970."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        match = _DURATION.fullmatch(text)
        if not text or match is None:
            return None
        return sum(
            float(part) * seconds
            for part, seconds in zip(match.groups(), _DURATION_SECONDS, strict=True)
            if part
        )
    if not math.isfinite(number) or number < 0:
        return None
    if number > _MILLISECONDS_SINCE_1970:
        return max(0.0, number / 1000 - time.time())
    return max(0.0, number - time.time()) if number > _SECONDS_SINCE_1970 else number


def _quota(name: str, kind: Kind, fields: Mapping[str, str], unit_seconds: float | None) -> list[Quota]:
    limit, remaining = _number(fields.get("limit")), _number(fields.get("remaining"))
    reset = seconds_in(fields["reset"]) if "reset" in fields else unit_seconds
    if (
        remaining is None or reset is None or (limit is not None and limit <= 0)
    ):  # Azure says -1 for "not known"
        return []
    return [Quota(name=name, kind=kind, remaining=remaining, reset_seconds=reset)]


def _items(value: str, policy: str) -> list[Quota]:
    if "qu=" in policy and 'qu="requests"' not in policy:  # counted in bytes or the like
        return []
    found = []
    for item in _ITEM.finditer(value):
        parameters = dict(part.strip().partition("=")[::2] for part in item["parameters"].split(";"))
        remaining, reset = _number(parameters.get("r")), _number(parameters.get("t"))
        if remaining is not None and reset is not None:
            found.append(Quota(name=item["name"], kind="requests", remaining=remaining, reset_seconds=reset))
    return found


def _number(text: str | None) -> float | None:
    """A number that is not below 0; limits may be followed by a policy, as in `100, 100;w=60`."""
    try:
        number = float((text or "").split(",")[0].split(";")[0])
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


class Sent(NamedTuple):
    """How much had been sent when something was: the place of a request in the order of requests."""

    requests: int = 0
    tokens: int = 0


@laid_out
class Known(Structure):
    """A quota as it was told, and when: `until` is the time it is whole again, `last` what may be sent until then."""

    name: int
    of_tokens: bool
    last: float
    until: float
    told_of: int


@laid_out
class Quotas(Structure):
    """The quotas of an endpoint, and what is still to be had of each."""

    requests: int  # sent so far, and tokens with them
    tokens: int
    count_tokens: bool  # whether the endpoint says how many tokens are left
    until: float  # the latest of all quotas
    known: Annotated[list[Known], _QUOTAS_MAX]

    def begin(self) -> None:
        """Nothing was told yet."""
        self.requests = self.tokens = 0
        self.count_tokens = False
        self.until = -math.inf
        for known in self.known:
            known.until = -math.inf

    def wait(self, tokens: int, now: float) -> float:
        """Seconds until there is room for a request of so many tokens."""
        if now >= self.until:
            return 0.0
        wait = 0.0
        for known in self.known:
            sent, more = (self.tokens, tokens) if known.of_tokens else (self.requests, 1)
            if now < known.until and sent + more > known.last:
                wait = max(wait, known.until - now)
        return wait

    def send(self, tokens: int) -> Sent:
        """A request of so many tokens is sent; its place in the order is to be given back with what its answer tells."""
        self.requests += 1
        self.tokens += tokens
        return Sent(self.requests, self.tokens)

    def told(self, quotas: tuple[Quota, ...], sent: Sent, now: float) -> None:
        """What the answer to a request tells; it does not know of those sent after it."""
        for quota in quotas:
            name = crc32(quota.name.encode())
            known = next((one for one in self.known if one.name == name and now < one.until), None)
            if known is not None and sent.requests < known.told_of:
                continue
            known = known or next((one for one in self.known if now >= one.until), None)
            if known is None:  # more than anybody is known to tell
                continue
            known.name, known.of_tokens, known.told_of = name, quota.kind == "tokens", sent.requests
            known.last = (sent.tokens if known.of_tokens else sent.requests) + quota.remaining
            known.until = now + min(quota.reset_seconds, _SECONDS_MAX)
            self.until = max(self.until, known.until)
            self.count_tokens = self.count_tokens or known.of_tokens
