"""Prompt templates: readable files with a system and a user part, rendered into prompts.

    ---
    variables: core_persona, language
    ---
    # system
    You write …
    # user
    <core_persona>
    $core_persona
    </core_persona>

Holes are written `$name` or `${name}`, a dollar sign `$$`, so JSON braces and the macros of cards (`{{char}}`) need no
care. The variables have to be listed: a hole that is not listed, a listed one that is not used and a value that is
missing are errors that name it.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from string import Template

from personalab.errors import PromptError, unknown
from personalab.records import Message, Picture, Record

PROMPTS_DIR = Path(__file__).parent / "prompts"

_FILE = re.compile(r"\A---\s*\n(?P<head>.*?)\n---\s*\n(?P<body>.*)\Z", re.DOTALL)
_PARTS = re.compile(
    r"\A\s*# system[ \t]*\n(?P<system>.*?)^# user[ \t]*\n(?P<user>.*)\Z", re.DOTALL | re.MULTILINE
)


class PromptTemplate(Record):
    """Text with holes. `name` is a label for messages; two templates with one content have one `sha256`."""

    name: str
    system: str
    user: str
    variables: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hash of the text, for telling versions apart."""
        return hashlib.sha256(f"{self.system}\0{self.user}".encode()).hexdigest()

    def render(self, values: dict[str, str], pictures: tuple[Picture, ...] = ()) -> tuple[Message, ...]:
        """The prompt: a system message and a user message.

        Raises:
            PromptError: a listed variable has no value here; the message names it and the nearest that has one.
        """
        for name in self.variables:
            if name not in values:
                raise PromptError(self.name, str(unknown("variable", name, values)))
        return (
            Message(role="system", text=Template(self.system).substitute(values).strip()),
            Message(role="user", text=Template(self.user).substitute(values).strip(), pictures=pictures),
        )


def parse_prompt(text: str, name: str) -> PromptTemplate:
    """A template from the text of its file.

    Raises:
        PromptError: no list of variables, no system or user part, or holes and list differ.
    """
    file = _FILE.match(text.replace("\r\n", "\n").removeprefix("\ufeff"))
    if file is None:
        raise PromptError(name, "must begin with a block '---', 'variables: a, b', '---'")
    parts = _PARTS.match(file["body"])
    if parts is None:
        raise PromptError(
            name, "needs the headings '# system' and '# user', each on a line of its own, in this order"
        )
    template = PromptTemplate(
        name=name,
        system=parts["system"].strip(),
        user=parts["user"].strip(),
        variables=_variables(file["head"], name),
    )
    _check_holes(template)
    return template


def open_prompt(path: Path | str) -> PromptTemplate:
    """The template in a file.

    Raises:
        PromptError: the file cannot be read or is no template.
    """
    try:
        return parse_prompt(Path(path).read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise PromptError(str(path), f"cannot be read: {error.strerror or error}; check the path") from error
    except UnicodeDecodeError as error:
        raise PromptError(str(path), f"is no text in UTF-8 (byte {error.start}); save it as UTF-8") from error


def as_prompt(prompt: PromptTemplate | Path | str) -> PromptTemplate:
    """A template from a template, a file's path, or the text of a file (told by its line breaks).

    Raises:
        PromptError: the file cannot be read, or it is no template.
    """
    if isinstance(prompt, PromptTemplate):
        return prompt
    if isinstance(prompt, str) and "\n" in prompt:
        return parse_prompt(prompt, "(text)")
    return open_prompt(prompt)


@cache
def stage_prompt(stage: str) -> PromptTemplate:
    """The template that ships with the package for a stage: `prompts/<stage>.md`."""
    path = PROMPTS_DIR / f"{stage}.md"
    if not path.is_file():
        raise PromptError(stage, f"there is no file {path}")
    return parse_prompt(path.read_text(encoding="utf-8"), f"{stage}.md")


def _variables(head: str, name: str) -> tuple[str, ...]:
    settings = dict(line.split(":", 1) for line in head.splitlines() if ":" in line)
    settings = {key.strip(): value.strip() for key, value in settings.items()}
    for key in settings:
        if key != "variables":
            raise PromptError(name, str(unknown("setting", key, ["variables"])))
    listed = settings.get("variables")
    if listed is None:
        raise PromptError(name, "must list its variables: 'variables: a, b' (or 'variables:' for none)")
    return tuple(part.strip() for part in listed.split(",") if part.strip())


def _check_holes(template: PromptTemplate) -> None:
    holes: set[str] = set()
    for part in (template.system, template.user):
        if not Template(part).is_valid():
            raise PromptError(
                template.name, "a '$' stands alone: write '$$' for a dollar sign, '$name' for a variable"
            )
        holes.update(Template(part).get_identifiers())
    for hole in sorted(holes):
        if hole not in template.variables:
            raise PromptError(
                template.name,
                f"${hole} is used but not listed; {unknown('variable', hole, template.variables)}",
            )
    for name in template.variables:
        if name not in holes:
            raise PromptError(
                template.name,
                f"variable {name!r} is listed but never used: write ${name} where it belongs, or take it off the list",
            )
