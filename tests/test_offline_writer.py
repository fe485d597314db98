"""The offline writer: what it reads, what it writes, how temperature and replicates change it."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from personalab.dialect import Dialect
from personalab.images import open_picture
from personalab.offline.choice import Chooser
from personalab.offline.image_reader import look, palette
from personalab.offline.lexicon import CODES, language_code, open_lexicon
from personalab.offline.pattern_sample import sample
from personalab.offline.pen import Pen, article, keys_of
from personalab.offline.stage_tweets import HABITS
from personalab.offline.wire import ApiError
from personalab.offline.writer import write
from personalab.schemas import StageOutput
from personalab.stages import STAGES, Brief
from personalab.tweet_text import fits_in_tweet

LANGUAGES = ("English", "Chinese", "Spanish")
PICTURES = 20
TEMPERATURES = (0.0, 0.85, 1.7)
CLICHES = (
    "Elara Elias Sarah Marcus Lily Elena Amara Mara Luna Kai Aria Zara Silas Aiden Maya Liam Aurora Isla Chen Vasquez "
    "Okafor Voss Thorne Blackwood Blackthorn Whitmore Ashford Sinclair"
)
HOLES = (
    "name first age title district town pastime grudge keepsake circle flaw1 flaw2 years family2 man woman somebody "
    "colour1 colour2 colour3 given trade words habit shine "
    "thing topic detail holiday prop"
)
MACROS = re.compile(r"\{\{(user|char)\}\}|<START>")


@cache
def drawing(number: int, size: int = 96) -> bytes:
    """A picture with colours of its own."""
    random = Random(number)
    image = Image.new("RGB", (size, size), tuple(random.randrange(256) for _ in range(3)))
    pencil = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, width = random.randrange(size), random.randrange(size), random.randrange(10, 70)
        pencil.ellipse((x, y, x + width, y + width), fill=tuple(random.randrange(256) for _ in range(3)))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@cache
def brief_for(number: int, **wishes: str) -> Brief:
    return Brief(picture=open_picture(drawing(number)), **wishes)


def body_of(
    name: str, brief: Brief, done: dict[str, StageOutput], temperature: float | None = 0.85
) -> dict[str, Any]:
    """The body the pool would send for a stage."""
    stage = next(stage for stage in STAGES if stage.name == name).vary(temperature=temperature)
    return Dialect().body(stage.request(brief, done), "any")


def persona_of(brief: Brief, temperature: float = 0.85, replicate: str = "") -> dict[str, StageOutput]:
    """All seven stages, each parsed as the pipeline does."""
    done: dict[str, StageOutput] = {}
    for stage in STAGES:
        text = write(body_of(stage.name, brief, done, temperature), replicate)
        done[stage.name] = stage.output.model_validate_json(text, context={"done": done})
    return done


@cache
def samples(language: str) -> tuple[tuple[float, dict[str, StageOutput]], ...]:
    """Twenty pictures at three temperatures."""
    return tuple(
        (temperature, persona_of(brief_for(number, language=language), temperature))
        for temperature in TEMPERATURES
        for number in range(PICTURES)
    )


def texts(value: Any) -> Iterator[str]:
    """Every string in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts(item)


def all_texts(language: str) -> Iterator[str]:
    for _, done in samples(language):
        for output in done.values():
            yield from texts(output.model_dump())


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_stage_fits_its_schema_and_leaves_no_hole(language: str) -> None:
    """Holes are filled, spaces are single, nothing is punctuated twice."""
    for text in all_texts(language):
        assert not re.search(r"[\[\]]| {2,}|[.,;:]{2,}|[。，；]{2,}|\s[,.;:]|[?!]\.", text), text


def test_english_says_a_and_an() -> None:
    """The article fits the word after it."""
    wrong = re.compile(r"\b[Aa] (?!one|once|uni|use|eu)[aeiou]\w|\b[Aa]n (?!E\b)[^aeiouh\W]")
    assert [text for text in all_texts("English") if wrong.search(text)] == []


