"""Ceilings on what may be sent: requests, tokens, money; for one pool, for several, or for several processes.

What is in flight counts with what it may cost. Who would pass a ceiling waits while something is in flight, as that may
turn out cheaper, and is refused when nothing is: so all that was paid for has arrived and is stored when a batch stops.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import Field, ValidationError

from personalab.config import BUDGET_OUTPUT_TOKENS
from personalab.dry import dry_folder
from personalab.errors import BudgetError, BudgetExhausted, ConfigError, PriceUnknown, ProviderError
from personalab.files import write_whole
from personalab.prices import Price
from personalab.records import Record, Request, Usage, explain
from personalab.tokens import count_tokens

_DOUBT = 1.5
"""How many times its estimate the input of a stage may take that was never answered before; see `tokens`."""
_TOKENS_PER_MESSAGE = 8
"""What marks a message's beginning, role and end."""
_PIXELS_PER_TOKEN = 400
"""Of a picture: what most providers charge at most."""
_ROUNDING = 1e-9  # US dollars: sums of fractions
_NEVER_SEEN = Usage(input_tokens=None, output_tokens=None)
_LOCK_SECONDS = 60.0
_LOCK_POLL_SECONDS = 0.001
_CEILING = re.compile(r"(\d+(?:\.\d+)?)\s*([kM]?)\s*(requests?|tokens?|usd)", re.IGNORECASE)
_THOUSANDS = {"": 1, "k": 1_000, "m": 1_000_000}


class Ceilings(Record):
    """The most that may be spent: requests sent, tokens in and out together, US dollars. None is no ceiling."""

    requests: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    cost: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def __str__(self) -> str:
        parts = [] if self.requests is None else [f"{self.requests:,} requests"]
        parts += [] if self.tokens is None else [f"{self.tokens:,} tokens"]
        parts += [] if self.cost is None else [f"${self.cost:.4f}"]
        return ", ".join(parts)


_NO_CEILINGS = Ceilings()


class Expense(Record):
    """What was spent or may be: requests, tokens, US dollars. A cost of None is unknown, and stays so in a sum."""

    requests: int = 0
    tokens: int = 0
    cost: float | None = 0.0

    def __add__(self, other: Expense) -> Expense:
        known = self.cost is not None and other.cost is not None
        return Expense(
            requests=self.requests + other.requests,
            tokens=self.tokens + other.tokens,
            cost=self.cost + other.cost if known else None,  # type: ignore[operator]
        )

    def __sub__(self, other: Expense) -> Expense:
        cost = None if other.cost is None else -other.cost
        return self + Expense(requests=-other.requests, tokens=-other.tokens, cost=cost)

    def fits(self, ceilings: Ceilings) -> bool:
        """Whether it passes no ceiling; an unknown cost passes any."""
        if ceilings.cost is not None and (self.cost is None or self.cost > ceilings.cost + _ROUNDING):
            return False
        return (ceilings.requests is None or self.requests <= ceilings.requests) and (
            ceilings.tokens is None or self.tokens <= ceilings.tokens
        )


class Hold:
    """What is set aside for one request. Until `paid` is told it counts as spent: its outcome is not known."""

    def __init__(self, expected: Expense, price: Price | None) -> None:
        self._expected, self._price = expected, price
        self.spent = expected if price else expected.model_copy(update={"cost": None})
        self.usage: Usage | None = None

    def paid(self, usage: Usage) -> None:
        """What the answer took; where the endpoint does not say, what was expected."""
        cost = self._price.cost(usage) if self._price else None
        self.usage = usage
        self.spent = Expense(
            requests=1,
            tokens=self._expected.tokens if usage.tokens is None else usage.tokens,
            cost=self.spent.cost if cost is None else cost,
        )

    def refused(self) -> None:
        """It was sent, and the endpoint charges nothing for it."""
        self.spent = Expense(requests=1)


