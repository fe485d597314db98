"""A run: one image (or description) on its way to one card; saved, loaded and found.

The run file holds every request and reply. Frames, views and judges read it; there is no second log.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import ConfigDict, Field, SerializeAsAny, ValidationError, computed_field, model_validator

from personalab.card_checks import require_valid
from personalab.cards import CharacterCard
from personalab.dry import check_inside
from personalab.errors import CardInvalid, OutputError, PersonalabError, unknown
from personalab.files import cannot_write, write_whole
from personalab.names import slug
from personalab.personas import assemble
from personalab.records import JsonObject, Record, Reply, Request, Usage, explain
from personalab.schemas import StageOutput
from personalab.stages import STAGES, Brief

RUN_VERSION = 1
_RUN, _FAILED = "_run.json", "-failed_run.json"
_LOCK_SECONDS = 60.0
StageStatus = Literal["done", "failed", "skipped"]

_OUTPUTS: dict[str, type[StageOutput]] = {stage.name: stage.output for stage in STAGES}


class AnyOutput(StageOutput):
    """The output of a stage this version does not know, as it was stored."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Failure(Record):
    """An error as it is stored: its kind, its one line, and what was paid and sent for it."""

    kind: str
    message: str
    usage: Usage | None = None
    attempts: int = 0

    @classmethod
    def of(cls, error: PersonalabError) -> Failure:
        """What is kept of an error."""
        usage = error.usage if isinstance(error.usage, Usage) else None
        return cls(kind=type(error).__name__, message=str(error), usage=usage, attempts=error.attempts)


class StageRecord(Record):
    """One stage of a run. `started` and `ended` are seconds since the run began."""

    stage: str
    status: StageStatus
    prompt: str = ""
    prompt_sha256: str = ""
    key: str = ""
    request: Request | None = None
    reply: Reply | None = None
    output: SerializeAsAny[StageOutput] | None = None
    error: Failure | None = None
    started: float = 0.0
    ended: float = 0.0

    @model_validator(mode="before")
    @classmethod
    def _typed(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("output"), dict):
            return {**data, "output": _stored_output(data["stage"], data["output"])}
        return data

    @property
    def attempts(self) -> int | None:
        """Requests that its reply took, whenever that was, or its failure; None if it was not asked."""
        if self.error:
            return self.error.attempts or None
        return self.reply.attempts if self.reply else None

    @property
    def sent(self) -> int:
        """Requests that were sent for this stage in this run."""
        return 0 if self.reply and self.reply.cached else self.attempts or 0

    @property
    def paid(self) -> Usage:
        """Tokens this stage cost in this run: none if its reply came from the cache."""
        if self.error and self.error.usage:
            return self.error.usage
        return self.reply.usage if self.reply and not self.reply.cached else Usage()


def _stored_output(stage: str, data: JsonObject) -> StageOutput:
    """The output as this version knows the stage, or as it was stored: a stage may have been replaced by another."""
    try:
        return _OUTPUTS.get(stage, AnyOutput).model_validate(data)
    except ValidationError:
        return AnyOutput.model_validate(data)


