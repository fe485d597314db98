"""The same stage of the same image under two to four conditions, beside each other: pages of HTML for `widgets`.

Words that differ are marked, line by line: in each column those which the most alike line of the first one lacks, in the first
one those which no other has in its most alike line. A line that stands in the other column as well has no marks, wherever it is.
Model text is hostile: every piece of it is escaped here.
"""

from __future__ import annotations

import base64
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from html import escape
from pathlib import Path
from typing import Self

import regex

from personalab.designs import Cell, Place
from personalab.errors import ConfigError, ImageError, unknown
from personalab.experiments import Experiment
from personalab.images import open_picture
from personalab.records import AS_WRITTEN
from personalab.runs import StageRecord

_COLUMNS_LEAST, _COLUMNS_MOST = 2, 4
_THUMBNAIL_SIDE = 220
_WORD = regex.compile(r"\p{Han}|\p{N}+(?:[.,]\p{N}+)+|[\p{L}\p{M}\p{N}_]+(?:['’-][\p{L}\p{M}\p{N}_]+)*|[^\s]")
_STYLE = """<style>
.personalab-sides{font-size:14px;line-height:1.45;color:inherit}
.personalab-sides .head{display:flex;gap:16px;align-items:center;margin-bottom:8px}
.personalab-sides .head img{height:130px;border-radius:8px}
.personalab-sides .columns{display:flex;gap:14px;align-items:flex-start}
.personalab-sides .columns>section{flex:1;min-width:0;border-top:3px solid #0072b2;padding-top:4px}
.personalab-sides h4{margin:0;font-size:15px;overflow-wrap:anywhere}
.personalab-sides h5{margin:8px 0 0;font-size:12px;opacity:.7;font-weight:600}
.personalab-sides p,.personalab-sides pre{margin:2px 0;white-space:pre-wrap;overflow-wrap:anywhere;word-break:normal}
.personalab-sides pre{max-height:9em;overflow:auto;font-size:12px;border:1px solid rgba(128,128,128,.4);border-radius:6px;padding:6px}
.personalab-sides .dim{opacity:.7;font-size:12px}
.personalab-sides .error{border-left:3px solid #b3261e;padding-left:8px}
.personalab-sides ins{background:#ffe8a3;color:#000;text-decoration:underline;text-decoration-thickness:2px}
.personalab-sides del{background:#d6e9f8;color:#000;text-decoration:underline dotted;text-decoration-thickness:2px}
.personalab-sides summary{cursor:pointer;font-weight:600;margin-top:8px}
</style>"""


@dataclass(frozen=True)
class Pages:
    """What is to be seen, a page for each image and replicate. Showing itself, it is its first page.

    `columns` are the names of conditions; `images` are paths by name.
    """

    cells: Mapping[Place, Cell]
    stage: str
    columns: tuple[str, ...]
    images: Mapping[str, Path]
    places: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, experiment: Experiment, conditions: Sequence[str] = (), stage: str | None = None) -> Self:
        """The pages of an experiment: of a stage (the first under study), for two to four conditions (all, if they are so few).

        Raises:
            ConfigError: unknown condition or stage, too few or too many, or nothing has run.
        """
        known = experiment.design.conditions
        columns = tuple(dict.fromkeys(conditions or known))
        for name in columns:
            if name not in known:
                raise unknown("condition", name, known)
        if not _COLUMNS_LEAST <= len(columns) <= _COLUMNS_MOST:
            raise ConfigError(
                f"{len(columns)} conditions beside each other: choose two to four with conditions=[…] of {', '.join(map(repr, known))}"
            )
        chosen = stage or experiment.grid.stages[0]
        stages = [each.name for each in experiment.design.pipelines[columns[0]].stages]
        if chosen not in stages:
            raise unknown("stage of this experiment", chosen, stages)
        cells = {cell.place: cell for cell in experiment.cells if cell.condition.name in columns}
        every = itertools.product(experiment.design.images, range(experiment.grid.replicates))
        there = {(place.image, place.replicate) for place in cells}
        places = tuple(place for place in every if place in there)
        if not places:
            raise ConfigError("nothing to see yet: await experiment.run() first")
        return cls(cells, chosen, columns, experiment.design.images, places)

    def html(self, number: int) -> str:
        """A page, counted from 0: the image, and a column for each condition."""
        image, replicate = self.places[number]
        cells = [self.cells.get(Place(name, image, replicate)) for name in self.columns]
        records = [cell.run.stages.get(self.stage) if cell else None for cell in cells]
        texts = [_texts(record) for record in records]
        marked = {
            part: marked_texts([each.get(part, "") for each in texts])
            for part in dict.fromkeys(itertools.chain.from_iterable(texts))
        }
        asked = marked_texts([_asked(record) for record in records])
        columns = "".join(
            f"<section><h4>{escape(name)}</h4>{_facts(records[place])}{_sent(asked[place])}"
            f"{_parts({part: marked[part][place] for part in texts[place]})}{_error(cells[place], records[place])}</section>"
            for place, name in enumerate(self.columns)
        )
        head = f'<div class="head">{self._picture(image)}<div>{self._title(number)}</div></div>'
        return f'{_STYLE}<div class="personalab-sides {AS_WRITTEN}">{head}<div class="columns">{columns}</div></div>'

    def _repr_html_(self) -> str:
        return self.html(0)

    def _title(self, number: int) -> str:
        image, replicate = self.places[number]
        several = any(other for _, other in self.places)
        name = f"{image}, replicate {replicate}" if several else image
        return (
            f"<h4>{escape(self.stage)} of {escape(name)}</h4>"
            f'<p class="dim">page {number + 1} of {len(self.places)}</p>'
            '<p class="dim"><ins>words</ins> that the most alike line of the first column lacks · <del>words</del> that only the first one has there</p>'
        )

    def _picture(self, image: str) -> str:
        try:
            data = open_picture(self.images[image], side_max=_THUMBNAIL_SIDE).data
        except ImageError as error:
            return f'<p class="error">{escape(str(error))}</p>'
        return f'<img alt="{escape(image)}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def marked_texts(texts: Sequence[str]) -> list[str]:
    """Texts as HTML, each with the words marked that the most alike line of the first one lacks; in the first those that no
    other has in its most alike line.

    A text that is empty is compared with nothing.
    """
    first, *others = texts
    compared = [text for text in others if text]
    if not first or not compared:
        return [escape(text) for text in texts]
    own = set.intersection(*(_lacking(first, text) for text in compared))
    return [
        _marked(first, sorted(own), "del"),
        *(_marked(text, sorted(_lacking(text, first)), "ins") for text in others),
    ]


