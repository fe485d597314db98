"""Chats in JupyterLab: talk with a persona in a cell.

    chat("outputs/personas/teal_turban_persona.png")

Each turn is on disk before it is shown, and the text of the talk stays in the saved and exported notebook. Importing this
module loads ipywidgets; what it thinks is in `conversations`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import traitlets
from anywidget import AnyWidget

from personalab.cards import CharacterCard
from personalab.conversations import Conversation
from personalab.errors import PersonalabError
from personalab.loops import run
from personalab.pool import LLMPool

_HERE = Path(__file__).parent


class Chat(AnyWidget):
    """A talk as it is seen. `conversation` is what it stands for; `view` goes to the browser."""

    _esm = (_HERE / "chat.js").read_text(encoding="utf-8")
    _css = (_HERE / "chat.css").read_text(encoding="utf-8")
    view = traitlets.Dict().tag(sync=True)

    def __init__(self, conversation: Conversation, folder: Path) -> None:
        self.conversation = conversation
        self._folder = folder
        self._waiting: asyncio.Task[None] | None = None
        self._text: Any = None
        super().__init__(view=self._seen())
        self.on_msg(self._received)

    async def act(self, content: Mapping[str, Any]) -> None:
        """Do what the browser says, on disk first, then show what is there."""
        match content:
            case {"do": "say", "value": str(said)}:
                await self._answered(self.conversation.say(said), said)
            case {"do": "again"}:
                await self._answered(self.conversation.again())
            case {"do": "undo"}:
                await self._answered(self._undone())

    def _received(self, widget: Any, content: Mapping[str, Any], buffers: Any) -> None:
        if content.get("do") == "stop":
            if self._waiting is not None:
                self._waiting.cancel()
            return
        if self._waiting is not None and not self._waiting.done():
            return  # a second click
        try:  # beside the kernel's other work, so that it can be stopped
            self._waiting = asyncio.get_running_loop().create_task(self.act(content))
        except RuntimeError:
            run(self.act(content))

    async def _answered(self, awaited: Coroutine[Any, Any, object], said: str = "") -> None:
        self.view = self._seen(waiting=True)
        problem, before = "", self.conversation.transcript
        try:
            await awaited
            self.conversation.save(self._folder)
        except PersonalabError as error:
            problem = str(error)
        except asyncio.CancelledError:
            problem = "stopped; nothing was said"
        heard = said.strip() if self.conversation.transcript is not before else ""
        self.view = self._seen(problem, heard=heard)
        if self._text is not None:
            self._text.update(_html(self._static()))

    async def _undone(self) -> None:
        self.conversation.undo()

    def _seen(self, problem: str = "", *, waiting: bool = False, heard: str = "") -> dict[str, Any]:
        transcript, kept = self.conversation.transcript, self.conversation.kept
        lines = [
            {"name": transcript.user if role == "user" else self.conversation.name, "text": text, "own": role == "user", "lore": ""}
            for role, text in transcript.lines()
        ]  # fmt: skip
        answers = [line for line in lines if not line["own"]][1 if transcript.opening else 0 :]
        for line, turn in zip(answers, transcript.turns, strict=True):
            line["lore"] = ", ".join(turn.speaking)
        return {
            "name": self.conversation.name,
            "lines": lines,
            "turns": len(transcript.turns),
            "notice": transcript.notice,
            "saved": f"saved as {kept.path.name}" if kept else "",
            "problem": problem,
            "waiting": waiting,
            "heard": heard,
        }

    def _static(self) -> str:
        """The talk for viewers that run no widget; where the widget runs it hides this."""
        return f'<div class="personalab-chat-text">{self.conversation._repr_html_()}</div>'

    def _ipython_display_(self, **options: Any) -> None:
        """The widget, and before it the talk as text, which is written anew in place after each turn."""
        from IPython import display as ipython

        display: Any = ipython  # it comes without types
        self._text = display.display(_html(self._static()), display_id=True)
        data, metadata = self._repr_mimebundle_() or ({}, {})
        display.publish_display_data({**data, "text/plain": ""}, metadata)


def chat(
    card: CharacterCard | Conversation | Path | str,
    pool: LLMPool | None = None,
    *,
    folder: Path | str | None = None,
    **options: Any,
) -> Chat:
    """Talk with the persona of a card in this cell; `options` are those of `Conversation`, which may be given instead.

    Each turn is saved in `outputs/chats` unless another folder is given.

    Raises:
        CardError: no readable card.
        ConfigError: no such greeting, or sampling params that cannot be.
    """
    conversation = card if isinstance(card, Conversation) else Conversation(card, pool, **options)
    return Chat(conversation, Path(folder) if folder else conversation.pool.outputs / "chats")


def _html(text: str) -> Any:
    from IPython import display as ipython

    display: Any = ipython  # it comes without types
    return display.HTML(text)
