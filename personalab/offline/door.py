"""Who is let in: keys, models, what an endpoint does not take, and limits. Its refusals read like OpenAI's."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from personalab.offline.faults import Faults
from personalab.offline.wire import ApiError, Chat

_MINUTE = 60.0


class _Window:
    """What was used in the last seconds, and how much that may be."""

    def __init__(self, per_minute: int, seconds: float) -> None:
        self.limit = max(1.0, per_minute * seconds / _MINUTE)
        self._seconds = seconds
        self._used: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def use(self, amount: float, now: float) -> None:
        self._used.append((now, amount))
        self._sum += amount

    def left(self, now: float) -> float:
        while self._used and self._used[0][0] <= now - self._seconds:
            self._sum -= self._used.popleft()[1]
        return max(0.0, self.limit - self._sum)

    def wait(self, amount: float, now: float) -> float:
        """Seconds until there is room for so much; all of the window serves what is larger than it."""
        short = min(amount, self.limit) - self.left(now)
        wait = 0.0
        for at, used in self._used:
            if short <= 0:
                break
            short -= used
            wait = at + self._seconds - now
        return wait

    def whole_again(self, now: float) -> float:
        """Seconds until nothing of it is used."""
        return self._used[-1][0] + self._seconds - now if self.left(now) < self.limit else 0.0


class Door:
    """Checks requests against the faults that are on. Used from one event loop only."""

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._windows = {
            kind: _Window(limit, faults.window_seconds)
            for kind, limit in (
                ("requests", faults.requests_per_minute),
                ("tokens", faults.tokens_per_minute),
            )
            if limit is not None
        }
        self._inside = 0

    def check_key(self, authorization: str) -> None:
        """Raises 401 for another key than the one accepted."""
        key = self._faults.key
        if key is not None and authorization != f"Bearer {key}":
            raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")

    def check(self, chat: Chat) -> None:
        """Raises 404 for an unknown model and 400 for what this endpoint does not take."""
        faults = self._faults
        if faults.models and chat.model not in faults.models:
            message = f"The model `{chat.model}` does not exist or you do not have access to it."
            raise ApiError(404, message, code="model_not_found", param="model")
        if faults.no_images and chat.images:
            raise ApiError(
                400, "Invalid content type. image_url is only supported by certain models.", param="messages"
            )
        if faults.no_max_tokens and "max_tokens" in chat.given:
            message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            raise ApiError(400, message, param="max_tokens", code="unsupported_parameter")
        if faults.no_temperature and "temperature" in chat.given and chat.temperature != 1:
            message = (
                f"Unsupported value: 'temperature' does not support {chat.temperature:g} with this model. "
                "Only the default (1) value is supported."
            )
            raise ApiError(400, message, param="temperature", code="unsupported_value")
        if faults.no_json_mode and chat.answer_format != "text":
            raise ApiError(
                400, "Unrecognized request argument supplied: response_format", param="response_format"
            )
        if faults.no_json_schema and chat.answer_format == "json_schema":
            message = (
                "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
            )
            raise ApiError(400, message, param="response_format")

    def enter(self, tokens: int = 0) -> dict[str, str]:
        """Lets a request of so many tokens in; 429 with Retry-After if a limit is reached. `leave` has to follow.

        Gives the headers that tell what is left.
        """
        faults = self._faults
        if faults.no_quota:
            message = "You exceeded your current quota, please check your plan and billing details."
            raise ApiError(429, message, kind="insufficient_quota", code="insufficient_quota")
        if faults.max_concurrent is not None and self._inside >= faults.max_concurrent:
            raise self.limited("concurrent requests", faults.retry_after)
        now = self._clock()
        amounts = {"requests": 1, "tokens": tokens}
        for kind, window in self._windows.items():
            if window.left(now) < min(amounts[kind], window.limit):
                raise self.limited(f"{kind} per min", window.wait(amounts[kind], now))
        for kind, window in self._windows.items():
            window.use(amounts[kind], now)
        self._inside += 1
        return self._told(now)

    def leave(self, tokens: int = 0) -> None:
        """A request that was let in is done, and so many more tokens were used."""
        self._inside -= 1
        if "tokens" in self._windows:
            self._windows["tokens"].use(tokens, self._clock())

    def limited(self, what: str, seconds: float) -> ApiError:
        """A 429 that says when to come back, if this endpoint does, and what is left."""
        headers = self._told(self._clock())
        message = f"Rate limit reached for {what}."
        if not self._faults.no_retry_after:
            headers |= {"Retry-After": f"{seconds:.6g}", "retry-after-ms": str(round(seconds * 1000))}
            message += f" Please try again in {seconds:.3g}s."
        return ApiError(429, message, kind="requests", code="rate_limit_exceeded", headers=headers)

    def _told(self, now: float) -> dict[str, str]:
        if not self._faults.quota_headers:
            return {}
        told = {}
        for kind, window in self._windows.items():
            told[f"x-ratelimit-limit-{kind}"] = f"{window.limit:.0f}"
            told[f"x-ratelimit-remaining-{kind}"] = f"{int(window.left(now))}"
            told[f"x-ratelimit-reset-{kind}"] = f"{round(1000 * window.whole_again(now))}ms"
        return told
