"""What an experiment would send, before anything is sent: request by request, with tokens and cost where they are known.

A request that depends on a reply which is not there yet cannot be known word by word; it counts as to send, and its tokens
are estimated like the others. Tokens are estimates throughout, see `tokens`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from personalab.cache import CacheMode
from personalab.config import USUAL_OUTPUT_TOKENS, USUAL_PICTURE_TOKENS
from personalab.designs import Design, Place
from personalab.errors import ImageError, ReplyInvalid
from personalab.grids import Grid
from personalab.pipeline import Pipeline
from personalab.pool import LLMPool
from personalab.records import Record, Reply, Request, Usage
from personalab.runs import Run
from personalab.schemas import StageOutput, bare_schema
from personalab.stages import Stage, usual_input_tokens
from personalab.tokens import count_tokens

if TYPE_CHECKING:
    import pandas as pd

State = Literal["send", "cached", "shared"]
"""`send`: it will be paid. `cached`: its reply is there. `shared`: it is one that another cell has already."""


class PlannedRequest(Record):
    """One request of a plan. Tokens and `cost` (US dollars) are what it would add: nothing if it is not sent, None if unknown."""

    place: Place
    stage: str
    state: State
    model: str
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cost: float | None = 0.0


class Plan(Record):
    """What an experiment would send. `problems` are the images that cannot be opened, one line each."""

    grid: Grid
    requests: tuple[PlannedRequest, ...]
    mode: CacheMode
    problems: tuple[str, ...] = ()

    @property
    def to_send(self) -> int:
        """Requests that would be sent."""
        return sum(each.state == "send" for each in self.requests)

    @property
    def cached(self) -> int:
        """Replies that are there and cost nothing."""
        return sum(each.state == "cached" for each in self.requests)

    @property
    def usage(self) -> Usage:
        """Tokens of what would be sent, estimated; None where a stage's usual length is unknown."""
        return _usage(self.requests)

    @property
    def cost(self) -> float | None:
        """US dollars for them; None where a price is unknown."""
        return _cost(self.requests)

    def frame(self) -> pd.DataFrame:
        """One row per cell: what it would add to what the cells before it send."""
        import pandas as pd

        by_place: dict[Place, list[PlannedRequest]] = defaultdict(list)
        for each in self.requests:
            by_place[each.place].append(each)
        conditions = {condition.name: self.grid.row(condition) for condition in self.grid.conditions}
        rows = [
            {"condition": place.condition, **conditions[place.condition], "image": place.image,
             "replicate": place.replicate, **_sums(requests)}
            for place, requests in by_place.items()
        ]  # fmt: skip
        columns = ["condition", *self.grid.factors, "image", "replicate", *_sums(())]
        return pd.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        width = max(len(row[0]) for row in self._rows())
        lines = [
            "  ".join([row[0].ljust(width), *(cell.rjust(11) for cell in row[1:])]) for row in self._rows()
        ]
        return "\n".join([self._head(), "", *lines, "", *self._notes()])

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self._notes())
        return f"<p><b>{escape(self._head())}</b></p><table><tr>{cells}</tr>{body}</table>{notes}"

    def _head(self) -> str:
        usage = self.usage
        return (
            f"{self.to_send} requests to send, {self.cached} in the cache · about {_count(usage.input_tokens)} tokens in, "
            f"{_count(usage.output_tokens)} out · {_money(self.cost)}"
        )

    def _rows(self) -> list[list[str]]:
        rows = [["stage", "to send", "cached", "shared", "tokens in", "tokens out", "cost"]]
        for stage in dict.fromkeys(each.stage for each in self.requests):
            sums = _sums([each for each in self.requests if each.stage == stage])
            counts = [str(sums[name]) for name in ("to_send", "cached", "shared")]
            tokens = [_count(sums[name]) for name in ("input_tokens", "output_tokens")]
            rows.append([stage, *counts, *tokens, _money(sums["cost"])])
        return rows

    def _notes(self) -> Iterator[str]:
        yield (
            "Tokens are estimated. Requests that depend on replies which are not there yet count as to send; "
            "shared ones are the same for several cells and paid once."
        )
        if self.mode == "replay" and self.to_send:
            yield f"The pool replays and never sends: {self.to_send} replies are missing from its cache."
        elif self.mode != "use":
            yield f"The cache is not read (mode {self.mode!r}), so everything is sent."
        yield from self.problems


class _Found(Record):
    """A request as far as it is known. `key` tells it from others; `request` is None while a reply before it is missing."""

    place: Place
    stage: Stage
    key: str
    request: Request | None
    reply: Reply | None
    shared: bool


async def plan_of(design: Design) -> Plan:
    """The plan of a design. Images are opened and the cache is read, off the event loop; nothing is sent."""
    found: list[_Found] = []
    problems: list[str] = []
    seen: set[str] = set()
    for image, path in design.images.items():
        try:
            run = await design.pipeline.begin(path)
        except ImageError as error:
            problems.append(str(error))
            continue
        found += await asyncio.to_thread(_of_image, design, image, run, seen)
    order = {place: number for number, place in enumerate(design.places())}
    found.sort(key=lambda each: order[each.place])
    usual = _usual_output(design.pipeline, found)
    pool = design.pipeline.pool
    requests = tuple(_planned(each, usual, pool) for each in found)
    return Plan(grid=design.grid, requests=requests, mode=pool.cache.mode, problems=tuple(problems))


