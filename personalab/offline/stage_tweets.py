"""Stages 2 and 3: how the persona tweets, and eight tweets in that way, with their habits showing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from personalab.offline.lexicon import Entry, Lexicon
from personalab.offline.pen import Pen, join
from personalab.offline.persona import Persona, recall
from personalab.offline.prompt_reader import Asked
from personalab.offline.stage_persona import wish_words
from personalab.records import JsonObject
from personalab.tweet_text import fits_in_tweet

HABITS = ("lower_case", "dropped_full_stops", "typos", "fillers", "slang")
GENERAL_KINDS = ("street", "shop", "transport", "night")
TWEETS = 8

_RARE, _WORDY = 0.12, 0.45
_ASIDE_SHARE = 0.12
_OWN_SHARE = 0.7
_TRIES = 60
_WORD = re.compile(r"[\w'’]+")


@dataclass(frozen=True)
class Topic:
    """A kind of tweet: what it is called, what it is about, its own tweets, and others that fit as well."""

    name: str
    about: str
    tweets: tuple[str, ...]
    others: tuple[str, ...] = ()


def tweet_strategy(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """Voice, content types and cadence."""
    persona, pen = recall(asked, lexicon)
    own, general = own_topics(persona, pen), [_general_topic(kind, pen) for kind in GENERAL_KINDS]
    at = pen.chooser.index("general", len(general) - 1)
    topics = [*own, *general[at : at + 1], general[-1]]
    if pen.between("topic count", 0, 2):
        topics.insert(-1, general[(at + 1) % (len(general) - 1)])
    weights = _weights(len(topics), pen)
    return {
        "voice": _voice(asked, persona, pen),
        "content_types": [
            {"name": topic.name, "description": topic.about, "weight": weight}
            for topic, weight in zip(topics, weights, strict=True)
        ],
        "cadence": pen.say("cadence_line"),
    }


def example_tweets(asked: Asked, lexicon: Lexicon) -> JsonObject:
    """Eight tweets of the strategy's content types."""
    persona, pen = recall(asked, lexicon)
    names, weights = _content_types(asked, persona, pen)
    topics = known_topics(persona, pen)
    rates = habits(persona)
    opened: set[str] = set()
    tweets = []
    for name in spread(names, weights):
        text = _fresh(topics.get(name.casefold()) or _guess(name, persona, pen), pen, rates, opened)
        tweets.append({"content_type": name, "text": text})
    return {"tweets": tweets}


def some_tweet(persona: Persona, pen: Pen) -> str:
    """A tweet of any kind, with the habits showing."""
    topics = own_topics(persona, pen)
    return _fresh(topics[pen.chooser.index("any topic", len(topics))], pen, habits(persona), set())


def habits(persona: Persona) -> dict[str, float]:
    """How often each writing habit shows: most are rare, one or two are common, the young write smaller."""
    fixed = Random(persona.identity)
    rates = {name: round(fixed.uniform(0.0, _RARE), 2) for name in HABITS}
    young = ("lower_case", "slang", "dropped_full_stops")
    liked = young if persona.age < 40 else HABITS
    for name in fixed.sample(liked, fixed.choice((1, 1, 2))):
        rates[name] = round(fixed.uniform(0.3, 0.7), 2)
    for name in ("typos", "fillers", "slang"):
        rates[name] = min(rates[name], _WORDY)
    return rates


def own_topics(persona: Persona, pen: Pen) -> list[Topic]:
    """The kinds that follow from work, pastime and grudge."""
    others = (*pen.lexicon.texts["work_tweets"], *(flaw["tweet"] for flaw in persona.flaws))
    work = persona.occupation
    return [
        _topic(work["name1"], work["about1"], (work["tweet1a"], work["tweet1b"]), pen, others),
        _topic(work["name2"], work["about2"], (work["tweet2a"], work["tweet2b"]), pen, others),
        *(
            _topic(own["topic"], own["about"], _numbered(own), pen)
            for own in (persona.pastime, persona.grudge)
        ),
    ]


def known_topics(persona: Persona, pen: Pen) -> dict[str, Topic]:
    """Every kind this persona may have, by its name in small letters."""
    general = [
        _topic(entry["name"], entry["about"], pen.lexicon.texts[f"{kind}_tweets"], pen)
        for kind in GENERAL_KINDS
        for entry in pen.lexicon.entries[kind]
    ]
    return {topic.name.casefold(): topic for topic in (*general, *own_topics(persona, pen))}


def spread(names: list[str], weights: list[float], count: int = TWEETS) -> Iterator[str]:
    """`count` names, spread as the weights say, with at least four different ones where there are four."""
    left = dict.fromkeys(names, 0)
    for at in range(count):
        unseen = [name for name in names if not left[name]]
        missing = min(4, len(names)) - (len(names) - len(unseen))
        among = unseen if missing >= count - at else names
        best = max(among, key=lambda name: weights[names.index(name)] / (left[name] + 1))
        left[best] += 1
        yield best