def test_spanish_contracts() -> None:
    """`de el` and `a el` become `del` and `al`."""
    assert [text for text in all_texts("Spanish") if re.search(r"\b(de|a) el [a-z]", text)] == []


def test_chinese_has_no_latin_letters_but_macros() -> None:
    """All values are in the language asked for."""
    assert [text for text in all_texts("Chinese") if re.search("[A-Za-z]", MACROS.sub("", text))] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_first_messages_are_long_enough_and_ask(language: str) -> None:
    """60 to 150 words (Chinese: characters over 1.7), ending in a question, other greetings in other scenes."""
    for _, done in samples(language):
        core: Any = done["core_persona"]
        greetings = (core.first_mes, *core.alternate_greetings)
        for text in greetings:
            words = len(text) / 1.7 if language == "Chinese" else len(text.split())
            assert 60 <= words <= 150, text
            assert re.search(r"[?？][”’»]?$", text), text
            assert "{{user}}" not in text
        assert len({text.split("\n\n")[1] for text in greetings}) == len(greetings)
        assert core.scenario.count("{{user}}") == core.scenario.count("{{char}}") == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_dialogues_have_their_form(language: str) -> None:
    """Two or three, each opened by <START>, every line by a macro."""
    for _, done in samples(language):
        core: Any = done["core_persona"]
        lines = core.mes_example.splitlines()
        assert lines.count("<START>") in (2, 3)
        assert all(re.match(r"<START>$|\{\{(user|char)\}\}: \S", line) for line in lines)
        assert len(core.description.split("\n\n")) == 3
        assert 5 <= len(core.tags) <= 8


@pytest.mark.parametrize("language", LANGUAGES)
def test_tweets_open_differently_and_can_be_posted(language: str) -> None:
    """No two open with one word, at least four types, each within 280 units."""
    for _, done in samples(language):
        tweets = done["example_tweets"].tweets  # type: ignore[attr-defined]
        openings = [re.search(r"[\w'’]+", tweet.text)[0].casefold() for tweet in tweets]  # type: ignore[index]
        openings = [word[0] if language == "Chinese" else word for word in openings]
        assert len(set(openings)) == 8, openings
        assert len({tweet.content_type for tweet in tweets}) >= 4
        assert all(fits_in_tweet(tweet.text) for tweet in tweets)


def test_habits_show_in_the_tweets_as_often_as_the_profile_says() -> None:
    """Who is said to write in small letters does, and the others hardly ever."""
    shares: dict[bool, list[bool]] = {True: [], False: []}
    for _, done in samples("English"):
        rate = done["authenticity"].writing_habits.lower_case  # type: ignore[attr-defined]
        for tweet in done["example_tweets"].tweets:  # type: ignore[attr-defined]
            shares[rate > 0.25].append(tweet.text == tweet.text.lower())
    often, seldom = (sum(shares[key]) / len(shares[key]) for key in (True, False))
    assert often > 0.3 > 0.15 > seldom


@pytest.mark.parametrize("language", LANGUAGES)
def test_people_are_adults_with_initials_of_their_own(language: str) -> None:
    """First letters differ, also from the persona's; ages are near the persona's own."""
    for _, done in samples(language):
        core: Any = done["core_persona"]
        people = done["social_network"].people()  # type: ignore[attr-defined]
        initials = [core.name[0], *(person.name[0] for person in people)]
        assert len(set(initials)) == len(initials)
        assert all(18 <= person.age <= 95 and abs(person.age - core.age) <= 35 for person in people)


@pytest.mark.parametrize("language", LANGUAGES)
def test_later_stages_are_about_the_same_person(language: str) -> None:
    """The book names the persona, the props hold their tool, the flaws are those of the description."""
    lexicon = open_lexicon(next(code for code in CODES if language_code(language) == code))
    for _, done in samples(language):
        core: Any = done["core_persona"]
        book: Any = done["character_book"]
        assert core.name.split()[0] in book.entries[0].content
        keys = [key.casefold() for entry in book.entries for key in entry.keys]
        assert len(set(keys)) == len(keys)
        assert core.name.casefold() not in keys
        shown = {flaw.shows for flaw in done["authenticity"].flaws}  # type: ignore[attr-defined]
        said = [flaw for flaw in lexicon.entries["flaws"] if _either(flaw["line"], core.personality)]
        assert len(said) == 2
        assert all(any(text.startswith(flaw["shows"]) for text in shown) for flaw in said)


