"""A persona: the outputs of the stages, put together as a character card, and read from one again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import regex
from pydantic import ValidationError

from personalab.cards import CharacterCard, read_card
from personalab.errors import CardError, ConfigError
from personalab.questions import for_prompt
from personalab.records import JsonObject, Record, explain
from personalab.schemas import (
    Authenticity,
    BookEntry,
    CharacterBook,
    CorePersona,
    Relation,
    SocialNetwork,
    StageOutput,
    TweetStrategy,
)
from personalab.stages import Brief

_CORE = ("name", "age", "occupation", "location", "description", "personality")
EXTENSION_VERSION = 1
_FULL_WIDTH = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
CREATOR = "personalab"

_NOTICES = {
    "english": "AI-made fiction: this person does not exist. Made for research on persona quality with {model}. Nobody real is meant.",
    "中文": "本角色由人工智能生成，纯属虚构，此人并不存在。用于人物质量研究，生成模型：{model}。不影射任何真实人物。",
    "español": "Ficción hecha por IA: esta persona no existe. Creada para investigar la calidad de personajes con {model}. No alude a nadie real.",
    "deutsch": "Von KI erfunden (AI-made): diese Person gibt es nicht. Für die Forschung an Personas mit {model} gemacht. Niemand Wirkliches ist gemeint.",
    "français": "Fiction produite par IA : cette personne n’existe pas. Faite pour la recherche sur les personas avec {model}. Personne de réel n’est visé.",
    "日本語": "AIが作成したフィクションです。この人物は実在しません。ペルソナ品質の研究のために{model}で作成されました。",
}
_LANGUAGE_NAMES = {
    "en": "english", "chinese": "中文", "zh": "中文", "简体中文": "中文", "繁體中文": "中文", "mandarin": "中文", "es": "español",
    "spanish": "español", "castellano": "español", "de": "deutsch", "german": "deutsch", "fr": "français",
    "french": "français", "ja": "日本語", "japanese": "日本語",
}  # fmt: skip


def notice(language: str, model: str) -> str:
    """The sentence that says it is AI-made, in the card's language where it is known, else in English."""
    name = language.strip().casefold()
    return _NOTICES.get(_LANGUAGE_NAMES.get(name, name), _NOTICES["english"]).format(model=model)


class Persona(Record):
    """A persona as read from its card: what planning a month and writing tweets need of it.

    `identity` tells it from every other, also from one of the same name. `card` is the file's name.
    """

    identity: str
    name: str
    language: str
    core: JsonObject
    strategy: TweetStrategy
    authenticity: Authenticity | None = None
    examples: tuple[str, ...] = ()
    model: str = ""
    card: str = ""

    def for_prompt(self) -> str:
        """Who this is, as JSON for a prompt."""
        return for_prompt(json.dumps(self.core, ensure_ascii=False, indent=1))


def open_persona(path: Path | str) -> Persona:
    """The persona in a card that personalab made (JSON or PNG).

    Raises:
        CardError: no card, a card of another origin, or one whose tweet strategy is missing; names the file.
    """
    card = read_card(path)
    own = card.extensions.get("personalab")
    if not isinstance(own, dict) or "persona_id" not in own:
        raise CardError(
            str(path),
            "was not made by personalab, so it has no tweet strategy; make one with: personalab persona",
        )
    if "tweet_strategy" not in own:
        raise CardError(
            str(path), "lacks the tweet strategy, as that stage failed; run personalab persona again"
        )
    try:
        card.to_json()  # half a surrogate pair could be sent nowhere
    except CardError as error:
        raise CardError(str(path), error.problem) from error
    try:
        return Persona(
            identity=own["persona_id"],
            name=card.name,
            language=own["language"],
            core={name: card.data.get(name, own.get(name)) for name in _CORE},
            strategy=TweetStrategy.model_validate(own["tweet_strategy"]),
            authenticity=Authenticity.model_validate(own["authenticity"]) if "authenticity" in own else None,
            examples=tuple(tweet["text"] for tweet in own.get("tweets", ())),
            model=str(own.get("provenance", {}).get("model", "")),
            card=Path(path).name,
        )
    except ValidationError as error:
        raise CardError(str(path), f"extensions.personalab: {explain(error)}; mend the card") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CardError(str(path), f"extensions.personalab is damaged ({error!r}); mend the card") from error


def persona_id(core: CorePersona, brief: Brief) -> str:
    """16 hex digits that stay with a persona: of who it is and what it started from."""
    start = brief.picture.sha256 if brief.picture else brief.description
    return hashlib.sha256(f"{start}\0{core.model_dump_json()}".encode()).hexdigest()[:16]


