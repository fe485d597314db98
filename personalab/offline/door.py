"""Who is let in: keys, models, what an endpoint does not take, and limits. Its refusals read like OpenAI's."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from personalab.offline.faults import Faults
from personalab.offline.wire import ApiError, Chat

_WINDOW_SECONDS = 60.0


class Door:
    """Checks requests against the faults that are on. Used from one event loop only."""

    def __init__(self, faults: Faults, clock: Callable[[], float] = time.monotonic) -> None:
        self._faults = faults
        self._clock = clock
        self._admitted: deque[float] = deque()
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

    def enter(self) -> None:
        """Lets a request in; 429 with Retry-After if a limit is reached. `leave` has to follow."""
        faults = self._faults
        if faults.no_quota:
            message = "You exceeded your current quota, please check your plan and billing details."
            raise ApiError(429, message, kind="insufficient_quota", code="insufficient_quota")
        if faults.max_concurrent is not None and self._inside >= faults.max_concurrent:
            raise limited("concurrent requests", faults.retry_after)
        self._pass_window()
        self._inside += 1

    def leave(self) -> None:
        """A request that was let in is done."""
        self._inside -= 1

    def _pass_window(self) -> None:
        limit = self._faults.requests_per_minute
        if limit is None:
            return
        now = self._clock()
        while self._admitted and self._admitted[0] <= now - _WINDOW_SECONDS:
            self._admitted.popleft()
        if len(self._admitted) >= limit:
            raise limited("requests per min (RPM)", self._admitted[0] + _WINDOW_SECONDS - now)
        self._admitted.append(now)


def limited(what: str, seconds: float) -> ApiError:
    """A 429 that says when to come back."""
    headers = {"Retry-After": f"{seconds:.6g}", "retry-after-ms": str(round(seconds * 1000))}
    message = f"Rate limit reached for {what}. Please try again in {seconds:.3g}s."
    return ApiError(429, message, kind="requests", code="rate_limit_exceeded", headers=headers)
