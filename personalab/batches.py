"""Many images: a bounded window of personas under way, each saved the moment it is done, each tied to its image.

What belongs together is told by the image's bytes and path, never by its place in a list.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from personalab.batch_rows import COLUMNS, Contents, Row, Rows, State
from personalab.config import BATCH_NOTES_MAX, MEMORY_ROWS
from personalab.errors import CardInvalid, ImageError, PersonalabError
from personalab.files import check_writable, clear_parts
from personalab.images import each_image, read_image
from personalab.loops import as_finished
from personalab.memory import give_back
from personalab.names import path_text
from personalab.pool import LLMPool
from personalab.progress import Tally, watch
from personalab.records import PoolCounts, Usage
from personalab.runs import Run, SavedRun, StageRecord, find_failed, find_run, load_run
from personalab.stages import Brief, Stage

if TYPE_CHECKING:
    import pandas as pd

Result = TypeVar("Result")


class Maker(Protocol):
    """What a batch needs of a pipeline."""

    @property
    def pool(self) -> LLMPool: ...
    @property
    def stages(self) -> tuple[Stage, ...]: ...
    async def begin(self, image: Path) -> Run: ...
    async def complete(
        self, run: Run, earlier: Run | None, on_stage: Callable[[Run, StageRecord], None] | None
    ) -> Run: ...
    def kept(self, brief: Brief, earlier: Run) -> dict[str, StageRecord]: ...
    def changes(self, earlier: Run) -> tuple[str, ...]: ...
    def wishes(self) -> dict[str, str]: ...
    def failed(self, image: Path, error: PersonalabError) -> Run: ...


@dataclass(frozen=True, slots=True)
class _Image:
    place: int
    path: Path
    file_sha256: str
    error: ImageError | None = None

    @property
    def name(self) -> str:
        """As rows have it."""
        return path_text(self.path)

    @property
    def source(self) -> str:
        """As run files have it."""
        return path_text(self.path.absolute())


class Batch:
    """A batch of personas: iterate over it for runs as they finish, or `await batch.finish()` for its frame.

    `rows` holds a row for each image that is done, in the order given.
    """

    def __init__(
        self,
        maker: Maker,
        images: Path | str | Iterable[Path | str],
        *,
        folder: Path,
        force: bool,
        retry_failed: bool,
        window: int,
        on_stage: Callable[[Run, StageRecord], None] | None,
        progress: bool,
    ) -> None:
        self._maker = maker
        self._paths = enumerate(each_image(images))
        self._taking: tuple[int, Path] | None = None  # the one that is being read
        self._open: dict[int, _Image] = {}  # taken and not done: where a batch that was interrupted goes on
        self._unseen: dict[int, asyncio.Event] = {}  # taken, and its pixels are not known yet
        countable = isinstance(images, Path | str | Sequence)
        self._total = sum(1 for _ in each_image(images)) if countable else None
        self.folder = folder
        self._force = force
        self._retry_failed = retry_failed
        self._window = window
        self._on_stage = on_stage
        self._progress = progress
        self.rows = Rows()
        self.counts = PoolCounts()
        self.seconds = 0.0
        self._before: PoolCounts | None = None
        self._began = time.monotonic()
        self._stages_done = 0
        self._contents = Contents()
        self._writable = False

    def __aiter__(self) -> AsyncIterator[Run]:
        return self._runs()

    async def finish(self) -> pd.DataFrame:
        """Run what is left of the batch, and give its frame."""
        async for _ in self._runs():
            pass
        return self.frame()

    def frame(self) -> pd.DataFrame:
        """One row per image, in the order given; a duplicate has the row of the image it repeats."""
        import pandas as pd

        rows = ([getattr(row, name) for name in COLUMNS] for row in self.rows)
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def runs(self) -> Iterator[Run]:
        """The runs of the batch so far, in the order of the images, read again one by one from their files."""
        for row in self.rows:
            if row.file and row.state in ("made", "kept"):
                stem = Path(row.file).name.rsplit("_", 1)[0]
                yield load_run(Path(row.file).with_name(f"{stem}_run.json"))

    def tally(self) -> Tally:
        """How far it is."""
        pool, states = self._maker.pool, self.rows.states
        worked = states["made"] + states["failed"]
        stages = len(self._maker.stages)
        return Tally(
            what="personas",
            total=self._total,
            done=len(self.rows) - states["failed"],
            failed=states["failed"],
            kept=len(self.rows) - worked,
            in_flight=pool.in_flight,
            share=max(self._stages_done / stages, worked) if worked or self._stages_done else 0.0,
            counts=pool.counts.since(self._before) if self._before else PoolCounts(),
            seconds=time.monotonic() - self._began,
            waves=pool.waves,
        )

    async def _runs(self) -> AsyncIterator[Run]:
        self._before = self._before or self._maker.pool.counts
        began = self._began = time.monotonic() - self.seconds
        await asyncio.to_thread(clear_parts, self.folder)
        # One thread saves: several would keep each other's replies waiting, and each its own heap of free memory.
        self._saver = ThreadPoolExecutor(1, "personalab-save")
        try:
            async with watch(self.tally, self._progress):
                async for run in as_finished(self._taken(), self._one, self._window):
                    if run is not None:
                        yield run
        finally:
            self._saver.shutdown(wait=False)
            self.counts = self._maker.pool.counts.since(self._before)
            self.seconds = time.monotonic() - began

    async def _taken(self) -> AsyncIterator[_Image]:
        """The images one by one, duplicates of earlier ones left out; first those that an interrupt left open."""
        for image in list(self._open.values()):
            yield self._opened(image)
        while taking := self._taking or next(self._paths, None):
            self._taking = taking
            place, path = taking
            try:
                file_sha256 = await asyncio.to_thread(_hash, path)
            except ImageError as error:
                image = self._opened(_Image(place, path, "", error))
            else:
                image = self._opened(_Image(place, path, file_sha256))
            self._taking = None  # only now: an interrupt while it was read loses no image
            if not image.error and (same_as := self._contents.first(image.file_sha256, place)) != place:
                self._seen(image)
                self._ended_with(Row(place, image.name, "duplicate", same_as=same_as))
                continue
            yield image

    def _opened(self, image: _Image) -> _Image:
        self._unseen[image.place] = asyncio.Event()
        return self._open.setdefault(image.place, image)

    async def _one(self, image: _Image) -> Run | None:
        """One image, made or kept, saved; its run, or None for one that is not taken."""
        try:
            return await self._worked(image)
        finally:
            self._seen(image)

    def _seen(self, image: _Image) -> None:
        if event := self._unseen.pop(image.place, None):
            event.set()

    async def _worked(self, image: _Image) -> Run | None:
        stored, earlier, failed = await asyncio.to_thread(self._earlier, image)
        if self._retry_failed and failed is None and (earlier is None or earlier.status == "done"):
            row = Row(image.place, image.name, "left", run=earlier.name if earlier else "")
            self._ended_with(row if earlier is None else _told(row, earlier, stored))
            return None
        if earlier and stored and not self._force and self._whole(image, earlier, stored):
            return await self._keep(image, earlier, stored, failed)
        if not self._writable:  # asked only now: a folder whose personas are all kept need not be
            await asyncio.to_thread(check_writable, self.folder)
            self._writable = True
        try:
            run = await self._checked(image, await self._begun(image))
        except ImageError as error:
            unread = self._maker.failed(image.path, error)
            run = unread.model_copy(update={"file_sha256": image.file_sha256 or None})
        if run is None:
            return None
        note = None
        if run.status != "failed" or run.brief.picture:
            same = earlier is not None and _pixels(earlier) == _pixels(run)
            note = self._note(earlier) if earlier and same else "the image has changed" if earlier else None
            run = await self._maker.complete(run, earlier if same and not self._force else None, self._ended)
        return await self._save(image, run, note)

    async def _keep(self, image: _Image, earlier: Run, stored: SavedRun, failed: Path | None) -> Run | None:
        """A finished run as it is; if its image was moved, under its new path, so that the old one is free for another."""
        run = await self._checked(image, earlier)
        if run is None:
            return None
        if run.source != image.source:
            run = run.model_copy(update={"source": image.source})
            stored = await self._saved(run.save, self.folder)
        if failed:
            await asyncio.to_thread(failed.unlink, missing_ok=True)
        self._ended_with(_told(Row(image.place, image.name, "kept"), run, stored))
        return run

    def _earlier(self, image: _Image) -> tuple[SavedRun | None, Run | None, Path | None]:
        """Where the image's run lies, the run, and where its failed one lies."""
        name = self._maker.failed(image.path, ImageError("", "")).name
        where = (self.folder, name, image.source, image.file_sha256)
        stored, failed = find_run(*where), find_failed(*where)
        if stored is None:
            return None, None, failed
        try:
            return stored, load_run(stored.run), failed
        except PersonalabError:  # of another version, or damaged: it holds nothing to go on with
            return None, None, failed

    def _whole(self, image: _Image, earlier: Run, stored: SavedRun) -> bool:
        """Whether an earlier run of this very file is finished, with all its files, and would be asked the same."""
        if earlier.file_sha256 != image.file_sha256 or earlier.status != "done" or stored.card is None:
            return False
        if earlier.brief.picture is not None and stored.portrait is None:
            return False
        brief = earlier.brief.model_copy(update=self._maker.wishes())
        return len(self._maker.kept(brief, earlier)) == len(self._maker.stages)

    async def _begun(self, image: _Image) -> Run:
        if image.error:
            raise image.error
        return await self._maker.begin(image.path)

    async def _checked(self, image: _Image, run: Run) -> Run | None:
        """The run, or None if an earlier image of the batch has the same pixels."""
        for place, event in list(self._unseen.items()):
            if place < image.place:  # so that of two the first is made, whichever is decoded first
                await event.wait()
        same_as = self._contents.first(_pixels(run) or image.file_sha256, image.place)
        self._seen(image)
        if same_as == image.place:
            return run
        self._ended_with(Row(image.place, image.name, "duplicate", same_as=same_as))
        return None

    def _ended_with(self, row: Row) -> None:
        self.rows.add(row)
        self._open.pop(row.place, None)

    def _note(self, earlier: Run) -> str | None:
        changes = self._maker.changes(earlier)
        if not changes:
            return None
        more = f" and {len(changes) - BATCH_NOTES_MAX} more" if len(changes) > BATCH_NOTES_MAX else ""
        return f"settings have changed: {'; '.join(changes[:BATCH_NOTES_MAX])}{more}"

    async def _save(self, image: _Image, run: Run, note: str | None) -> Run:
        row = await self._saved(made_row, run, self.folder, self._maker.pool, image.name, note)
        self._ended_with(replace(row, place=image.place))
        if len(self.rows) % MEMORY_ROWS == 0:
            await self._saved(give_back)
        return run

    async def _saved(self, work: Callable[..., Result], *args: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._saver, partial(work, *args))

    def _ended(self, run: Run, record: StageRecord) -> None:
        self._stages_done += 1
        if self._on_stage:
            self._on_stage(run, record)


