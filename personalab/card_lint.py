"""Whether the text of a card is fit to be read and played: rules 15 to 24 of the card checks.

All of these are warnings: each rule of thumb can be wrong about one card, and none stops an export. Rules
that need to know what was asked for read it from `data.extensions.personalab` and are silent without it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from personalab import card_format, card_words
from personalab.card_structure import OWN_EXTENSION, Problem, shown, warning
from personalab.records import JsonObject
from personalab.tokens import count_tokens
from personalab.tweet_text import TWEET_LENGTH_MAX, fits_in_tweet, weighted_length

PERMANENT_TOKENS_MAX = 1200
TOTAL_TOKENS_MAX = 4096
GREETING_TOKENS = (80, 350)
ENTRY_TOKENS_MAX = 150
CONSTANT_TOKENS_MAX = 150
TAGS_MAX = 15
EXAMPLES_MIN = 2
GREETINGS_MIN = 2
ADULT = 18
COPIED_SHARE = 0.3
"""Share of a text that may stand word for word in an earlier one."""
CJK_SHARES = (0.2, 0.5)
"""Share of letters that are Chinese, Japanese or Korean: no more in other languages, no less in these."""
HANDLE_LENGTH_MAX = 15
"""Characters of a user name on X."""

_OWN = f"data.extensions.{OWN_EXTENSION}"
_RUN_CHARACTERS = 16
_COMPARED_CHARACTERS = 20_000
"""Of a longer text only the beginning is compared with others."""
_REMEMBERED_RUNS = 1_000_000
"""Bounds the memory for cards that are libraries."""
_ANSWERABLE_TAIL = 200
"""Characters at the end of a greeting in which there must be something to answer."""
_JUDGED_LETTERS_MIN = 10
_JUDGED_WORDS_MIN = 20

_PROSE_FIELDS = ("description", "personality", "scenario", "first_mes", "mes_example")
_PROMPT_FIELDS = ("system_prompt", "post_history_instructions")
_GREETING_FIELDS = ("alternate_greetings", "group_only_greetings")
_NETWORK_PARTS = ("close_friends", "past_relationships", "online_friends")


class _Text:
    """What the rules read of a card's data, with everything of a wrong type left out."""

    def __init__(self, data: JsonObject) -> None:
        self.data = data

    @cached_property
    def own(self) -> JsonObject:
        """Our own extension."""
        return _object(_object(self.data.get("extensions")).get(OWN_EXTENSION))

    @cached_property
    def name(self) -> str:
        return _string(self.data.get("name"))

    @cached_property
    def greetings(self) -> dict[str, str]:
        """Path and text of every first message."""
        found = {"data.first_mes": _string(self.data.get("first_mes"))}
        for field in _GREETING_FIELDS:
            for index, text in enumerate(_list(self.data.get(field))):
                found[f"data.{field}[{index}]"] = _string(text)
        return {path: text for path, text in found.items() if text.strip()}

    @cached_property
    def entries(self) -> dict[str, JsonObject]:
        """Path and value of every lorebook entry."""
        listed = _list(_object(self.data.get("character_book")).get("entries"))
        path = "data.character_book.entries"
        return {f"{path}[{index}]": entry for index, entry in enumerate(listed) if isinstance(entry, dict)}

    @cached_property
    def contents(self) -> dict[str, str]:
        """Path and text of every lorebook entry's content."""
        found = {f"{path}.content": _string(entry.get("content")) for path, entry in self.entries.items()}
        return {path: text for path, text in found.items() if text.strip()}

    @cached_property
    def prose(self) -> dict[str, str]:
        """Path and text of everything that is written in the card's language."""
        found = {f"data.{field}": _string(self.data.get(field)) for field in _PROSE_FIELDS}
        return {path: text for path, text in found.items() if text.strip()} | self.greetings | self.contents

    @cached_property
    def prompts(self) -> dict[str, str]:
        """Path and text of everything that reaches a model."""
        found = {f"data.{field}": _string(self.data.get(field)) for field in _PROMPT_FIELDS}
        return self.prose | {path: text for path, text in found.items() if text.strip()}

    @cached_property
    def keys(self) -> list[tuple[str, str]]:
        """Path and text of every key of the lorebook."""
        return [
            (f"{path}.keys[{index}]", key)
            for path, entry in self.entries.items()
            for index, key in enumerate(_list(entry.get("keys")))
            if isinstance(key, str)
        ]

    @cached_property
    def tweets(self) -> dict[str, JsonObject]:
        """Path and value of every example tweet."""
        listed = enumerate(_list(self.own.get("tweets")))
        return {f"{_OWN}.tweets[{index}]": tweet for index, tweet in listed if isinstance(tweet, dict)}

    @cached_property
    def people(self) -> dict[str, JsonObject]:
        """Path and value of everybody in the social network."""
        network = _object(self.own.get("social_network"))
        found: dict[str, JsonObject] = {}
        for part in _NETWORK_PARTS:
            for index, person in enumerate(_list(network.get(part))):
                if isinstance(person, dict) and isinstance(person.get("name"), str):
                    found[f"{_OWN}.social_network.{part}[{index}]"] = person
        return found

    @cached_property
    def language(self) -> str:
        return _string(self.own.get("language")).strip().casefold()


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def check_text(data: JsonObject) -> Iterator[Problem]:
    """Rules 15 to 24, and the rules of thumb for lorebook keys, for a card's `data`."""
    text = _Text(data)
    for rule in _RULES:
        yield from rule(text)