class Budget:
    """Ceilings that pools share: `LLMPool(budget=Budget(cost=5, requests=1000))`. Replies from the cache cost nothing.

    With `path` the budget is kept in that file, so that several processes share it and a later one goes on with it; what
    was in flight in a process that died counts as spent. Without, it is of this object and this process.

    Once it has refused a request it refuses all: the batch that stops for it must not leave others in flight behind.

    Raises:
        ConfigError: a ceiling that cannot be.
    """

    def __init__(
        self,
        *,
        requests: int | None = None,
        tokens: int | None = None,
        cost: float | None = None,
        path: Path | str | None = None,
    ) -> None:
        try:
            self.ceilings = Ceilings(requests=requests, tokens=tokens, cost=cost)
        except ValidationError as error:
            raise ConfigError(f"budget: {explain(error)}") from None
        # A dry run spends nothing of what processes share.
        self._account: _Account = _SharedAccount(Path(path)) if path and not dry_folder() else _Account()
        self._lock = threading.Lock()
        self._in_flight = 0
        self._refused: BudgetExhausted | None = None
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._seen: dict[str, Usage] = {}

    def __repr__(self) -> str:
        return f"Budget({self.ceilings or 'no ceilings'}; left: {self.remaining or 'all'})"

    @property
    def spent(self) -> Expense:
        """What was spent, and what those in flight may cost."""
        return self._account.total()

    @property
    def remaining(self) -> Ceilings:
        """What may still be spent; None where there is no ceiling."""
        spent, most = self.spent, self.ceilings
        return Ceilings(
            requests=None if most.requests is None else max(0, most.requests - spent.requests),
            tokens=None if most.tokens is None else max(0, most.tokens - spent.tokens),
            cost=None if most.cost is None else max(0.0, most.cost - (spent.cost or 0.0)),
        )

    def check(self, model: str, price: Price | None) -> None:
        """Whether a model can be asked under these ceilings.

        Raises:
            PriceUnknown: there is a ceiling on cost, and nobody knows what the model costs.
        """
        if self.ceilings.cost is not None and price is None:
            raise PriceUnknown(
                f"budget: what {model!r} costs is unknown, so a ceiling of ${self.ceilings.cost:g} cannot be kept; give "
                f"prices={{{model!r}: Price(input=…, output=…)}} to the pool (in batches with batch=…), or a ceiling on tokens"
            )

    @asynccontextmanager
    async def hold(self, request: Request, model: str, price: Price | None) -> AsyncIterator[Hold]:
        """What a request may cost is set aside while it is in flight; an answer tells the hold what it took.

        Raises:
            BudgetExhausted: it would pass a ceiling, and nothing is in flight that may turn out cheaper.
            PriceUnknown: there is a ceiling on cost, and nobody knows what the model costs.
        """
        if self.ceilings == _NO_CEILINGS:
            yield Hold(Expense(requests=1), price)
            return
        self.check(model, price)
        expected = self._expected(request, price)
        await self._set_aside(expected)
        hold = Hold(expected, price)
        try:
            yield hold
        except ProviderError as error:
            if error.status is not None and error.status >= 400:
                hold.refused()
            raise
        finally:
            if hold.usage:
                self._learn(request.stage, hold.usage)
            self._end(hold.spent - expected)

    def _expected(self, request: Request, price: Price | None) -> Expense:
        """The most a request takes, as far as can be known: an answer without `max_tokens` may be longer than any before."""
        seen = self._seen.get(request.stage, _NEVER_SEEN)
        tokens_in = max(seen.input_tokens or 0, math.ceil(_input_tokens(request)))
        tokens_out = request.sampling.max_tokens or seen.output_tokens or BUDGET_OUTPUT_TOKENS
        usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out)
        # At an unknown price nothing is set aside: there is no ceiling on cost then. What it comes to is unknown.
        return Expense(requests=1, tokens=tokens_in + tokens_out, cost=price.cost(usage) if price else 0.0)

    def _learn(self, stage: str, usage: Usage) -> None:
        seen = self._seen.get(stage, _NEVER_SEEN)
        self._seen[stage] = Usage(
            input_tokens=_larger(usage.input_tokens, seen.input_tokens),
            output_tokens=_larger(usage.output_tokens, seen.output_tokens),
        )

    async def _set_aside(self, expected: Expense) -> None:
        while True:
            with self._lock:
                if self._refused:
                    raise BudgetExhausted(str(self._refused))
                if self._account.take(expected, self.ceilings):
                    self._in_flight += 1
                    return
                if not self._in_flight:
                    self._refused = self._exhausted(expected)
                    raise self._refused
                loop = asyncio.get_running_loop()
                ended = loop.create_future()
                self._waiting.append((loop, ended))
            await ended

    def _end(self, change: Expense) -> None:
        with self._lock:
            self._in_flight -= 1
            woken, self._waiting = self._waiting, []
            self._account.add(change)
        for loop, ended in woken:
            with suppress(RuntimeError):  # that loop has ended, and who waited with it
                loop.call_soon_threadsafe(_tell, ended)

    def _exhausted(self, expected: Expense) -> BudgetExhausted:
        left, most = self.remaining, self.ceilings
        told, takes = [], []
        if most.requests is not None:
            told.append(f"{left.requests:,} of {most.requests:,} requests")
        if most.tokens is not None:
            told.append(f"{left.tokens:,} of {most.tokens:,} tokens")
            takes.append(f"{expected.tokens:,} tokens")
        if most.cost is not None:
            told.append(f"${left.cost:.4f} of ${most.cost:.4f}")
            takes.append(f"${expected.cost:.4f}")
        may = f", and the next request may take {' and '.join(takes)}" if takes else ""
        return BudgetExhausted(
            f"budget: {', '.join(told)} left{may}; everything done is kept: start again with a higher ceiling"
        )


