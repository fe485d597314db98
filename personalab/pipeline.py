"""Read this first: an image goes in, seven stages run as a graph, a run with a character card comes out.

    pipeline = Pipeline()
    run = await pipeline.run("portrait.png")
    run.save("outputs/personas")

A stage starts as soon as what it needs is there: tweet strategy and example tweets run beside the other four.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from personalab.batches import Batch
from personalab.cache import Difference, Why, differences, identity
from personalab.errors import AccessRefused, BudgetError, ConfigError, PersonalabError
from personalab.images import open_picture, read_image
from personalab.loops import first_error
from personalab.names import path_text, slug
from personalab.pool import LLMPool
from personalab.questions import find_question
from personalab.records import Picture, Request
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
        if not self.wishes()["language"]:
            raise ConfigError("language must not be empty: name one, such as English or 中文")
        if not issubclass(self.stage("core_persona").output, CorePersona):
            raise ConfigError(
                "stage core_persona has to give a CorePersona or a subclass of it: the card is made of it"
            )
        for stage in self.stages:
            self.pool.check_price(stage.model)

    def stage(self, name: str) -> Stage:
        """A stage by name.

        Raises:
            ConfigError: unknown; names the nearest.
        """
        return find_question(self.stages, name)

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
        data, picture = (None, None) if image is None else await asyncio.to_thread(_opened, image)
        brief = Brief(
            picture=picture,
            description=clean_text(description),
            **self.wishes(),
        )
        source = _source(image)
        return Run(
            name=name or _name_of(source, brief),
            source=source,
            file_sha256=data,
            brief=brief,
            replicate=replicate,
            model=self.pool.model,
            begun=_now(),
            portrait=picture.data if picture else None,
        )

    def wishes(self) -> dict[str, str]:
        """Language, location and instructions, as they stand in prompts."""
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
        return request.model_copy(update={"rank": self._ranks[stage.name]})

    @cached_property
    def _ranks(self) -> dict[str, int]:
        return ranks(self.stages)

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
        return run.model_copy(update={"stages": ordered | records, "seconds": record.ended})

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
            BudgetError: a ceiling is reached.
        """
        run = await self.begin(image, description=description, name=name, replicate=replicate)
        return await self.complete(run, on_stage=on_stage)

    async def complete(self, run: Run, earlier: Run | None = None, on_stage: OnStage | None = None) -> Run:
        """A run that has begun through all stages; those that an earlier run has and that would be asked the same are kept.

        Raises:
            AccessRefused: key, model or quota: nothing could succeed.
        """
        kept = self.kept(run.brief, earlier) if earlier and earlier.replicate == run.replicate else {}
        return await self.go_on(run.model_copy(update={"stages": kept}), on_stage)

    async def go_on(self, run: Run, on_stage: OnStage | None = None) -> Run:
        """A run through the stages it lacks, its card not weighed. `seconds` are those of these stages.

        Raises:
            AccessRefused: key, model or quota: nothing could succeed.
            BudgetError: a ceiling is reached.
        """
        started = time.perf_counter()

        def clock() -> float:
            return time.perf_counter() - started

        records = await self._run_graph(run, clock, on_stage)
        return run.model_copy(update={"stages": records, "seconds": round(clock(), 6)})

    def kept(self, brief: Brief, earlier: Run) -> dict[str, StageRecord]:
        """The stages of an earlier run that this pipeline would ask in the same words, with answers that still fit.

        Their replies are marked as cached: nothing is paid for them again.
        """
        kept: dict[str, StageRecord] = {}
        for stage in self.stages:
            record = earlier.stages.get(stage.name)
            if record is None or record.reply is None or not kept.keys() >= set(stage.needs):
                continue
            done = {need: output for need in stage.needs if (output := kept[need].output)}
            try:
                request = stage.request(brief, done, earlier.replicate)
                if self.pool.key(request) != record.key:
                    continue
                output = stage.parse(record.reply.text, done)
            except PersonalabError:  # today's rules are stricter: it is asked again
                continue
            reply = record.reply.model_copy(update={"cached": True})
            update = {"reply": reply, "output": output, "started": 0.0, "ended": 0.0}
            kept[stage.name] = record.model_copy(update=update)
        return kept

    def changes(self, earlier: Run) -> tuple[str, ...]:
        """What this pipeline would ask otherwise than an earlier run of the same image did, such as
        `social_network: sampling.temperature 0.85 → 1.1`. Stages that differ only because one before them does are not named.
        """
        told = [
            f"{name}: {now or 'none'} instead of {then or 'none'}"
            for name, now in self.wishes().items()
            if now != (then := getattr(earlier.brief, name))
        ]
        if told:  # they stand in every prompt, so nothing else could be told apart
            return tuple(told)
        brief = earlier.brief.model_copy(update=self.wishes())
        kept = self.kept(brief, earlier)
        for stage in self.stages:
            record = earlier.stages.get(stage.name)
            if stage.name in kept or record is None or record.request is None:
                continue
            if not kept.keys() >= set(stage.needs):
                continue
            done = {need: output for need in stage.needs if (output := kept[need].output)}
            asked = stage.request(brief, done, earlier.replicate)
            stored = identity(record.request, record.request.model or earlier.model, "")
            parts = differences(stored, identity(asked, asked.model or self.pool.model, ""))
            told += [f"{stage.name}: {_said(part)}" for part in parts]
            if not parts and record.key and record.key != self.pool.key(asked):
                told.append(f"{stage.name}: another endpoint")
        return tuple(told)

    def run_many(
        self,
        images: Path | str | Iterable[Path | str],
        *,
        out: Path | str | None = None,
        force: bool = False,
        retry_failed: bool = False,
        window: int | None = None,
        on_stage: OnStage | None = None,
        progress: bool = True,
    ) -> Batch:
        """Personas of many images, each saved into `out` (`outputs/personas`) the moment it is done.

            batch = pipeline.run_many("portraits/")  # files, folders, globs, also an iterator of them
            async for run in batch:  # as they finish
                ...
            batch.frame()  # one row per image, in the order given

        Finished personas of the same image and settings are not made again and half-finished ones go on, so a batch
        that was killed is simply started again. `force` takes nothing from earlier runs (the cache is still read;
        give the pool `cache="refresh"` to pay again). `retry_failed` takes only images whose run failed or lacks
        stages. At most `window` images are under way at once.

        Raises (when it runs):
            AccessRefused: key, model or quota: the batch stops, what is under way is cancelled.
            BudgetError: a ceiling is reached: the batch stops, what was in flight has arrived and is in the cache.
            OutputError: results cannot be written.
            ConfigError: a single folder or glob without an image.
        """
        return Batch(
            self,
            images,
            folder=Path(out) if out else self.pool.outputs / "personas",
            force=force,
            retry_failed=retry_failed,
            window=window or self.pool.window,
            on_stage=on_stage,
            progress=progress,
        )

    def failed(self, image: Path | str, error: PersonalabError) -> Run:
        """The run of an image that could not even begin."""
        brief = Brief(**self.wishes())
        record = StageRecord(stage="core_persona", status="failed", error=Failure.of(error))
        return Run(
            name=_name_of(_source(image), brief),
            source=_source(image),
            brief=brief,
            model=self.pool.model,
            stages={"core_persona": record},
            begun=_now(),
        )

    async def _run_graph(
        self, run: Run, clock: Callable[[], float], on_stage: OnStage | None
    ) -> dict[str, StageRecord]:
        """Every stage as soon as what it needs is there; those that the run has are left as they are."""
        tasks: dict[str, asyncio.Task[StageRecord]] = {}

        async def follow(stage: Stage) -> StageRecord:
            if stage.name in run.stages:
                return run.stages[stage.name]
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
            raise first_error(errors) from None
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
            key = self.pool.key(request)
            update = {"request": request, "key": key}
            output: StageOutput | None = None

            def check(text: str) -> None:
                nonlocal output
                output = stage.parse(text, done)

            reply = await self.pool.send(request, check, key=key)
            # A reply shared with another task was checked there.
            update |= {"reply": reply, "output": output or stage.parse(reply.text, done), "status": "done"}
        except (AccessRefused, BudgetError):
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


def _opened(image: Path | str | bytes) -> tuple[str, Picture]:
    """The hash of an image file's bytes, and its picture."""
    data = read_image(image)
    name = "" if isinstance(image, bytes) else path_text(image)
    return hashlib.sha256(data).hexdigest(), open_picture(data, name=name)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _said(part: Difference) -> str:
    """A difference in a few words: a changed text is only named."""
    if "\n" in part.stored + part.asked or len(part.stored + part.asked) > 80:
        return f"{part.part} changed"
    return f"{part.part} {part.stored} → {part.asked}"


def _source(image: Path | str | bytes | None) -> str | None:
    if not isinstance(image, Path | str):
        return None
    return path_text(Path(image).absolute())


def _name_of(source: str | None, brief: Brief) -> str:
    if source:
        return Path(source).stem
    start = brief.picture.sha256[:12] if brief.picture else " ".join(brief.description.split()[:6])
    return slug(start)
