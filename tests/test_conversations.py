"""Conversations: what is sent, what is kept, going on, and the embedded provider in character."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ScriptedProvider, failure
from sample_cards import LANGUAGES, card_data

from personalab.cache_folder import hits_in
from personalab.cards import CharacterCard
from personalab.chat import chat
from personalab.chat_frames import TURN_COLUMNS, turns_df
from personalab.chat_prompts import MAIN_PROMPT, OPENING
from personalab.conversations import Conversation
from personalab.errors import CardError, ConfigError, OutputError, ReplyInvalid, RequestRefused
from personalab.pool import LLMPool
from personalab.tokens import count_tokens
from personalab.transcripts import find_transcripts, load_transcript

MakePool = Callable[..., LLMPool]


def card_of(language: str = "english", **changes: Any) -> CharacterCard:
    """A sample card, with some fields of `data` changed."""
    return CharacterCard.from_data(card_data(language) | changes)


def lore(*entries: dict[str, Any]) -> dict[str, Any]:
    """A lorebook of constant entries, as far as they do not say otherwise."""
    base = {
        "keys": [],
        "extensions": {},
        "enabled": True,
        "insertion_order": 100,
        "use_regex": False,
        "constant": True,
    }
    return {"extensions": {}, "entries": [base | entry for entry in entries]}


def sent(conversation: Conversation, said: str = "Hello.") -> list[tuple[str, str]]:
    """What would be sent: role and text of each message."""
    return [(message.role, message.text) for message in conversation.request(said).messages]


# What is sent


def test_the_prompt(make_pool: MakePool) -> None:
    """Who they are, examples and greeting, macros replaced; lore only where its key was said."""
    conversation = Conversation(card_of(), make_pool(), user="Ann")
    data = card_data()
    (_, system), opening, first, last = sent(conversation, "Show me the ledger.")
    assert system.startswith(
        "Write Moira Kettley's next reply in a fictional chat between Moira Kettley and Ann."
    )
    places = [
        "<lore>\nMoira keeps a ledger of all boats since 2009.",
        "<character>\nName: Moira Kettley",
        data["description"][:40],
        "Personality: " + data["personality"][:20],
        "Scenario: Ann",
        "<examples>\n[An example]\nAnn:",
    ]
    assert [system.index(place) for place in places] == sorted(system.index(place) for place in places)
    assert "{{" not in system
    assert data["creator_notes"] not in system
    assert [opening, last] == [("user", OPENING), ("user", "Show me the ledger.")]
    assert first == ("assistant", data["first_mes"])
    assert "2009" not in sent(Conversation(card_of(first_mes="Hi."), make_pool()))[0][1]


def test_the_cards_own_prompts(make_pool: MakePool) -> None:
    """system_prompt replaces ours and post_history_instructions end the prompt; {{original}} is what would stand there."""
    own = Conversation(
        card_of(
            system_prompt="Be {{char}}. {{original}}",
            post_history_instructions="Short, {{user}}! {{original}}",
        ),
        make_pool(),
        main_prompt="MAIN",
    )
    messages = sent(own)
    assert messages[0][1].startswith("Be Moira Kettley. MAIN\n")
    assert messages[-1] == ("system", "Short, User!")
    assert sent(Conversation(card_of(), make_pool()))[-1][0] == "user"


def test_the_nickname_is_who_speaks(make_pool: MakePool) -> None:
    """{{char}} is the nickname where there is one."""
    conversation = Conversation(card_of(nickname="Mo", first_mes="I am {{char}}."), make_pool())
    assert (conversation.name, conversation.transcript.opening) == ("Mo", "I am Mo.")


def test_greetings(make_pool: MakePool) -> None:
    """Another greeting may begin; one that is not there is named with how many there are. Without one nothing is said first."""
    assert (
        Conversation(card_of(), make_pool(), greeting=1).transcript.opening
        == card_data()["alternate_greetings"][0]
    )
    with pytest.raises(ConfigError, match="has greetings 0 to 2, not 3"):
        Conversation(card_of(), make_pool(), greeting=3)
    assert [role for role, _ in sent(Conversation(card_of(first_mes=""), make_pool()))] == ["system", "user"]


def test_where_lore_stands(make_pool: MakePool) -> None:
    """Before or after the character, in its sections, or so many messages from the end, in a role."""
    book = lore(
        {"content": "B2", "insertion_order": 2},
        {"content": "B1", "insertion_order": 1, "position": "before_char"},
        {"content": "A1", "position": "after_char"},
        {"content": "@@position before_desc\nP1"},
        {"content": "@@position after_desc\nP2"},
        {"content": "@@position personality\nP3"},
        {"content": "@@position scenario\nP4"},
        {"content": "@@depth 1\nD1"},
        {"content": "@@depth 0\n@@role assistant\nD0"},
        {"content": "@@depth 2\n@@role user\nD2"},
        {"content": "@@depth 99\n@@role assistant\nD99"},
    )
    card = card_of(
        description="DESC",
        personality="PERS",
        scenario="SCEN",
        mes_example="",
        character_book=book,
        first_mes="Hi",
    )
    messages = sent(Conversation(card, make_pool()))
    assert messages[0][1].split("\n\n", 1)[1] == (
        "<lore>\nB1\nB2\n</lore>\n\n<character>\nName: Moira Kettley\n\nP1\n\nDESC\n\nP2\n\nPersonality: PERS\nP3\n\n"
        "Scenario: SCEN\nP4\n</character>\n\n<lore>\nA1\n</lore>"
    )
    assert messages[1:] == [
        ("user", OPENING), ("user", "D2"), ("assistant", "D99"), ("assistant", "Hi"), ("system", "D1"), ("user", "Hello."), ("system", "D0"),
    ]  # fmt: skip


async def test_the_talk_wakes_the_lore(make_pool: MakePool, provider: ScriptedProvider) -> None:
    """What the persona says wakes entries too; entries that count on earlier matches remember them."""
    book = lore(
        {"content": "BOATS", "keys": ["boat"], "constant": False},
        {"content": "@@dont_activate_after_match\nONCE"},
        {"content": "@@activate_only_after 2\nLATER"},
    )
    provider.script = lambda body: "A boat."
    conversation = Conversation(card_of(first_mes="Hi.", character_book=book), make_pool())
    turns = [await conversation.say(said) for said in ("One.", "Two.")]
    assert [[each.number for each in turn.lore] for turn in turns] == [[1], [0, 2]]
    assert conversation.lore()[0].why == "key 'boat'"
    assert not any(
        verdict.speaks for verdict in Conversation(card_of(character_book=lore()), make_pool()).lore("x")
    )


def test_what_goes_when_there_is_no_room(make_pool: MakePool) -> None:
    """First entries that say so, then examples, then the oldest messages; what is to be answered stays."""
    book = lore({"content": "@@ignore_on_max_context\nLESS"}, {"content": "MORE"})
    card = card_of(character_book=book, mes_example="<START>\n{{char}}: EXAMPLE", first_mes="GREETING")

    def left(context_tokens: int | None) -> list[str]:
        conversation = Conversation(card, make_pool(), context_tokens=context_tokens)
        text = str(conversation.request("LAST"))
        return [word for word in ("LESS", "MORE", "EXAMPLE", "GREETING", "LAST") if word in text]

    whole = sum(count_tokens(text) for _, text in sent(Conversation(card, make_pool()), "LAST"))
    assert left(None) == left(whole) == ["LESS", "MORE", "EXAMPLE", "GREETING", "LAST"]
    kinds = [left(whole - less) for less in range(1, 40)]
    assert [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]] == [
        ["MORE", "EXAMPLE", "GREETING", "LAST"], ["MORE", "GREETING", "LAST"], ["MORE", "LAST"],
    ]  # fmt: skip
    assert left(1) == ["MORE", "LAST"]


async def test_a_long_talk_is_forgotten_from_its_beginning(
    make_pool: MakePool, provider: ScriptedProvider
) -> None:
    """The turn says how many messages were left out, and roles alternate from wherever it begins."""
    provider.script = lambda body: "word " * 200
    conversation = Conversation(card_of(first_mes="Hi."), make_pool(), context_tokens=800)
    turns = [await conversation.say(f"Number {number}.") for number in range(6)]
    assert turns[0].forgotten == 0
    assert 0 < turns[4].forgotten < turns[5].forgotten
    for body in provider.bodies:
        roles = [message["role"] for message in body["messages"][1:]]
        assert roles == [("user", "assistant")[place % 2] for place in range(len(roles))]
    assert provider.bodies[-1]["messages"][-1]["content"] == "Number 5."


# Answers


async def test_a_turn_knows_where_it_comes_from(make_pool: MakePool, provider: ScriptedProvider) -> None:
    """Model, usage, key and what spoke; the next request holds the talk so far."""
    provider.script = lambda body: "Moira Kettley: Late again."
    conversation = Conversation(card_of(), make_pool(), temperature=0.3, max_tokens=200)
    turn = await conversation.say("  The ledger?  ")
    assert (turn.said, turn.text, turn.reply.text) == (
        "The ledger?",
        "Late again.",
        "Moira Kettley: Late again.",
    )
    assert (turn.reply.model, turn.paid.tokens, turn.speaking) == ("scripted", 15, ("The ledger",))
    assert provider.bodies[0]["temperature"] == 0.3
    assert sent(conversation, "And now?")[-3:] == [
        ("user", "The ledger?"), ("assistant", "Late again."), ("user", "And now?"),
    ]  # fmt: skip


async def test_the_same_talk_is_paid_once(make_pool: MakePool, provider: ScriptedProvider) -> None:
    """A talk repeated is taken from the cache; another answer is another replicate, and the first is set aside."""
    provider.script = lambda body: f"Answer {len(provider.bodies)}."
    for repeated in range(2):
        conversation = Conversation(card_of(), make_pool())
        texts = [
            (await conversation.say("Hello.")).text,
            (await conversation.again()).text,
            (await conversation.again()).text,
        ]
        assert texts == ["Answer 1.", "Answer 2.", "Answer 3."]
        assert len(provider.bodies) == 3
        assert [turn.text for turn in conversation.transcript.turns] == ["Answer 3."]
        assert [turn.text for turn in conversation.transcript.set_aside] == ["Answer 1.", "Answer 2."]
        assert conversation.transcript.paid.tokens == (0 if repeated else 45)
        assert conversation.undo().text == "Answer 3."
        assert conversation.transcript.turns == ()


async def test_what_fails_changes_nothing(make_pool: MakePool, provider: ScriptedProvider) -> None:
    """A refusal, an empty answer and nothing said are errors, and the talk is as it was."""
    conversation = Conversation(card_of(), make_pool(asks_max=2))
    before = conversation.transcript
    provider.script = lambda body: failure(400)
    with pytest.raises(RequestRefused):
        await conversation.say("Hello.")
    provider.script = lambda body: "  "
    with pytest.raises(ReplyInvalid, match="the answer is empty"):
        await conversation.say("Hello.")
    assert "JSON" not in provider.bodies[-1]["messages"][-1]["content"]
    for nothing in (conversation.say(" "), conversation.again()):
        with pytest.raises(ConfigError):
            await nothing
    with pytest.raises(ConfigError, match="nothing was said yet"):
        conversation.undo()
    assert conversation.transcript == before


async def test_a_cancelled_answer_changes_nothing(make_pool: MakePool, provider: ScriptedProvider) -> None:
    """While one answer is awaited no other is; cancelled, the talk goes on from where it was."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hang(body: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(asked.set)
        await asyncio.sleep(60)

    provider.wait = hang
    conversation = Conversation(card_of(), make_pool())
    waiting = asyncio.create_task(conversation.say("Hello."))
    await asked.wait()
    with pytest.raises(ConfigError, match="still awaited"):
        await conversation.say("Are you there?")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    provider.wait = None
    provider.script = lambda body: "Here."
    assert (await conversation.say("Hello.")).text == "Here."
    assert len(conversation.transcript.turns) == 1


