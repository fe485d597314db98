"""Words and patterns that the text rules of the card checks look for, in English, Spanish and Chinese.

Short lists of what is common, not complete ones: they are there to be extended when a card shows the need.
"""

from __future__ import annotations

import re

import regex

MACRO = re.compile(r"\{\{([^{}]*)\}\}")
MACRO_NAME = re.compile(r"//|[\w-]*")
MACROS = frozenset(
    (
        "char", "user", "original", "random", "pick", "roll", "hidden_key", "comment", "reverse", "//",
        "persona", "description", "personality", "scenario", "mesexamples", "group", "charifnotgroup",
        "model", "time", "date", "weekday", "isotime", "isodate", "idle_duration", "lastmessage", "newline",
        "trim", "noop",
    )
)  # fmt: skip
"""Names of the macros of the V3 specification and of those that the most used front end adds."""

USER_STAND_IN = re.compile(
    r"<(?:user|bot|char)>|\[user\]|\[(?:(?:your|the|user'?s?) )?(?:user ?)?name\]"
    r"|^(?:user|usuario|用户|用戶)\s*[:：]",
    re.IGNORECASE | re.MULTILINE,
)
"""What stands for the user where `{{user}}` is due."""

START = re.compile(r"^<START>[ \t]*$", re.MULTILINE)

_ENGLISH_ACTS = (
    "says?|said|nods?|smiles?|thinks?|feels?|decides?|repl(?:y|ies)|blush(?:es)?|walks?|looks?|sighs?"
)
_SPANISH_ACTS = "dice|asiente|sonríe|piensa|siente|decide|responde|mira|camina|suspira"
_CHINESE_ACTS = "说|說|点头|點頭|点了点头|微笑|笑了|心想|觉得|覺得|回答|决定|決定|感到|走"
SPEAKS_FOR_USER = re.compile(
    r"^\{\{user\}\}\s*[:：]"
    rf"|\{{\{{user\}}\}}\s*(?:(?:{_ENGLISH_ACTS}|{_SPANISH_ACTS})\b|(?:{_CHINESE_ACTS}))"
    r"|\byou (?:say|nod|smile|think|feel|decide|reply|blush|sigh)\b",
    re.IGNORECASE | re.MULTILINE,
)

ANSWERABLE = re.compile(r"[?？]|\{\{user\}\}|[\"”»」』]", re.IGNORECASE)
"""What a user can answer: a question, speech, or being named."""

LEFTOVER = re.compile(
    r"```|</?think(?:ing)?>|</?tool_call>|<\|im_(?:start|end)\|>|\[/?INST\]|\[insert\b|\[\.{3}\]|\[truncated\]"
    r"|\(continued\)|\blorem ipsum\b|\bplaceholder\b|(?-i:\bTODO\b|\bTBD\b)"
    r"|\bas an ai(?:,| (?:language )?(?:model|assistant))|\bi can(?:not|'t) (?:help|assist|fulfil|comply)"
    r"|\bi(?:'m| am) sorry, but\b|^(?:sure|certainly|of course)[,!] here|^here(?:'s| is) (?:the|your|a)\b"
    r"|\bcomo (?:una )?ia,|\bcomo modelo de lenguaje|\blo siento, (?:pero )?no puedo|^claro[,:] aquí"
    r"|作为(?:一个|一名)?(?:人工智能|AI)(?:助手|语言模型|模型|，)|抱歉，我(?:不能|无法)"
    r"|待补充|待填写|此处省略|（未完）|^好的，(?:以下|这是)",
    re.IGNORECASE,
)
"""Placeholders, refusals, fences, tool syntax and notes that a model leaves in a field."""

CUT_OFF = re.compile(r"[,，、;；:：(（\-–]\s*\Z")

WORN_NAMES = frozenset(
    (
        "elara", "voss", "elias", "thorne", "vasquez", "vásquez", "okafor", "amara", "mara", "luna", "lyra",
        "kael", "seraphina", "sarah chen", "marcus chen", "林默", "陈默", "林晚", "苏晚", "沈砚",
    )
)  # fmt: skip
"""Names, or words of names, that models give again and again."""

WORN_PHRASE = re.compile(
    r"a testament to|tapestry of|barely above a whisper|shivers? down (?:her|his|their|my|your) spine"
    r"|eyes? (?:sparkl|twinkl|glint)\w* with|couldn't help but|un testimonio de|apenas un susurro|un tapiz de"
    r"|嘴角勾起一抹|眼中闪过一丝|不由自主地|空气仿佛凝固",
    re.IGNORECASE,
)

_KIN = "son|daughter|brother|sister|boy|girl|child|kid|dog|cat|car|house|building"
AGE = re.compile(
    rf"\b(\d{{1,3}})[- ]years?[- ]old\b(?! (?:{_KIN})\b)"
    r"|\b(?:is|aged) (\d{1,3})(?=[,.;]| and\b)"
    r"|\b(?:de|tiene) (\d{1,3}) años\b(?! (?:de|después|antes|atrás)\b)"
    r"|(?:今年|现年|，|^|是)(\d{1,3})岁(?!时|那年|的时候|以后|起|就|后|前|的(?:儿子|女儿|弟弟|妹妹))",
    re.IGNORECASE | re.MULTILINE,
)
"""How old somebody is now, in digits: not what happened at some age, nor how old a child or a house is."""

SECRET = re.compile(r"\b(?:sk|pk|hf|ghp)[-_][A-Za-z0-9_-]{16,}|(?:/home/|/Users/|/root/|[A-Z]:\\)[^\s\"']+")
"""Keys, and paths that name a user of a computer."""

FICTION = re.compile(r"ficti|ficci|fiktiv|erfunden|虚构|虛構|フィクション", re.IGNORECASE)
AI_MADE = re.compile(
    r"\b(?:AI|IA|KI)\b|artificial|人工智能|人工知能|language model", re.ASCII | re.IGNORECASE
)

USER_NAME = re.compile(r"(?<![\w.])@(\w+)", re.ASCII)
"""A user name that a tweet mentions."""

CJK = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
LETTER = regex.compile(r"\p{L}")
CJK_LANGUAGES = frozenset(("chinese", "mandarin", "cantonese", "japanese", "korean", "zh", "ja", "ko"))
LANGUAGES = {
    "english": "english",
    "en": "english",
    "inglés": "english",
    "英语": "english",
    "spanish": "spanish",
    "es": "spanish",
    "español": "spanish",
    "castellano": "spanish",
    "西班牙语": "spanish",
}
"""Ways to name a language whose common words are known."""
COMMON_WORDS = {
    "english": frozenset(("the", "and", "of", "to", "is", "in", "that", "with", "was", "her", "his", "for")),
    "spanish": frozenset(("el", "la", "de", "que", "y", "en", "los", "se", "un", "una", "por", "con")),
}