class _Account:
    """A sum, in memory."""

    def __init__(self) -> None:
        self._total = Expense()

    def total(self) -> Expense:
        return self._total

    def take(self, expense: Expense, ceilings: Ceilings) -> bool:
        """Add an expense, unless the sum would pass a ceiling."""
        after = self._total + expense
        if after.fits(ceilings):
            self._total = after
            return True
        return False

    def add(self, change: Expense) -> None:
        self._total += change


class _SharedAccount(_Account):
    """A sum in a file, read and written under a lock that the system frees when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BudgetError(f"budget {path} cannot be kept: {error}; give another path") from error
        self._lock = FileLock(f"{path}.lock", timeout=_LOCK_SECONDS, poll_interval=_LOCK_POLL_SECONDS)

    def total(self) -> Expense:
        try:
            return Expense.model_validate(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return Expense()
        except (OSError, ValueError) as error:
            raise BudgetError(
                f"budget {self._path} cannot be read: {error}; delete it to begin anew"
            ) from error

    def take(self, expense: Expense, ceilings: Ceilings) -> bool:
        with self._locked():
            after = self.total() + expense
            if not after.fits(ceilings):
                return False
            self._write(after)
            return True

    def add(self, change: Expense) -> None:
        with self._locked():
            self._write(self.total() + change)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._lock.acquire()
        except (Timeout, OSError) as error:
            raise BudgetError(f"budget {self._path} cannot be locked: {error}; give another path") from error
        try:
            yield
        finally:
            self._lock.release()

    def _write(self, total: Expense) -> None:
        write_whole(self._path, total.model_dump_json().encode(), durable=False)


def parse_budget(ceilings: Iterable[str]) -> Budget | None:
    """A budget from ceilings such as `5usd`, `1000requests` or `2Mtokens`; None for none at all.

    Raises:
        ConfigError: not of this form, or two of one kind.
    """
    found: dict[str, float] = {}
    for text in ceilings:
        match = _CEILING.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"a budget is such as 5usd, 1000requests or 200000tokens, not {text!r}")
        number = float(match[1]) * _THOUSANDS[match[2].lower()]
        kind = {"r": "requests", "t": "tokens", "u": "cost"}[match[3][0].lower()]
        if kind in found:
            raise ConfigError(f"two budgets for {kind}: give one")
        if kind != "cost" and number != int(number):
            raise ConfigError(f"a budget of {kind} is a whole number, not {text!r}")
        found[kind] = number
    if not found:
        return None
    return Budget(
        requests=int(found["requests"]) if "requests" in found else None,
        tokens=int(found["tokens"]) if "tokens" in found else None,
        cost=found.get("cost"),
    )


def _input_tokens(request: Request) -> float:
    tokens = sum(count_tokens(message.text) for message in request.messages)
    tokens += _schema_tokens(json.dumps(request.answer.body)) if request.answer else 0
    pixels = sum(
        picture.width * picture.height for message in request.messages for picture in message.pictures
    )
    marks = _TOKENS_PER_MESSAGE * len(request.messages)
    return _DOUBT * tokens + marks + pixels / _PIXELS_PER_TOKEN


@lru_cache(maxsize=64)
def _schema_tokens(schema: str) -> int:
    return count_tokens(schema)


def _larger(one: int | None, other: int | None) -> int | None:
    return max((number for number in (one, other) if number is not None), default=None)


def _tell(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
