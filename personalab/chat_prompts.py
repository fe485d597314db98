"""What a model is sent in a chat: card, lorebook and talk as messages. Pure; knows no pool.

    system     main prompt; lore before; who they are; lore after; example dialogue
    user       the chat begins           so that roles alternate from here on, as many models' templates insist
    assistant  greeting
    user       …                         entries with @@depth stand between these
    system     post-history instructions, if the card has them

The order is that of the front ends; sources are the V1 to V3 specifications of character cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal

from personalab.cards import CharacterCard
from personalab.errors import ConfigError
from personalab.lorebooks import Entry, Lorebook, Verdict, in_order
from personalab.macros import Macros, with_original
from personalab.records import Message, Record
from personalab.tokens import count_tokens

MAIN_PROMPT = (
    "Write {{char}}'s next reply in a fictional chat between {{char}} and {{user}}. {{char}} is an invented adult, "
    "described below. Stay in character, and in the language of the chat. Never write what {{user}} says or does, and "
    "never identify {{char}} with a real person."
)
"""What a card's `system_prompt` replaces, and `{{original}}` in it means."""
OPENING = "[The chat begins.]"

_Lore = list[tuple[Entry, Verdict]]
_START = re.compile(r"^\s*<START>\s*$", re.IGNORECASE | re.MULTILINE)


def name_of(card: CharacterCard) -> str:
    """What `{{char}}` is replaced by: the nickname if there is one, else the name."""
    nickname = card.data.get("nickname")
    return nickname if isinstance(nickname, str) and nickname.strip() else card.name


def greeting(card: CharacterCard, number: int, macros: Macros) -> str:
    """A greeting: 0 is `first_mes`, 1 the first of `alternate_greetings`.

    Raises:
        ConfigError: the card has no such greeting.
    """
    greetings = (card.first_mes, *card.alternate_greetings)
    if not 0 <= number < len(greetings):
        raise ConfigError(f"{card.name} has greetings 0 to {len(greetings) - 1}, not {number}")
    return macros.fill(greetings[number]).strip()


class ChatPrompt(Record):
    """What is sent. `forgotten` counts the messages of the talk, from its beginning, for which there was no room."""

    messages: tuple[Message, ...]
    forgotten: int = 0


def chat_prompt(
    card: CharacterCard,
    book: Lorebook,
    verdicts: Iterable[Verdict],
    talk: Sequence[Message],
    macros: Macros,
    main_prompt: str = MAIN_PROMPT,
    context_tokens: int | None = None,
) -> ChatPrompt:
    """The messages of a request. `talk` begins with the greeting, if there is one, and ends with what is to be answered.

    Where they would take more than `context_tokens` (an estimate), first the entries go that say `@@ignore_on_max_context`,
    then the example dialogues, then the oldest messages; what is to be answered stays.
    """
    lore = list(in_order(book, verdicts))
    for kept, examples, start in _smaller(lore, len(talk)):
        messages = _messages(card, kept, talk[start:], macros, main_prompt, examples)
        if context_tokens is None or sum(_tokens(message.text) for message in messages) <= context_tokens:
            return ChatPrompt(messages=messages, forgotten=start)
    return ChatPrompt(messages=messages, forgotten=start)


_tokens = lru_cache(maxsize=4096)(count_tokens)


def _smaller(lore: _Lore, length: int) -> Iterator[tuple[_Lore, bool, int]]:
    """Which lore, whether examples, and from which message on: all of it first, then less and less."""
    yield lore, True, 0
    needed = [pair for pair in lore if not pair[0].decorators.ignore_on_max_context]
    yield needed, True, 0
    for start in range(max(length, 1)):
        yield needed, False, start


def _messages(
    card: CharacterCard,
    lore: _Lore,
    talk: Sequence[Message],
    macros: Macros,
    main_prompt: str,
    examples: bool,
) -> tuple[Message, ...]:
    messages: list[Message] = [
        Message(role="system", text=_system(card, lore, macros, main_prompt, examples))
    ]
    if not talk or talk[0].role == "assistant":
        messages.append(Message(role="user", text=OPENING))
    messages += _with_depths(talk, lore)
    if instructions := macros.fill(_text(card, "post_history_instructions", "")).strip():
        messages.append(Message(role="system", text=instructions))
    return tuple(messages)


def _system(card: CharacterCard, lore: _Lore, macros: Macros, main_prompt: str, examples: bool) -> str:
    parts = [
        macros.fill(_text(card, "system_prompt", main_prompt)),
        _section("lore", _said(lore, "before")),
        _section("character", _character(card, lore, macros)),
        _section("lore", _said(lore, "after")),
        _section("examples", _examples(card.mes_example, macros) if examples else ""),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip())


def _text(card: CharacterCard, field: str, original: str) -> str:
    value = card.data.get(field)
    return with_original(value if isinstance(value, str) else "", original)


def _character(card: CharacterCard, lore: _Lore, macros: Macros) -> str:
    parts = [
        f"Name: {macros.char}",
        *_said(lore, "before_desc"),
        macros.fill(card.description),
        *_said(lore, "after_desc"),
        _titled("Personality", macros.fill(card.personality), _said(lore, "personality")),
        _titled("Scenario", macros.fill(card.scenario), _said(lore, "scenario")),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip())


def _titled(title: str, text: str, added: list[str]) -> str:
    said = "\n".join(part.strip() for part in (text, *added) if part.strip())
    return f"{title}: {said}" if said else ""


def _section(tag: str, said: list[str] | str) -> str:
    text = said if isinstance(said, str) else "\n".join(said)
    return f"<{tag}>\n{text.strip()}\n</{tag}>" if text.strip() else ""


def _examples(text: str, macros: Macros) -> str:
    """The example dialogues, each under a line of its own, as they do not belong to this chat."""
    blocks = [block.strip() for block in _START.split(macros.fill(text))]
    return "\n\n".join(f"[An example]\n{block}" for block in blocks if block)


def _said(lore: _Lore, place: str) -> list[str]:
    """What the entries of one place say. An entry with a depth stands in the talk and nowhere else."""
    return [verdict.text.strip() for entry, verdict in lore if _place(entry) == place]


def _place(entry: Entry) -> str:
    said = entry.decorators
    if said.position is not None:
        return said.position
    if said.depth is not None:
        return "depth"
    return "before" if entry.before else "after"


def _with_depths(talk: Sequence[Message], lore: _Lore) -> list[Message]:
    """The talk with the entries that have a depth: so many messages from its end, in its beginning at most."""
    messages: list[Message] = []
    deep = [(entry, verdict) for entry, verdict in lore if _place(entry) == "depth"]
    for place in range(len(talk) + 1):
        depth = len(talk) - place
        messages += [
            Message(role=_role(entry, depth), text=verdict.text.strip())
            for entry, verdict in deep
            if min(max(entry.decorators.depth or 0, 0), len(talk)) == depth
        ]
        messages += talk[place : place + 1]
    return messages


def _role(entry: Entry, depth: int) -> Literal["system", "user", "assistant"]:
    """The role of an entry in the talk. Words put into the character's mouth cannot be the end: few endpoints go on from them."""
    role = entry.decorators.role or "system"
    return "system" if role == "assistant" and depth == 0 else role
