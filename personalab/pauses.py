"""The waits between the attempts of one request, and when to give up."""

from __future__ import annotations

import random

from personalab import config
from personalab.errors import ProviderError, RateLimited


class Pause:
    """How long to wait after a failed attempt, and when to give up."""

    def __init__(self, attempts_max: int, patience_seconds: float) -> None:
        self._attempts_left = attempts_max
        self._patience_left = patience_seconds
        self._backoff = config.BACKOFF_FIRST_SECONDS
        self._floor = config.RETRY_AFTER_MIN_SECONDS

    def after(self, error: ProviderError, attempts: int, closed: float | None = None) -> float:
        """Seconds to wait, or the error itself when nothing is gained by waiting.

        A rate limit costs patience only: it says that the request is good and the time is not. `closed` is for how long
        the endpoint lets nothing in at all.
        """
        if not error.passing:
            raise error
        if not isinstance(error, RateLimited):
            self._attempts_left -= 1
        if closed is not None:
            wait = closed
        elif error.retry_after is None:
            wait = self._backoff
            self._backoff = min(config.BACKOFF_MAX_SECONDS, 2 * self._backoff)
        else:  # a server that says "0" again and again must not be asked without a pause
            wait = max(error.retry_after, self._floor)
            self._floor = min(config.BACKOFF_MAX_SECONDS, 2 * self._floor)
        if closed is None:  # requests refused together are not to come back together
            wait *= random.uniform(1, 1.25)
        self._patience_left -= wait
        if self._attempts_left <= 0 or self._patience_left < 0:
            raise type(error)(
                f"{error}; gave up after {attempts} attempt{'s' if attempts != 1 else ''}",
                endpoint=error.endpoint,
                model=error.model,
                status=error.status,
                retry_after=error.retry_after,
            )
        return wait
