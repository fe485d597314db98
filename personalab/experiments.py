"""Experiments: a grid of conditions over images. What is shared is asked once, every cell is told by its name.

    experiment = Experiment(pipeline, grid(stage="social_network", temperature=[0.3, 1.1], replicates=3), "portraits/")
    await experiment.plan()  # what will be sent, what is in the cache, what it may cost
    await experiment.run()
    texts_df(experiment)     # from personalab.frames

An experiment that was stopped goes on where it was when it is run again, also in another session: replies are in the cache.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Literal, Self

from personalab.designs import Cell, Design, Place
from personalab.errors import ConfigError, ImageError, unknown
from personalab.experiment_plans import Plan, plan_of
from personalab.grids import Grid
from personalab.loops import as_finished
from personalab.pipeline import Pipeline
from personalab.progress import Tally, duration, watch
from personalab.records import Message, PoolCounts
from personalab.runs import Run, StageRecord


@dataclass(frozen=True, slots=True)
class _Start:
    """An image with its shared stages done. `begun` is False where it could not be opened."""

    run: Run
    begun: bool = True


class _Ahead:
    """Images that are begun ahead of their cells, and let go with the last of them."""

    def __init__(self, begin: Callable[[str], Coroutine[None, None, _Start]]) -> None:
        self._begin = begin
        self._starts: dict[str, asyncio.Task[_Start]] = {}
        self._left: Counter[str] = Counter()

    def begin(self, images: Iterable[str]) -> None:
        """Begin those that have not begun."""
        for image in images:
            if image not in self._starts:
                self._starts[image] = asyncio.create_task(self._begin(image))

    def expect(self, image: str, cells: int) -> None:
        """Keep an image for so many cells."""
        self._left[image] += cells

    async def start(self, image: str) -> _Start:
        """An image with its shared stages done."""
        return await self._starts[image]

    def done(self, image: str) -> None:
        """A cell of an image has ended."""
        self._left[image] -= 1
        if not self._left[image]:
            del self._starts[image]

    async def stop(self) -> None:
        """Nothing that was begun ahead goes on."""
        for task in self._starts.values():
            task.cancel()
        await asyncio.gather(*self._starts.values(), return_exceptions=True)


class Experiment:
    """A grid over images. Iterate over it for cells as they finish, or `await experiment.run()`.

    The stages under study run with what they need; `stages` names others to run as well, or is `all`. At most `window`
    cells are under way at once.

    Raises:
        ConfigError: unknown stage or parameter, a model the pool cannot ask, no image, or one picture twice.
        PromptError: a prompt that wants a variable which its stage does not have.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        grid: Grid,
        images: Path | str | Iterable[Path | str],
        *,
        stages: Iterable[str] | Literal["all"] = (),
        window: int | None = None,
        progress: bool = True,
    ) -> None:
        self.design = Design.of(pipeline, grid, images, stages)
        self.counts = PoolCounts()
        self.seconds = 0.0
        self._window = window or pipeline.pool.window
        self._progress = progress
        self._cells: dict[Place, Cell] = {}
        self._pictures: dict[str, str] = {}
        self._before: PoolCounts | None = None
        self._began = 0.0
        self._kept = self._worked = self._stages_done = 0

    @property
    def grid(self) -> Grid:
        """The grid, with the pipeline's own values where a condition changes nothing."""
        return self.design.grid

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells that have run so far, in the order of the grid."""
        return tuple(self._cells[place] for place in self.design.places() if place in self._cells)

    def cell(self, condition: str, image: str, replicate: int = 0) -> Cell:
        """A cell by condition and image.

        Raises:
            ConfigError: unknown condition, image or replicate, or the cell has not run.
        """
        if condition not in self.design.conditions:
            raise unknown("condition", condition, self.design.conditions)
        if image not in self.design.images:
            raise unknown("image", image, self.design.images)
        if (place := Place(condition, image, replicate)) not in self._cells:
            raise ConfigError(
                f"{condition} · {image} · replicate {replicate} has not run: await experiment.run() first"
            )
        return self._cells[place]

    async def plan(self) -> Plan:
        """What running it would send, cell by cell. Nothing is sent."""
        return await plan_of(self.design)

    async def run(self) -> Self:
        """Run the cells that have not run or have failed.

        A cell that fails has its error and the others go on.

        Raises:
            AccessRefused: key, model or quota: it stops, and what is under way is cancelled.
        """
        async for _ in self:
            pass
        return self

    async def __aiter__(self) -> AsyncIterator[Cell]:
        pool = self.design.pipeline.pool
        self._before = self._before or pool.counts
        self._began = time.monotonic() - self.seconds
        self._kept = sum(cell.run.status == "done" for cell in self._cells.values())
        self._worked = self._stages_done = 0
        ahead = _Ahead(self._started)
        try:
            async with watch(self.tally, self._progress):
                async for cell in as_finished(self._taken(ahead), partial(self._one, ahead), self._window):
                    yield cell
        finally:
            await ahead.stop()
            self.counts = pool.counts.since(self._before)
            self.seconds = time.monotonic() - self._began

    def tally(self) -> Tally:
        """How far it is."""
        pool, states = self.design.pipeline.pool, [cell.run.status for cell in self._cells.values()]
        done = states.count("done")
        return Tally(
            what="cells",
            total=self.design.size,
            done=done,
            failed=len(states) - done,
            kept=self._kept,
            in_flight=pool.in_flight,
            share=max(self._stages_done / len(self.design.stages), self._worked),
            counts=pool.counts.since(self._before) if self._before else PoolCounts(),
            seconds=time.monotonic() - self._began,
            waves=pool.waves,
        )

    async def _taken(self, ahead: _Ahead) -> AsyncIterator[Place]:
        """The cells to run, image by image. The next images are begun meanwhile, so that the gate stays full."""
        images = [image for image in self.design.images if any(self._open_places(image))]
        for number, image in enumerate(images):
            ahead.begin(images[number : number + self._window])
            places = list(self._open_places(image))
            ahead.expect(image, len(places))
            for place in places:
                yield place

    def _open_places(self, image: str) -> Iterator[Place]:
        for place in self.design.places([image]):
            if place not in self._cells or self._cells[place].run.status != "done":
                yield place

    async def _started(self, image: str) -> _Start:
        """An image through the stages that all its cells share."""
        pipeline, path = self.design.pipeline, self.design.images[image]
        try:
            run = await pipeline.begin(path)
            self._check_different(image, run)
        except ImageError as error:
            return _Start(pipeline.failed(path, error), begun=False)
        if self.design.shared:
            run = await self.design.sharing.go_on(run)
        # A picture is let go as soon as no stage wants to see it any more.
        return _Start(run if self.design.cells_see_picture else _without_pixels(run))

    def _check_different(self, image: str, run: Run) -> None:
        """Two files may hold the same pixels: counted twice, they would make results look surer than they are."""
        other = self._pictures.setdefault(run.brief.picture.sha256 if run.brief.picture else image, image)
        if other != image:
            raise ImageError(str(self.design.images[image]), f"is the same picture as {other}; leave one out")

    async def _one(self, ahead: _Ahead, place: Place) -> Cell:
        start = await ahead.start(place.image)
        first = place == self.design.first(place.image)
        stages = {name: _shared(record, paid=first) for name, record in start.run.stages.items()}
        run = start.run.model_copy(update={"replicate": place.replicate, "stages": stages})
        if start.begun:
            run = await self.design.pipelines[place.condition].go_on(run, self._ended)
        condition = self.design.conditions[place.condition]
        cell = Cell(
            condition=condition, image=place.image, replicate=place.replicate, run=_without_pixels(run)
        )
        self._cells[place] = cell
        self._worked += 1
        ahead.done(place.image)
        return cell

    def _ended(self, run: Run, record: StageRecord) -> None:
        self._stages_done += 1

    def __repr__(self) -> str:
        return self._summary()

    def _repr_html_(self) -> str:
        rows = []
        for condition in self.grid.conditions:
            runs = [cell.run for cell in self._cells.values() if cell.condition.name == condition.name]
            failed = sum(run.status != "done" for run in runs)
            asked = [
                run.stages[name].sent for run in runs for name in self.design.stages if name in run.stages
            ]
            cells = (condition.name, len(runs) - failed, failed, sum(asked))
            rows.append("".join(f"<td>{escape(str(cell))}</td>" for cell in cells))
        head = "".join(f"<th>{name}</th>" for name in ("condition", "done", "failed", "requests sent"))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<p>{escape(self._summary())}</p><table><tr>{head}</tr>{body}</table>"

    def _summary(self) -> str:
        tally, times = self.tally(), self.grid.replicates
        tokens = self.counts.usage.tokens
        parts = [
            f"Experiment: {len(self.grid.conditions)} conditions × {len(self.design.images)} images × "
            f"{times} replicate{'s' if times > 1 else ''} = {tally.total} cells",
            f"{tally.done} done",
            *([f"{tally.failed} failed"] if tally.failed else []),
            f"{self.counts.sent} requests sent",
            f"{'unknown' if tokens is None else f'{tokens:,}'} tokens",
            "cost unknown" if self.counts.cost is None else f"${self.counts.cost:.4f}",
            duration(self.seconds),
        ]
        return " · ".join(parts)


def _shared(record: StageRecord, *, paid: bool) -> StageRecord:
    """A shared stage as a cell has it: what it cost stands in one cell of the image, so that sums are right."""
    update: dict[str, object] = {"started": 0.0, "ended": 0.0}
    if not paid and record.reply:
        update["reply"] = record.reply.model_copy(update={"cached": True})
    if not paid and record.error:
        update["error"] = record.error.model_copy(update={"usage": None, "attempts": 0})
    return record.model_copy(update=update)


def _without_pixels(run: Run) -> Run:
    """A run that holds no picture, as an experiment keeps many."""
    picture = run.brief.picture
    brief = run.brief.model_copy(update={"picture": picture and picture.model_copy(update={"data": b""})})
    stages = {name: _record_without_pixels(record) for name, record in run.stages.items()}
    return run.model_copy(update={"brief": brief, "stages": stages, "portrait": None})


def _record_without_pixels(record: StageRecord) -> StageRecord:
    if record.request is None or not any(message.pictures for message in record.request.messages):
        return record
    messages = tuple(_message_without_pixels(message) for message in record.request.messages)
    return record.model_copy(update={"request": record.request.model_copy(update={"messages": messages})})


def _message_without_pixels(message: Message) -> Message:
    pictures = tuple(picture.model_copy(update={"data": b""}) for picture in message.pictures)
    return message.model_copy(update={"pictures": pictures})
