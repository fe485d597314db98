"""What a model costs: money per million tokens, given by the user or by the `genai-prices` library where it is installed.

Unknown is None, never 0: a price that nobody knows must not look like a free model.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import Field

from personalab.records import Record, Usage

if TYPE_CHECKING:
    from genai_prices.types import PriceVariant

_MILLION = 1_000_000
_IN_BATCH = {"processing": "batch"}
_SAMPLE_TOKENS = 1_000  # prices of long prompts differ at some providers; a stage's prompt is short


class Price(Record):
    """US dollars per million tokens. `batch` is the share of it that a provider's batch endpoint takes; None is unknown."""

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    batch: float | None = Field(default=None, ge=0, allow_inf_nan=False)

    def batched(self) -> Price | None:
        """The price in a batch; None where it is unknown."""
        if self.batch is None:
            return None
        return Price(input=self.input * self.batch, output=self.output * self.batch)

    def cost(self, usage: Usage) -> float | None:
        """US dollars for some tokens; None where their number is unknown."""
        if usage.input_tokens is None or usage.output_tokens is None:
            return None
        return (usage.input_tokens * self.input + usage.output_tokens * self.output) / _MILLION


FREE = Price(input=0, output=0, batch=1)


@lru_cache(maxsize=256)
def price_of(model: str, endpoint: str, *, batch: bool = False) -> Price | None:
    """The price of a model at an endpoint, or in its batches, by the list that comes with `genai-prices`; asks no network.

    None where the library is not installed, or knows neither endpoint nor model: a server of one's own may serve a
    model of any name at any price. What a batch costs is None where the list does not say it: it is not half everywhere.
    """
    try:
        from genai_prices import Usage as Tokens
        from genai_prices import calc_price
    except ImportError:
        return None
    sample = Tokens(input_tokens=_SAMPLE_TOKENS, output_tokens=_SAMPLE_TOKENS)
    try:
        found = calc_price(
            sample, model, provider_api_url=endpoint, price_context=_IN_BATCH if batch else None
        )
    except (LookupError, ValueError):
        return None
    if batch and not any(_holds(variant) for variant in found.model.price_variants or ()):
        return None
    scale = _MILLION / _SAMPLE_TOKENS
    return Price(input=float(found.input_price) * scale, output=float(found.output_price) * scale)


def _holds(variant: PriceVariant) -> bool:
    """Whether a variant of a price is that of batches, today."""
    return variant.when == _IN_BATCH and (
        variant.constraint is None or variant.constraint.active(datetime.now(UTC))
    )
