"""Macros of character cards: `{{char}}`, `{{user}}` and their kin, replaced by what they stand for.

Source: the V3 specification, "Curly Braced Syntaxes", and V1 for `<BOT>` and `<USER>`. What nobody knows stays as it is.
"""

from __future__ import annotations

import hashlib
import re

from personalab.records import Record

_CHAR = re.compile(r"\{\{\s*char\s*\}\}|<char>|<bot>", re.IGNORECASE)
_USER = re.compile(r"\{\{\s*user\s*\}\}|<user>", re.IGNORECASE)
_ORIGINAL = re.compile(r"\{\{\s*original\s*\}\}", re.IGNORECASE)
_CALL = re.compile(
    r"\{\{\s*(?:(?P<note>//)|(?P<name>random|pick|roll|hidden_key|comment|reverse)\s*:)(?P<body>[^{}]*)\}\}",
    re.IGNORECASE,
)
_SIDES = re.compile(r"0*[1-9][0-9]{0,8}")
_COMMA = re.compile(r"(?<!\\),")


class Macros(Record):
    """What macros stand for: the card's name and the name of the person who talks with it.

    `moment` decides what `{{random}}` and `{{roll}}` draw, so that the same chat is always the same prompt; `{{pick}}`
    draws the same at every moment.
    """

    char: str
    user: str
    moment: int = 0

    def fill(self, text: str, *, hidden: bool = False) -> str:
        """The text with its macros replaced. `hidden` lets `{{hidden_key:…}}` be read, as a recursive scan does."""
        if "{{" not in text and "<" not in text:
            return text
        text = _CHAR.sub(lambda _: self.char, text)
        text = _USER.sub(lambda _: self.user, text)
        return _CALL.sub(lambda match: self._called(match, hidden), text)

    def _called(self, match: re.Match[str], hidden: bool) -> str:
        name, body = (match["name"] or "comment").lower(), match["body"]
        place = f"{match.start()}\0{body}"
        match name:
            case "random":
                return _drawn(_choices(body), f"{self.moment}\0{place}")
            case "pick":
                return _drawn(_choices(body), place)
            case "roll":
                sides = body.strip().lower().removeprefix("d")
                if not _SIDES.fullmatch(sides):
                    return match.group()
                return str(1 + _number(f"{self.moment}\0{place}") % int(sides))
            case "reverse":
                return body[::-1]
            case "hidden_key" if hidden:
                return body
            case _:
                return ""


def with_original(text: str, original: str) -> str:
    """A card's prompt with `{{original}}` replaced by what would stand there without it; that itself for an empty text."""
    return _ORIGINAL.sub(lambda _: original, text) if text.strip() else original


def _choices(body: str) -> list[str]:
    """The values between commas (`\\,` is a comma), or between double colons, as front ends write them."""
    body = body.removeprefix(":")
    if "::" in body:
        return body.split("::")
    return [choice.replace("\\,", ",") for choice in _COMMA.split(body)]


def _drawn(choices: list[str], seed: str) -> str:
    return choices[_number(seed) % len(choices)]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest()[:8])