def _either(line: str, text: str) -> bool:
    """Whether a line stands in a text, said of a man or of a woman."""
    return any(re.sub(r"\[([^|\]]*)\|([^\]]*)\]", kept, line) in text for kept in (r"\1", r"\2"))


def test_pictures_decide_who_it_is() -> None:
    """Different pictures give different people, the same picture the same at temperature 0, whoever asks."""
    first = [persona_of(brief_for(number), 0.0) for number in range(10)]
    assert len({done["core_persona"].name for done in first}) == 10  # type: ignore[attr-defined]
    assert first == [persona_of(brief_for(number), 0.0, replicate="7") for number in range(10)]


def test_seen_colours_are_named() -> None:
    """A red picture gives something red to wear, a navy one something navy."""
    for colour, word in (("#ce2626", "red"), ("#1a2450", "navy"), ("#f4dc48", "yellow")):
        file = io.BytesIO()
        Image.new("RGB", (80, 80), colour).save(file, "PNG")
        core = json.loads(write(body_of("core_persona", Brief(picture=open_picture(file.getvalue())), {})))
        assert re.search(rf"\b{word}\b", core["appearance"])
        assert re.search(rf"\b{word}\b", core["description"])


def test_a_description_works_like_a_picture() -> None:
    """Its words, its age and its gender show; another description is somebody else."""
    one, other = (
        json.loads(write(body_of("core_persona", Brief(description=text), {})))
        for text in (
            "a widow of 61 who mends nets and [cannot] swim",
            "a quiet young man with a broken umbrella",
        )
    )
    assert one["age"] == 61
    assert "a widow of 61 who mends nets and cannot" in one["description"]
    assert " she " in one["description"].lower()
    assert " he " in other["description"].lower()
    assert one["name"] != other["name"]


@pytest.mark.parametrize(
    ("language", "place", "wish", "word"),
    [
        ("English", "Leeds", "Make her sarcastic", "sarcastic"),
        ("español", "Puebla, México", "que odie los trenes", "trenes"),
        ("中文", "青岛", "喜欢猫", "喜欢猫"),
    ],
)
def test_place_and_wishes_are_heeded(language: str, place: str, wish: str, word: str) -> None:
    """The location holds the place asked for; words of the instructions come up in description and voice."""
    done = persona_of(brief_for(3, language=language, location=place, instructions=wish))
    assert place in done["core_persona"].location  # type: ignore[attr-defined]
    assert word in done["core_persona"].description  # type: ignore[attr-defined]
    assert word in done["tweet_strategy"].voice  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("English", "en"),
        ("en-GB", "en"),
        ("British English", "en"),
        ("中文", "zh"),
        ("zh-CN", "zh"),
        ("Chinese (Simplified)", "zh"),
        ("Mandarin", "zh"),
        ("Español", "es"),
        ("es", "es"),
        ("Mexican Spanish", "es"),
    ],
)
def test_languages_have_many_names(language: str, code: str) -> None:
    """As people write them."""
    assert language_code(language) == code


@pytest.mark.parametrize("language", ["French", "Deutsch", "日本語", "Français en Belgique", "?"])
def test_another_language_is_refused_with_a_way_out(language: str) -> None:
    """400, naming the languages there are."""
    with pytest.raises(ApiError, match="English, Chinese and Spanish") as caught:
        write(body_of("core_persona", Brief(description="somebody", language=language), {}))
    assert caught.value.status == 400


