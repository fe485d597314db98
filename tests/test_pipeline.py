"""An image becomes a run, on the embedded provider and on a scripted one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PORTRAITS, ScriptedProvider, failure, picture_bytes, reply

from personalab import STAGES, LLMPool, Pipeline, stage
from personalab.card_checks import check_card
from personalab.errors import ConfigError, ImageError, KeyRefused, ReplyInvalid
from personalab.frames import stages_df
from personalab.offline.writer import write
from personalab.runs import Run
from personalab.schemas import StageOutput

TURBAN = PORTRAITS / "teal_turban.png"
NAMES = [each.name for each in STAGES]


def stage_of(body: dict[str, Any]) -> str:
    return str(body["response_format"]["json_schema"]["name"])


@pytest.fixture
def scripted(provider: ScriptedProvider, make_pool: Callable[..., LLMPool]) -> Pipeline:
    """A pipeline on the scripted provider, which answers as the embedded one does until told otherwise."""
    provider.script = write
    return Pipeline(make_pool())


async def test_seven_stages_and_a_card(pipeline: Pipeline) -> None:
    """A portrait becomes a whole persona with a valid card that says it is AI-made."""
    run = await pipeline.run(TURBAN)
    assert (run.status, run.name, run.calls) == ("done", "teal_turban", 7)
    assert set(run.outputs) == set(NAMES)
    assert [problem for problem in check_card(run.card.v3()) if problem.level == "error"] == []
    own = run.card.extensions["personalab"]
    assert own["age"] == run["core_persona"].age >= 18
    assert len(own["tweets"]) == 8
    assert "AI-made" in own["notice"]
    assert "personalab-offline" in own["notice"]
    assert run.card_tokens["total"] > run.card_tokens["permanent"] > 0


@pytest.mark.parametrize("language", ["English", "中文", "Español"])
async def test_languages(pipeline: Pipeline, language: str) -> None:
    """A card is wholly in its language; macros stay as they are."""
    run = await Pipeline(pipeline.pool, language=language).run(TURBAN)
    assert run.status == "done"
    assert "{{char}}:" in run["core_persona"].mes_example
    problems = check_card(run.card.v3())
    assert [problem for problem in problems if problem.level == "error" or problem.check == 23] == []


async def test_a_chinese_card_has_chinese_punctuation(pipeline: Pipeline) -> None:
    """Also where the card is put together from several fields."""
    run = await Pipeline(pipeline.pool, language="中文").run(TURBAN)
    contents = [entry["content"] for entry in run.card.v2()["data"]["character_book"]["entries"]]
    assert [content for content in contents if set(content) & set("().:,!?")] == []


async def test_other_pictures_other_people(pipeline: Pipeline) -> None:
    """Each portrait becomes somebody else, and the same picture the same."""
    images = sorted(PORTRAITS.glob("*.png"))
    runs = {run.name: run async for run in pipeline.run_many(images)}
    assert len({run["core_persona"].name for run in runs.values()}) == len(images) == 10
    again = await pipeline.run(images[0])
    assert again.card.to_json() == runs[images[0].stem].card.to_json()


async def test_from_a_description(pipeline: Pipeline) -> None:
    """Without an image there is a card, and no portrait."""
    run = await pipeline.run(description="a retired diver who keeps bees")
    assert (run.status, run.portrait, run.name) == ("done", None, "a-retired-diver-who-keeps-bees")


@pytest.mark.parametrize("arguments", [{}, {"image": TURBAN, "description": "x"}, {"description": "  "}])
async def test_image_or_description(pipeline: Pipeline, arguments: dict[str, Any]) -> None:
    """One of them, and not both."""
    with pytest.raises(ConfigError, match="image or a description"):
        await pipeline.run(**arguments)


async def test_two_and_three_run_beside_the_others(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """Stages 4 to 7 start with stage 2, and stage 3 starts when 2 has ended, while they go on."""
    four_to_seven = asyncio.Event()
    seen: list[str] = []

    async def wait(body: dict[str, Any]) -> None:
        name = stage_of(body)
        seen.append(name)
        if name == "example_tweets":
            four_to_seven.set()
        elif name in NAMES[3:]:
            await asyncio.wait_for(four_to_seven.wait(), 10)  # they end only after stage 3 has begun

    provider.wait = wait
    run = await scripted.run(TURBAN)
    assert run.status == "done"
    assert seen[0] == "core_persona"
    assert set(seen[1:6]) == {"tweet_strategy", *NAMES[3:]}
    assert seen[6] == "example_tweets"


async def test_a_failed_stage_leaves_the_others(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """Its part of the card is empty, its error on the run says which stage, what was wrong and what to do."""
    provider.script = lambda body: (
        '{"close_friends": []}' if stage_of(body) == "social_network" else write(body)
    )
    run = await scripted.run(TURBAN)
    assert run.status == "partial"
    assert [name for name in NAMES if name not in run.outputs] == ["social_network"]
    assert run.stages["social_network"].error is not None
    assert run.errors[0].startswith("stage social_network: close_friends: ")
    assert run.stages["social_network"].sent > 1
    frame = stages_df(run).set_index("stage")
    assert frame["attempts"]["social_network"] == run.stages["social_network"].sent
    assert run.calls == len(provider.bodies)
    assert "try a stronger model" in run.errors[0]
    assert "social_network" not in run.card.extensions["personalab"]
    assert run.card.extensions["personalab"]["provenance"]["missing"] == ["social_network"]
    with pytest.raises(Exception, match="close_friends"):
        run["social_network"]


async def test_what_needs_a_failed_stage_is_skipped(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """A failed stage 2 leaves out stage 3; a failed stage 1 fails the run."""
    provider.script = lambda body: "no" if stage_of(body) == "tweet_strategy" else write(body)
    run = await scripted.run(TURBAN)
    assert (run.stages["example_tweets"].status, run.status) == ("skipped", "partial")
    provider.script = lambda body: "no"
    run = await scripted.vary("core_persona", temperature=0.1).run(TURBAN)
    assert run.status == "failed"
    assert {record.status for name, record in run.stages.items() if name != "core_persona"} == {"skipped"}
    with pytest.raises(Exception, match="core_persona"):
        run.card  # noqa: B018


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda good: f"Here is the JSON:\n```json\n{good}\n```",
        lambda good: good.replace('":', '": ').replace("}", ",}"),
        lambda good: reply(good[: len(good) // 2], finish_reason="length"),
        lambda good: reply(None, refusal="I can't help with that."),
        lambda good: json.dumps({**json.loads(good), "age": "unknown"}) if '"age"' in good else "{}",
        lambda good: "I would rather talk about the weather.",
        lambda good: reply(""),
    ],
    ids=["fenced", "damaged", "cut off", "refused", "one field", "not JSON", "empty"],
)
async def test_a_bad_answer_at_every_stage_ends_well(
    provider: ScriptedProvider, scripted: Pipeline, spoilt: Callable[[str], Any]
) -> None:
    """The first answer of each stage is spoilt; the persona is whole all the same."""
    asked: set[str] = set()

    def script(body: dict[str, Any]) -> Any:
        good, name = write(body), stage_of(body)
        if name in asked:
            return good
        asked.add(name)
        return spoilt(good)

    provider.script = script
    run = await scripted.run(TURBAN)
    assert (run.status, run.errors) == ("done", ())


async def test_a_refused_key_stops_the_batch(
    provider: ScriptedProvider, scripted: Pipeline, tmp_path: Path
) -> None:
    """One clear error instead of a failure for every image, and hardly a request more than were in flight."""
    provider.script = lambda body: failure(401)
    images = []
    for number in range(40):
        (path := tmp_path / f"{number}.png").write_bytes(picture_bytes((number, 0, 0)))
        images.append(path)
    with pytest.raises(KeyRefused):
        [run async for run in scripted.run_many(images, window=4)]
    assert len(provider.bodies) <= 4


async def test_one_bad_image_is_a_run_with_an_error(pipeline: Pipeline, tmp_path: Path) -> None:
    """The others are made; the bad one says what is wrong with it."""
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"text")
    runs = {run.name: run async for run in pipeline.run_many([bad, TURBAN, tmp_path / "missing.png"])}
    assert {name: run.status for name, run in runs.items()} == {
        "bad": "failed",
        "teal_turban": "done",
        "missing": "failed",
    }
    assert "is not an image" in runs["bad"].errors[0]


async def test_a_batch_holds_a_window(pipeline: Pipeline, tmp_path: Path) -> None:
    """No more images are taken from the list than can be under way."""
    taken = 0
    ended = 0

    def images() -> Any:
        nonlocal taken
        for number in range(30):
            taken += 1
            assert taken - ended <= 5
            (path := tmp_path / f"{number}.png").write_bytes(picture_bytes((number, number, 0)))
            yield path

    async for run in pipeline.run_many(images(), window=4):
        ended += 1
        assert run.status == "done"
    assert ended == 30


async def calls(pipeline: Pipeline, image: Path) -> int:
    """Requests that one more run sends."""
    before = pipeline.pool.counts.sent
    await pipeline.run(image)
    return pipeline.pool.counts.sent - before


async def test_calls_are_exact_after_every_edit(pipeline: Pipeline, tmp_path: Path) -> None:
    """Nothing changed 0, one leaf 1, a parent its children too if it says something else, back again 0."""
    image = tmp_path / "face.png"
    image.write_bytes(picture_bytes("teal"))
    first = pipeline
    assert await calls(first, image) == 7
    assert await calls(first, image) == 0
    assert await calls(first.vary("authenticity", temperature=1.1), image) == 1
    strategy = (Path(__file__).parents[1] / "personalab" / "prompts" / "tweet_strategy.md").read_text(
        encoding="utf-8"
    )
    assert (
        await calls(
            first.vary(
                "tweet_strategy",
                prompt=strategy.replace("Write the tweet strategy", "Write a bold tweet strategy"),
            ),
            image,
        )
        == 2
    )
    core = (Path(__file__).parents[1] / "personalab" / "prompts" / "core_persona.md").read_text(
        encoding="utf-8"
    )
    assert (
        await calls(first.vary("core_persona", prompt=core.replace("You invent", "You freely invent")), image)
        == 7
    )
    assert await calls(first, image) == 0
    image.write_bytes(picture_bytes("crimson"))
    assert await calls(first, image) == 7
    image.write_bytes(picture_bytes("teal", comment="other metadata"))
    assert await calls(first, image) == 0
    assert await calls(Pipeline(first.pool, instructions="Be terse."), image) == 7
    other = Pipeline(LLMPool(cache_dir=first.pool.cache.folder))
    assert await calls(other, image) == 0


async def test_cell_by_cell(pipeline: Pipeline) -> None:
    """Stage after stage gives the same as all at once, and each run is a value of its own."""
    run = await pipeline.begin(TURBAN)
    with pytest.raises(ConfigError, match="stage tweet_strategy needs core_persona, which has not run"):
        await pipeline.advance(run, "tweet_strategy")
    states = [run]
    for name in NAMES:
        run = await pipeline.advance(run, name)
        states.append(run)
    assert [len(state.outputs) for state in states] == list(range(8))
    assert run.card.to_json() == (await pipeline.run(TURBAN)).card.to_json()


async def test_a_stage_that_fails_in_a_cell_raises_its_own_error(
    provider: ScriptedProvider, scripted: Pipeline
) -> None:
    """`advance` raises instead of giving a run that lacks something."""
    provider.script = lambda body: "no"
    with pytest.raises(ReplyInvalid, match="stage core_persona: no whole JSON object"):
        await scripted.advance(await scripted.begin(TURBAN), "core_persona")


async def test_unknown_names_name_the_nearest(pipeline: Pipeline) -> None:
    """Stages are found, or an error says which one may be meant."""
    with pytest.raises(ConfigError, match="unknown stage 'social_netwerk': did you mean 'social_network'"):
        pipeline.vary("social_netwerk", temperature=1)
    run = await pipeline.run(TURBAN)
    with pytest.raises(ConfigError, match="did you mean 'core_persona'"):
        run["core_person"]


class Horoscope(StageOutput):
    sign: str
    advice: str


EIGHTH = "---\nvariables: core_persona, language\n---\n# system\nFiction. Answer in JSON.\n# user\nLanguage: $language\n<core_persona>\n$core_persona\n</core_persona>\nsign, advice\n"


async def test_an_eighth_stage(pipeline: Pipeline) -> None:
    """It runs beside the others and lands in the card under its own name; its output can be loaded again."""
    run = await pipeline.with_stage(
        stage("horoscope", Horoscope, needs=("core_persona",), prompt=EIGHTH)
    ).run(TURBAN)
    assert isinstance(run["horoscope"], Horoscope)
    assert run.card.extensions["personalab"]["horoscope"] == run["horoscope"].model_dump()
    assert Run.model_validate(json.loads(run.model_dump_json()))["horoscope"].sign == run["horoscope"].sign


async def test_a_missing_image_is_an_error_of_its_own(pipeline: Pipeline) -> None:
    """A single run raises what is wrong with its image."""
    with pytest.raises(ImageError, match=r"nowhere\.png: cannot be read: No such file"):
        await pipeline.run("nowhere.png")


async def test_replicates_are_asked_anew(pipeline: Pipeline) -> None:
    """The same again on purpose is paid again, and is another persona's wording."""
    first, second = await pipeline.run(TURBAN), await pipeline.run(TURBAN, replicate=1)
    assert (first.calls, second.calls) == (7, 7)
    assert first["core_persona"] != second["core_persona"]


@pytest.mark.parametrize("language", ["", "  ", "\x00"])
def test_a_language_is_needed(pipeline: Pipeline, language: str) -> None:
    """Nothing is no language, and prompts would ask for it."""
    with pytest.raises(ConfigError, match="language must not be empty"):
        Pipeline(pipeline.pool, language=language)
