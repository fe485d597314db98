"""What X takes for a web address.

The rules are those of X's reference implementation, the JavaScript `twitter-text` 3.1.0, oddities included, in code of our
own. An address is a host with or without `http://`, and may have a port, a path and a query. A host ends in a top-level
domain that the reference knows (`tlds.txt`) or an encoded one (`xn--…`); what follows it may not be a Latin letter, a
digit, `@`, `+` or `-`. Without a scheme only the Latin part of a host counts, and a port or query only after a path.
"""

from __future__ import annotations

import array
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import regex

_ADDRESS_MAX, _LABEL_MAX, _SHORT_LINK_MAX = 4096, 63, 40
_MAYBE_ADDRESS = regex.compile(r"\.[^\W\d_]")
_REFUSED = "\ufffe\ufeff\uffff"
_DIRECTION = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SPACE = r"\t-\r \x85\xa0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_NOT_IN_HOST = r"!'#%&()*+,./:;<=>?@\[\]\\^{|}~$" + _SPACE + _REFUSED + _DIRECTION
_LATIN = r"a-zÀ-ÖØ-öø-ɏɓɔɖɗəɛɣɨɯɲʉʋʻ\u0300-\u036fḀ-ỿ"
_SCHEME = "(?i:http)[Ss]?://"
_QUERY = r"\?[A-Za-z0-9!?*'@();:&=+$/%#\[\]\-_.,~|]*[A-Za-z0-9\-_&=#/]"
_SHORT_LINK = regex.compile(rf"{_SCHEME}(?i:t\.co)/([A-Za-z0-9]+)(?:{_QUERY})?")
_OTHER_DOTS = regex.compile("[\u3002\uff0e\uff61]")


def around_addresses(text: str) -> list[str]:
    """The pieces of a text between its addresses, one more than there are addresses."""
    if not _MAYBE_ADDRESS.search(text):
        return [text]
    units = _utf16(text)
    pieces, position = [], 0
    for start, size in _addresses(units):
        if start >= position:
            pieces.append(_from_utf16(units[position:start]))
            position = start + size
    return [*pieces, _from_utf16(units[position:])]


def _utf16(text: str) -> str:
    """One character for each UTF-16 unit, as the reference sees a text: half an emoji can stand before a host."""
    if text.isascii():
        return text
    return "".join(map(chr, array.array("H", text.encode("utf-16", "surrogatepass")[2:])))


def _from_utf16(units: str) -> str:
    return (
        units
        if units.isascii()
        else units.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    )


def _addresses(text: str) -> Iterator[tuple[int, int]]:
    """Where the addresses of a text begin, and how much of it each takes."""
    patterns = _patterns()
    # Nothing is sought after the last dot with an ending: a long "a.a.a.a" would be tried from each of its letters.
    last = max((match.start() for match in patterns.ending.finditer(text)), default=-1)
    position = 0
    while position <= last and (match := patterns.address.search(text, position)):
        position = match.end()
        before, address, scheme, host, path = match.group("before", "address", "scheme", "host", "path")
        if not _is_host(host) or len(scheme or "https://") + len(address) > _ADDRESS_MAX:
            continue
        if scheme:
            short = _SHORT_LINK.match(address)
            if not short or len(short[1]) <= _SHORT_LINK_MAX:
                yield match.start("address"), len(short[0] if short else address)
        elif before not in ("-", "_", ".", "/"):
            yield from _bare(host, match.start("host"), len(address) - len(host) if path else 0)


def _bare(host: str, start: int, rest: int) -> Iterator[tuple[int, int]]:
    """The Latin parts of a host without a scheme; the last takes along the `rest` from the host to the path's end."""
    names = _patterns().latin_host.findall(host)
    end = 0
    for number, name in enumerate(names, 1):
        begin = host.find(name, end)
        end = begin + len(name)
        yield start + begin, len(name) + (rest if number == len(names) else 0)


def _is_host(host: str) -> bool:
    """Whether the name system could hold it: no label too long once encoded, none that only pretends to be encoded."""
    if host.startswith("xn--") and not _patterns().latin_host.search(host):
        return False
    return all(_encoded_length(label) <= _LABEL_MAX for label in host.split("."))


def _encoded_length(label: str) -> int:
    if label.isascii():
        return len(label)
    parts = _OTHER_DOTS.split(_from_utf16(label))
    encoded = [part.encode() if part.isascii() else b"xn--" + part.encode("punycode") for part in parts]
    return len(b".".join(encoded))


def _any_of(names: list[str]) -> str:
    """A pattern for any of the names: what they begin with in common once, the longer of two before the shorter."""
    if names == [""]:
        return ""
    groups = itertools.groupby(sorted(names, reverse=True), key=lambda name: name[:1])
    return f"(?:{'|'.join(letter + _any_of([name[1:] for name in group]) for letter, group in groups)})"


class _Patterns:
    """What depends on the list of top-level domains, which is read when the first text with a dot needs it."""

    def __init__(self) -> None:
        lines = Path(__file__).with_name("tlds.txt").read_text(encoding="utf-8").splitlines()
        known = _any_of([line for line in lines if not line.startswith("#")])
        # Whatever ignores case here: in the reference neither "İ" nor "ı" is an "i", and "ſ" no "s".
        known = regex.sub("[is]", lambda letter: f"(?-i:[{letter[0]}{letter[0].upper()}])", known)
        ending = rf"(?:(?i:{known})(?![0-9A-Za-z@+\-])|[Xx][Nn]--[\-0-9A-Za-z]+)"
        inner = rf"[^{_NOT_IN_HOST}_\-]"
        subdomain = rf"{inner}[^{_NOT_IN_HOST}]*+(?<![_\-])\."
        domain = rf"{inner}[^{_NOT_IN_HOST}_]*+(?<!-)\."
        letters = rf"0-9\u0400-\u04ff{_LATIN}"
        general = rf"(?i:[{letters}!*';:=+,.$/%#\[\]\-–_~@|&])"
        parens = rf"\((?:{general}+|{general}*\({general}+\){general}*)\)"
        path = rf"/(?:(?:{general}|{parens})*(?i:[{letters}+\-=_#/]))?(?:{parens})*"
        self.ending = regex.compile(rf"\.{ending}")
        self.latin_host = regex.compile(rf"(?:(?i:[\-0-9{_LATIN}])++\.)+{ending}")
        self.address = regex.compile(
            rf"(?P<before>[^A-Za-z0-9@＠$#＃{_REFUSED}]|\A)"
            rf"(?P<address>(?P<scheme>{_SCHEME})?(?P<host>(?:{subdomain})*{domain}{ending})"
            rf"(?::[0-9]+)?(?P<path>{path})?(?:{_QUERY})?)"
        )


_patterns = functools.cache(_Patterns)
