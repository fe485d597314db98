"""Conversations: talking with the persona of a card.

    conversation = Conversation(read_card("persona.png"))
    await conversation.say("Good evening. Am I late?")
    await conversation.again()  # another answer
    conversation.save()

Replies go through the pool: limited, within its budget, and the same talk is the same request, so it is paid once.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import ValidationError

from personalab.cache import hash_of
from personalab.cards import CharacterCard, read_card
from personalab.chat_prompts import MAIN_PROMPT, ChatPrompt, chat_prompt, greeting, name_of
from personalab.errors import ConfigError, ReplyInvalid
from personalab.lorebooks import Moment, Verdict, open_book, verdicts
from personalab.macros import Macros
from personalab.names import path_text
from personalab.pool import LLMPool
from personalab.records import Message, Request, SamplingParams, explain
from personalab.transcripts import NOTICE, Kept, Transcript, Turn, load_transcript, now, save_transcript

TEMPERATURE = 0.9
USER = "User"
STAGE = "chat"
NO_MODEL = "The embedded provider answers, which is no language model."


class Conversation:
    """A talk with one persona. `transcript` is what was said so far; each turn gives a new one.

    `greeting` 0 begins with `first_mes`, 1 with the first of the other greetings. `user` is what `{{user}}` becomes.
    `context_tokens` is what a prompt may take, for models with a small context: the oldest messages are left out then. A
    turn that fails or is cancelled leaves everything as it was.

    Raises:
        ConfigError: no such greeting, or sampling params that cannot be.
    """

    def __init__(
        self,
        card: CharacterCard | Path | str,
        pool: LLMPool | None = None,
        *,
        user: str = USER,
        greeting: int = 0,
        main_prompt: str = MAIN_PROMPT,
        context_tokens: int | None = None,
        **sampling: float | int | None,
    ) -> None:
        self.card = card if isinstance(card, CharacterCard) else read_card(card)
        self.card.to_json()  # half of a surrogate pair could be sent nowhere
        user = _sendable(user.strip()) or USER
        self.pool = pool or LLMPool(batch=False)  # nobody talks a day later
        self.book = open_book(self.card.character_book)
        self.kept: Kept | None = None
        self._busy = False
        self.transcript = Transcript(
            notice=f"{NOTICE} {NO_MODEL}" if self.pool.offline else NOTICE,
            persona=self.card.name,
            user=user,
            card="" if isinstance(card, CharacterCard) else path_text(Path(card).name),
            card_sha256=card_sha256(self.card),
            model=self.pool.model,
            sampling=_sampling(sampling),
            main_prompt=_sendable(main_prompt),
            context_tokens=context_tokens,
            greeting=greeting,
            opening=_opening(self.card, greeting, user),
            begun=now(),
        )

    @classmethod
    def resume(
        cls,
        card: CharacterCard | Path | str,
        path: Path | str,
        pool: LLMPool | None = None,
        *,
        context_tokens: int | None = None,
        **sampling: float | int | None,
    ) -> Conversation:
        """Go on with the talk of a transcript: with its user, greeting and prompt, and with its context and sampling params
        unless others are given.

        Raises:
            ConfigError: the card is not the one of the transcript.
            OutputError: missing, or no transcript.
        """
        transcript, kept = load_transcript(path)
        conversation = cls(card, pool, user=transcript.user)
        if transcript.card_sha256 != conversation.transcript.card_sha256:
            raise ConfigError(
                f"{path} is a chat with another card of {transcript.persona}: begin a new one, or give that card"
            )
        again = {**transcript.sampling.model_dump(), **sampling}
        changes = {
            "model": conversation.pool.model,
            "sampling": _sampling(again),
            "context_tokens": context_tokens or transcript.context_tokens,
        }
        conversation.transcript, conversation.kept = transcript.model_copy(update=changes), kept
        return conversation

    @property
    def name(self) -> str:
        """Whom one talks with."""
        return name_of(self.card)

    def lore(self, said: str = "") -> tuple[Verdict, ...]:
        """A verdict on each lorebook entry if this were said now; of the last turn if nothing is said."""
        turns = self.transcript.turns
        if said or not turns:
            return self._verdicts(turns, said)
        return self._verdicts(turns[:-1], turns[-1].said)

    def request(self, said: str, replicate: int = 0) -> Request:
        """What would be sent."""
        return self._request(self._prompt(self.transcript.turns, said), replicate)

    async def say(self, said: str) -> Turn:
        """Say something and wait for the answer.

        Raises:
            ConfigError: nothing is said, or an answer is still awaited.
            PersonalabError: whatever sending may raise.
        """
        if not said.strip():
            raise ConfigError("nothing is said: write a message")
        turn = await self._turn(self.transcript.turns, _sendable(said.strip()), 0)
        self._go_on(turns=(*self.transcript.turns, turn))
        return turn

    async def again(self) -> Turn:
        """Another answer to what was said last; the one before is set aside.

        Raises:
            ConfigError: nothing was said yet, or an answer is still awaited.
            PersonalabError: whatever sending may raise.
        """
        *before, last = self._begun()
        replicate = 1 + max(turn.replicate for turn in (last, *self.transcript.set_aside))
        turn = await self._turn(tuple(before), last.said, replicate)
        self._go_on(turns=(*before, turn), set_aside=(*self.transcript.set_aside, last))
        return turn

    def undo(self) -> Turn:
        """Take the last turn back and give it; it is set aside.

        Raises:
            ConfigError: nothing was said yet, or an answer is still awaited.
        """
        *before, last = self._begun()
        self._check_free()
        self._go_on(turns=tuple(before), set_aside=(*self.transcript.set_aside, last))
        return last

    def save(self, folder: Path | str | None = None) -> Path:
        """Write the transcript: into `outputs/chats` unless a folder is given, again into the same file.

        Raises:
            OutputError: it cannot be written.
        """
        self.kept = save_transcript(self.transcript, folder or self.pool.outputs / "chats", self.kept)
        return self.kept.path

    async def _turn(self, turns: tuple[Turn, ...], said: str, replicate: int) -> Turn:
        self._check_free()
        self._busy = True
        try:
            prompt = self._prompt(turns, said)
            request = self._request(prompt, replicate)
            reply = await self.pool.send(request, _check)
        finally:
            self._busy = False
        return Turn(
            said=said,
            text=_spoken(reply.text, self.name),
            reply=reply,
            key=self.pool.key(request),
            replicate=replicate,
            lore=tuple(each for each in self._verdicts(turns, said) if each.matched),
            forgotten=prompt.forgotten,
        )

    def _prompt(self, turns: tuple[Turn, ...], said: str) -> ChatPrompt:
        return chat_prompt(
            self.card,
            self.book,
            self._verdicts(turns, said),
            self._talk(turns, said),
            self._macros(len(turns)),
            self.transcript.main_prompt,
            self.transcript.context_tokens,
        )

    def _request(self, prompt: ChatPrompt, replicate: int) -> Request:
        return Request(
            stage=STAGE,
            messages=prompt.messages,
            sampling=self.transcript.sampling,
            replicate=replicate,
        )

    def _verdicts(self, turns: tuple[Turn, ...], said: str) -> tuple[Verdict, ...]:
        talk = self._talk(turns, said)
        moment = Moment(
            messages=tuple(line.text for line in talk),
            replies=sum(line.role == "assistant" for line in talk),
            greeting=self.transcript.greeting,
            matched=frozenset(each.number for turn in turns for each in turn.lore),
        )
        return verdicts(self.book, moment, self._macros(len(turns)))

    def _talk(self, turns: tuple[Turn, ...], said: str) -> list[Message]:
        lines = [
            Message(role=role, text=text)
            for role, text in self.transcript.model_copy(update={"turns": turns}).lines()
        ]
        return [*lines, Message(role="user", text=said)] if said else lines

    def _macros(self, moment: int) -> Macros:
        return Macros(char=self.name, user=self.transcript.user, moment=moment)

    def _begun(self) -> tuple[Turn, ...]:
        if not self.transcript.turns:
            raise ConfigError("nothing was said yet")
        return self.transcript.turns

    def _check_free(self) -> None:
        if self._busy:
            raise ConfigError("an answer is still awaited: wait for it, or cancel it")

    def _go_on(self, **changes: tuple[Turn, ...]) -> None:
        self.transcript = self.transcript.model_copy(update=changes)

    def __repr__(self) -> str:
        return f"Conversation({self.name!r}, {len(self.transcript.turns)} turns)"

    def _repr_html_(self) -> str:
        return self.transcript._repr_html_()


def card_sha256(card: CharacterCard) -> str:
    """The hash by which a card is known, whatever file it stands in."""
    return hash_of(card.v3())


def _opening(card: CharacterCard, number: int, user: str) -> str:
    return greeting(card, number, Macros(char=name_of(card), user=user))


def _sampling(given: dict[str, float | int | None]) -> SamplingParams:
    try:
        return SamplingParams.model_validate({"temperature": TEMPERATURE, **given})
    except ValidationError as error:
        raise ConfigError(f"chat: {explain(error)}") from error


def _sendable(text: str) -> str:
    """Text without halves of surrogate pairs, which a terminal can give and no request can hold."""
    return text.encode("utf-8", "replace").decode()


def _check(text: str) -> None:
    if not text.strip():
        raise ReplyInvalid(STAGE, "the answer is empty", text=text)


def _spoken(text: str, name: str) -> str:
    """An answer without the name that some models write in front of it."""
    return (
        re.sub(rf"\A\s*(?:\*\*)?{re.escape(name)}(?:\*\*)?\s*[:：](?:\*\*)?\s*", "", text).strip()
        or text.strip()
    )