def styled(text: str, pen: Pen, rates: dict[str, float]) -> str:
    """A text with the habits showing, each as often as its rate says."""

    def shows(habit: str) -> bool:
        return pen.chooser.random.random() < rates[habit]

    if odd := pen.odd():
        text = join(text, odd, code=pen.lexicon.code)
    if shows("fillers"):
        text = join(pen.say("fillers"), text, code=pen.lexicon.code)
    if shows("slang"):
        text = re.sub(r"[.。]$", "", text) + pen.say("slang")
    if shows("typos"):
        text = _mistyped(text, pen)
    if shows("dropped_full_stops"):
        text = re.sub(r"(?<![.])[.。]$", "", text)
    return text.lower() if shows("lower_case") else text


def opening(text: str) -> str:
    """The first word, or in Chinese the first character."""
    found = _WORD.search(text)
    word = found[0].casefold() if found else text[:1]
    return word if word[:1] < "\u2e80" else word[:1]


def _topic(name: str, about: str, tweets: tuple[str, ...], pen: Pen, others: tuple[str, ...] = ()) -> Topic:
    return Topic(pen.fill(name), pen.fill(about), tweets, others)


def _numbered(entry: Entry) -> tuple[str, ...]:
    return entry["tweet1"], entry["tweet2"], entry["tweet3"]


def _general_topic(kind: str, pen: Pen) -> Topic:
    entry = pen.choose(kind)
    return _topic(entry["name"], entry["about"], pen.lexicon.texts[f"{kind}_tweets"], pen)


def _weights(count: int, pen: Pen) -> list[float]:
    """Shares that sum to 1: uneven, the last one small."""
    raw = [0.4 + pen.chooser.share(f"weight {at}") for at in range(count - 1)] + [0.18]
    shares = [round(value / sum(raw), 2) for value in raw]
    shares[0] = round(shares[0] + 1 - sum(shares), 2)
    return shares


def _voice(asked: Asked, persona: Persona, pen: Pen) -> str:
    rates = habits(persona)
    pen = pen.knowing(habit=pen.say(f"habit_{max(rates, key=lambda name: rates[name])}"))
    words = wish_words(asked.wishes, pen.lexicon)
    wished = pen.knowing(words=pen.lexicon.texts["comma"][0].join(words)).say("wished") if words else ""
    return join(pen.say("voice_line"), wished, pen.odd(), code=pen.lexicon.code)


def _content_types(asked: Asked, persona: Persona, pen: Pen) -> tuple[list[str], list[float]]:
    listed = (asked.strategy or {}).get("content_types")
    kinds = [kind for kind in listed if isinstance(kind, dict)] if isinstance(listed, list) else []
    named = {kind["name"]: _weight(kind.get("weight")) for kind in kinds if isinstance(kind.get("name"), str)}
    if not named:
        named = {topic.name: 1.0 for topic in own_topics(persona, pen)}
    return list(named), list(named.values())


def _weight(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else 0.01


def _guess(name: str, persona: Persona, pen: Pen) -> Topic:
    """A kind that no lexicon knows gets what this persona writes about anyway."""
    topics = list(known_topics(persona, pen).values())
    return topics[pen.chooser.index("guess", len(topics))]


def _fresh(topic: Topic, pen: Pen, rates: dict[str, float], opened: set[str]) -> str:
    """A tweet of the topic that begins with no word that was begun with."""
    text = ""
    for attempt in range(_TRIES):
        text = styled(_raw(topic, pen, attempt), pen, rates)
        if opening(text) not in opened and fits_in_tweet(text):
            break
    opened.add(opening(text))
    return text


def _raw(topic: Topic, pen: Pen, attempt: int) -> str:
    """A tweet of the topic's own or another that fits; an aside now and then, and when they have run out."""
    if attempt > len(topic.tweets) + len(topic.others) or pen.chooser.chance(_ASIDE_SHARE):
        return pen.say("asides")
    own = not topic.others or (attempt < len(topic.tweets) and pen.chooser.random.random() < _OWN_SHARE)
    tweets = topic.tweets if own else topic.others
    return pen.fill(tweets[pen.chooser.index(f"tweets {tweets[0]}", len(tweets))])


def _mistyped(text: str, pen: Pen) -> str:
    """One slip: a pair that is often mixed up, or else two letters in the wrong order."""
    for entry in pen.lexicon.entries["slips"]:
        if entry["right"] in text:
            return text.replace(entry["right"], entry["wrong"], 1)
    words = list(re.finditer(r"(?<![\w’'])[a-z]{5,}(?![\w’'])", text))
    if not words:
        return text
    word = words[pen.chooser.random.randrange(len(words))]
    at = word.start() + pen.chooser.random.randrange(1, 3)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
