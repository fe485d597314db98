"""Every error personalab raises: one tree, each carrying what failed.

PersonalabError
├── ConfigError              a setting, argument or name that is not known or not valid
├── PromptError              a prompt template that cannot be read or rendered
├── ImageError               a picture that cannot be used
├── CardError                a card file that cannot be read
│   └── CardInvalid          a card that breaks its specification; carries every problem
├── CacheError               the cache folder cannot be used
├── NotRecorded              replay: a reply that would have to be paid; names what differs from the nearest
├── BudgetError              a budget of the user's own, so a batch stops at once
│   ├── BudgetExhausted      the next request might pass a ceiling, so it was not sent
│   └── PriceUnknown         a ceiling is on cost, and nobody knows what the model costs
├── OutputError              a result that cannot be written or read
├── KernelError              a notebook's kernel that cannot be started
├── ClusterError             a Dask cluster that is lost, or a worker that cannot run a trial
├── ProviderError            the endpoint did not answer as it should
│   ├── ProviderUnreachable  no connection, a time-out or a server error, after every attempt
│   ├── RateLimited          still refused by a rate limit after waiting as long as allowed
│   ├── RequestRefused       the endpoint calls this one request wrong (400, 413, 422)
│   │   └── ImagesUnsupported   the model takes no images
│   └── AccessRefused        nothing can succeed until it is mended, so a batch stops at once
│       ├── KeyRefused       401 or 403
│       ├── ModelNotFound    404
│       ├── QuotaExhausted   429 or 402 that says the money is gone
│       └── BatchRefused     the endpoint takes no batches, or not this one
└── ReplyError               an answer came, but not one that can be used
    ├── ReplyInvalid         it does not fit the stage's schema, after asking again
    ├── ReplyTruncated       cut off by the length limit
    └── ReplyRefused         the model declined

Messages are one line: what, where, how to mend it. Foreign exceptions are translated in `transport`,
`images` and `cards`, where they arise, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class PersonalabError(Exception):
    """Base of every error of this package.

    `usage` (a `records.Usage`) and `attempts` are what was paid and sent for nothing, where the pool knows it.
    """

    usage: object | None = None
    attempts: int = 0


class ConfigError(PersonalabError):
    """A setting, argument or name that is not known or not valid."""


class PromptError(PersonalabError):
    """A prompt template that cannot be read or rendered. `template` is its name or path."""

    def __init__(self, template: str, problem: str) -> None:
        super().__init__(f"prompt template {template}: {problem}")
        self.template = template
        self.problem = problem


class ImageError(PersonalabError):
    """A picture that cannot be used. `path` is the file, `problem` the reason."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"image {path}: {problem}")
        self.path = path
        self.problem = problem


class CardError(PersonalabError):
    """A card file that cannot be read. `source` is the file."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"card {source}: {problem}")
        self.source = source
        self.problem = problem


class CardInvalid(CardError):
    """A card that breaks its specification. `problems` lists every one, each with path, reason and mend."""

    def __init__(self, source: str, problems: tuple[object, ...]) -> None:
        super().__init__(source, "; ".join(str(problem) for problem in problems))
        self.problems = problems


class CacheError(PersonalabError):
    """The cache folder cannot be used."""


class NotRecorded(PersonalabError):
    """Under replay, a request whose reply is not in the cache. `stage` is its label."""

    def __init__(self, stage: str, why: str) -> None:
        super().__init__(
            f"stage {stage}: replay never sends, and this is {why}; cache='use' pays for what is missing"
        )
        self.stage = stage


class BudgetError(PersonalabError):
    """A budget of the user's own stops a batch at once, or its file cannot be used; everything done is kept."""


class BudgetExhausted(BudgetError):
    """The next request might pass a ceiling, so it was not sent."""


class PriceUnknown(BudgetError):
    """There is a ceiling on cost, and nobody knows what the model costs."""


class OutputError(PersonalabError):
    """A result that cannot be written or read."""


class KernelError(PersonalabError):
    """A notebook's kernel that cannot be started."""


class ClusterError(PersonalabError):
    """A Dask cluster that is lost while trials run, or a worker of it that cannot run one."""


class ProviderError(PersonalabError):
    """The endpoint did not answer as it should.

    `endpoint` is its base URL, `status` the HTTP status or None, `retry_after` the seconds it asked to wait or None.
    """

    passing = False
    """Whether the same request may succeed a little later."""

    def __init__(
        self,
        problem: str,
        *,
        endpoint: str,
        model: str,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(problem)
        self.endpoint = endpoint
        self.model = model
        self.status = status
        self.retry_after = retry_after


class ProviderUnreachable(ProviderError):
    """No connection, a time-out or a server error, after every attempt."""

    passing = True


class RateLimited(ProviderError):
    """Still refused by a rate limit after waiting as long as allowed. `quotas` is what the endpoint says is left."""

    passing = True
    quotas: tuple[Any, ...] = ()


class RequestRefused(ProviderError):
    """The endpoint calls this one request wrong (400, 413, 422).

    `said` is what it says in its own words, `parameter` the one it names, if any.
    """

    said: str = ""
    parameter: str | None = None


class ImagesUnsupported(RequestRefused):
    """The model takes no images."""


class AccessRefused(ProviderError):
    """Nothing can succeed until it is mended, so a batch stops at once."""


class KeyRefused(AccessRefused):
    """The endpoint does not accept the key (401, 403)."""


class ModelNotFound(AccessRefused):
    """The endpoint has no such model, or no such address (404)."""


class QuotaExhausted(AccessRefused):
    """The account has no money or quota left."""


class BatchRefused(AccessRefused):
    """The endpoint takes no batches of requests, or refuses one as a whole."""


class ReplyError(PersonalabError):
    """An answer came, but not one that can be used. Carries `stage`, `text` (the answer) and `problem`."""

    mend = ""

    def __init__(self, stage: str, problem: str, *, text: str = "") -> None:
        super().__init__(f"stage {stage}: {problem}" + (f"; {self.mend}" if self.mend else ""))
        self.stage = stage
        self.problem = problem
        self.text = text


class ReplyInvalid(ReplyError):
    """The answer does not fit the stage's schema, after asking again."""

    mend = "try a stronger model, a lower temperature or a shorter prompt"


class ReplyTruncated(ReplyError):
    """The answer was cut off by the length limit."""

    mend = "raise max_tokens for this stage"


class ReplyRefused(ReplyError):
    """The model declined to answer."""

    mend = "change the prompt or the image, or use another model"


def unknown(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """An error for a name nobody knows, naming the nearest one that is known."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}: {hint}known: {', '.join(names) or 'none'}")