@pytest.mark.parametrize("stage", ["core_persona", "example_tweets"])
def test_temperature_widens_the_choice(stage: str) -> None:
    """More distinct texts over 20 replicates at 0, 0.5, 1.0, 1.5, counting sentences rather than whole answers."""
    done = persona_of(brief_for(5), 0.0)
    counts = []
    for temperature in (0.0, 0.5, 1.0, 1.5):
        body = body_of(stage, brief_for(5), done, temperature)
        answers = [json.loads(write(body, str(replicate))) for replicate in range(20)]
        counts.append(
            len({sentence for answer in answers for text in texts(answer) for sentence in text.split(". ")})
        )
    assert counts == sorted(counts)
    assert counts[1] > counts[0]
    assert counts[3] > 1.5 * counts[1]


def test_top_p_narrows_the_choice() -> None:
    """A small nucleus at a high temperature is as narrow as a low temperature."""
    body = body_of("core_persona", brief_for(5), {}, 1.5)
    wide = {json.loads(write(body, str(replicate)))["name"] for replicate in range(12)}
    narrow = {json.loads(write({**body, "top_p": 0.02}, str(replicate)))["name"] for replicate in range(12)}
    assert len(narrow) < len(wide)


def test_seed_replicate_and_prompt_change_the_answer_and_nothing_else_does() -> None:
    """The same body gives the same text, whatever the model is called and however long it may get."""
    body = body_of("social_network", brief_for(2), persona_of(brief_for(2)))
    text = write(body)
    assert text == write(json.loads(json.dumps(body)))
    assert text == write({**body, "model": "another", "max_completion_tokens": 5000, "stream": True})
    assert len({text, write(body, "1"), write({**body, "seed": 1}), write({**body, "seed": 2})}) == 4
    body["messages"][0]["content"] += " Be brief."
    assert text != write(body)


def test_a_schema_in_the_system_text_does_as_well() -> None:
    """For endpoints without JSON schema the client writes it there; the stage is known by its title."""
    done = persona_of(brief_for(1))
    for mode in ("json_object", "text"):
        request = STAGES[1].request(brief_for(1), done)
        body = Dialect(answer_mode=mode).body(request, "any")  # type: ignore[arg-type]
        assert STAGES[1].parse(write(body), done)


def test_without_a_schema_comes_a_sentence() -> None:
    """Plain text in the language of the prompt, JSON if only that was asked for."""
    body = {"model": "any", "messages": [{"role": "user", "content": "Language: Spanish\nHola"}]}
    assert re.match(r"(Apuntado|Yo lo diría|En resumen)", write(body))
    assert json.loads(write({**body, "response_format": {"type": "json_object"}}))["answer"]


def test_a_prompt_without_a_persona_gets_one() -> None:
    """A researcher's own prompt may leave it out."""
    for name in (stage.name for stage in STAGES):
        schema = next(stage for stage in STAGES if stage.name == name).output.model_json_schema()
        assert json.loads(write(_asking(schema, name, "Write something")))


def test_a_persona_of_a_real_model_is_understood() -> None:
    """Name, occupation and place are used although no lexicon knows them; markup in them does no harm."""
    core = {
        "name": "Ottavia <b>[Brundt]",
        "age": "old",
        "occupation": "marine biologist [tool] at {{user}}'s",
        "location": "Bergen",
        "description": "She counts fish. Her boat leaks.",
    }
    text = f"<core_persona>\n{json.dumps(core)}\n</core_persona>".replace("<b>", "\\u003cb>")
    for name in (stage.name for stage in STAGES):
        schema = next(stage for stage in STAGES if stage.name == name).output.model_json_schema()
        answer = write(_asking(schema, name, text))
        assert not re.search(r"\bb>|tool\]|<b|\[B", MACROS.sub("", answer))
        if name in ("social_network", "character_book"):
            assert "Ottavia" in answer


def test_a_stage_with_another_field_is_answered() -> None:
    """A researcher's own version of a stage keeps its writer, and its new field is filled."""
    schema = STAGES[4].output.model_json_schema()
    schema["properties"]["explanation"] = {"type": "string"}
    answer = json.loads(write(_asking(schema, "authenticity", "x")))
    assert set(answer) == {"writing_habits", "flaws", "explanation"}
    assert set(answer["writing_habits"]) == set(HABITS)