async def test_half_a_character(make_pool: MakePool, provider: ScriptedProvider) -> None:
    """Half of a surrogate pair in what is typed is replaced; in a card it is an error that says where."""
    provider.script = lambda body: "Yes."
    assert (await Conversation(card_of(), make_pool()).say("a\ud83db")).said == "a?b"
    with pytest.raises(CardError, match="surrogate"):
        Conversation(card_of(description="\ud83d"), make_pool())


# What is kept


async def test_a_transcript_is_an_output(
    make_pool: MakePool, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """It says AI-made, names card, model, sampling and lore, and the requests can be built again from it."""
    provider.script = lambda body: "Seven boats."
    pool = make_pool()
    conversation = Conversation(card_of(), pool, user="Ann")
    await conversation.say("The ledger?")
    path = conversation.save()
    assert path.parent == pool.outputs / "chats" / "Moira-Kettley"
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["notice"].startswith("AI-made fiction")
    assert (stored["persona"], stored["user"], stored["model"], stored["sampling"]["temperature"]) == (
        "Moira Kettley", "Ann", "scripted", 0.9,
    )  # fmt: skip
    assert stored["main_prompt"] == MAIN_PROMPT
    assert [each["name"] for each in stored["turns"][0]["lore"]] == ["The ledger"]
    transcript, _ = load_transcript(path)
    assert transcript == conversation.transcript
    again = Conversation(card_of(), pool, user=transcript.user)
    assert pool.key(again.request(transcript.turns[0].said)) == transcript.turns[0].key
    await conversation.say("Hm.")
    assert conversation.save() == path
    assert hits_in(pool.outputs).total() == 0
    repeated = Conversation(card_of(), pool, user="Ann")
    await repeated.say("The ledger?")
    repeated.save(tmp_path / "outputs" / "chats")
    assert hits_in(tmp_path / "outputs").total() == 1
    assert len(list(path.parent.glob("*.json"))) == 2


async def test_going_on(make_pool: MakePool, provider: ScriptedProvider, tmp_path: Path) -> None:
    """A chat goes on from its file, with its user and sampling; another card is refused."""
    provider.script = lambda body: f"Answer {len(provider.bodies)}."
    first = Conversation(card_of(), make_pool(), user="Ann", temperature=0.2, greeting=1)
    await first.say("One.")
    path = first.save(tmp_path / "chats")
    second = Conversation.resume(card_of(), path, make_pool(model="other"))
    assert (second.transcript.user, second.transcript.greeting, second.transcript.sampling.temperature) == (
        "Ann",
        1,
        0.2,
    )
    await second.say("Two.")
    assert second.save(tmp_path / "chats") == path
    assert [turn.said for turn in load_transcript(path)[0].turns] == ["One.", "Two."]
    assert second.transcript.model == "other"
    hotter = Conversation.resume(card_of(), path, make_pool(), temperature=1.5)
    assert hotter.transcript.sampling.temperature == 1.5
    with pytest.raises(ConfigError, match="a chat with another card of Moira Kettley"):
        Conversation.resume(card_of(description="Somebody else."), path, make_pool())
    sha256 = first.transcript.card_sha256
    assert find_transcripts(tmp_path / "chats", "Moira Kettley", sha256) == [path]
    assert find_transcripts(tmp_path / "chats", "Moira Kettley", "other") == []


async def test_two_who_go_on_lose_nothing(
    make_pool: MakePool, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """Where somebody else has gone on with a chat in the meantime, it is kept under another name."""
    provider.script = lambda body: "Yes."
    first = Conversation(card_of(), make_pool())
    await first.say("One.")
    path = first.save(tmp_path)
    second = Conversation.resume(card_of(), path, make_pool())
    await second.say("Second.")
    second.save()
    await first.say("First.")
    other = first.save()
    assert other != path
    assert load_transcript(path)[0].turns[-1].said == "Second."
    assert load_transcript(other)[0].turns[-1].said == "First."
    assert first.save() == other


@pytest.mark.parametrize("content", ["", "{}", '{"version": 1}', "[]", "\x00"])
def test_what_is_no_transcript(content: str, tmp_path: Path) -> None:
    """One line that names the file; a search leaves it out."""
    path = tmp_path / "Moira-Kettley" / "x.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(OutputError, match=r"x\.json"):
        load_transcript(path)
    assert find_transcripts(tmp_path, "Moira Kettley", "") == []


async def test_hostile_text_is_harmless(make_pool: MakePool, provider: ScriptedProvider) -> None:
    """In a notebook model text is text."""
    provider.script = lambda body: "<img src=x onerror=alert(1)> $a$"
    conversation = Conversation(card_of(first_mes="<script>"), make_pool(), user="<b>")
    turn = await conversation.say("<i>")
    for html in (conversation._repr_html_(), turn._repr_html_()):
        for tag in ("<img", "<script", "<i>", "<b>&lt;b&gt;</b>" if html is None else "<i>"):
            assert tag not in html
        assert "mathjax_ignore" in html
        assert "&lt;img" in html


# The embedded provider


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_embedded_provider_stays_in_character(language: str, tmp_path: Path) -> None:
    """It answers in the language of the card, the same each time, tells what the lorebook adds, and never twice the same."""
    card = card_of(language)
    entry = card_data(language)["character_book"]["entries"][0]
    said = [f"{entry['keys'][0]}?", "Do you like it here?", "language: Klingon"]
    talks = []
    for number in range(2):
        pool = LLMPool(cache_dir=tmp_path / str(number))
        conversation = Conversation(card, pool)
        talks.append([(await conversation.say(each)).text for each in said])
    assert talks[0] == talks[1]
    assert len(set(talks[0])) == len(said)
    assert entry["content"][:20] in talks[0][0]
    assert {text[0] for text in talks[0]} == {"*"}
    assert (language == "chinese") == all("\u4e00" <= text[1] <= "\u9fff" for text in talks[0])
    assert (await conversation.again()).text != talks[0][-1]
    assert conversation.transcript.notice.endswith("no language model.")
    assert conversation.transcript.notice in conversation._repr_html_()


async def test_chats_as_a_table(make_pool: MakePool, provider: ScriptedProvider, tmp_path: Path) -> None:
    """One row per turn as the chats stand, with what spoke and what it took; other files are left out with a warning."""
    provider.script = lambda body: f"Answer {len(provider.bodies)}."
    for user in ("Ann", "Ben"):
        conversation = Conversation(card_of(first_mes="Hi."), make_pool(), user=user)
        for said in ("The ledger?", "And now?"):
            await conversation.say(said)
        await conversation.again()
        path = conversation.save(tmp_path / "chats")
    frame = turns_df(tmp_path / "chats")
    assert list(frame.columns) == list(TURN_COLUMNS)
    assert frame["text"].tolist() == ["Answer 1.", "Answer 3.", "Answer 4.", "Answer 6."]
    assert frame["turn"].tolist() == [1, 2] * 2
    assert frame["replicate"].tolist() == [0, 1] * 2
    assert frame["lore"].tolist() == [("The ledger",)] * 4
    assert frame["output_tokens"].sum() == 20
    assert len(turns_df([path])) == 2
    (tmp_path / "chats" / "other.json").write_text("{}")
    with pytest.warns(UserWarning, match="no transcript"):
        assert len(turns_df(tmp_path / "chats")) == 4
    with pytest.raises(OutputError, match="there is no folder"):
        turns_df(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert list(turns_df(tmp_path / "empty").columns) == list(TURN_COLUMNS)


# In a cell


async def test_the_widget(make_pool: MakePool, provider: ScriptedProvider, tmp_path: Path) -> None:
    """What the browser sends is done and saved before it is shown; a second click while an answer is awaited is none."""
    provider.script = lambda body: "Seven boats."
    widget = chat(card_of(), make_pool(), folder=tmp_path / "chats", user="Ann")
    assert [line["text"] for line in widget.view["lines"]] == [card_data()["first_mes"]]
    await widget.act({"do": "say", "value": " The ledger? "})
    view = widget.view
    assert [(line["name"], line["own"], line["lore"]) for line in view["lines"][1:]] == [
        ("Ann", True, ""), ("Moira Kettley", False, "The ledger"),
    ]  # fmt: skip
    assert (view["heard"], view["turns"], view["waiting"], view["problem"]) == ("The ledger?", 1, False, "")
    assert list((tmp_path / "chats" / "Moira-Kettley").glob(view["saved"].removeprefix("saved as ")))
    await widget.act({"do": "undo"})
    assert widget.view["turns"] == 0
    for nonsense in ({}, {"do": "say", "value": 1}, {"do": "undo"}, {"do": "say", "value": " "}):
        await widget.act(nonsense)
    assert (widget.view["problem"], widget.view["heard"]) == ("nothing is said: write a message", "")


async def test_the_widget_stops(make_pool: MakePool, provider: ScriptedProvider, tmp_path: Path) -> None:
    """Stop cancels the answer that is awaited; what was typed stays, and an error is shown."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    async def hang(body: dict[str, Any]) -> None:
        loop.call_soon_threadsafe(asked.set)
        await asyncio.sleep(60)

    provider.wait = hang
    widget = chat(Conversation(card_of(), make_pool()), folder=tmp_path)
    for _ in range(2):
        widget._received(widget, {"do": "say", "value": "Hello."}, [])
    await asked.wait()
    assert widget.view["waiting"]
    waiting = widget._waiting
    widget._received(widget, {"do": "stop"}, [])
    assert waiting is not None
    await waiting
    assert (widget.view["waiting"], widget.view["problem"]) == (False, "stopped; nothing was said")
    assert provider.in_flight <= 1
    provider.wait = None
    provider.script = lambda body: failure(400, "too long")
    await widget.act({"do": "say", "value": "Hello."})
    assert "too long" in widget.view["problem"]