def _check_macros(text: _Text) -> Iterator[Problem]:
    for path, words in (text.prompts | dict(text.keys)).items():
        if re.search(r"\{\{|\}\}", card_words.MACRO.sub("", words)):
            yield warning(15, path, "has unbalanced {{ or }}", "close every macro: {{char}}, {{user}}")
        for macro in card_words.MACRO.findall(words):
            match = card_words.MACRO_NAME.match(macro.strip())
            name = match.group().lower() if match else ""
            if name not in card_words.MACROS:
                reason = f"holds the unknown macro {shown('{{' + macro + '}}')}"
                yield warning(15, path, reason, "keep macros untranslated: {{char}}, {{user}}")
            elif name == "original" and not path.endswith(_PROMPT_FIELDS):
                yield warning(15, path, "holds {{original}}, which prompts alone know", "remove it")
        if stand_in := card_words.USER_STAND_IN.search(words):
            yield warning(15, path, f"writes {shown(stand_in.group())}", "write {{user}} or {{char}}")


def _check_examples(text: _Text) -> Iterator[Problem]:
    path, words = "data.mes_example", _string(text.data.get("mes_example"))
    head, *blocks = card_words.START.split(words)
    if head.strip():
        yield warning(15, path, "does not open with <START>", "open each dialogue with a line <START>")
    if len(blocks) < EXAMPLES_MIN:
        mend = f"give at least {EXAMPLES_MIN}, so that the model need not speak for the user"
        yield warning(15, path, f"has {len(blocks)} dialogues", mend)
    for number, block in enumerate(blocks, 1):
        missing = [who for who in ("{{char}}:", "{{user}}:") if who not in block.replace("：", ":").lower()]
        if missing:
            mend = "begin each line of speech with {{user}}: or {{char}}:"
            yield warning(15, path, f"has no {' and no '.join(missing)} in dialogue {number}", mend)


def _check_greetings(text: _Text) -> Iterator[Problem]:
    for path, words in text.greetings.items():
        if voiced := card_words.SPEAKS_FOR_USER.search(words):
            mend = "leave what the user does and says to the user"
            yield warning(16, path, f"speaks for the user: {shown(voiced.group())}", mend)
        if not card_words.ANSWERABLE.search(words[-_ANSWERABLE_TAIL:]):
            mend = "end with a question, speech, or something for {{user}}"
            yield warning(16, path, "ends with nothing to answer", mend)
    for path, earlier in _copies(text.greetings):
        yield warning(16, path, f"repeats much of {earlier}", "set it in another place and mood")
    alternates = [path for path in text.greetings if path.startswith("data.alternate_greetings")]
    if len(alternates) < GREETINGS_MIN:
        mend = f"give at least {GREETINGS_MIN} in other places and moods"
        yield warning(16, "data.alternate_greetings", f"has {len(alternates)} greetings", mend)


