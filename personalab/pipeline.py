"""Read this first: an image goes in, seven stages run as a graph, a run with a character card comes out.

    pipeline = Pipeline()
    run = await pipeline.run("portrait.png")
    run.save("outputs/personas")

A stage starts as soon as what it needs is there: tweet strategy and example tweets run beside the other four.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from personalab.cache import Why
from personalab.config import WINDOW_PERSONAS
from personalab.errors import AccessRefused, ConfigError, ImageError, PersonalabError, unknown
from personalab.images import open_picture
from personalab.names import slug
from personalab.pool import LLMPool
from personalab.records import Request
from personalab.runs import Failure, Run, StageRecord
from personalab.schemas import CorePersona, StageOutput, clean_text
from personalab.stages import STAGES, Brief, Stage, in_order, ranks

OnStage = Callable[[Run, StageRecord], None]
"""Told of each stage as it ends."""


@dataclass(frozen=True)
class Pipeline:
    """The stages, the pool they ask, and the researcher's wishes. Frozen: `vary` gives another one.

    Raises:
        ConfigError: stages that do not form a graph, or settings that cannot be.
    """

    pool: LLMPool = field(default_factory=LLMPool)
    language: str = "English"
    location: str = ""
    instructions: str = ""
    stages: tuple[Stage, ...] = STAGES

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", in_order(self.stages))
        if not issubclass(self.stage("core_persona").output, CorePersona):
            raise ConfigError(
                "stage core_persona has to give a CorePersona or a subclass of it: the card is made of it"
            )

    def stage(self, name: str) -> Stage:
        """A stage by name.

        Raises:
            ConfigError: unknown; names the nearest.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise unknown("stage", name, (stage.name for stage in self.stages))

    def vary(self, stage: str, **changes: Any) -> Self:
        """A pipeline with one stage changed: `prompt` (file, text or template), `model`, or a sampling parameter.

        Raises:
            ConfigError: unknown stage or parameter; names the nearest.
            PromptError: the prompt file is no template or wants a variable that the stage does not have.
        """
        return self.with_stage(self.stage(stage).vary(**changes))

    def with_stage(self, stage: Stage) -> Self:
        """A pipeline with a stage more, or with the one of that name replaced."""
        if all(other.name != stage.name for other in self.stages):
            return replace(self, stages=(*self.stages, stage))
        return replace(
            self, stages=tuple(stage if other.name == stage.name else other for other in self.stages)
        )

    async def begin(
        self,
        image: Path | str | bytes | None = None,
        *,
        description: str = "",
        name: str = "",
        replicate: int = 0,
    ) -> Run:
        """A run in which no stage has run yet. The image is read here, off the event loop.

        Raises:
            ImageError: the image cannot be used.
            ConfigError: neither image nor description, or both.
        """
        if (image is None) == (not description.strip()):
            raise ConfigError("give an image or a description to start from, and not both")
        picture = None if image is None else await asyncio.to_thread(open_picture, image)
        brief = Brief(
            picture=picture,
            description=clean_text(description),
            **self._wishes(),
        )
        source = _source(image)
        return Run(
            name=name or _name_of(source, brief),
            source=source,
            brief=brief,
            replicate=replicate,
            model=self.pool.model,
            begun=datetime.now(UTC).isoformat(timespec="seconds"),
            portrait=picture.data if picture else None,
        )

    def _wishes(self) -> dict[str, str]:
        return {name: clean_text(getattr(self, name)) for name in ("language", "location", "instructions")}

    def request(self, run: Run, stage: str) -> Request:
        """What a stage would send, given what the run has so far.

        Raises:
            ConfigError: unknown stage, or a stage it needs has not run.
        """
        chosen = self.stage(stage)
        for need in chosen.needs:
            if need not in run.outputs:
                raise ConfigError(
                    f"stage {stage} needs {need}, which has not run: advance(run, {need!r}) first"
                )
        return self._request(chosen, run, run.outputs)

    def _request(self, stage: Stage, run: Run, done: Mapping[str, StageOutput]) -> Request:
        request = stage.request(run.brief, done, run.replicate)
        return request.model_copy(update={"rank": ranks(self.stages)[stage.name]})

    def why(self, run: Run, stage: str) -> Why:
        """Whether a stage would be paid for, and what differs from the nearest stored call if so."""
        return self.pool.why(self.request(run, stage))

    async def advance(self, run: Run, stage: str) -> Run:
        """The run with one stage more, or with that stage run again; what was made from its old output is dropped.

        Raises:
            PersonalabError: the stage failed, or one it needs has not run.
        """
        run = await self._with_pixels(run)
        self.request(run, stage)
        started = time.perf_counter()

        def clock() -> float:
            return run.seconds + time.perf_counter() - started

        record, error = await self._run_stage(self.stage(stage), run, run.outputs, clock)
        if error:
            raise error
        records = {**run.stages, stage: record}
        if run.outputs.get(stage) not in (None, record.output):
            records = self._without_dependents(records, stage)
        ordered = {each.name: records[each.name] for each in self.stages if each.name in records}
        return _counted(run.model_copy(update={"stages": ordered | records, "seconds": record.ended}))

    async def _with_pixels(self, run: Run) -> Run:
        """A loaded run has its picture's hash; the pixels are in the portrait beside it."""
        picture = run.brief.picture
        if picture is None or picture.data or run.portrait is None:
            return run
        found = await asyncio.to_thread(open_picture, run.portrait)
        if found.sha256 != picture.sha256:
            return run
        return run.model_copy(update={"brief": run.brief.model_copy(update={"picture": found})})

    def _without_dependents(self, records: dict[str, StageRecord], stage: str) -> dict[str, StageRecord]:
        """Without the stages that were made from an output that has changed."""
        stale = {stage}
        for each in self.stages:
            if stale & set(each.needs):
                stale.add(each.name)
        return {name: record for name, record in records.items() if name == stage or name not in stale}

    async def run(
        self,
        image: Path | str | bytes | None = None,
        *,
        description: str = "",
        name: str = "",
        replicate: int = 0,
        on_stage: OnStage | None = None,
    ) -> Run:
        """One image or description through all stages.

        A stage that fails leaves its part empty and its error on the run; the others go on.

        Raises:
            ImageError: the image cannot be used.
            AccessRefused: key, model or quota: nothing could succeed.
        """
        run = await self.begin(image, description=description, name=name, replicate=replicate)
        started = time.perf_counter()

        def clock() -> float:
            return time.perf_counter() - started

        records = await self._run_graph(run, clock, on_stage)
        return _counted(run.model_copy(update={"stages": records, "seconds": round(clock(), 6)}))

    async def run_many(
        self, images: Iterable[Path | str], *, window: int = WINDOW_PERSONAS, on_stage: OnStage | None = None
    ) -> AsyncIterator[Run]:
        """Runs of many images as they finish, at most `window` under way; one that fails is a run with its error.

        Raises:
            AccessRefused: key, model or quota: the batch stops, what is under way is cancelled.
        """
        waiting = iter(images)
        under_way: set[asyncio.Task[Run]] = set()
        try:
            while True:
                while len(under_way) < window and (image := next(waiting, None)) is not None:
                    under_way.add(asyncio.create_task(self._run_one(image, on_stage)))
                if not under_way:
                    return
                finished, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                # What succeeded is given out before an error that stops the batch is raised.
                for task in sorted(finished, key=lambda task: task.exception() is not None):
                    yield task.result()
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _run_one(self, image: Path | str, on_stage: OnStage | None) -> Run:
        try:
            return await self.run(image, on_stage=on_stage)
        except ImageError as error:
            brief = Brief(**self._wishes())
            record = StageRecord(stage="core_persona", status="failed", error=Failure.of(error))
            return Run(
                name=_name_of(_source(image), brief),
                source=_source(image),
                brief=brief,
                model=self.pool.model,
                stages={"core_persona": record},
                begun=datetime.now(UTC).isoformat(timespec="seconds"),
            )

    async def _run_graph(
        self, run: Run, clock: Callable[[], float], on_stage: OnStage | None
    ) -> dict[str, StageRecord]:
        """Every stage as soon as what it needs is there."""
        tasks: dict[str, asyncio.Task[StageRecord]] = {}

        async def follow(stage: Stage) -> StageRecord:
            done: dict[str, StageOutput] = {}
            for need in stage.needs:
                output = (await tasks[need]).output
                if output is None:
                    record = _skipped(stage, need, clock())
                    break
                done[need] = output
            else:
                record, _ = await self._run_stage(stage, run, done, clock)
            if on_stage:
                on_stage(run, record)
            return record

        try:
            async with asyncio.TaskGroup() as group:
                for stage in self.stages:
                    tasks[stage.name] = group.create_task(follow(stage))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        return {name: task.result() for name, task in tasks.items()}

    async def _run_stage(
        self, stage: Stage, run: Run, done: Mapping[str, StageOutput], clock: Callable[[], float]
    ) -> tuple[StageRecord, PersonalabError | None]:
        record = StageRecord(
            stage=stage.name,
            status="failed",
            prompt=stage.prompt.name,
            prompt_sha256=stage.prompt.sha256,
            started=round(clock(), 6),
        )
        update: dict[str, Any] = {}
        failed: PersonalabError | None = None
        try:
            request = self._request(stage, run, done)
            update = {"request": request, "key": self.pool.key(request)}
            output: StageOutput | None = None

            def check(text: str) -> None:
                nonlocal output
                output = stage.parse(text, done)

            reply = await self.pool.send(request, check)
            # A reply shared with another task was checked there.
            update |= {"reply": reply, "output": output or stage.parse(reply.text, done), "status": "done"}
        except AccessRefused:
            raise
        except PersonalabError as error:
            failed, update["error"] = error, Failure.of(error)
        return record.model_copy(update={**update, "ended": round(clock(), 6)}), failed


def _skipped(stage: Stage, need: str, now: float) -> StageRecord:
    error = Failure(kind="Skipped", message=f"stage {stage.name}: not run, as {need} failed")
    return StageRecord(
        stage=stage.name, status="skipped", prompt=stage.prompt.name, prompt_sha256=stage.prompt.sha256,
        error=error, started=round(now, 6), ended=round(now, 6),
    )  # fmt: skip


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _counted(run: Run) -> Run:
    """With the tokens of its card, if it has one."""
    return run if run.status == "failed" else run.model_copy(update={"card_tokens": run.card.token_counts()})


def _source(image: Path | str | bytes | None) -> str | None:
    if not isinstance(image, Path | str):
        return None
    # A file name may hold bytes that are no text; a run file cannot.
    return os.fsencode(Path(image).absolute()).decode("utf-8", "replace")


def _name_of(source: str | None, brief: Brief) -> str:
    if source:
        return Path(source).stem
    start = brief.picture.sha256[:12] if brief.picture else " ".join(brief.description.split()[:6])
    return slug(start)