def _lacking(text: str, other: str) -> set[tuple[int, int]]:
    """Where in a text the words are that the most alike line of the other lacks."""
    there = [(words, Counter(words)) for words in map(_WORD.findall, other.splitlines())]
    known = {tuple(words) for words, _ in there}
    found: set[tuple[int, int]] = set()
    at = 0
    for line in text.splitlines(keepends=True):
        here = list(_WORD.finditer(line))
        said = [word[0] for word in here]
        if said and tuple(said) not in known:
            counted = Counter(said)
            alike, _ = max(
                there, key=lambda each: 2 * (each[1] & counted).total() / (len(said) + len(each[0]))
            )
            same = SequenceMatcher(None, said, alike, autojunk=False).get_matching_blocks()
            kept = {place for begin, _, size in same for place in range(begin, begin + size)}
            found |= {
                (at + word.start(), at + word.end()) for place, word in enumerate(here) if place not in kept
            }
        at += len(line)
    return found


def _marked(text: str, spans: Iterable[tuple[int, int]], tag: str) -> str:
    """Text with spans in a tag; spans with only spaces between them become one."""
    joined: list[tuple[int, int]] = []
    for begin, end in spans:
        if joined and not text[joined[-1][1] : begin].strip():
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    pieces, at = [], 0
    for begin, end in joined:
        pieces += [escape(text[at:begin]), f"<{tag}>{escape(text[begin:end])}</{tag}>"]
        at = end
    return "".join([*pieces, escape(text[at:])])


def _texts(record: StageRecord | None) -> dict[str, str]:
    """What a stage gave, by part."""
    parts: dict[str, str] = {}
    for part, text in record.output.units() if record and record.output else ():
        parts[part] = f"{parts[part]}\n\n{text}" if part in parts else text
    return parts


def _facts(record: StageRecord | None) -> str:
    if record is None or record.reply is None:
        return ""
    tokens = record.reply.usage.output_tokens
    said = [
        "tokens unknown" if tokens is None else f"{tokens:,} tokens",
        f"{record.reply.seconds:.1f} s",
        record.reply.model,
    ]
    said += ["from the cache"] if record.reply.cached else []
    said += [f"not applied: {', '.join(record.reply.not_applied)}"] if record.reply.not_applied else []
    return f'<p class="dim">{escape(" · ".join(said))}</p>'


def _error(cell: Cell | None, record: StageRecord | None) -> str:
    if record and record.output:
        return ""
    said = "has not run" if cell is None else "; ".join(cell.run.errors) or "gave nothing"
    return f'<p class="error">{escape(said)}</p>'


def _asked(record: StageRecord | None) -> str:
    """The request as it is read: settings, then the prompt."""
    if record is None or record.request is None:
        return ""
    request = record.request
    settings = [f"{name} {value}" for name, value in request.sampling.model_dump(exclude_none=True).items()]
    settings += [f"model {request.model}"] if request.model else []
    settings += [f"replicate {request.replicate}"] if request.replicate else []
    return f"{', '.join(settings)}\n\n{request}"


def _sent(marked: str) -> str:
    return f"<details open><summary>What was sent</summary><pre>{marked}</pre></details>" if marked else ""


def _parts(marked: Mapping[str, str]) -> str:
    return "".join(f"<h5>{escape(part.replace('_', ' '))}</h5><p>{text}</p>" for part, text in marked.items())
