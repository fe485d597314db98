"""How a persona looks: HTML for a notebook, text for a terminal.

Model text is hostile: every piece of it is escaped here, in HTML and against a terminal's control characters.
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Iterable, Mapping
from html import escape

from personalab.records import AS_WRITTEN
from personalab.schemas import (
    Authenticity,
    CharacterBook,
    CorePersona,
    ExampleTweets,
    Relation,
    SocialNetwork,
    StageOutput,
    TweetStrategy,
    VisualProfile,
)

_WIDTH = 100
_STYLE = """<style>
.personalab{display:flex;align-items:flex-start;gap:20px;max-width:1000px;line-height:1.45;font-size:14px;color:inherit}
.personalab>div{flex:1;min-width:0}
.personalab img{width:200px;border-radius:8px;display:block}
.personalab h3{margin:0 0 2px;font-size:20px}
.personalab .dim{opacity:.7}
.personalab .tag{display:inline-block;border:1px solid currentColor;border-radius:9px;padding:0 8px;margin:2px 4px 2px 0;font-size:12px;opacity:.75}
.personalab details{margin:6px 0}
.personalab summary{cursor:pointer;font-weight:600}
.personalab p{margin:4px 0;white-space:pre-line;overflow-wrap:anywhere}
.personalab .tweet{border:1px solid rgba(128,128,128,.4);border-radius:8px;padding:6px 10px;margin:6px 0}
.personalab .error{border-left:3px solid #b3261e;padding-left:8px}
.personalab table{border-collapse:collapse}
.personalab td{text-align:left;vertical-align:top;padding:2px 10px 2px 0}
</style>"""


def run_html(
    name: str, outputs: Mapping[str, StageOutput], portrait: bytes | None, errors: Iterable[str]
) -> str:
    """A persona as HTML: portrait, who it is, and each further stage folded up."""
    core = outputs.get("core_persona")
    body = _core_html(core) if isinstance(core, CorePersona) else f"<h3>{escape(name)}</h3>"
    body += "".join(_stage_html(output) for output in outputs.values())
    body += "".join(f'<p class="error">{escape(error)}</p>' for error in errors)
    picture = ""
    if portrait:
        picture = f'<img alt="portrait" src="data:image/png;base64,{base64.b64encode(portrait).decode()}">'
    made = '<p class="dim">AI-made fiction: this person does not exist.</p>'
    return f'{_STYLE}<div class="personalab {AS_WRITTEN}">{picture}<div>{body}{made}</div></div>'


def run_text(name: str, outputs: Mapping[str, StageOutput], errors: Iterable[str]) -> str:
    """A persona as plain text of at most 100 columns."""
    core = outputs.get("core_persona")
    lines = [name]
    if isinstance(core, CorePersona):
        lines = [
            f"{core.name}, {core.age} · {core.occupation} · {core.location}",
            "",
            *_wrapped(core.description),
            "",
        ]
        lines += [*_wrapped(core.first_mes, "  "), "", f"tags: {', '.join(core.tags)}"]
    for output in outputs.values():
        lines += _stage_text(output)
    lines += [f"failed: {error}" for error in errors]
    return plain("\n".join([*lines, "", "AI-made fiction: this person does not exist."]))


def plain(text: str) -> str:
    """Text without control characters, which a terminal would obey."""
    return "".join(mark for mark in text if mark in "\n\t" or (mark.isprintable() or mark == "\u200d"))


def _core_html(core: CorePersona) -> str:
    head = f"<h3>{escape(core.name)}, {core.age}</h3>"
    where = f'<p class="dim">{escape(core.occupation)} · {escape(core.location)}</p>'
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in core.tags)
    greetings = "<hr>".join(f"<p>{escape(text)}</p>" for text in core.alternate_greetings)
    return (
        f"{head}{where}<div>{tags}</div><p>{escape(core.description)}</p>"
        + _folded("Personality", f"<p>{escape(core.personality)}</p>")
        + _folded("First message", f"<p>{escape(core.scenario)}</p><hr><p>{escape(core.first_mes)}</p>")
        + _folded(f"Other greetings ({len(core.alternate_greetings)})", greetings)
        + _folded("Example dialogue", f"<p>{escape(core.mes_example)}</p>")
    )


def _stage_html(output: StageOutput) -> str:
    match output:
        case CorePersona():
            return ""
        case TweetStrategy():
            rows = [
                (f"{kind.weight:.0%}", f"{kind.name}: {kind.description}") for kind in output.content_types
            ]
            return _folded(
                "Tweet strategy",
                f"<p>{escape(output.voice)}</p>{_table(rows)}<p>{escape(output.cadence)}</p>",
            )
        case ExampleTweets():
            tweets = "".join(
                f'<div class="tweet"><p>{escape(tweet.text)}</p><span class="dim">{escape(tweet.content_type)}</span></div>'
                for tweet in output.tweets
            )
            return _folded(f"Tweets ({len(output.tweets)})", tweets, opened=True)
        case SocialNetwork():
            groups = [
                ("close friends", output.close_friends),
                ("past relationships", output.past_relationships),
                ("online friends", output.online_friends),
            ]
            inside = "".join(f'<p class="dim">{name}</p>{_table(_people(people))}' for name, people in groups)
            return _folded(f"Social network ({len(output.people())})", inside)
        case Authenticity():
            habits = [
                (name.replace("_", " "), f"{rate:.0%}")
                for name, rate in output.writing_habits.model_dump().items()
            ]
            flaws = [(f"{flaw.frequency:.0%}", f"{flaw.flaw}: {flaw.shows}") for flaw in output.flaws]
            return _folded("Authenticity", _table(habits) + _table(flaws))
        case VisualProfile():
            rows = [(name.replace("_", " "), ", ".join(items)) for name, items in output.model_dump().items()]
            return _folded("Visual profile", _table(rows))
        case CharacterBook():
            rows = [(", ".join(entry.keys), entry.content) for entry in output.entries]
            return _folded(f"Character book ({len(rows)})", _table(rows))
        case _:
            return _folded(type(output).__name__, f"<p>{escape(output.model_dump_json(indent=1))}</p>")


def _stage_text(output: StageOutput) -> list[str]:
    match output:
        case ExampleTweets():
            lines = [
                line for tweet in output.tweets for line in _bullet(f"{tweet.text}  [{tweet.content_type}]")
            ]
            return ["", "tweets", *lines]
        case SocialNetwork():
            return [
                "",
                "social network",
                *(f"  - {person.name}, {person.age}: {person.relation}" for person in output.people()),
            ]
        case CharacterBook():
            return [
                "",
                "character book",
                *(f"  - {entry.name} ({', '.join(entry.keys)})" for entry in output.entries),
            ]
        case _:
            return []


def _folded(title: str, inside: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{inside}</details>"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(left)}</td><td>{escape(right)}</td></tr>" for left, right in rows)
    return f"<table>{cells}</table>"


def _people(people: Iterable[Relation]) -> list[tuple[str, str]]:
    return [
        (f"{person.name}, {person.age}", f"{person.relation}. {person.current_status}") for person in people
    ]


def _wrapped(text: str, indent: str = "") -> list[str]:
    lines = []
    for line in text.splitlines():
        lines += textwrap.wrap(line, _WIDTH, initial_indent=indent, subsequent_indent=indent) or [""]
    return lines


def _bullet(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="  - ", subsequent_indent="    ")
