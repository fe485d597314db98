"""A judge: a model reads texts and scores them by a rubric, or says which of two is better.

    judge = Judge(LLMPool(model="another-model"))
    judged = await judge.score(tweets, context="persona_text")  # one row per text, criterion and judgement
    compare(judged[judged["criterion"] == "voice"], metric="score")

The judge never sees a condition's name. It quotes before it explains and explains before it scores; quotes that do not
stand in the text are counted. A judgement that cannot be had is missing, never 0.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVarTuple, cast

from pydantic import Field

from personalab.config import JUDGEMENTS
from personalab.errors import AccessRefused, BudgetError, ConfigError, PersonalabError, unknown
from personalab.loops import as_finished, numbered, together
from personalab.pool import LLMPool
from personalab.preferences import Preferences, Side, outcome
from personalab.progress import Tally, watch
from personalab.prompts import stage_prompt
from personalab.questions import Question, find_question, with_varied
from personalab.records import JsonObject, Reply, Request, SamplingParams, Usage
from personalab.rubrics import Criterion, find_criterion, load_rubric
from personalab.schemas import StageOutput, Text

if TYPE_CHECKING:
    import pandas as pd

Work = TypeVarTuple("Work")


class Judgement(StageOutput):
    """A score with its reasons; `score` is None where the text gives nothing to judge by."""

    quotes: tuple[Text, ...]
    explanation: Text
    score: Annotated[int, Field(ge=1, le=5)] | None


class Choice(StageOutput):
    """Which of two texts is better, with reasons."""

    quotes: tuple[Text, ...]
    explanation: Text
    winner: Literal["first", "second", "tie"]


SCORE = Question(
    name="judge_score",
    output=Judgement,
    prompt=stage_prompt("judge_score"),
    variables=("question", "levels", "context", "text"),
    sampling=SamplingParams(temperature=0.5),
).checked()
PAIR = Question(
    name="judge_pair",
    output=Choice,
    prompt=stage_prompt("judge_pair"),
    variables=("question", "context", "first", "second"),
    sampling=SamplingParams(temperature=0.5),
).checked()
NO_CONTEXT = "nothing"
NO_TEXT = "there is no text to judge"


@dataclass(frozen=True)
class Judge:
    """Scores by a rubric, several times each, as a judge does not say the same twice. Frozen: `vary` gives another one.

    Use another model than the one that wrote the texts: models prefer their own.
    """

    pool: LLMPool = field(default_factory=LLMPool)
    rubric: tuple[Criterion, ...] = field(default_factory=load_rubric)
    judgements: int = JUDGEMENTS
    questions: tuple[Question, ...] = (SCORE, PAIR)

    def vary(self, name: str, **changes: Any) -> Self:
        """A judge with one question (`judge_score`, `judge_pair`) changed: `prompt`, `model`, or a sampling parameter.

        Raises:
            ConfigError: unknown question or parameter; names the nearest.
            PromptError: the prompt file is no template or wants what there is not.
        """
        return replace(self, questions=with_varied(self.questions, name, changes))

    async def score(
        self,
        frame: pd.DataFrame,
        criteria: Iterable[str] = (),
        *,
        text: str = "text",
        context: str = "",
        progress: bool = True,
    ) -> pd.DataFrame:
        """One row per text, criterion (default: all) and judgement, beside the frame's other columns.

        `context` names a column with what the judge may know of the author. `item` is the text's place in the frame.
        `score` is 1 to 5, or missing, with the reason in `missing`; `quotes_found` is the share of quotes that really
        stand in the text. Columns that begin with `judge_` say who judged, by which prompt, and what it took.

        Raises:
            ConfigError: no rows, or no such column or criterion.
            AccessRefused: key, model or quota: nothing could succeed.
            BudgetError: a ceiling is reached.
        """
        import pandas as pd

        _check_columns(frame, [text, *([context] if context else [])])
        if frame.empty:
            raise ConfigError("the frame has no rows: there is nothing to judge")
        chosen = tuple(find_criterion(self.rubric, name) for name in criteria) or self.rubric
        question = find_question(self.questions, "judge_score")
        texts = _texts(frame[text])
        contexts = _texts(frame[context]) if context else [NO_CONTEXT] * len(frame)

        async def one(place: int, what: Criterion, number: int) -> JsonObject:
            values = {
                "question": what.question, "levels": what.scale(),
                "context": escaped(contexts[place] or NO_CONTEXT), "text": escaped(texts[place]),
            }  # fmt: skip
            answer = _Answer(error=NO_TEXT)
            if texts[place]:
                answer = await self._ask(question, question.ask(values, replicate=number))
            row = {"item": place, "criterion": what.name, "judgement": number}
            return row | _score_row(answer, texts[place]) | _paid(question, [answer])

        wanted = [
            (place, what, number)
            for place in range(len(frame))
            for what in chosen
            for number in range(self.judgements)
        ]
        judged = pd.DataFrame(await self._all(one, wanted, "judgements", progress))
        kept = [column for column in frame.columns if column not in {text, context, *judged.columns}]
        beside = frame[kept].iloc[judged["item"].tolist()].reset_index(drop=True)
        return pd.concat([beside, judged], axis=1)

    async def prefer(
        self,
        frame: pd.DataFrame,
        by: str = "condition",
        paired: str | Sequence[str] = "image",
        *,
        criterion: str = "",
        text: str = "text",
        context: str = "",
        progress: bool = True,
    ) -> Preferences:
        """Which condition's texts are better, by one criterion (default: the first), judged in both orders.

        The texts of one unit of `paired` (and replicate, if the frame has that column) under one condition are read
        together. Each pair of conditions is asked about twice, with either first: only if both answers name the same
        one it wins, otherwise it is a tie.

        Raises:
            ConfigError: no such column or criterion, fewer than two conditions, or contexts that differ between them.
            AccessRefused: key, model or quota: nothing could succeed.
            BudgetError: a ceiling is reached.
        """
        units = [paired] if isinstance(paired, str) else list(paired)
        keys = [*units, *(["replicate"] if "replicate" in frame.columns and "replicate" not in units else [])]
        _check_columns(frame, [by, *units, text, *([context] if context else [])])
        what = find_criterion(self.rubric, criterion) if criterion else self.rubric[0]
        question = find_question(self.questions, "judge_pair")
        pairs = list(_pairs(frame, by, keys, text, context))
        if not pairs:
            raise ConfigError(f"nothing to compare: no {', '.join(keys)} has texts under two values of {by}")

        async def one(pair: _Pair, number: int) -> JsonObject:
            values = {"question": what.question, "context": escaped(pair.context)}
            texts = [escaped(pair.texts[0]), escaped(pair.texts[1])]
            orders = (texts, texts[::-1])
            answers = [_Answer(error=NO_TEXT)] * 2
            if all(texts):
                answers = await together(
                    self._ask(
                        question, question.ask(values | {"first": first, "second": second}, replicate=number)
                    )
                    for first, second in orders
                )
            row = pair.unit | {
                "a": pair.names[0],
                "b": pair.names[1],
                "criterion": what.name,
                "judgement": number,
            }
            for order, answer in zip(("ab", "ba"), answers, strict=True):
                row |= {order: _named(answer, order), f"explanation_{order}": answer.explanation}
            errors = "; ".join(dict.fromkeys(answer.error for answer in answers if answer.error)) or None
            return (
                row | {"outcome": outcome(row["ab"], row["ba"]), "missing": errors} | _paid(question, answers)
            )

        wanted = [(pair, number) for pair in pairs for number in range(self.judgements)]
        rows = await self._all(one, wanted, "comparisons", progress)
        names = tuple(dict.fromkeys(name for pair in pairs for name in pair.names))
        return Preferences.of(rows, _ordered(frame[by], names), units[0])

    async def _ask(self, question: Question, request: Request) -> _Answer:
        try:
            reply = await self.pool.send(request, question.parse)
        except (AccessRefused, BudgetError):
            raise
        except PersonalabError as error:
            return _Answer(error=str(error))
        return _Answer(question.parse(reply.text), reply, self.pool.key(request))

    async def _all(
        self,
        work: Callable[[*Work], Awaitable[JsonObject]],
        wanted: Sequence[tuple[*Work]],
        what: str,
        progress: bool,
    ) -> list[JsonObject]:
        """The rows of all that is wanted, in its order, with a bounded number under way."""
        rows: dict[int, JsonObject] = {}
        before, began = self.pool.counts, time.monotonic()

        async def one(item: tuple[int, tuple[*Work]]) -> None:
            rows[item[0]] = await work(*item[1])

        def tally() -> Tally:
            missing = sum(row["missing"] is not None for row in rows.values())
            return Tally(
                what=what, total=len(wanted), done=len(rows) - missing, failed=missing, kept=0,
                in_flight=self.pool.in_flight, share=len(rows), counts=self.pool.counts.since(before),
                seconds=time.monotonic() - began, waves=self.pool.waves,
            )  # fmt: skip

        async with watch(tally, progress):
            async for _ in as_finished(numbered(wanted), one, self.pool.window):
                pass
        return [rows[place] for place in range(len(wanted))]


@dataclass(frozen=True)
class _Answer:
    """What the judge said, or why nothing could be had."""

    output: StageOutput | None = None
    reply: Reply | None = None
    key: str | None = None
    error: str | None = None

    @property
    def explanation(self) -> str | None:
        return self.output.explanation if isinstance(self.output, Judgement | Choice) else None


@dataclass(frozen=True)
class _Pair:
    """Two texts of one unit, the names of their conditions, and what is known of the author."""

    unit: JsonObject
    names: tuple[Any, Any]
    texts: tuple[str, str]
    context: str


def escaped(text: str) -> str:
    """A text as it may stand in a section of a prompt: no closing tag of its own ends the section."""
    return text.replace("</", "< /")


def share_found(quotes: Sequence[str], text: str) -> float:
    """The share of quotes that stand in a text, whatever the case, spaces and kind of quotation marks; NaN without quotes."""
    plain = _plain(text)
    return sum(_plain(quote) in plain for quote in quotes) / len(quotes) if quotes else math.nan


def _plain(text: str) -> str:
    return re.sub(r"[\s'\"‘’“”„«»]+", "", text.casefold())


def _score_row(answer: _Answer, text: str) -> JsonObject:
    row: JsonObject = {
        "score": math.nan, "explanation": answer.explanation, "quotes": (), "quotes_found": math.nan, "missing": answer.error,
    }  # fmt: skip
    if not isinstance(answer.output, Judgement):
        return row
    given = answer.output
    row |= {"quotes": given.quotes, "quotes_found": share_found(given.quotes, text)}
    if given.score is None:
        return row | {"missing": "the judge found nothing to judge it by"}
    return row | {"score": float(given.score)}


def _paid(question: Question, answers: Sequence[_Answer]) -> JsonObject:
    """Where a row comes from and what it cost."""
    replies = [answer.reply for answer in answers if answer.reply]
    usage = sum((reply.usage for reply in replies), Usage())
    return {
        "judge_model": replies[0].model if replies else question.model,
        "judge_prompt": question.prompt.name,
        "judge_prompt_sha256": question.prompt.sha256,
        "judge_temperature": question.sampling.temperature,
        "judge_keys": tuple(answer.key for answer in answers if answer.key),
        "judge_cached": bool(replies) and all(reply.cached for reply in replies),
        "judge_input_tokens": usage.input_tokens,
        "judge_output_tokens": usage.output_tokens,
    }


def _check_columns(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    for column in columns:
        if column not in frame.columns:
            raise unknown("column", column, map(str, frame.columns))


def _texts(column: pd.Series[Any]) -> list[str]:
    """The texts of a column; "" where there is none, as for a cell that failed."""
    texts = ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
    return [text if text.strip() else "" for text in texts]


def _pairs(frame: pd.DataFrame, by: str, keys: list[str], text: str, context: str) -> Iterator[_Pair]:
    """Each unit's conditions two by two, in the order of the conditions."""
    for unit, rows in frame.groupby(keys, sort=False, observed=True):
        found = {name: group for name, group in rows.groupby(by, sort=False, observed=True) if len(group)}
        known = {each for each in _texts(rows[context]) if each} if context else set()
        if len(known) > 1:
            told = ", ".join(map(str, unit))
            raise ConfigError(f"{context} of {told} differs between the values of {by}: leave context out")
        order = _ordered(frame[by], tuple(found))
        for one, other in combinations(order, 2):
            texts = tuple("\n\n".join(filter(None, _texts(found[name][text]))) for name in (one, other))
            yield _Pair(
                dict(zip(keys, unit, strict=True)),
                (one, other),
                (texts[0], texts[1]),
                "".join(known) or NO_CONTEXT,
            )


def _ordered(column: pd.Series[Any], names: tuple[Any, ...]) -> list[Any]:
    """Names in the order of a categorical, of numbers, else of appearance."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        return [name for name in column.cat.categories if name in names]
    there = [name for name in dict.fromkeys(column.tolist()) if name in names]
    return sorted(there) if pd.api.types.is_numeric_dtype(column) else there


def _named(answer: _Answer, order: str) -> Side | None:
    """Who won, by the name it has in the row: the order says which was shown first."""
    if not isinstance(answer.output, Choice):
        return None
    winner = answer.output.winner
    return "tie" if winner == "tie" else cast(Side, order[0] if winner == "first" else order[1])