def _asking(schema: dict[str, Any], name: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "model": "any",
        "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": text}],
        "response_format": {"type": "json_schema", "json_schema": {"name": name, "schema": schema}},
        **more,
    }


# Any other schema

_NAMES = st.sampled_from(
    ["score", "explanation", "name", "date", "tags", "tweet", "age", "items", "weight", "x"]
)


def _strings() -> st.SearchStrategy[dict[str, Any]]:
    lengths = st.tuples(st.integers(0, 30), st.integers(0, 60)).map(
        lambda pair: {"type": "string", "minLength": pair[0], "maxLength": sum(pair)}
    )
    patterns = st.sampled_from([r"^[A-Z]{2}\d{3,5}$", r"^(red|blue)-\w+$", r"^\d{4}-\d{2}$", "[a-f]+"])
    return st.one_of(
        st.just({"type": "string"}),
        lengths,
        patterns.map(lambda pattern: {"type": "string", "pattern": pattern}),
        st.sampled_from(["date", "date-time", "email", "uuid", "uri"]).map(
            lambda kind: {"type": "string", "format": kind}
        ),
        st.lists(st.text("abc", min_size=1), min_size=1, max_size=4, unique=True).map(
            lambda items: {"enum": items}
        ),
    )


def _numbers() -> st.SearchStrategy[dict[str, Any]]:
    bounds = st.tuples(st.integers(-50, 50), st.integers(0, 100))
    return st.one_of(
        bounds.map(lambda pair: {"type": "integer", "minimum": pair[0], "maximum": sum(pair)}),
        bounds.map(lambda pair: {"type": "number", "minimum": pair[0], "maximum": sum(pair)}),
        bounds.map(lambda pair: {"type": "integer", "exclusiveMinimum": pair[0]}),
        bounds.map(lambda pair: {"type": "number", "exclusiveMaximum": pair[0]}),
        st.integers(2, 9).map(
            lambda step: {"type": "integer", "multipleOf": step, "minimum": -20, "maximum": 20}
        ),
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": 3}, {"type": ["string", "null"]}]),
    )


def _objects(parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def made(properties: dict[str, Any], required: bool) -> dict[str, Any]:
        names = list(properties) if required else []
        return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}

    return st.builds(made, st.dictionaries(_NAMES, parts, max_size=4), st.booleans())


def _schemas() -> st.SearchStrategy[dict[str, Any]]:
    return st.recursive(
        _strings() | _numbers(),
        lambda parts: st.one_of(
            _objects(parts),
            st.builds(lambda part, low, more: {"type": "array", "items": part, "minItems": low, "maxItems": low + more}, parts, st.integers(0, 3), st.integers(0, 3)),
            st.builds(lambda first, second: {"anyOf": [first, second]}, parts, parts),
            st.builds(lambda part: {"type": "object", "additionalProperties": part}, parts),
        ),
        max_leaves=12,
    )  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_schemas(), st.sampled_from(LANGUAGES), st.sampled_from([0.0, 1.0, 2.0]))
def test_any_schema_gets_an_answer_that_fits(
    schema: dict[str, Any], language: str, temperature: float
) -> None:
    """Ranges, lengths, patterns, formats, unions, nesting."""
    jsonschema = pytest.importorskip("jsonschema")
    whole = {"type": "object", "properties": {"answer": schema}, "required": ["answer"]}
    text = write(_asking(whole, "eighth_stage", f"Language: {language}\nDo it", temperature=temperature))
    checker = jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker())
    assert [error.message for error in checker.iter_errors(json.loads(text))] == []


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_bounds_are_exclusive_or_not(temperature: float) -> None:
    """What leaves room for one number only gets that number."""
    schema = {
        "type": "object",
        "properties": {
            "four": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
            "seven": {"type": "number", "minimum": 7, "maximum": 7},
            "twelve": {"type": "integer", "multipleOf": 6, "minimum": 7, "maximum": 17},
        },
    }
    answer = json.loads(write(_asking(schema, "bounds", "x", temperature=temperature)))
    assert answer == {"four": 4, "seven": 7, "twelve": 12}


