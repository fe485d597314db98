"""`personalab chat`: talk with a persona in the terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from personalab.commands.options import EXIT_OK, Budget, Force, Model, note, pool_of
from personalab.errors import ConfigError, PersonalabError
from personalab.loops import run
from personalab.views import plain

if TYPE_CHECKING:
    from personalab.conversations import Conversation
    from personalab.lorebooks import Verdict
    from personalab.transcripts import Turn

HELP = "Talk with a persona, its lorebook working. Each turn is saved in outputs/chats."
EPILOG = (
    "In the talk: /lore which entries spoke and why, /again another answer, /undo take the last turn back, /save where "
    "it is saved, /quit or Ctrl-D ends. Ctrl-C while an answer is awaited cancels it. Without a terminal each line of the "
    "input is said, and answers are printed. Example: personalab chat outputs/personas/teal_turban_persona.png --resume last"
)
COMMANDS = {
    "/help": "this list",
    "/lore": "which lorebook entries spoke in the last turn, and why; /lore all: also why the others did not",
    "/again": "another answer to what was said last",
    "/undo": "take the last turn back",
    "/save": "where this chat is saved",
    "/quit": "end (Ctrl-D too)",
}
WIDTH_MAX = 100


def chat(
    persona: Annotated[Path, typer.Argument(help="The card of a persona (JSON, PNG or CHARX).")],
    user: Annotated[str, typer.Option(help="Your name in the talk, for {{user}}.")] = "User",
    greeting: Annotated[
        int, typer.Option(help="Which greeting begins: 0 is the first message, 1 the first of the others.")
    ] = 0,
    resume: Annotated[
        str, typer.Option(help="Go on with an earlier chat: last, or its file.", show_default=False)
    ] = "",
    model: Model = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the answers.  [default: 0.9]")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Tokens a prompt may take (estimated): the oldest messages are left out then.",
            show_default=False,
        ),
    ] = None,
    budget: Budget = None,
    force: Force = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the chats.  [default: outputs/chats]")] = None,
) -> int:
    """A talk from the command line: the exit code, as errors have it; a script's talk ends at the first."""
    from personalab.conversations import Conversation

    pool = pool_of(model, None, budget, force=force, batch=False)
    folder = out or pool.outputs / "chats"
    options: dict[str, Any] = {"context_tokens": context}
    if temperature is not None:
        options["temperature"] = temperature
    if resume:
        earlier = _last(persona, folder) if resume == "last" else Path(resume)
        conversation = Conversation.resume(persona, earlier, pool, **options)
    else:
        conversation = Conversation(persona, pool, user=user, greeting=greeting, **options)
    note(f"{conversation.name} is AI-made fiction: this person does not exist. /help lists what you can do.")
    talk = _Talk(conversation, folder)
    if sys.stdin.isatty() and sys.stdout.isatty():
        _at_terminal(talk)
    else:
        _from_lines(talk)
    talk.tell_end()
    return EXIT_OK


def _last(persona: Path, folder: Path) -> Path:
    from personalab.cards import read_card
    from personalab.conversations import card_sha256
    from personalab.transcripts import find_transcripts

    card = read_card(persona)
    earlier = find_transcripts(folder, card.name, card_sha256(card))
    if not earlier:
        raise ConfigError(f"no chat with this card in {folder}: leave --resume out to begin one")
    return earlier[-1]