def _of_image(design: Design, image: str, run: Run, seen: set[str]) -> list[_Found]:
    """The requests of an image's cells. What is shared, by design or by content, is looked up once."""
    shared = {stage.name for stage in design.shared}
    known: dict[str, _Found] = {}
    listed: list[_Found] = []
    places = list(design.places([image]))
    for place in places:
        done: dict[str, StageOutput] = {}
        keys: dict[str, str] = {}
        for stage in design.pipelines[place.condition].stages:
            if stage.name in shared and place != places[0]:
                found = known[stage.name].model_copy(update={"place": place, "shared": True})
            else:
                replicate = 0 if stage.name in shared else place.replicate
                found = _look_up(design, place, run, stage, replicate, done, keys)
                if design.pipeline.pool.cache.reads:  # else each is sent, also one of the same content
                    found = found.model_copy(update={"shared": found.key in seen})
                seen.add(found.key)
            known[stage.name], keys[stage.name] = found, found.key
            if found.reply:
                done[stage.name] = stage.parse(found.reply.text, done)
            listed.append(found)
    return listed


def _look_up(
    design: Design, place: Place, run: Run, stage: Stage, replicate: int, done: Mapping[str, StageOutput], keys: Mapping[str, str],
) -> _Found:  # fmt: skip
    pool = design.pipeline.pool
    if not done.keys() >= set(stage.needs):
        what = (
            stage.prompt.sha256,
            stage.model,
            stage.sampling.model_dump_json(),
            replicate,
            [keys[need] for need in stage.needs],
        )
        key = hashlib.sha256(json.dumps([stage.name, *what]).encode()).hexdigest()
        return _Found(place=place, stage=stage, key=key, request=None, reply=None, shared=False)
    request = stage.request(run.brief, done, replicate)
    key = pool.key(request)
    reply = pool.cache.get(key)
    try:
        if reply:
            stage.parse(reply.text, done)
    except ReplyInvalid:  # stored under rules that were laxer: it will be asked again
        reply = None
    return _Found(place=place, stage=stage, key=key, request=request, reply=reply, shared=False)


def _usual_output(pipeline: Pipeline, found: Iterable[_Found]) -> dict[str, int | None]:
    """Tokens of a stage's reply: the mean of those that are there, else as usual, at most what the stage may have."""
    there: dict[str, list[int]] = defaultdict(list)
    for each in found:
        if each.reply and not each.shared and each.reply.usage.output_tokens is not None:
            there[each.stage.name].append(each.reply.usage.output_tokens)
    means = {name: round(sum(tokens) / len(tokens)) for name, tokens in there.items()}
    return {
        stage.name: means.get(stage.name, USUAL_OUTPUT_TOKENS.get(stage.name)) for stage in pipeline.stages
    }


def _planned(found: _Found, usual: Mapping[str, int | None], pool: LLMPool) -> PlannedRequest:
    stage, model = found.stage, found.stage.model or pool.model
    planned = PlannedRequest(place=found.place, stage=stage.name, state="shared", model=model)
    if found.shared:
        return planned
    if found.reply:
        return planned.model_copy(update={"state": "cached"})
    output, most = usual[stage.name], stage.sampling.max_tokens
    usage = Usage(
        input_tokens=_input_tokens(found, usual),
        output_tokens=min(output, most) if output and most else output,
    )
    price = pool.price(model)
    cost = price.cost(usage) if price else None
    return planned.model_copy(update={"state": "send", **usage.model_dump(), "cost": cost})


def _input_tokens(found: _Found, usual: Mapping[str, int | None]) -> int | None:
    stage = found.stage
    if found.request is None:
        return usual_input_tokens(stage, usual)
    schema = count_tokens(json.dumps(bare_schema(stage.output, stage.name)))
    pictures = sum(len(message.pictures) for message in found.request.messages)
    text = sum(count_tokens(message.text) for message in found.request.messages)
    return text + schema + pictures * USUAL_PICTURE_TOKENS


def _sums(requests: Iterable[PlannedRequest]) -> dict[str, Any]:
    requests = list(requests)
    states = [each.state for each in requests]
    usage = _usage(requests)
    return {
        "to_send": states.count("send"),
        "cached": states.count("cached"),
        "shared": states.count("shared"),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cost": _cost(requests),
    }


def _usage(requests: Iterable[PlannedRequest]) -> Usage:
    return sum(
        (Usage(input_tokens=each.input_tokens, output_tokens=each.output_tokens) for each in requests),
        Usage(),
    )


def _cost(requests: Iterable[PlannedRequest]) -> float | None:
    costs = [each.cost for each in requests]
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"


def _money(cost: float | None) -> str:
    return "cost unknown" if cost is None else f"${cost:.2f}"
