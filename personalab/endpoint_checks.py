"""What an endpoint can do, found out by asking it: a handful of small requests before thousands of large ones.

    await check_endpoint()  # the endpoint that the settings name

Reachable, key accepted, model there, sampling params taken, JSON schema, images, limits told, price known; and what each
no means for the work.
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from html import escape
from typing import Literal

from pydantic import SecretStr

from personalab.config import (
    CHECK_OUTPUT_TOKENS,
    CHECK_TIMEOUT_SECONDS,
    OPENAI_URL,
    USUAL_OUTPUT_TOKENS,
    Settings,
    load_settings,
)
from personalab.connection_problems import likely_urls
from personalab.dialect import Dialect
from personalab.endpoints import Endpoint, Journey
from personalab.errors import (
    AccessRefused,
    KeyRefused,
    ModelNotFound,
    ProviderError,
    ProviderUnreachable,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
)
from personalab.gate import Gate
from personalab.images import open_picture
from personalab.quotas import Quota
from personalab.records import AS_WRITTEN, Message, Picture, Record, Request, SamplingParams, Schema, Usage
from personalab.replies import find_object
from personalab.stages import STAGES, usual_input_tokens
from personalab.tally import Tally
from personalab.transport import OpenAITransport, WireReply

State = Literal["yes", "no", "unknown"]
Subject = Literal[
    "reachable", "key", "model", "answers", "temperature", "seed", "max_tokens", "JSON schema", "JSON mode", "images",
    "limits told", "price known",
]  # fmt: skip
SUBJECTS: tuple[Subject, ...] = Subject.__args__  # type: ignore[attr-defined]

_MEANS: dict[Subject, str] = {
    "reachable": "nothing can be made until it is",
    "key": "nothing can be made until OPENAI_API_KEY is one that it accepts",
    "model": "nothing can be made until PERSONALAB_MODEL (or --model) names one that is there",
    "answers": "nothing can be made until it does",
    "temperature": "the model keeps its own, so comparing temperatures would show nothing",
    "seed": "the same request may be answered otherwise another day; what is in the cache stays as it came",
    "max_tokens": "answers cannot be kept short, and a budget has to expect longer ones",
    "JSON schema": "the schema stands in the prompt instead: an answer that does not fit is asked again, which costs more",
    "JSON mode": "JSON has to be found in plain text: works with strong models, and costs more with weak ones",
    "images": "stage 1 needs a model that sees (--model core_persona=…), or a text to start from (--description)",
    "limits told": "the limits are found out by trying; REQUESTS_PER_MINUTE and TOKENS_PER_MINUTE say them beforehand",
    "price known": "costs are shown as unknown and a budget in dollars is refused: LLMPool(prices={…}) tells the price",
}
_NEAR_MAX = 3
_LISTED_MAX = 8
_SAID_CHARACTERS = 60
_PICTURE_SIDE = 224  # some models take no smaller one
_COLOUR = "red"
_ANSWERS = ("yes", "no")
_GUESS = re.compile(r"(?<=check OPENAI_BASE_URL) \(did you mean \S+\?\)")
"""What an error guesses, which is no more to be said where the address was found."""


class Finding(Record):
    """One thing that an endpoint can or cannot do; `means` is what a no means for the work."""

    subject: Subject
    state: State
    said: str = ""
    means: str = ""


class EndpointCheck(Record):
    """What was found out. `refused` says that key, model or account were; money is in US dollars, None where unknown.

    `persona_usage` and `persona_cost` are what seven stages usually take.
    """

    endpoint: str
    model: str
    findings: tuple[Finding, ...]
    from_description: bool = False
    refused: bool = False
    requests: int = 0
    usage: Usage = Usage()
    cost: float | None = 0.0
    persona_usage: Usage = Usage()
    persona_cost: float | None = None

    def __getitem__(self, subject: Subject) -> Finding:
        return next(finding for finding in self.findings if finding.subject == subject)

    @property
    def makes_personas(self) -> bool:
        """Whether a persona can be made: from an image, or from a description where that was asked for."""
        sees = self.from_description or self["images"].state != "no"
        return self["answers"].state == "yes" and sees

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.makes_personas:
            start = "a description" if self.from_description else "an image"
            return f"A persona can be made from {start}."
        if self["answers"].state == "yes":
            return "A persona can be made from a description (--description), but not from an image."
        return "No persona can be made with it as it is."

    def __str__(self) -> str:
        rows = []
        for finding in self.findings:
            rows.append(f"{finding.state:<8} {finding.subject:<12} {finding.said}".rstrip())
            if finding.means:
                rows.append(f"{'':<21} → {finding.means}")
        return "\n".join([f"{self.endpoint} · {self.model}", "", *rows, "", *self._sums(), self.verdict])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{finding.subject}</td><td>{finding.state}</td>"
            f"<td style='text-align:left'>{escape(' → '.join(filter(None, (finding.said, finding.means))))}</td></tr>"
            for finding in self.findings
        )
        sums = "".join(f"<p>{escape(line)}</p>" for line in (*self._sums(), self.verdict))
        head = f"<p><b>{escape(f'{self.endpoint} · {self.model}')}</b></p>"
        return f'<div class="{AS_WRITTEN}">{head}<table>{rows}</table>{sums}</div>'

    def _sums(self) -> Iterator[str]:
        yield f"{_counted(self.requests, 'request')} sent, {_tokens(self.usage)}, {_money(self.cost)}"
        yield f"A persona takes about {_tokens(self.persona_usage)}, {_money(self.persona_cost)}"


async def check_endpoint(
    api_key: str | None = None,
    api_base: str | None = None,
    model: str | None = None,
    *,
    from_description: bool = False,
    timeout_seconds: float = CHECK_TIMEOUT_SECONDS,
) -> EndpointCheck:
    """Ask the endpoint of the settings, or of the arguments, what it can do: usually 4 requests, seldom more than 6.

    With `from_description` images are not asked for. What goes wrong at the endpoint is a finding, not an error.

    Raises:
        ConfigError: a setting that cannot be.
    """
    secret = SecretStr(api_key) if api_key else None
    del api_key  # so that no traceback with local variables shows it
    settings = load_settings(api_key=secret, api_base=api_base, model=model)
    examination = _Examination(settings, from_description, timeout_seconds)
    try:
        await examination.find_out()
    except ProviderError as error:
        await examination.explain(error)
    return examination.result()


class _Examination:
    """One endpoint under examination: what was learnt so far."""

    def __init__(self, settings: Settings, from_description: bool, timeout_seconds: float) -> None:
        self._chosen = settings.offline or settings.model is not None
        if not self._chosen:  # no model is not the end here: the endpoint may say which it has
            settings = settings.model_copy(update={"model": ""})
        self._settings = settings
        self._from_description = from_description
        self._timeout_seconds = timeout_seconds
        self._tally = Tally()
        self._endpoint = Endpoint(settings, self._tally, timeout_seconds=timeout_seconds)
        self._gate = Gate((self._endpoint.limits,))
        self._dialect = Dialect()
        self._listed: tuple[str, ...] | None = None
        self._lists = 0
        self._quotas: dict[str, Quota] = {}
        self._refused = False
        self._findings: dict[Subject, Finding] = {}

    async def find_out(self) -> None:
        """Ask everything, in the order in which one needs the other."""
        await self._ask_models()
        if not self._chosen:
            self._find("model", "no", f"none is set; {self._there()}")
            return
        await self._ask_text()
        await self._ask_json()
        if not self._from_description:
            await self._ask_picture()

    async def explain(self, error: ProviderError) -> None:
        """What it means that a request failed."""
        self._refused = isinstance(error, AccessRefused)
        if isinstance(error, ProviderUnreachable) and error.status is None:
            self._find("answers" if "reachable" in self._findings else "reachable", "no", str(error))
        elif isinstance(error, KeyRefused):
            self._find("key", "no", str(error))
        elif isinstance(error, QuotaExhausted):
            self._find("key", "yes")
            self._find("answers", "no", str(error))
        elif isinstance(error, RateLimited):
            self._find("key", "yes")
            self._find("answers", "unknown", f"it is limited just now, ask again in a minute: {error}")
        elif self._listed is not None and isinstance(error, ModelNotFound):
            self._find("model", "no", f"{self._there()}: {error}")
        elif not isinstance(error, RequestRefused) and (meant := await self._meant()):
            said = _GUESS.sub("", str(error))
            self._find(
                "answers", "no", f"did you mean OPENAI_BASE_URL={meant}? There is a list of models. {said}"
            )
        else:
            self._find("model" if isinstance(error, ModelNotFound) else "answers", "no", str(error))

    def result(self) -> EndpointCheck:
        """All findings, those that were never asked for included."""
        self._find_what_was_told()
        counts = self._tally.counts
        persona, price = _persona_usage(seen=not self._from_description), self._endpoint.price()
        return EndpointCheck(
            endpoint=self._endpoint.provider,
            model=self._endpoint.model or "no model",
            findings=tuple(self._findings.get(subject) or _not_asked(subject) for subject in SUBJECTS),
            from_description=self._from_description,
            refused=self._refused,
            requests=counts.sent + self._lists,
            usage=counts.usage,
            cost=counts.cost,
            persona_usage=persona,
            persona_cost=price.cost(persona) if price else None,
        )

    async def _ask_models(self) -> None:
        self._lists += 1
        try:
            self._listed = await self._endpoint.list_models()
        except ProviderError as error:
            if isinstance(error, ProviderUnreachable) and error.status is None:
                raise
        self._find(
            "reachable",
            "yes",
            "" if self._listed is None else _counted(len(self._listed), "model") + " listed",
        )

    async def _ask_text(self) -> None:
        sampling = SamplingParams(
            temperature=STAGES[0].sampling.temperature, seed=1, max_tokens=CHECK_OUTPUT_TOKENS
        )
        wire = await self._ask("Answer with one word: yes.", sampling=sampling)
        self._find("key", "yes", "" if self._settings.api_key else "none was needed")
        self._find("model", "yes", self._known_as(wire))
        said = _excerpt(wire.text)
        if said:
            self._find("answers", "yes")
        else:
            self._find(
                "answers",
                "unknown",
                f"an empty answer ({wire.finish_reason}); does the model think for long?",
            )
        for name in ("temperature", "seed"):
            self._find(name, "no" if name in self._dialect.left_out else "yes")
        renamed = self._dialect.length_parameter
        self._find(
            "max_tokens",
            "no" if "max_tokens" in self._dialect.left_out else "yes",
            "" if renamed == "max_tokens" else f"as {renamed}",
        )

    async def _ask_json(self) -> None:
        shape = _schema("check_answer", "answer", {"type": "string", "enum": list(_ANSWERS)})
        wire = await self._ask("Is the sky blue on a clear day? Answer in one sentence.", answer=shape)
        answer = find_object(wire.text)
        fits = answer is not None and answer.get("answer") in _ANSWERS
        ignored = f"it is taken and ignored: {_excerpt(wire.text)!r}"
        if self._dialect.answer_mode == "json_schema":
            self._find("JSON schema", "yes" if fits else "no", "" if fits else ignored)
            self._find("JSON mode", "unknown", "not asked, as the schema is taken")
            return
        self._find("JSON schema", "no")
        taken = self._dialect.answer_mode == "json_object"
        self._find(
            "JSON mode",
            "yes" if taken and answer is not None else "no",
            ignored if taken and answer is None else "",
        )

    async def _ask_picture(self) -> None:
        shape = _schema("check_colour", "colour", {"type": "string"})
        text = "Which colour is this picture? Answer with the name of the colour."
        try:
            wire = await self._ask(text, answer=shape, pictures=(_test_picture(),))
        except RequestRefused as error:
            self._find("images", "no", error.said)
        except ProviderUnreachable as error:  # words arrived before, so it is the picture that does not
            self._find("images", "unknown" if error.status is None else "no", str(error))
        else:
            sees = _COLOUR in wire.text.casefold()
            said = f"taken, but a {_COLOUR} square was called {_excerpt(wire.text)!r}: does the model see?"
            self._find("images", "yes" if sees else "unknown", "" if sees else said)

    async def _ask(
        self,
        text: str,
        *,
        sampling: SamplingParams | None = None,
        answer: Schema | None = None,
        pictures: tuple[Picture, ...] = (),
    ) -> WireReply:
        """A reply, in the words that the endpoint takes; what it refuses is remembered."""
        request = Request(
            stage="check",
            messages=(Message(role="user", text=text, pictures=pictures),),
            sampling=sampling or SamplingParams(max_tokens=CHECK_OUTPUT_TOKENS),
            answer=answer,
        )
        model = self._endpoint.model
        while True:
            try:
                async with self._gate.slot(tokens=self._endpoint.tokens(request), model=model) as ticket:
                    wire = await self._endpoint.attempt(request, model, self._dialect, Journey(""))
                    ticket.quotas, ticket.used = wire.quotas, wire.usage.tokens
                    self._quotas |= {quota.name: quota for quota in wire.quotas}
                    return wire
            except RequestRefused as refusal:
                self._dialect = self._endpoint.reworded(self._dialect, refusal, request)

    async def _meant(self) -> str | None:
        """Another base URL under which there is a list of models."""
        for url in likely_urls(self._settings.api_base or OPENAI_URL):
            self._lists += 1
            try:
                await OpenAITransport(url, self._settings.api_key, self._timeout_seconds).models()
            except ProviderError:
                continue
            return url
        return None

    def _known_as(self, wire: WireReply) -> str:
        return "" if wire.model == self._endpoint.model else f"it answers as {wire.model!r}"

    def _there(self) -> str:
        """Which models there are: those with names like the one asked for, else the first ones."""
        if not self._listed:
            return "it lists no models"
        asked = self._endpoint.model.casefold()
        near = [name for name in self._listed if asked and asked in name.casefold()]
        near = near or get_close_matches(self._endpoint.model, self._listed, n=_NEAR_MAX, cutoff=0.4)
        if near:
            return f"did you mean {' or '.join(map(repr, near[:_NEAR_MAX]))}?"
        more = f" and {len(self._listed) - _LISTED_MAX} more" if len(self._listed) > _LISTED_MAX else ""
        return f"there are {', '.join(self._listed[:_LISTED_MAX])}{more}"

    def _find_what_was_told(self) -> None:
        price = self._endpoint.price()
        if price is not None:
            dear = f"${price.input:g} and ${price.output:g} a million tokens in and out"
            self._find("price known", "yes", dear if price.input or price.output else "free")
        elif importlib.util.find_spec("genai_prices") is None:
            self._find("price known", "no", "genai-prices is not installed: pip install 'personalab[prices]'")
        else:
            self._find("price known", "no")
        if self._findings.get("answers"):
            left = [f"{quota.remaining:g} {quota.kind} left" for quota in self._quotas.values()]
            self._find("limits told", "yes" if left else "no", ", ".join(left))

    def _find(self, subject: Subject, state: State, said: str = "") -> None:
        means = _MEANS[subject] if state == "no" else ""
        self._findings[subject] = Finding(subject=subject, state=state, said=said, means=means)


def _persona_usage(*, seen: bool) -> Usage:
    """Tokens that the seven stages usually take."""
    usage = Usage()
    for stage in STAGES:
        shown = stage if seen else stage.model_copy(update={"sees_picture": False})
        usage += Usage(
            input_tokens=usual_input_tokens(shown, USUAL_OUTPUT_TOKENS),
            output_tokens=USUAL_OUTPUT_TOKENS.get(stage.name),
        )
    return usage


def _not_asked(subject: Subject) -> Finding:
    return Finding(subject=subject, state="unknown", said="not asked")


@cache
def _test_picture() -> Picture:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (_PICTURE_SIDE, _PICTURE_SIDE), _COLOUR).save(file, "PNG")
    return open_picture(file.getvalue(), name="the test picture")


def _schema(name: str, field: str, kind: dict[str, object]) -> Schema:
    body = {"type": "object", "properties": {field: kind}, "required": [field], "additionalProperties": False}
    return Schema(name=name, body=body)


def _excerpt(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SAID_CHARACTERS else text[:_SAID_CHARACTERS] + " …"


def _tokens(usage: Usage) -> str:
    counts = (
        "unknown" if count is None else f"{count:,}" for count in (usage.input_tokens, usage.output_tokens)
    )
    return "{} tokens in, {} out".format(*counts)


def _money(cost: float | None) -> str:
    if not cost:
        return "cost unknown" if cost is None else "$0"
    return f"${cost:.4f}" if cost < 1 else f"${cost:.2f}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