def assemble(
    outputs: Mapping[str, StageOutput], brief: Brief, model: str, provenance: JsonObject
) -> CharacterCard:
    """The card of a persona. Stages that are missing leave their part empty; the core persona has to be there.

    Raises:
        ConfigError: it is not, or it is of another kind.
    """
    core = outputs.get("core_persona")
    if not isinstance(core, CorePersona):
        raise ConfigError("a card needs a stage core_persona that gives a CorePersona (or a subclass of it)")
    made = notice(brief.language, model)
    data: JsonObject = {
        "name": core.name,
        "description": core.description,
        "personality": core.personality,
        "scenario": core.scenario,
        "first_mes": core.first_mes,
        "mes_example": core.mes_example,
        "creator_notes": made,
        "system_prompt": "",
        "post_history_instructions": "",
        "alternate_greetings": list(core.alternate_greetings),
        "tags": list(core.tags),
        "creator": CREATOR,
        "character_version": "1.0",
        "group_only_greetings": [],
        "extensions": {"personalab": _extension(core, outputs, brief, made, provenance)},
    }
    if book := _book(core, outputs, persona_id(core, brief)):
        data["character_book"] = book
    return CharacterCard.from_data(data)


def _extension(
    core: CorePersona, outputs: Mapping[str, StageOutput], brief: Brief, made: str, provenance: JsonObject
) -> JsonObject:
    parts: JsonObject = {
        "schema_version": EXTENSION_VERSION,
        "notice": made,
        "persona_id": persona_id(core, brief),
        "language": brief.language,
        "age": core.age,
        "occupation": core.occupation,
        "location": core.location,
        "appearance": core.appearance,
    }
    for name, output in outputs.items():
        if name not in ("core_persona", "character_book"):
            # A stage with a single list is that list: the tweets are the tweets, without a box around them.
            data = json.loads(output.model_dump_json())
            parts["tweets" if name == "example_tweets" else name] = (
                data["tweets"] if name == "example_tweets" else data
            )
    return parts | {"provenance": provenance}


def _book(core: CorePersona, outputs: Mapping[str, StageOutput], identity: str) -> JsonObject | None:
    entries = [*_own_entries(outputs.get("character_book")), *_people(core, outputs.get("social_network"))]
    taken: set[str] = {core.name.casefold()}
    listed: list[JsonObject] = []
    for entry in entries:
        keys = [key for key in entry.keys if key.casefold() not in taken]
        if keys:
            taken.update(key.casefold() for key in keys)
            listed.append(_entry(len(listed), entry, keys))
    if not listed:
        return None
    # Front ends import the book under its name and overwrite one of the same name, so it has to be its own.
    return {
        "name": f"{core.name} · {identity[:8]}",
        "scan_depth": 4,
        "token_budget": 1024,
        "recursive_scanning": False,
        "extensions": {},
        "entries": listed,
    }


def _own_entries(book: StageOutput | None) -> Iterator[BookEntry]:
    if isinstance(book, CharacterBook):
        yield from book.entries


def _people(core: CorePersona, network: StageOutput | None) -> Iterator[BookEntry]:
    """An entry for everybody in the network, so that a conversation knows them when they are mentioned."""
    if not isinstance(network, SocialNetwork):
        return
    family_name_of = core.name.casefold().split()
    for person in network.people():
        first = person.name.split()[0]
        keys = (
            [person.name, first]
            if len(first) >= 3 and first.casefold() not in family_name_of
            else [person.name]
        )
        yield BookEntry.model_construct(
            name=person.name, keys=tuple(dict.fromkeys(keys)), content=_about(person)
        )


def _about(person: Relation) -> str:
    relation = person.relation.rstrip(".。")
    if _FULL_WIDTH.search(person.backstory):
        return f"{person.name}（{person.age}）：{relation}。{person.backstory}{person.current_status}"
    return f"{person.name} ({person.age}): {relation}. {person.backstory} {person.current_status}"


def _entry(number: int, entry: BookEntry, keys: list[str]) -> JsonObject:
    return {
        "keys": keys,
        "content": entry.content,
        "extensions": {"exclude_recursion": True},
        "enabled": True,
        "insertion_order": 100 + 10 * number,
        "case_sensitive": False,
        "name": entry.name,
        "priority": 10,
        "id": number,
        "comment": entry.name,
        "selective": False,
        "secondary_keys": [],
        "constant": False,
        "position": "before_char",
        "use_regex": False,
    }