def _check_leftovers(text: _Text) -> Iterator[Problem]:
    tweets = {f"{path}.text": _string(tweet.get("text")) for path, tweet in text.tweets.items()}
    for path, words in (text.prompts | tweets).items():
        if leftover := card_words.LEFTOVER.search(words):
            reason = f"holds {shown(leftover.group())}, a placeholder, a refusal or a note to the author"
            yield warning(17, path, reason, "write this text again")
        elif card_words.CUT_OFF.search(words):
            reason = f"ends with {shown(words.rstrip()[-1])} as if cut off"
            yield warning(17, path, reason, "finish the sentence")


def _check_lengths(text: _Text) -> Iterator[Problem]:
    tokens = {path: count_tokens(words) for path, words in text.prompts.items()}
    named = count_tokens(text.name)
    permanent = named + sum(tokens.get(f"data.{field}", 0) for field in _PROSE_FIELDS[:3])
    if permanent > PERMANENT_TOKENS_MAX:
        reason = f"takes some {permanent} tokens of every prompt"
        mend = f"bring description, personality and scenario under {PERMANENT_TOKENS_MAX} together"
        yield warning(18, "data", reason, mend)
    total = named + sum(count for path, count in tokens.items() if "[" not in path)
    total += sum(map(count_tokens, card_format.contents(text.data)))
    if total > TOTAL_TOKENS_MAX:
        reason = f"takes some {total} tokens in one chat"
        yield warning(18, "data", reason, f"shorten it to {TOTAL_TOKENS_MAX}, half of a small context")
    least, most = GREETING_TOKENS
    for path in text.greetings:
        if not least <= tokens[path] <= most:
            mend = f"write {least} to {most}, as long as replies should be"
            yield warning(18, path, f"has some {tokens[path]} tokens", mend)
    yield from _check_entry_lengths(text, tokens)


def _check_entry_lengths(text: _Text, tokens: dict[str, int]) -> Iterator[Problem]:
    for path in text.contents:
        if tokens[path] > ENTRY_TOKENS_MAX:
            mend = f"keep it under {ENTRY_TOKENS_MAX}: one fat entry pushes out the others"
            yield warning(18, path, f"has some {tokens[path]} tokens", mend)
    always = [path for path, entry in text.entries.items() if entry.get("constant") is True]
    constant = sum(tokens.get(f"{path}.content", 0) for path in always)
    if constant > CONSTANT_TOKENS_MAX:
        mend = f"keep constant entries under {CONSTANT_TOKENS_MAX} together"
        yield warning(18, "data.character_book.entries", f"has some {constant} constant tokens", mend)


def _check_names(text: _Text) -> Iterator[Problem]:
    named = {"data.name": text.name} | {f"{path}.name": who["name"] for path, who in text.people.items()}
    for path, name in named.items():
        words = name.casefold()
        if {words, *words.split()} & card_words.WORN_NAMES:
            reason = f"is {shown(name)}, one of the names that models give again and again"
            yield warning(19, path, reason, "choose a plainer name that fits place and age")
    first = Counter(name[:1].casefold() for path, name in named.items() if name and path != "data.name")
    letter, count = first.most_common(1)[0] if first else ("", 0)
    if count > max(2, sum(first.values()) / 2):
        reason = f"has {count} people whose names begin with {shown(letter)}"
        yield warning(19, f"{_OWN}.social_network", reason, "choose names that differ")


def _check_wording(text: _Text) -> Iterator[Problem]:
    for path, words in text.prose.items():
        if worn := card_words.WORN_PHRASE.search(words):
            yield warning(19, path, f"uses the worn phrase {shown(worn.group())}", "say it in other words")
    personality = _string(text.data.get("personality"))
    traits = re.split(r"[,，、;\n]", personality)
    if len(traits) >= 3 and all(count_tokens(trait) <= 4 for trait in traits):
        mend = "say how they behave when tired, praised, contradicted"
        yield warning(19, "data.personality", "is a list of adjectives", mend)
    told = {path: words for path, words in text.prose.items() if "greetings" not in path}
    for path, earlier in _copies(told):
        yield warning(19, path, f"repeats much of {earlier} word for word", "say something new in each")


