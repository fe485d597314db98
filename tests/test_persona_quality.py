"""A set of personas: what repeats, who is nearly the same, who contradicts themselves, with evidence."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import PORTRAITS
from hypothesis import given
from hypothesis import strategies as st

from personalab import Pipeline
from personalab.contradictions import Dated, find_contradictions
from personalab.errors import ConfigError
from personalab.jobs import calendars_of, plan_calendars, write_tweets
from personalab.persona_frames import (
    contradictions_df,
    near_personas_df,
    personas_df,
    repeats_df,
    spread_df,
)
from personalab.planner import Planner
from personalab.schemas import (
    BookEntry,
    CharacterBook,
    CorePersona,
    ExampleTweets,
    Relation,
    SocialNetwork,
    StageOutput,
    Tweet,
)


def persona(
    *,
    network: Mapping[str, dict[str, Any]] | None = None,
    book: str = "",
    tweet: str = "Rain again.",
    **fields: Any,
) -> dict[str, StageOutput]:
    """Outputs of a persona without contradictions, with some fields changed."""
    core = {
        "name": "Ana Lima",
        "age": 31,
        "occupation": "baker",
        "location": "Porto, Portugal",
        "description": "Ana Lima, 31, bakes at night. She likes the quiet, and her hands smell of bread.",
        "personality": "She is patient. Her jokes are dry.",
        "scenario": "A bakery at dawn.",
        "first_mes": "You're early.",
        "mes_example": "<START>\n{{user}}: Hi\n{{char}}: Bread?",
        "alternate_greetings": ("Still dark out.", "Closed, but come in."),
        "tags": ("baker", "night", "porto"),
        "appearance": "Flour on her sleeves.",
    }
    people = {
        "Rita Alves": {"relation": "sister", "age": 27},
        "Tom Reed": {"relation": "ex-boyfriend", "age": 34},
    }
    told = {
        "personality": "Loud.",
        "backstory": "Met long ago.",
        "current_status": "Busy.",
        "contact": "They call.",
    }
    relations = [
        Relation.model_validate({"name": name, "memorable_moments": ("A storm.",), **told, **about})
        for name, about in (people | dict(network or {})).items()
    ]
    return {
        "core_persona": CorePersona.model_validate(core | fields),
        "social_network": SocialNetwork.model_construct(
            close_friends=tuple(relations), past_relationships=(), online_friends=()
        ),
        "character_book": CharacterBook.model_construct(
            entries=(BookEntry(name="Bread", keys=("bread", "flour"), content=book or "Sourdough."),)
        ),
        "example_tweets": ExampleTweets.model_construct(tweets=(Tweet(content_type="x", text=tweet),)),
    }


def test_a_sound_persona() -> None:
    """Nothing is found where nothing is wrong."""
    assert find_contradictions(persona()) == ()
    assert find_contradictions({}) == ()


@pytest.mark.parametrize(
    ("outputs", "rule", "where", "says", "against", "stands"),
    [
        (persona(personality="She is a 29-year-old night owl. Her jokes are dry."), "age", "core_persona.personality", "29-year-old", "31", "core_persona.age"),
        (persona(description="Ana Lima, 35, bakes."), "age", "core_persona.description", "Ana Lima, 35", "31", "core_persona.age"),
        (persona(tweet="i'm 26, and my knees are 80"), "age", "example_tweets[0]", "i'm 26", "31", "core_persona.age"),
        (persona(tweet="Turning 40? I'm turning 40 today."), "age", "example_tweets[0]", "I'm turning 40", "31", "core_persona.age"),
        (persona(book="The oven is old. Ana is 44, she says."), "age", "character_book.Bread", "is 44", "31", "core_persona.age"),
        (persona(first_mes="My sister Rita (22) is here."), "age", "core_persona.first_mes", "Rita (22)", "27", "social_network.Rita Alves.age"),
        (persona(personality="He is patient. His jokes are dry."), "pronouns", "core_persona.personality", "he", "she", "core_persona.description"),
        (persona(network={"Tom Reed": {"relation": "ex-boyfriend", "age": 34, "current_status": "She moved away; her new place is small."}}), "pronouns", "social_network.Tom Reed.current_status", "she", "ex-boyfriend", "social_network.Tom Reed.relation"),
        (persona(tweet="I live in Lisbon and miss nothing"), "home", "example_tweets[0]", "I live in Lisbon", "Porto, Portugal", "core_persona.location"),
        (persona(description="Ana lives in Braga. She bakes, her way."), "home", "core_persona.description", "lives in Braga", "Porto, Portugal", "core_persona.location"),
        (persona(description="She is an only child, her mother's joy."), "kin", "social_network.Rita Alves", "my sister", "only child", "core_persona.description"),
        (persona(personality="She never married, her choice.", tweet="my husband burnt the rice"), "kin", "example_tweets[0]", "my husband", "never married", "core_persona.personality"),
        (persona(tweet="My sister Clara called at four."), "kin", "example_tweets[0]", "My sister Clara", "sister Rita", "social_network.Rita Alves"),
    ],
)  # fmt: skip
def test_contradictions(
    outputs: dict[str, StageOutput], rule: str, where: str, says: str, against: str, stands: str
) -> None:
    """Each is found once, with what both places say."""
    found = find_contradictions(outputs)
    assert [(each.rule, each.where, each.says, each.against, each.stands) for each in found] == [
        (rule, where, says, against, stands)
    ]
    assert f"{where} says {says!r}" in str(found[0])


@pytest.mark.parametrize(
    "outputs",
    [
        persona(tweet="I'm 31. My oven is 12 years old, the recipe 100."),
        persona(tweet="I'm turning 32 today"),
        persona(tweet="I'm 20 minutes late, as in 2019"),
        persona(description="Ana lives in Foz. She moved to Foz do Douro, Porto, when her aunt left."),
        persona(tweet="Here in August nobody bakes. Home in Porto by noon."),
        persona(tweet="My sister Rita called. Her brother Leo, too."),
        persona(description="Ana bakes. She has her brother Tom's old car, he says he wants it back."),
        persona(network={"Tom Reed": {"relation": "ex-boyfriend", "age": 34, "current_status": "He sends her cards."}}),
        persona(book="Tom is 34 and Rita Alves, 27, is not."),
    ],
)  # fmt: skip
def test_what_is_no_contradiction(outputs: dict[str, StageOutput]) -> None:
    """Ages of things, districts, other people's pronouns and homes are not the persona's."""
    assert find_contradictions(outputs) == ()


def test_weekdays_of_dated_tweets() -> None:
    """A tweet that says it is Friday stands on a Friday."""
    monday = dt.date(2026, 11, 30)
    texts = ["Happy Friday, all", "It's Monday. Again.", "see you friday", "#mondaymood", "friday vibes"]
    found = find_contradictions(persona(), [Dated(text=text, date=monday) for text in texts])
    assert [(each.where, each.says, each.against) for each in found] == [
        ("tweets[0]", "Happy Friday", "2026-11-30, a Monday"),
        ("tweets[4]", "friday vibes", "2026-11-30, a Monday"),
    ]


@given(st.text(max_size=80))
def test_any_text_can_be_checked(text: str) -> None:
    """No text breaks the rules."""
    outputs = persona()
    core = outputs["core_persona"]
    find_contradictions(
        outputs | {"core_persona": core.model_copy(update={"description": text, "first_mes": text})}
    )


async def test_frames_of_a_set(pipeline: Pipeline, tmp_path: Path) -> None:
    """Personas of a folder: one row each, what repeats among them, none nearly the same, none against itself."""
    images = [PORTRAITS / f"{name}.png" for name in ("pink_mohawk", "violet_hijab", "red_tie")]
    await pipeline.run_many(images, out=tmp_path / "personas").finish()
    personas = personas_df(tmp_path / "personas")
    assert personas["image"].tolist() == ["pink_mohawk.png", "red_tie.png", "violet_hijab.png"]
    assert personas["contradictions"].tolist() == [0, 0, 0]
    assert personas["copy_rate"].between(0, 1).all()
    assert contradictions_df(tmp_path / "personas").empty
    assert near_personas_df(personas).empty
    twins = pd.concat(
        [personas, personas.iloc[:1].assign(run="again", persona="Eve Olsen", first_name="Eve")]
    )
    near = near_personas_df(twins).iloc[0]
    assert (near["run_a"], near["run_b"]) == (personas.loc[0, "run"], "again")
    assert near["shared"] == "surname, occupation, location, age"


async def test_tweets_of_the_calendar_are_checked_too(pipeline: Pipeline, tmp_path: Path) -> None:
    """Tweets files are matched by the persona's identity, and each tweet has its day."""
    run = await pipeline.run(PORTRAITS / "red_tie.png")
    card = run.save(tmp_path / "personas").card
    assert card is not None
    await plan_calendars(Planner(pipeline.pool), [card], "2026-12", tmp_path / "calendars")
    await write_tweets(
        Planner(pipeline.pool), [card], calendars_of([card], tmp_path / "calendars"), tmp_path / "tweets"
    )
    assert contradictions_df(run, tmp_path / "tweets").empty
    identity = personas_df(run).loc[0, "persona_id"]
    told = {identity: [Dated(text="happy sunday", date=dt.date(2026, 12, 1))], "another": []}
    found = contradictions_df(run, told)
    assert found[["rule", "where", "says"]].to_numpy().tolist() == [["weekday", "tweets[0]", "happy sunday"]]
    assert personas_df(run, told).loc[0, "contradictions"] == 1


def test_repeats_and_spread() -> None:
    """Values that several share are listed by attribute; each condition by itself where asked for."""
    frame = pd.DataFrame(
        {
            "condition": ["a", "a", "a", "b", "b"],
            "first_name": ["Maya", "maya", "Lin", "Maya", "Ola"],
            "age": [30, 30, 41, 30, 22],
        }
    )
    found = repeats_df(frame, by="condition")
    assert found.to_numpy().tolist() == [["a", "first_name", "maya", 2, 2 / 3], ["a", "age", "30", 2, 2 / 3]]
    spread = spread_df(frame).set_index("attribute")
    assert spread.loc["first_name", ["n", "distinct", "top", "top_share"]].tolist() == [5, 3, "maya", 0.6]
    assert spread.loc["first_name", "effective"] == pytest.approx(2.586, abs=5e-4)
    assert spread_df(frame, by="condition")["evenness"].iloc[2] == 1
    with pytest.raises(ConfigError, match="unknown columns of personas"):
        spread_df(frame[["condition"]])
    with pytest.raises(ConfigError, match="unknown column 'conditon'"):
        repeats_df(frame, by="conditon")