def test_references_and_recursion_end() -> None:
    """Definitions are followed; a tree of trees stops growing; what never ends is refused."""
    tree = {"$ref": "#/$defs/Tree"}
    schema = {
        "$defs": {
            "Tree": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "parts": {"type": "array", "items": tree}},
                "required": ["name", "parts"],
            }
        },
        **tree,
    }
    assert json.loads(write(_asking(schema, "tree", "x")))["name"]
    endless = {
        "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"]}}
    }
    for hopeless in (
        {**endless, "$ref": "#/$defs/A"},
        {"$ref": "#/$defs/none"},
        {"type": "integer", "minimum": 5, "maximum": 4},
    ):
        with pytest.raises(ApiError, match="cannot fill this schema"):
            write(_asking(hopeless, "hopeless", "x"))


def test_a_judge_gets_scores_with_explanations_that_differ() -> None:
    """At temperature 0 one text keeps its scores, other texts get others, although the persona is the same."""
    item = {
        "type": "object",
        "properties": {
            "explanation": {"type": "string"},
            "score": {"type": "integer", "minimum": 1, "maximum": 5},
        },
        "required": ["explanation", "score"],
    }
    schema = {"type": "object", "properties": dict.fromkeys(("voice", "detail"), item), "required": ["voice"]}
    core = persona_of(brief_for(0))["core_persona"].model_dump_json()
    scores = []
    for number in range(20):
        body = _asking(
            schema, "judge", f"<core_persona>{core}</core_persona>\nTweet: {number}", temperature=0
        )
        scores.append(json.loads(write(body))["voice"]["score"])
        assert write(body) == write(body, "3")
    assert len(set(scores)) >= 3


def test_a_calendar_gets_the_dates_of_its_prompt_and_the_types_of_its_strategy() -> None:
    """Lists of dated things are as long as there are dates."""
    slot = {"type": "object", "properties": {"date": {"type": "string"}, "content_type": {"type": "string"}}}
    schema = {"type": "object", "properties": {"slots": {"type": "array", "items": slot}}}
    dates = [f"2026-02-{day:02d}" for day in range(1, 29)]
    strategy = json.dumps({"content_types": [{"name": "bins"}, {"name": "knees"}]})
    text = f"<tweet_strategy>{strategy}</tweet_strategy>\nDays: {', '.join(dates)}"
    slots = json.loads(write(_asking(schema, "calendar", text)))["slots"]
    assert [slot["date"] for slot in slots] == dates
    assert {slot["content_type"] for slot in slots} <= {"bins", "knees"}


@pytest.mark.parametrize(
    "pattern", [r"^a{2}[^a-z]\d+(x|y)?$", r"(?i)^yes|no$", r"^(.)\1$", r"^[\w.-]+@[\w-]+\.\w{2,}$"]
)
def test_patterns_are_sampled(pattern: str) -> None:
    """What is sampled is found again by the pattern."""
    assert all(re.search(pattern, sample(pattern, Random(seed)) or "") for seed in range(20))


def test_impossible_patterns_are_given_up() -> None:
    """None, not an error."""
    assert sample(r"(?!a)a", Random(0)) is None
    assert sample("(", Random(0)) is None


# Pictures


def _address(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def test_pictures_are_seen_as_they_are() -> None:
    """Size, brightness, colours; the hash is of the pixels, whatever the encoder."""
    file, again = io.BytesIO(), io.BytesIO()
    image = Image.new("RGB", (70, 50), (16, 16, 18))
    image.save(file, "PNG")
    image.save(again, "PNG", compress_level=1)
    seen = look(_address(file.getvalue()))
    assert (seen.width, seen.height, seen.colours) == (70, 50, ("black",))
    assert seen.brightness < 0.1
    assert seen.sha256 == look(_address(again.getvalue())).sha256


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/cat.png",
        "data:image/png;base64,????",
        _address(b"not an image"),
        _address(drawing(1)[:200]),
        _address(b""),
        "",
        _address(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg+xml"),
    ],
)
def test_bad_pictures_are_refused(address: str) -> None:
    """400 with OpenAI's code, and nothing is fetched."""
    with pytest.raises(ApiError) as caught:
        look(address)
    assert (caught.value.status, caught.value.code) == (400, "invalid_image_format")