class _Talk:
    """The talk and what may be typed in it. `show` prints model text made harmless, `awaiting` is there while an answer is."""

    def __init__(self, conversation: Conversation, folder: Path) -> None:
        self.conversation = conversation
        self.folder = folder
        self.show: Callable[[str, str], None] = lambda name, text: print(
            plain(f"{name}: {text}" if name else text), flush=True
        )
        self.awaiting: Callable[[], AbstractContextManager[object]] = nullcontext

    def show_earlier(self) -> None:
        """What was said so far: the greeting, or the whole of an earlier chat."""
        transcript = self.conversation.transcript
        names = {"assistant": self.conversation.name, "user": transcript.user}
        for role, text in transcript.lines():
            self.show(names[role], text)

    def take(self, line: str) -> bool:
        """Do what a line says; False ends the talk.

        Raises:
            PersonalabError: whatever went wrong; the talk is as it was.
        """
        command, *rest = line.split()
        if not line.startswith("/") or line.startswith("//"):
            self._answer(self.conversation.say(line.removeprefix("/") if line.startswith("//") else line))
        elif command == "/quit":
            return False
        elif command == "/again":
            self._answer(self.conversation.again())
        elif command == "/undo":
            self.conversation.undo()
            self._save()
            note("taken back")
        elif command == "/save":
            note(f"saved as {self._save()}")
        elif command == "/lore":
            self.show("", "\n".join(_told(self.conversation.lore(), rest == ["all"])))
        else:
            if command != "/help":
                note(f"{command} is no command; a message that begins with / is written with two: //")
            self.show("", "\n".join(f"{name:8}{what}" for name, what in COMMANDS.items()))
        return True

    def tell_end(self) -> None:
        """What it took, and where it is."""
        kept, counts = self.conversation.kept, self.conversation.pool.counts
        if kept:
            tokens = "unknown" if counts.usage.tokens is None else f"{counts.usage.tokens:,}"
            cost = f", ${counts.cost:.4f}" if counts.cost else ""
            turns = len(self.conversation.transcript.turns)
            note(f"{turns} turn{'s' * (turns != 1)}, {tokens} tokens paid{cost}; saved as {kept.path}")

    def _answer(self, awaited: Coroutine[Any, Any, Turn]) -> None:
        with self.awaiting():
            turn = run(awaited)
        self.show(self.conversation.name, turn.text)
        self._save()
        if turn.forgotten:
            note(f"no room any more for the first {turn.forgotten} messages: they are forgotten")

    def _save(self) -> Path:
        return self.conversation.save(self.folder)


def _told(lore: tuple[Verdict, ...], everything: bool) -> Iterator[str]:
    """The verdicts as lines: those that spoke, those left out by the budget, and the others if they are asked for."""
    shown = [verdict for verdict in lore if verdict.matched or everything]
    for verdict in sorted(shown, key=lambda verdict: (not verdict.speaks, not verdict.matched)):
        mark = "spoke" if verdict.speaks else "left out" if verdict.matched else "silent"
        size = f", {verdict.tokens} tokens" if verdict.matched else ""
        yield f"{mark}: {verdict.name or f'entry {verdict.number}'} ({verdict.why}{size})"
    if not shown:
        yield f"no entry spoke, of {len(lore)}"


def _from_lines(talk: _Talk) -> None:
    """Each line of the input is a message or a command."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    talk.show_earlier()
    for line in sys.stdin:
        if line.strip() and not talk.take(line.strip()):
            return


def _at_terminal(talk: _Talk) -> None:
    """A line at a time, with editing and history; what goes wrong is told, and the talk goes on."""
    from prompt_toolkit import PromptSession
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=False)
    wide = min(console.width, WIDTH_MAX)
    talk.show = lambda name, text: console.print(
        *([_styled(name)] if name else []), plain(text), "", sep="\n", width=wide
    )
    writing = f"{plain(talk.conversation.name)} is writing; Ctrl-C stops it"
    talk.awaiting = lambda: console.status(writing)
    session: PromptSession[str] = PromptSession(reserve_space_for_menu=0)
    talk.show_earlier()
    while True:
        try:
            line = session.prompt(f"{plain(talk.conversation.transcript.user)}> ").strip()
        except KeyboardInterrupt:  # what was typed is dropped
            continue
        except EOFError:
            return
        if not line:
            continue
        try:
            goes_on = talk.take(line)
        except KeyboardInterrupt:
            note("stopped; nothing was said")
        except PersonalabError as error:
            note(str(error))
        else:
            if not goes_on:
                return


def _styled(name: str) -> object:
    from rich.text import Text

    return Text(plain(name), style="bold")