def _check_age(text: _Text) -> Iterator[Problem]:
    age = text.own.get("age")
    if isinstance(age, int) and not isinstance(age, bool):
        if age < ADULT:
            yield warning(20, f"{_OWN}.age", f"is {age}", f"personas are adults of {ADULT} or more")
        for field in ("description", "personality", "scenario"):
            found = card_words.AGE.findall(_string(text.data.get(field)))
            ages = [int("".join(groups)) for groups in found]
            if ages and age not in ages:
                reason = f"says {ages[0]} years where the persona is {age}"
                yield warning(20, f"data.{field}", reason, "make both the same")
    for path, person in text.people.items():
        years = person.get("age")
        if isinstance(years, int) and years < ADULT:
            yield warning(20, f"{path}.age", f"is {years}", f"make everybody {ADULT} or more")


def _check_network(text: _Text) -> Iterator[Problem]:
    keys = {key.casefold().strip() for _, key in text.keys}
    names = Counter(person["name"] for person in text.people.values())
    missing = [name for name in names if not {name.casefold(), *name.casefold().split()} & keys]
    if missing:
        reason = f"has people without a lorebook entry: {shown(', '.join(missing))}"
        yield warning(21, f"{_OWN}.social_network", reason, "give each an entry with the name as key")
    for path, person in text.people.items():
        if names[person["name"]] > 1:
            yield warning(21, f"{path}.name", f"{shown(person['name'])} stands twice", "give each a name")
        if person["name"].casefold() == text.name.casefold():
            yield warning(21, f"{path}.name", "is the persona's own name", "give this person another name")


def _check_keys(text: _Text) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for path, key in text.keys:
        word = key.casefold().strip()
        if word in (text.name.casefold(), "{{char}}"):
            yield warning(21, path, "is the persona's own name, so it always fires", "use another key")
        if "," in key and not key.startswith("/"):
            yield warning(2, path, "has a comma, at which front ends split keys", "make it several keys")
        entry = path.partition(".keys")[0]
        if first.setdefault(word, entry) != entry:
            yield warning(2, path, f"{shown(key)} is also a key of {first[word]}", "keep it in one entry")


def _check_tweets(text: _Text) -> Iterator[Problem]:
    kinds = _list(_object(text.own.get("tweet_strategy")).get("content_types"))
    known = {_string(_object(kind).get("name")) for kind in kinds}
    seen: dict[str, str] = {}
    for path, tweet in text.tweets.items():
        words, kind = _string(tweet.get("text")), tweet.get("content_type")
        if not fits_in_tweet(words):
            mend = f"write 1 to {TWEET_LENGTH_MAX}: emoji and Chinese characters count 2, a link 23"
            yield warning(22, f"{path}.text", f"takes {weighted_length(words)} units", mend)
        if "{{" in words:
            yield warning(22, f"{path}.text", "holds a macro, which a tweet has no use for", "write it out")
        for handle in card_words.USER_NAME.findall(words):
            if len(handle) > HANDLE_LENGTH_MAX:
                mend = f"use at most {HANDLE_LENGTH_MAX} letters, digits and _"
                yield warning(22, f"{path}.text", f"mentions @{shown(handle)}, which is no user name", mend)
        if seen.setdefault(words, path) != path:
            yield warning(22, f"{path}.text", f"is the same as {seen[words]}", "write another")
        if known and (not isinstance(kind, str) or kind not in known):
            mend = "copy a name from tweet_strategy.content_types"
            yield warning(22, f"{path}.content_type", f"is {shown(kind)}", mend)