def test_bombs_are_refused_before_they_are_decoded() -> None:
    """A picture of 10,000 by 10,000 pixels in a few kilobytes."""
    file = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(file, "PNG")
    with pytest.raises(ApiError, match="million pixels"):
        look(_address(file.getvalue()))


# Lexicons


@pytest.mark.parametrize("code", CODES)
def test_lexicons_have_the_same_keys_and_enough_of_everything(code: str) -> None:
    """Same lists, same fields, and the numbers the writing needs."""
    lexicon, english = open_lexicon(code), open_lexicon("en")
    assert set(lexicon.texts) == set(english.texts)
    assert {name: set(items[0]) for name, items in lexicon.entries.items()} == {
        name: set(items[0]) for name, items in english.entries.items()
    }
    given = [name for key, names in lexicon.texts.items() if key.startswith("given_") for name in names]
    assert len(set(given)) >= 80
    assert len(set(lexicon.texts["family"])) >= 60
    assert len(lexicon.texts["places"]) >= 40
    assert len(lexicon.entries["occupations"]) >= 40
    assert {entry["id"] for entry in lexicon.entries["colours"]} == set(palette())
    for name in (
        "pastimes",
        "grudges",
        "flaws",
        "keepsakes",
        "scenes",
        "dialogues",
        "locals",
        "beliefs",
        "close",
    ):
        assert len(lexicon.entries[name]) >= 20, name
    for name in (
        "contradiction",
        "want",
        "own",
        "event",
        "street_tweets",
        "fillers",
        "slang",
        "odd",
        "poses",
    ):
        assert len(lexicon.texts[name]) >= 20, name


@pytest.mark.parametrize("code", CODES)
def test_every_line_of_the_lexicons_can_be_written(code: str) -> None:
    """Each text and entry is filled once: no hole without a fact or list, for men and for women."""
    lexicon = open_lexicon(code)
    work = dict(lexicon.entries["other_work"][0])
    facts = {**work, **dict.fromkeys(HOLES.split(), "X")}
    for gender in "mf":
        pen = Pen(lexicon, Chooser("x", "x", 1.0), gender, facts)
        for name, items in lexicon.entries.items():
            for entry in items if name != "tidy" else ():
                for field, text in entry.items():
                    assert not re.search(r"[\[\]|]", pen.fill(text)), (name, field, text)
        for name in lexicon.texts:
            for text in lexicon.texts[name]:
                assert not re.search(r"[\[\]|]", pen.fill(text)), (name, text)


@pytest.mark.parametrize("code", CODES)
def test_keys_of_entries_are_usable(code: str) -> None:
    """At least two, of three letters or two Chinese characters."""
    least = 2 if code == "zh" else 3
    for items in open_lexicon(code).entries.values():
        for entry in items:
            if "keys" in entry:
                assert len(keys_of(entry)) >= 2, entry
                assert all(len(key) >= least for key in keys_of(entry)), entry


def test_names_are_not_those_of_machines() -> None:
    """None of the names that turn up in every generated story."""
    cliches = set(CLICHES.split())
    for code in CODES:
        lexicon = open_lexicon(code)
        for name in lexicon.texts:
            if name.startswith("given_") or name == "family":
                assert not cliches & set(lexicon.texts[name])


@pytest.mark.parametrize(
    ("word", "expected"), [("hour", "an"), ("usher", "an"), ("one", "a"), ("olive", "an"), ("tan", "a")]
)
def test_article(word: str, expected: str) -> None:
    """By sound, not by letter."""
    assert article(word) == expected


def test_importing_the_server_loads_no_heavy_library() -> None:
    """Pillow, openai and pandas are loaded by whoever needs them."""
    code = (
        "import sys, personalab.offline.server\n"
        "print([name for name in ('PIL', 'openai', 'pandas', 'httpx2') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