class Run(Record):
    """One image or description on its way to one card.

    `portrait` is the picture as PNG bytes; it is not stored in the run file, but in the persona's PNG. `source` is the
    image's path and `file_sha256` the hash of its bytes: by them a run is tied to its image.
    """

    version: int = RUN_VERSION
    name: str
    source: str | None = None
    file_sha256: str | None = None
    brief: Brief
    replicate: int = 0
    model: str = ""
    stages: dict[str, StageRecord] = Field(default_factory=dict)
    begun: str = ""
    seconds: float = 0.0
    portrait: bytes | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _without_counts(cls, data: Any) -> Any:
        """A run file holds what is counted, for whoever reads it; here it is counted again."""
        return (
            {name: value for name, value in data.items() if name != "card_tokens"}
            if isinstance(data, dict)
            else data
        )

    @computed_field(repr=False)  # type: ignore[prop-decorator]
    @property
    def card_tokens(self) -> dict[str, int]:
        """The card's tokens by field, with `permanent` and `total` (estimates, see `tokens`); none without a card."""
        return {} if self.status == "failed" else self.card.token_counts()

    @property
    def outputs(self) -> Mapping[str, StageOutput]:
        """What the stages gave so far."""
        return {name: record.output for name, record in self.stages.items() if record.output is not None}

    def __getitem__(self, stage: str) -> Any:
        """The output of a stage.

        Raises:
            ConfigError: no such stage has run; names the nearest.
            PersonalabError: it has failed; the message is the stage's own.
        """
        record = self.stages.get(stage)
        if record is None:
            raise unknown("stage of this run", stage, self.stages)
        if record.output is None:
            raise PersonalabError(record.error.message if record.error else f"stage {stage} gave nothing")
        return record.output

    @property
    def status(self) -> Literal["done", "partial", "failed"]:
        """`done`: every stage is there. `partial`: some failed, the card lacks their part. `failed`: no card."""
        if "core_persona" not in self.outputs:
            return "failed"
        return "done" if all(record.status == "done" for record in self.stages.values()) else "partial"

    @property
    def errors(self) -> tuple[str, ...]:
        """The errors of the stages that failed, one line each; those that were skipped for it are not named."""
        failed = (record for record in self.stages.values() if record.status == "failed")
        return tuple(record.error.message for record in failed if record.error)

    @property
    def paid(self) -> Usage:
        """Tokens paid in this run; what came from the cache cost nothing."""
        return sum((record.paid for record in self.stages.values()), Usage())

    @property
    def calls(self) -> int:
        """Requests that were sent for this run, repeated ones included."""
        return sum(record.sent for record in self.stages.values())

    @property
    def card(self) -> CharacterCard:
        """The persona as a character card.

        Raises:
            PersonalabError: the core persona is missing.
        """
        if "core_persona" not in self.outputs:
            raise PersonalabError(
                "; ".join(self.errors) or f"run {self.name}: stage core_persona has not run"
            )
        return assemble(self.outputs, self.brief, self.model, self._provenance())

    def save(self, folder: Path | str) -> SavedRun:
        """Write run file, card as JSON and card as PNG (for a run with a picture) into a folder.

        Two images of one name in different places get a short hash in the name; the same image twice gets one file.
        A run file whose replies this run does not have is set aside in `earlier/` first, so nothing paid is lost. A
        failed run is kept as `<name>-failed_run.json`, so that it never replaces a good one, until one succeeds.

        Raises:
            OutputError: the folder cannot be written.
            CardInvalid: the card breaks its specification; the run file is written all the same.
        """
        return _save(self, Path(folder))

    def _provenance(self) -> JsonObject:
        # Only what decides the persona, and nothing of the day it was made: the same persona is the same bytes.
        return {
            "model": self.model,
            "replicate": self.replicate,
            "picture_sha256": self.brief.picture.sha256 if self.brief.picture else None,
            "instructions": self.brief.instructions,
            "stages": {
                name: _stage_provenance(record, record.request, record.reply)
                for name, record in self.stages.items()
                if record.request and record.reply
            },
            "missing": sorted(name for name, record in self.stages.items() if record.output is None),
        }

    def _repr_html_(self) -> str:
        from personalab.views import run_html

        return run_html(self.name, self.outputs, self.portrait, self.errors)

    def __str__(self) -> str:
        from personalab.views import run_text

        return run_text(self.name, self.outputs, self.errors)


class SavedRun(Record):
    """Where a run lies. `card` and `portrait` are None where there is none.

    `earlier` is where another run of the same image was set aside.
    """

    run: Path
    card: Path | None = None
    portrait: Path | None = None
    earlier: Path | None = None


def load_run(path: Path | str) -> Run:
    """A run from its file, with the portrait beside it if there is one.

    Raises:
        OutputError: the file is missing or is no run file.
    """
    path = Path(path)
    try:
        run = Run.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        raise OutputError(f"{path} is no run file: {explain(error)}") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}; check the path") from error
    except ValueError as error:
        raise OutputError(f"{path} is no run file: it is no JSON ({error})") from error
    portrait = path.with_name(path.name.removesuffix("_run.json") + "_persona.png")
    if run.status == "failed" or not portrait.is_file():
        return run
    return run.model_copy(update={"portrait": portrait.read_bytes()})


def find_runs(folder: Path | str) -> Iterator[Run]:
    """The runs of a folder by name. A file that is no run is left out with a warning."""
    for path in sorted(Path(folder).glob("*_run.json")):
        try:
            yield load_run(path)
        except OutputError as error:
            warnings.warn(str(error), stacklevel=2)


def _stage_provenance(record: StageRecord, request: Request, reply: Reply) -> JsonObject:
    return {
        "model": reply.model,
        "prompt": Path(record.prompt).name,
        "prompt_sha256": record.prompt_sha256,
        "sampling": request.sampling.model_dump(exclude_none=True),
        "not_applied": list(reply.not_applied),
        "key": record.key,
    }


def find_run(folder: Path, name: str, source: str, file_sha256: str) -> SavedRun | None:
    """Where the run of an image lies, by the hash of its bytes or else its path; None if it has none.

    `name` is the run's, of which file names are made. The failed run of an image counts if it has no other.
    """
    by_content = Run(name=name, file_sha256=file_sha256 or None, brief=Brief())
    by_path = by_content.model_copy(update={"source": source})
    for ending in (_RUN, _FAILED):
        for wanted in (by_content, by_path):
            for stem in _stems(by_path):
                path = folder / f"{stem}{ending}"
                if path.is_file() and _is_of(path, wanted):
                    return _saved(folder, stem, path)
    return None


