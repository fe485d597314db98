"""A question: one thing asked of a model. It builds a request and parses a reply; it never awaits and knows no pool.

The seven stages are questions, and so are the outline and the days of a calendar and a single tweet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from personalab.errors import ConfigError, PromptError, unknown
from personalab.prompts import PromptTemplate, as_prompt
from personalab.records import Picture, Record, Request, SamplingParams, Schema, explain
from personalab.replies import parse_reply
from personalab.schemas import StageOutput, bare_schema


class Question(Record):
    """What is asked: prompt template, sampling params, the shape of the answer. `model` None means the pool's own.

    `variables` are the holes that its prompt template may have.
    """

    name: str
    output: type[StageOutput]
    prompt: PromptTemplate
    variables: tuple[str, ...]
    sampling: SamplingParams = SamplingParams()
    model: str | None = None

    def ask(
        self, values: Mapping[str, str], pictures: tuple[Picture, ...] = (), replicate: int = 0
    ) -> Request:
        """The request, given a value for each variable.

        Raises:
            PromptError: the template wants a variable that has no value.
        """
        return Request(
            stage=self.name,
            model=self.model,
            messages=self.prompt.render(dict(values), pictures),
            sampling=self.sampling,
            answer=Schema(name=self.name, body=bare_schema(self.output, self.name)),
            replicate=replicate,
        )

    def parse(self, text: str, done: Mapping[str, Any] | None = None) -> StageOutput:
        """The output in a reply's text. `done` holds what earlier questions gave, for checks that compare with it.

        Raises:
            ReplyInvalid: it does not fit; the message can be given to the model.
        """
        return parse_reply(text, self.output, self.name, done)

    def vary(self, **changes: Any) -> Self:
        """The same with another prompt (template, file or text), model or sampling params.

        Raises:
            ConfigError: unknown parameter, or a value out of range.
            PromptError: the prompt file is no template, or wants what there is not.
        """
        sampling = SamplingParams.model_fields
        for name in changes:
            if name not in sampling and name not in ("prompt", "model"):
                raise unknown(f"parameter of stage {self.name}", name, [*sampling, "prompt", "model"])
        update: dict[str, Any] = {}
        if "model" in changes:
            update["model"] = changes["model"]
        if "prompt" in changes:
            update["prompt"] = as_prompt(changes["prompt"])
        params = {name: value for name, value in changes.items() if name in sampling}
        try:
            update["sampling"] = SamplingParams.model_validate({**self.sampling.model_dump(), **params})
        except ValidationError as error:
            raise ConfigError(f"stage {self.name}: {explain(error)}") from error
        return self.model_copy(update=update).checked()

    def checked(self) -> Self:
        """Itself, if its prompt asks only for what there is.

        Raises:
            PromptError: an unknown variable; names the nearest.
        """
        for variable in self.prompt.variables:
            if variable not in self.variables:
                raise PromptError(
                    self.prompt.name, f"stage {self.name}: {unknown('variable', variable, self.variables)}"
                )
        return self


Asked = TypeVar("Asked", bound=Question)


def find_question(questions: Iterable[Asked], name: str) -> Asked:
    """One of some questions, by name.

    Raises:
        ConfigError: unknown; names the nearest.
    """
    known = {question.name: question for question in questions}
    if name not in known:
        raise unknown("stage", name, known)
    return known[name]


def with_varied(questions: tuple[Asked, ...], name: str, changes: Mapping[str, Any]) -> tuple[Asked, ...]:
    """The questions with one changed, as `Question.vary` says.

    Raises:
        ConfigError: unknown question or parameter; names the nearest.
        PromptError: the prompt file is no template or wants what there is not.
    """
    varied = find_question(questions, name).vary(**changes)
    return tuple(varied if question.name == name else question for question in questions)


def for_prompt(json_text: str) -> str:
    """JSON as it stands in a section of a prompt.

    A closing tag inside a model's text must not end the section; JSON reads the escape back as "<".
    """
    return json_text.replace("</", "\\u003c/")
