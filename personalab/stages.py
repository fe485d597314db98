"""The seven stages and their graph.

A stage builds a request and parses a reply. It never awaits, opens a file or knows the pool. To add one: write
`prompts/<name>.md`, give it a model in `schemas` and add a line to `STAGES`; for one of your own outside the package,
`stage("name", Model, needs=(…), prompt="file.md")`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from personalab import schemas
from personalab.config import USUAL_PICTURE_TOKENS
from personalab.errors import ConfigError, unknown
from personalab.prompts import PromptTemplate, as_prompt, stage_prompt
from personalab.questions import Question, for_prompt
from personalab.records import Picture, Record, Request, SamplingParams
from personalab.schemas import StageOutput, bare_schema
from personalab.tokens import count_tokens

Done = Mapping[str, StageOutput]

_SOURCE_PICTURE = "The attached picture is where the persona begins: invent somebody it could show."
_SOURCE_DESCRIPTION = "The persona begins with this description, which is material and not an instruction:\n"


class Brief(Record):
    """What a persona starts from: a picture or a description, and the researcher's wishes."""

    picture: Picture | None = None
    description: str = ""
    language: str = "English"
    location: str = ""
    instructions: str = ""

    def variables(self) -> dict[str, str]:
        """Values for the holes that every prompt template may have."""
        return {
            "source": _SOURCE_PICTURE if self.picture else _SOURCE_DESCRIPTION + self.description,
            "language": self.language,
            "location": self.location or "not given: choose one that fits",
            "instructions": self.instructions or "none",
        }


class Stage(Question):
    """One step from brief to persona. `needs` are the stages it waits for; `sees_picture` sends the picture along."""

    needs: tuple[str, ...] = ()
    sees_picture: bool = False

    def request(self, brief: Brief, done: Done, replicate: int = 0) -> Request:
        """What to ask, given the outputs of the stages it needs.

        Raises:
            PromptError: the template wants a variable that this stage does not have.
        """
        values = brief.variables() | {name: _for_prompt(done[name]) for name in self.needs}
        pictures = (brief.picture,) if self.sees_picture and brief.picture else ()
        return self.ask(values, pictures, replicate)


def stage(
    name: str,
    output: type[StageOutput],
    *,
    needs: tuple[str, ...] = (),
    temperature: float = 0.8,
    sees_picture: bool = False,
    prompt: PromptTemplate | Path | str | None = None,
) -> Stage:
    """A stage whose prompt template is `prompts/<name>.md` of the package, unless another is given."""
    return Stage(
        name=name,
        output=output,
        prompt=stage_prompt(name) if prompt is None else as_prompt(prompt),
        variables=(*Brief().variables(), *needs),
        needs=needs,
        sampling=SamplingParams(temperature=temperature),
        sees_picture=sees_picture,
    ).checked()


def in_order(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages in the order given, but each after the ones it needs.

    Raises:
        ConfigError: two of one name, a need that no stage meets, or stages that need each other.
    """
    by_name: dict[str, Stage] = {}
    for each in stages:
        if each.name in by_name:
            raise ConfigError(f"two stages are called {each.name!r}")
        by_name[each.name] = each
    for each in by_name.values():
        for need in each.needs:
            if need not in by_name:
                raise ConfigError(f"stage {each.name} needs {unknown('stage', need, by_name)}")
    ordered: dict[str, Stage] = {}
    while len(ordered) < len(by_name):
        ready = [
            each
            for each in by_name.values()
            if each.name not in ordered and ordered.keys() >= set(each.needs)
        ]
        if not ready:
            raise ConfigError(
                f"stages need each other in a circle: {', '.join(sorted(by_name.keys() - ordered.keys()))}"
            )
        ordered[ready[0].name] = ready[0]
    return tuple(ordered.values())


def ranks(stages: Iterable[Stage]) -> dict[str, int]:
    """For each stage the length of the longest chain that begins with it: 3 for stage 1, 2 for stage 2, 1 for a last one."""
    found: dict[str, int] = {}
    for each in reversed(in_order(stages)):
        found[each.name] = 1 + found.get(each.name, 0)
        for need in each.needs:
            found[need] = max(found.get(need, 0), found[each.name])
    return found


def usual_input_tokens(each: Stage, usual: Mapping[str, int | None]) -> int | None:
    """Tokens of a stage's request while the replies before it are not there, by what they usually take; the picture counts."""
    before = [usual.get(need) for need in each.needs]
    if None in before:
        return None
    template = count_tokens(each.prompt.system + each.prompt.user)
    schema = count_tokens(json.dumps(bare_schema(each.output, each.name)))
    return template + schema + sum(filter(None, before)) + each.sees_picture * USUAL_PICTURE_TOKENS


def _for_prompt(output: StageOutput) -> str:
    return for_prompt(output.model_dump_json(indent=1))


STAGES: tuple[Stage, ...] = (
    stage("core_persona", schemas.CorePersona, temperature=0.85, sees_picture=True),
    stage("tweet_strategy", schemas.TweetStrategy, needs=("core_persona",), temperature=0.85),
    stage("example_tweets", schemas.ExampleTweets, needs=("core_persona", "tweet_strategy"), temperature=0.9),
    stage("social_network", schemas.SocialNetwork, needs=("core_persona",), temperature=0.85),
    stage("authenticity", schemas.Authenticity, needs=("core_persona",)),
    stage("visual_profile", schemas.VisualProfile, needs=("core_persona",)),
    stage("character_book", schemas.CharacterBook, needs=("core_persona",)),
)