def find_failed(folder: Path, name: str, source: str, file_sha256: str) -> Path | None:
    """Where the failed run of an image lies, also beside an older good one; None if it has none."""
    wanted = Run(name=name, source=source, file_sha256=file_sha256 or None, brief=Brief())
    paths = (folder / f"{stem}{_FAILED}" for stem in _stems(wanted))
    return next((path for path in paths if path.is_file() and _is_of(path, wanted)), None)


def _saved(folder: Path, stem: str, run: Path) -> SavedRun:
    card, portrait = folder / f"{stem}_persona.json", folder / f"{stem}_persona.png"
    good = not run.name.endswith(_FAILED)
    return SavedRun(
        run=run,
        card=card if good and card.is_file() else None,
        portrait=portrait if good and portrait.is_file() else None,
    )


@dataclass(frozen=True)
class _Content:
    """What the files of a run hold. A run without a card has none; `invalid` says what breaks its card."""

    run: bytes
    card: bytes | None = None
    portrait: bytes | None = None
    invalid: CardInvalid | None = None


def _content(run: Run) -> _Content:
    content = json.dumps(run.model_dump(mode="json"), ensure_ascii=False, indent=1).encode()
    if run.status == "failed":
        return _Content(content)
    made = run.card
    try:
        for document in (made.v2(), made.v3()):
            require_valid(document, f"of {run.name}")
    except CardInvalid as invalid:
        return _Content(content, invalid=invalid)
    portrait = made.to_png(run.portrait) if run.portrait is not None else None
    return _Content(content, made.to_json(), portrait)


def _save(run: Run, folder: Path) -> SavedRun:
    content = _content(run)  # before the lock, for which others wait
    check_inside(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".names.lock", timeout=_LOCK_SECONDS):
            return _write(run, content, folder)
    except Timeout as error:
        raise OutputError(f"cannot write into {folder}: another process holds {error.lock_file}") from error
    except OSError as error:
        raise cannot_write(folder, error) from error


def _write(run: Run, content: _Content, folder: Path) -> SavedRun:
    """The run file comes last: where it is, the card and the portrait of the same run are there too."""
    stem = _stem(run, folder)
    if run.status == "failed":
        return SavedRun(run=write_whole(folder / f"{stem}{_FAILED}", content.run))
    path = folder / f"{stem}{_RUN}"
    earlier = _set_aside(path, run)
    card = content.card and write_whole(folder / f"{stem}_persona.json", content.card)
    portrait = content.portrait and write_whole(folder / f"{stem}_persona.png", content.portrait)
    write_whole(path, content.run)
    if content.invalid:
        raise content.invalid
    (folder / f"{stem}{_FAILED}").unlink(missing_ok=True)
    return SavedRun(run=path, card=card or None, portrait=portrait or None, earlier=earlier)


def _set_aside(path: Path, run: Run) -> Path | None:
    """Move a run file out of the way if it holds a reply that the new run does not have."""
    try:
        content = path.read_bytes()
        stages: JsonObject = json.loads(content)["stages"]
        there = {name: record["reply"]["text"] for name, record in stages.items() if record.get("reply")}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    here = {name: record.reply.text for name, record in run.stages.items() if record.reply}
    if there.items() <= here.items():
        return None
    stem = path.name.removesuffix(_RUN)
    aside = path.parent / "earlier" / f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}{_RUN}"
    aside.parent.mkdir(exist_ok=True)
    return path.replace(aside)


def _stems(run: Run) -> tuple[str, str]:
    """The names that a run's files may have: its own, and its own with a short hash of the image or description."""
    stem = slug(run.name)
    mark = run.file_sha256 or hashlib.sha256(_start(run.brief, run.source).encode()).hexdigest()
    return stem, f"{stem}-{mark[:8]}"


def _stem(run: Run, folder: Path) -> str:
    plain, marked = _stems(run)
    free = all(_is_free(folder / f"{plain}{end}", run) for end in (_RUN, _FAILED))
    return plain if free else marked


def _is_free(path: Path, run: Run) -> bool:
    """Whether a run file is not there, is of the same image, or holds nothing to lose."""
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return True
    return _is_of(path, run)


def _is_of(path: Path, run: Run) -> bool:
    """Whether a run file is of the same image (the same bytes, pixels or path) or description; False if unreadable."""
    try:
        other = json.loads(path.read_bytes())
        brief, source = Brief.model_validate(other["brief"]), other["source"]
        file_sha256 = other.get("file_sha256")
    except (OSError, KeyError, TypeError, ValueError):
        return False  # of another version
    if run.source is not None and source == run.source:
        return True
    if run.file_sha256 is not None and file_sha256 == run.file_sha256:
        return True
    start = _start(run.brief, run.source)
    return bool(start) and _start(brief, source) == start


def _start(brief: Brief, source: str | None) -> str:
    return brief.picture.sha256 if brief.picture else brief.description or source or ""
