"""The design of an experiment: which stages are asked once an image, and which in every cell of the grid.

Stages that no condition touches and that nothing under study comes before are shared: they are asked once, and what
they gave is the same for all conditions. Those under study, and those made from them, are asked in each cell.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, Self

from personalab.errors import ConfigError, ImageError
from personalab.grids import Condition, Grid, Setting
from personalab.images import each_image, read_image
from personalab.pipeline import Pipeline
from personalab.records import Record, Request
from personalab.runs import Run
from personalab.stages import Stage

CORE = "core_persona"


class Place(NamedTuple):
    """Where a cell stands: condition and image by name, and the replicate."""

    condition: str
    image: str
    replicate: int


class Cell(Record):
    """One image under one condition, asked once: its run. `image` is the image's name, as frames show it."""

    condition: Condition
    image: str
    replicate: int
    run: Run

    @property
    def place(self) -> Place:
        """Where it stands in the experiment."""
        return Place(self.condition.name, self.image, self.replicate)


@dataclass(frozen=True)
class Design:
    """What an experiment asks, settled before anything is sent.

    `grid` says for every condition the value of every factor. `images` are paths by name. `shared` are the stages asked
    once an image, as replicate 0; `pipelines` hold the stages of a cell by condition.
    """

    pipeline: Pipeline
    grid: Grid
    images: dict[str, Path]
    shared: tuple[Stage, ...]
    pipelines: dict[str, Pipeline]

    @classmethod
    def of(
        cls,
        pipeline: Pipeline,
        grid: Grid,
        images: Path | str | Iterable[Path | str],
        stages: Iterable[str] | Literal["all"] = (),
    ) -> Self:
        """The design of a grid over images. Stages under study run with what they need, and with `stages` (or `all`).

        Raises:
            ConfigError: unknown stage or parameter, a model the pool cannot ask, no image, or one picture twice.
            PromptError: a prompt that wants a variable which its stage does not have.
        """
        varied = {each.name: _varied(pipeline, each) for each in grid.conditions}
        more = [stage.name for stage in pipeline.stages] if stages == "all" else list(stages)
        needed = _needed(pipeline, [CORE, *grid.stages, *more])
        studied = _studied(pipeline, grid.stages)
        return cls(
            pipeline=pipeline,
            grid=_filled(grid, pipeline),
            images=_named(images),
            shared=_chosen(pipeline, needed - studied) if CORE not in studied else (),
            pipelines={name: _only(each, needed) for name, each in varied.items()},
        )

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages asked in each cell."""
        shared = {stage.name for stage in self.shared}
        first = next(iter(self.pipelines.values()))
        return tuple(stage.name for stage in first.stages if stage.name not in shared)

    @property
    def cells_see_picture(self) -> bool:
        """Whether a stage that is asked in each cell is sent the picture."""
        return any(self.pipeline.stage(name).sees_picture for name in self.stages)

    @property
    def sharing(self) -> Pipeline:
        """The pipeline of the shared stages. There has to be one."""
        return replace(self.pipeline, stages=self.shared)

    @property
    def conditions(self) -> dict[str, Condition]:
        """The conditions by name, in the order of the grid."""
        return {condition.name: condition for condition in self.grid.conditions}

    def places(self, images: Iterable[str] | None = None) -> Iterator[Place]:
        """The cells, of all images or of some, in the order of the grid."""
        chosen = self.images if images is None else images
        return itertools.starmap(
            Place, itertools.product(self.conditions, chosen, range(self.grid.replicates))
        )

    def first(self, image: str) -> Place:
        """The cell of an image that carries what its shared stages cost."""
        return next(self.places([image]))

    @property
    def size(self) -> int:
        """How many cells there are."""
        return len(self.grid.conditions) * len(self.images) * self.grid.replicates


def _varied(pipeline: Pipeline, condition: Condition) -> Pipeline:
    for name in condition.stages:
        pipeline = pipeline.vary(name, **condition.changes(name))
        stage = pipeline.stage(name)
        pipeline.pool.key(
            Request(stage=name, model=stage.model, messages=())
        )  # refuses a model it cannot ask
    return pipeline


def _only(pipeline: Pipeline, names: set[str]) -> Pipeline:
    return replace(pipeline, stages=_chosen(pipeline, names))


def _chosen(pipeline: Pipeline, names: set[str]) -> tuple[Stage, ...]:
    return tuple(stage for stage in pipeline.stages if stage.name in names)


def _needed(pipeline: Pipeline, names: Iterable[str]) -> set[str]:
    """Stages with all that they need."""
    found = {pipeline.stage(name).name for name in names}
    for stage in reversed(pipeline.stages):
        if stage.name in found:
            found |= set(stage.needs)
    return found


def _studied(pipeline: Pipeline, names: Iterable[str]) -> set[str]:
    """Stages with all that are made from them."""
    found = set(names)
    for stage in pipeline.stages:
        if found & set(stage.needs):
            found.add(stage.name)
    return found


def _filled(grid: Grid, pipeline: Pipeline) -> Grid:
    """The grid with a value for every factor in every condition: where one leaves it alone, the pipeline's own."""
    conditions = []
    for condition in grid.conditions:
        there = {(part.stage, part.parameter) for part in condition.settings}
        own = (_own(pipeline, *pair) for pair in grid.factors.values() if pair not in there)
        conditions.append(condition.model_copy(update={"settings": (*condition.settings, *own)}))
    return grid.model_copy(update={"conditions": tuple(conditions)})


def _own(pipeline: Pipeline, stage: str, parameter: str) -> Setting:
    chosen = pipeline.stage(stage)
    if parameter == "prompt":
        return Setting(
            stage=stage, parameter=parameter, label=Path(chosen.prompt.name).stem, value=chosen.prompt
        )
    value = (
        (chosen.model or pipeline.pool.model) if parameter == "model" else getattr(chosen.sampling, parameter)
    )
    return Setting(
        stage=stage, parameter=parameter, label="not sent" if value is None else str(value), value=value
    )


def _named(images: Path | str | Iterable[Path | str]) -> dict[str, Path]:
    """Images by the name of their file, or by their path where two have one name."""
    paths = list(each_image(images))
    if not paths:
        raise ConfigError("an experiment needs an image: images=[] is empty")
    _check_different(paths)
    times = Counter(path.stem for path in paths)
    return {path.stem if times[path.stem] == 1 else str(path): path for path in paths}


def _check_different(paths: Iterable[Path]) -> None:
    """An image that counts twice makes every result look surer than it is. One that cannot be read fails when its turn comes."""
    same: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            same[hashlib.sha256(read_image(path)).hexdigest()].append(path)
        except ImageError:
            continue
    twice = [" = ".join(map(str, each)) for each in same.values() if len(each) > 1]
    if twice:
        raise ConfigError(
            f"the same picture more than once, which would count it as several: {'; '.join(twice)}"
        )
