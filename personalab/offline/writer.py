"""The text of an answer, for a request: always the same for the same request. Read this first.

A known stage has a writer of its own, any other schema is filled by its shape, a persona that is talked with
answers, and without a schema comes a sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from personalab.offline.lexicon import Lexicon, open_lexicon
from personalab.offline.persona import recall
from personalab.offline.prompt_reader import Asked, read_prompt
from personalab.offline.schema_filler import fill
from personalab.offline.stage_calendar import calendar_days, calendar_outline, tweet
from personalab.offline.stage_chat import chat_reply, is_chat
from personalab.offline.stage_judge import judge_pair, judge_score
from personalab.offline.stage_life import authenticity, character_book, social_network, visual_profile
from personalab.offline.stage_persona import core_persona
from personalab.offline.stage_tweets import example_tweets, tweet_strategy
from personalab.offline.wire import Chat, read_chat
from personalab.records import JsonObject

_FREE_OBJECT: JsonObject = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
}

STAGE_WRITERS: dict[str, Callable[[Asked, Lexicon], JsonObject]] = {
    "core_persona": core_persona,
    "tweet_strategy": tweet_strategy,
    "example_tweets": example_tweets,
    "social_network": social_network,
    "authenticity": authenticity,
    "visual_profile": visual_profile,
    "character_book": character_book,
    "calendar_outline": calendar_outline,
    "calendar_days": calendar_days,
    "tweet": tweet,
    "judge_score": judge_score,
    "judge_pair": judge_pair,
}


def write(body: Any, replicate: str = "") -> str:
    """The answer to the body of a request; `replicate` is what its header x-personalab-replicate says.

    Raises:
        ApiError: the request is wrong, or cannot be answered here.
    """
    return compose(read_chat(body), replicate)


def compose(chat: Chat, replicate: str = "") -> str:
    """The answer to a checked request."""
    if is_chat(chat):
        return chat_reply(chat, replicate)
    asked = read_prompt(chat, replicate)
    lexicon = open_lexicon(asked.language)
    if asked.schema is None and not asked.wants_json:
        return recall(asked, lexicon)[1].say("plain")
    schema = asked.schema or _FREE_OBJECT
    stage = STAGE_WRITERS.get(asked.schema_name)
    if stage is None:
        return _dumped(fill(schema, asked, lexicon))
    return _dumped(_as_extended(stage(asked, lexicon), schema, asked, lexicon))


def _as_extended(made: JsonObject, schema: JsonObject, asked: Asked, lexicon: Lexicon) -> JsonObject:
    """What a stage gives, with the fields a researcher added to its schema and without those taken out."""
    wanted = schema.get("properties", made)
    if set(wanted) == set(made):
        return made
    filled = fill(schema, asked, lexicon)
    return {name: made.get(name, filled.get(name)) for name in wanted}


def _dumped(data: Any) -> str:
    return orjson.dumps(data, option=orjson.OPT_INDENT_2).decode()