def _check_language(text: _Text) -> Iterator[Problem]:
    tweets = {f"{path}.text": _string(tweet.get("text")) for path, tweet in text.tweets.items()}
    for path, words in (text.prose | tweets).items() if text.language else ():
        plain = card_words.MACRO.sub("", words.replace("<START>", ""))
        if _in_other_script(plain, text.language) or _in_other_language(plain, text.language):
            mend = "write every text in the language asked for"
            yield warning(23, path, f"is not in {shown(text.own['language'])}", mend)
    tags = [tag for tag in _list(text.data.get("tags")) if isinstance(tag, str)]
    for index, tag in enumerate(tags):
        if tag != tag.lower() or not tag.strip():
            yield warning(23, f"data.tags[{index}]", f"is {shown(tag)}", "write tags in lower case")
    if len({tag.casefold() for tag in tags}) < len(tags):
        yield warning(23, "data.tags", "has a tag twice", "keep each once")
    if len(tags) > TAGS_MAX:
        yield warning(23, "data.tags", f"has {len(tags)} tags", f"keep the best {TAGS_MAX}")


def _in_other_script(words: str, language: str) -> bool:
    letters = len(card_words.LETTER.findall(words))
    if letters < _JUDGED_LETTERS_MIN:
        return False
    share = len(card_words.CJK.findall(words)) / letters
    return share < CJK_SHARES[1] if _is_cjk(language) else share > CJK_SHARES[0]


def _is_cjk(language: str) -> bool:
    if language in card_words.LANGUAGES:  # 英语 is English, whatever its letters
        return False
    words = re.split(r"[\W_]+", language)
    return bool(card_words.CJK.search(language)) or not card_words.CJK_LANGUAGES.isdisjoint(words)


def _in_other_language(words: str, language: str) -> bool:
    own = card_words.LANGUAGES.get(language)
    listed = re.findall(r"\w+", words.lower())
    if own is None or len(listed) < _JUDGED_WORDS_MIN:
        return False
    found = {name: sum(map(common.__contains__, listed)) for name, common in card_words.COMMON_WORDS.items()}
    return max(found.values()) > found[own]


def _check_origin(text: _Text) -> Iterator[Problem]:
    notes = _string(text.data.get("creator_notes"))
    if not card_words.FICTION.search(notes):
        yield warning(24, "data.creator_notes", "does not say that this is fiction", "say so")
    if not card_words.AI_MADE.search(notes):
        yield warning(24, "data.creator_notes", "does not say that AI made this", "say so")
    for path, words in _strings(text.own.get("provenance"), f"{_OWN}.provenance"):
        if secret := card_words.SECRET.search(words):
            reason = f"holds what looks like a key or a path on a disk: {shown(secret.group()[:6])}…"
            yield warning(24, path, reason, "remove it")


def _strings(value: Any, path: str) -> Iterator[tuple[str, str]]:
    waiting = [(path, value)]
    while waiting:
        place, item = waiting.pop()
        if isinstance(item, str):
            yield place, item
        elif isinstance(item, dict):
            waiting.extend((f"{place}.{key}", inner) for key, inner in item.items())
        elif isinstance(item, list):
            waiting.extend((f"{place}[{index}]", inner) for index, inner in enumerate(item))


def _copies(texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Path of each text that has too much in common with an earlier one, and the path of that one.

    What two have in common are runs of 16 characters. Each run is remembered for the first text only, so the
    work grows with the length of all texts and not with the number of pairs.
    """
    first: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for path, words in texts.items():
        plain = " ".join(words[:_COMPARED_CHARACTERS].casefold().split())
        starts = range(len(plain) - _RUN_CHARACTERS + 1)
        runs = dict.fromkeys(plain[start : start + _RUN_CHARACTERS] for start in starts)
        shared = Counter(first[run] for run in runs if run in first)
        for earlier, count in shared.most_common(1):
            if count > COPIED_SHARE * min(len(runs), sizes[earlier]):
                yield path, earlier
        if len(first) < _REMEMBERED_RUNS:
            sizes[path] = len(runs)
            for run in runs:
                first.setdefault(run, path)


_RULES = (
    _check_macros,
    _check_examples,
    _check_greetings,
    _check_leftovers,
    _check_lengths,
    _check_names,
    _check_wording,
    _check_age,
    _check_network,
    _check_keys,
    _check_tweets,
    _check_language,
    _check_origin,
)
