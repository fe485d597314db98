"""A judge that reads its texts: it quotes them, and scores by what can be counted in them. It is no judge of quality.

Figures, names and uncommon words raise a score, so it is the same for the same text; temperature makes it waver. It
leans to whichever text comes first, as real judges do, so that flips and position bias can be seen.
"""

from __future__ import annotations

import re

from personalab.offline.choice import Chooser, number
from personalab.offline.lexicon import Lexicon
from personalab.offline.prompt_reader import Asked
from personalab.records import JsonObject

_QUOTE_WORDS = (3, 7)
_LEAN, _TIE = 0.03, 0.02
_WAVERING = 0.35
_BASE, _PER_MARK, _OWN = 0.35, 0.012, 0.6
_WORDS_A_MARK = 40
_MARK = re.compile(r"\d+|(?<=[a-z] )[A-Z]\w+|\w{9,}|[*\"“„«]")


def judge_score(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """A score from 1 to 5 and a quote."""
    text = _section(asked.text, "text")
    chooser = _chooser(asked)
    if not text.split():
        return {"quotes": [], "explanation": "There is no text to judge.", "score": None}
    score = min(
        5,
        max(
            1,
            round(1 + 4 * (_worth(text, asked) + chooser.random.gauss(0, _WAVERING / 4) * asked.temperature)),
        ),
    )
    quote = _quote(text, chooser)
    told = f"Counted, not understood: {len(_MARK.findall(text))} marks of something particular in {len(text.split())} words."
    return {"quotes": [quote], "explanation": told, "score": score}


def judge_pair(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """The text in which more can be counted, or a tie."""
    texts = [_section(asked.text, name) for name in ("first", "second")]
    chooser = _chooser(asked)
    first, second = (_worth(text, asked) for text in texts)
    lead = first - second + _LEAN + chooser.random.gauss(0, _WAVERING / 4) * asked.temperature
    winner = "tie" if abs(lead) < _TIE else "first" if lead > 0 else "second"
    told = "Counted, not understood: figures, names and uncommon words."
    return {
        "quotes": [_quote(text, chooser) for text in texts if text.split()],
        "explanation": told,
        "winner": winner,
    }


def _section(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", text, re.DOTALL)
    return found[1].strip() if found else ""


def _chooser(asked: Asked) -> Chooser:
    return Chooser(str(number(asked.text)), asked.seed, asked.temperature, asked.top_p)


def _worth(text: str, asked: Asked) -> float:
    """0 to 1: marks of something particular among the words, and a little that the text alone decides."""
    share = len(_MARK.findall(text)) / max(1, len(text.split()))
    own = number(text) % 1000 / 1000 - 0.5
    return min(1.0, max(0.0, _BASE + _PER_MARK * _WORDS_A_MARK * share + _OWN * own))


def _quote(text: str, chooser: Chooser) -> str:
    words = text.split()
    length = min(
        len(words), _QUOTE_WORDS[0] + chooser.index("quote length", _QUOTE_WORDS[1] - _QUOTE_WORDS[0])
    )
    start = chooser.index("quote", max(1, len(words) - length))
    return " ".join(words[start : start + length])
