"""Read this second: a persona gets a month of slots, and a tweet for each.

planner = Planner()
persona = open_persona("outputs/personas/silver_bun_persona.json")
calendar = await planner.plan(persona, "2026-12")
tweets = await planner.write(persona, calendar)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from personalab.calendars import (
    DAYS,
    OUTLINE,
    Asking,
    Calendar,
    CalendarOutline,
    OutlineDay,
    Plan,
    Slot,
    plan_of,
)
from personalab.config import ASKS_MAX, TWEET_ROUNDS
from personalab.dialect import asked_again
from personalab.errors import AccessRefused, BudgetError, ConfigError, PersonalabError
from personalab.loops import together
from personalab.personas import Persona, notice
from personalab.pool import LLMPool
from personalab.questions import Question, find_question, with_varied
from personalab.records import Request
from personalab.tweets import (
    TWEET,
    SlotTweet,
    Tweets,
    Unwritten,
    WrittenTweet,
    near_copies,
    tweet_request,
    written,
)

OnAnswer = Callable[[], None]
"""Told of each answer that is there."""


@dataclass(frozen=True)
class Planner:
    """Plans months and writes their tweets. Frozen: `vary` gives another one.

    `country` (ISO 3166, such as `DE`) brings its public holidays into the plan.
    """

    pool: LLMPool = field(default_factory=LLMPool)
    instructions: str = ""
    country: str = ""
    replicate: int = 0
    questions: tuple[Question, ...] = (OUTLINE, DAYS, TWEET)

    def __post_init__(self) -> None:
        for question in self.questions:
            self.pool.check_price(question.model)

    def question(self, name: str) -> Question:
        """One of the questions, by name.

        Raises:
            ConfigError: unknown; names the nearest.
        """
        return find_question(self.questions, name)

    def vary(self, name: str, **changes: Any) -> Self:
        """A planner with one question changed: `prompt` (file, text or template), `model`, or a sampling parameter.

        Raises:
            ConfigError: unknown question or parameter; names the nearest.
            PromptError: the prompt file is no template or wants what there is not.
        """
        return replace(self, questions=with_varied(self.questions, name, changes))

    async def plan(
        self, persona: Persona, month: str, standing: Sequence[Slot] = (), on_answer: OnAnswer | None = None
    ) -> Calendar:
        """A calendar of a month. `standing` slots stay as they are, and the other days are planned around them; those
        of the months beside it keep their topics to themselves for a week.

        Days of a part that could not be worked out are missing from it, and `problems` says why.

        Raises:
            ConfigError: no month, or an unknown country.
            ReplyError: no outline could be had.
            ProviderError: the endpoint cannot be reached, or refuses.
        """
        plan = plan_of(persona, month, standing, self.country, self.instructions)
        calendar = Calendar(
            notice=notice(persona.language, self.pool.model),
            persona_id=persona.identity,
            persona=persona.name,
            card=persona.card,
            language=persona.language,
            month=month,
            holidays=self.country.upper(),
            instructions=self.instructions,
            slots=plan.standing,
        )
        if not plan.proposed:
            return calendar
        question = self.question("calendar_outline")
        request = plan.outline_request(question, self.replicate).model_copy(update={"rank": 2})
        text, asking = await self._ask(question, request, lambda text: plan.check_outline(text, question))
        _tell(on_answer)
        parts = await self._parts(plan, plan.check_outline(text, question), on_answer)
        askings = (asking, *(asking for part in parts for asking in part.askings))
        problems = tuple(str(part.error) for part in parts if part.error)
        slots = [slot for part in parts for slot in part.slots]
        return calendar.with_slots(slots).model_copy(update={"requests": askings, "problems": problems})

    def changes(self, calendar: Calendar) -> tuple[str, ...]:
        """What this planner would ask otherwise than a calendar was last planned with, such as
        `calendar_days: temperature 0.85 → 0.2`; nothing of a calendar that was written by hand.
        """
        asked = {asking.question: asking for asking in calendar.requests}
        told = []
        if asked and self.instructions != calendar.instructions:
            told.append(
                f"instructions: {self.instructions or 'none'} instead of {calendar.instructions or 'none'}"
            )
        if asked and self.country and self.country.upper() != calendar.holidays:
            told.append(f"holidays: {self.country.upper()} instead of {calendar.holidays or 'none'}")
        for question in self.questions:
            if (asking := asked.get(question.name)) is None:
                continue
            if question.prompt.sha256 != asking.prompt_sha256:
                told.append(f"{question.name}: another prompt")
            then, now = asking.sampling.model_dump(), question.sampling.model_dump()
            told += [
                f"{question.name}: {name} {then[name]} → {now[name]}"
                for name in now
                if now[name] != then[name]
            ]
        return tuple(told)

    async def write(
        self,
        persona: Persona,
        calendar: Calendar,
        count: int | None = None,
        on_answer: OnAnswer | None = None,
    ) -> Tweets:
        """A tweet for each slot of a calendar, or for the first `count`, all asked for at once.

        A slot whose tweet could not be had is in `failed`, with the reason.

        Raises:
            ConfigError: the calendar is another persona's, has no slots or fewer than `count`; nothing is sent then.
            AccessRefused: key, model or quota: nothing could succeed.
            BudgetError: a ceiling is reached.
        """
        slots = chosen_slots(persona, calendar, count)
        question = self.question("tweet")
        requests = [
            tweet_request(question, persona, slot, calendar.holidays, self.instructions, self.replicate)
            for slot in slots
        ]
        drafts = list(await together(self._draft(question, request, on_answer) for request in requests))
        for _ in range(TWEET_ROUNDS):
            copies = near_copies([draft.text for draft in drafts], persona.examples)
            again = await together(
                self._draft(question, _another(requests[place], drafts[place], offender), None)
                for place, offender in copies.items()
            )
            for place, draft in zip(copies, again, strict=True):
                drafts[place] = draft
            if not copies:
                break
        copies = near_copies([draft.text for draft in drafts], persona.examples)
        for place, offender in copies.items():
            drafts[place] = _Draft(
                error=f"still a near copy of {offender!r} after asking {TWEET_ROUNDS} times more"
            )
        return self._tweets(persona, calendar, slots, drafts)

    def _tweets(
        self, persona: Persona, calendar: Calendar, slots: Sequence[Slot], drafts: Sequence[_Draft]
    ) -> Tweets:
        done: list[WrittenTweet] = []
        failed: list[Unwritten] = []
        for slot, draft in zip(slots, drafts, strict=True):
            if draft.text is not None and draft.asking is not None:
                done.append(written(slot, draft.text, draft.asking))
            else:
                about = slot.model_dump(include={"date", "content_type", "topic"})
                failed.append(Unwritten(**about, error=draft.error))
        return Tweets(
            notice=notice(persona.language, self.pool.model),
            written=datetime.now(UTC).isoformat(timespec="milliseconds"),
            persona_id=persona.identity,
            persona=persona.name,
            card=persona.card,
            month=calendar.month,
            language=persona.language,
            instructions=self.instructions,
            tweets=tuple(done),
            failed=tuple(failed),
        )

    async def _parts(self, plan: Plan, outline: CalendarOutline, on_answer: OnAnswer | None) -> list[_Part]:
        """The parts of a month, worked out at once; one whose topics clash with those before it is asked again."""
        parts = plan.parts(outline)
        made = list(await together(self._part(plan, outline, days, on_answer) for days in parts))
        for at, days in enumerate(parts):
            for _ in range(ASKS_MAX - 1):
                known = [slot for part in made[: at + 1] for slot in part.slots]
                clash = plan.clash(known, days) if made[at].slots else None
                if clash is None:
                    break
                made[at] = await self._part(plan, outline, days, None, (made[at].text, clash))
            else:
                made[at] = _Part(error=f"stage calendar_days: {clash}; plan again", askings=made[at].askings)
        return made

    async def _part(
        self,
        plan: Plan,
        outline: CalendarOutline,
        days: Sequence[OutlineDay],
        on_answer: OnAnswer | None,
        wrong: tuple[str, str] | None = None,
    ) -> _Part:
        question = self.question("calendar_days")
        request = plan.days_request(question, outline, days, self.replicate)
        if wrong:
            request = asked_again(request, *wrong)
        try:
            text, asking = await self._ask(
                question, request, lambda text: plan.check_days(text, question, days)
            )
        except (AccessRefused, BudgetError):
            raise
        except PersonalabError as error:
            return _Part(error=str(error))
        finally:
            _tell(on_answer)
        return _Part(text=text, slots=plan.check_days(text, question, days), askings=(asking,))

    async def _draft(self, question: Question, request: Request, on_answer: OnAnswer | None) -> _Draft:
        try:
            text, asking = await self._ask(question, request, question.parse)
        except (AccessRefused, BudgetError):
            raise
        except PersonalabError as error:
            return _Draft(error=str(error))
        finally:
            _tell(on_answer)
        tweet = question.parse(text)
        assert isinstance(tweet, SlotTweet)
        return _Draft(text=tweet.text, answer=text, asking=asking)

    async def _ask(
        self, question: Question, request: Request, check: Callable[[str], object]
    ) -> tuple[str, Asking]:
        key = self.pool.key(request)
        reply = await self.pool.send(request, check, key=key)
        asking = Asking(
            question=question.name,
            model=reply.model,
            prompt=question.prompt.name,
            prompt_sha256=question.prompt.sha256,
            sampling=question.sampling,
            not_applied=reply.not_applied,
            key=key,
            usage=reply.usage,
            cached=reply.cached,
            seconds=reply.seconds,
        )
        return reply.text, asking


@dataclass(frozen=True)
class _Draft:
    """An answer for one slot, or why there is none."""

    text: str | None = None
    answer: str = ""
    asking: Asking | None = None
    error: str = ""


@dataclass(frozen=True)
class _Part:
    """Some days of a calendar, or why they are not there."""

    text: str = ""
    slots: tuple[Slot, ...] = ()
    askings: tuple[Asking, ...] = ()
    error: str = ""


def chosen_slots(persona: Persona, calendar: Calendar, count: int | None = None) -> tuple[Slot, ...]:
    """The slots that tweets are to be written for.

    Raises:
        ConfigError: the calendar is another persona's, has no slots or fewer than `count`.
    """
    if calendar.persona_id != persona.identity:
        raise ConfigError(
            f"the calendar of {calendar.month} is {calendar.persona}'s ({calendar.persona_id}), not {persona.name}'s "
            f"({persona.identity}): give the one planned from {persona.card or 'this card'}"
        )
    if not calendar.slots:
        raise ConfigError(f"the calendar {calendar.month} of {persona.name} has no slots: plan it first")
    if count is not None and not 1 <= count <= len(calendar.slots):
        raise ConfigError(
            f"the calendar {calendar.month} of {persona.name} has {len(calendar.slots)} slots, so --count is 1 to "
            f"{len(calendar.slots)}, not {count}"
        )
    return calendar.slots[:count]


def _another(request: Request, draft: _Draft, offender: str) -> Request:
    told = f"it is a near copy of this tweet of the same persona: {offender!r}. Write another, with another opening"
    return asked_again(request, draft.answer, told)


def _tell(on_answer: OnAnswer | None) -> None:
    if on_answer:
        on_answer()
