"""A persona that answers: a gesture, a line that fits what was said as far as words tell, and what the lorebook adds."""

from __future__ import annotations

import re

from personalab.offline.choice import Chooser
from personalab.offline.lexicon import CODES, Lexicon, open_lexicon
from personalab.offline.pen import Pen
from personalab.offline.persona import known
from personalab.offline.prompt_reader import plain, seed_of
from personalab.offline.wire import Chat

_CHARACTER = re.compile(r"<character>\nName: (?P<name>[^\n]+)\n(?P<about>.*?)\n?</character>", re.DOTALL)
_LORE = re.compile(r"<lore>\n(.*?)\n</lore>", re.DOTALL)
_SENTENCE = re.compile(r".+?(?:[.!?…]+[\"'”’»)]*(?=\s|\Z)|[。！？]+[”’）]*|\Z)", re.DOTALL)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W_]{2,}")
_QUOTES = {"en": ("“", "”"), "zh": ("“", "”"), "es": ("«", "»")}


def is_chat(chat: Chat) -> bool:
    """Whether a persona is talked with: the system message says who they are, and no JSON is wanted."""
    return chat.answer_format == "text" and _CHARACTER.search(chat.system_text) is not None


def chat_reply(chat: Chat, replicate: str = "") -> str:
    """What they say. What the visitor writes is no prompt: it only decides what comes to mind."""
    found = _CHARACTER.search(chat.system_text)
    name, about = (plain(found["name"]), found["about"]) if found else ("", "")
    name = name or "—"
    said = next((turn.text for turn in reversed(chat.turns) if turn.role == "user"), "")
    lexicon = open_lexicon(_language(about or said))
    seed = seed_of(chat, (), replicate)
    # What is said decides the order of preference, so that they do not say the same twice even at temperature 0.
    chooser = Chooser(f"{name}\0{said}\0{len(chat.turns)}", seed, chat.temperature, chat.top_p)
    _, pen = known({"name": name, "description": about}, lexicon, chooser)
    earlier = " ".join(turn.text for turn in chat.turns if turn.role == "assistant")
    opened, closed = _QUOTES[lexicon.code]
    parts = [f"*{_gesture(pen, earlier)}*", f"{opened}{_line(pen, said, earlier)}{closed}"]
    if lore := _lore(chat, said, earlier):
        parts.append(f"*{lore}*")
    return " ".join(parts)


def _line(pen: Pen, said: str, earlier: str) -> str:
    """The answer to the question most like what was said, of those that were not given before."""
    wanted = _words(said, pen.lexicon)
    start = pen.chooser.index("dialogues", len(pen.lexicon.entries["dialogues"]))
    dialogues = [*pen.lexicon.entries["dialogues"][start:], *pen.lexicon.entries["dialogues"][:start]]
    pairs = [(one[f"user{at}"], pen.fill(one[f"char{at}"])) for one in dialogues for at in (1, 2)]
    fresh = [pair for pair in pairs if pair[1] not in earlier] or pairs
    return max(fresh, key=lambda pair: len(wanted & _words(pair[0], pen.lexicon)))[1]


def _lore(chat: Chat, said: str, earlier: str) -> str:
    """The next sentence of an entry that spoke, of the one nearest to what was said; nothing once all of it was told."""
    entries = [line for section in _LORE.findall(chat.system_text) for line in section.splitlines()]
    fresh = []
    for entry in entries:
        sentences = [found[0].strip() for found in _SENTENCE.finditer(entry)]
        fresh += [(entry, one) for one in sentences if one and one not in earlier][:1]
    wanted = set(_WORD.findall(said.casefold()))
    nearest = max(
        fresh, key=lambda pair: len(wanted & set(_WORD.findall(pair[0].casefold()))), default=("", "")
    )
    return nearest[1]


def _gesture(pen: Pen, earlier: str) -> str:
    """One that was not seen before, as long as there is one."""
    gestures = pen.say_some("gestures", len(pen.lexicon.texts["gestures"]))
    return next((gesture for gesture in gestures if gesture not in earlier), gestures[0])


def _words(text: str, lexicon: Lexicon) -> set[str]:
    return set(_WORD.findall(text.casefold())) - set(lexicon.texts["small_words"])


def _language(text: str) -> str:
    """Chinese by its characters, else the language whose little words are the more frequent."""
    if _HAN.search(text):
        return "zh"
    words = re.findall(r"\w+", text.casefold())
    spaced = [code for code in CODES if code != "zh"]
    return max(
        spaced, key=lambda code: sum(word in open_lexicon(code).texts["small_words"] for word in words)
    )