def made_row(run: Run, folder: Path, pool: LLMPool, image: str = "", note: str | None = None) -> Row:
    """Save a run, and give its row. A card that breaks its specification is an error of the row."""
    error, saved = "; ".join(run.errors) or None, None
    try:
        saved = run.save(folder)
    except CardInvalid as invalid:
        error = str(invalid)
    if saved and saved.earlier and note:
        note = f"{note}; the earlier run is kept as {saved.earlier.parent.name}/{saved.earlier.name}"
    state: State = "failed" if run.status != "done" or error else "made"
    row = Row(0, image or run.brief.description, state, note=note, error=error, calls=run.calls,
              input_tokens=run.paid.input_tokens, output_tokens=run.paid.output_tokens, cost=_cost(run, pool))  # fmt: skip
    return _told(row, run, saved)


def _cost(run: Run, pool: LLMPool) -> float | None:
    """US dollars that a run cost now; None where a price is unknown."""
    total = 0.0
    for record in run.stages.values():
        price = pool.price(record.request.model if record.request else None)
        cost = price.cost(record.paid) if price else 0.0 if record.paid == Usage() else None
        if cost is None:
            return None
        total += cost
    return total


def _pixels(run: Run) -> str | None:
    return run.brief.picture.sha256 if run.brief.picture else None


def _hash(path: Path) -> str:
    return hashlib.sha256(read_image(path)).hexdigest()


def _told(row: Row, run: Run, saved: SavedRun | None) -> Row:
    """A row with what its run says."""
    file = (saved.portrait or saved.card or saved.run) if saved else None
    persona = run["core_persona"].name if run.status != "failed" else None
    return replace(
        row, run=run.name, persona=persona, status=run.status, seconds=run.seconds, file=str(file) if file else None
    )  # fmt: skip
