"""Experiments: what is shared is paid once, cells never mix up, plans tell the truth, frames are in the order of the grid."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PORTRAITS, ScriptedProvider, failure, picture_bytes

from personalab import LLMPool, Pipeline
from personalab.errors import ConfigError, KeyRefused, PromptError
from personalab.experiments import Experiment
from personalab.frames import conditions_df, runs_df, stages_df, texts_df, tweets_df
from personalab.grids import grid
from personalab.images import open_picture
from personalab.metrics import score
from personalab.offline.writer import write
from personalab.prices import Price
from personalab.prompts import PromptTemplate, stage_prompt

EIGHT = sorted(PORTRAITS.glob("*.png"))[:8]
TWO = EIGHT[:2]
HOT_AND_COLD = grid("social_network", temperature=[0.3, 1.1])


def brief(stage: str) -> PromptTemplate:
    """A second version of a stage's prompt."""
    own = stage_prompt(stage)
    return own.model_copy(update={"name": "brief.md", "system": f"{own.system} Be brief."})


def stage_of(body: dict[str, Any]) -> str:
    return str(body["response_format"]["json_schema"]["name"])


@pytest.fixture
def scripted(provider: ScriptedProvider, make_pool: Callable[..., LLMPool]) -> Pipeline:
    """A pipeline on the scripted provider, which answers as the embedded one does until told otherwise."""
    provider.script = write
    return Pipeline(make_pool())


async def test_stage_one_is_paid_once(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """3 temperatures × 2 prompts × 3 replicates × 8 images of stage 4: 8 + 144 requests, as planned."""
    prompts = {"v1": stage_prompt("social_network"), "v2": brief("social_network")}
    made = grid("social_network", temperature=[0.3, 0.7, 1.1], prompt=prompts, replicates=3)
    experiment = Experiment(scripted, made, EIGHT)
    plan = await experiment.plan()
    assert (plan.to_send, plan.cached, len(provider.bodies)) == (152, 0, 0)
    await experiment.run()
    assert Counter(map(stage_of, provider.bodies)) == {"core_persona": 8, "social_network": 144}
    assert provider.most_in_flight <= 20
    frame = runs_df(experiment)
    assert len(frame) == 144
    assert set(frame["status"]) == {"done"}
    assert frame["calls"].sum() == 152
    again = await experiment.plan()
    assert (again.to_send, again.cached, again.usage.tokens) == (0, 152, 0)
    assert await Experiment(scripted, made, EIGHT).run()
    assert len(provider.bodies) == 152


async def test_each_cell_was_asked_as_its_condition_says(pipeline: Pipeline) -> None:
    """Temperature, prompt, replicate and image of every cell are those of its request."""
    prompts = {"v1": stage_prompt("social_network"), "v2": brief("social_network")}
    made = grid("social_network", temperature=[1.1, 0.3], prompt=prompts, replicates=2)
    experiment = Experiment(pipeline, made, TWO)
    async for cell in experiment:
        row = experiment.grid.row(cell.condition)
        record = cell.run.stages["social_network"]
        assert record.request is not None
        assert record.request.sampling.temperature == row["temperature"]
        assert record.prompt_sha256 == prompts[str(row["prompt"])].sha256
        assert record.request.replicate == cell.replicate
        assert cell.run["core_persona"].name in str(record.request)
        assert cell.run.stages["core_persona"].request.replicate == 0  # type: ignore[union-attr]
        assert cell.run.source == str(experiment.design.images[cell.image])
    order = [(cell.condition.name, cell.image, cell.replicate) for cell in experiment.cells]
    assert order == [tuple(place) for place in experiment.design.places()]
    assert experiment.cell("temperature=0.3, prompt=v2", TWO[1].stem, 1).replicate == 1
    texts = texts_df(experiment)
    assert list(texts["temperature"].cat.categories) == [1.1, 0.3]
    replicates = texts.groupby(["condition", "image", "replicate"], observed=True)["text"].agg("".join)
    assert replicates.nunique() == 16  # asked again on purpose, so answered anew


async def test_what_depends_on_a_varied_stage_is_varied(
    provider: ScriptedProvider, scripted: Pipeline
) -> None:
    """Stage 3 after a varied stage 2 runs in each cell; the whole persona leaves the others shared."""
    made = grid("tweet_strategy", temperature=[0.3, 1.1], replicates=2)
    await Experiment(scripted, made, TWO, stages=["example_tweets"]).run()
    counted = {"core_persona": 2, "tweet_strategy": 8, "example_tweets": 8}
    assert Counter(map(stage_of, provider.bodies)) == counted
    experiment = await Experiment(scripted, made, TWO, stages="all").run()
    rest = dict.fromkeys(("social_network", "authenticity", "visual_profile", "character_book"), 2)
    assert Counter(map(stage_of, provider.bodies)) == counted | rest
    assert all(len(cell.run.outputs) == 7 for cell in experiment.cells)
    tweets = tweets_df(experiment)
    assert len(tweets) == 8 * 8
    assert list(tweets.columns[:4]) == ["condition", "temperature", "image", "replicate"]
    assert set(tweets["temperature"]) == {0.3, 1.1}  # of the condition, not of stage 3


async def test_stage_one_can_be_varied(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """Then nothing is shared, and what is made from it is made in each cell."""
    experiment = await Experiment(
        scripted, grid("core_persona", temperature=[0.2, 1.2]), TWO, stages=["authenticity"]
    ).run()
    assert Counter(map(stage_of, provider.bodies)) == {"core_persona": 4, "authenticity": 4}
    assert len(texts_df(experiment, "core_persona")) > 0
    assert all(cell.run.portrait is None and not cell.run.brief.picture.data for cell in experiment.cells)  # type: ignore[union-attr]
    requests = [cell.run.stages["core_persona"].request for cell in experiment.cells]
    assert not any(
        picture.data
        for request in requests
        if request
        for message in request.messages
        for picture in message.pictures
    )


async def test_two_stages_varied_at_once(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """A stage that does not depend on the other's value is asked once for each of its own."""
    made = grid("social_network", temperature=[0.3, 1.1]) * grid("authenticity", temperature=[0.2, 0.9])
    experiment = Experiment(scripted, made, TWO)
    plan = await experiment.plan()
    await experiment.run()
    assert Counter(map(stage_of, provider.bodies)) == {
        "core_persona": 2,
        "social_network": 4,
        "authenticity": 4,
    }
    assert plan.to_send == 10
    assert list(runs_df(experiment).columns[:3]) == [
        "condition",
        "social_network_temperature",
        "authenticity_temperature",
    ]


async def test_a_plan_counts_what_it_cannot_know(scripted: Pipeline) -> None:
    """Stages after replies that are missing count as to send, with tokens; what is in the cache costs nothing."""
    made = grid("tweet_strategy", temperature=[0.3, 1.1])
    experiment = Experiment(scripted, made, TWO, stages=["example_tweets"])
    plan = await experiment.plan()
    assert plan.to_send == 2 + 4 + 4
    frame = plan.frame()
    assert list(frame["to_send"]) == [3, 3, 2, 2]
    assert frame["input_tokens"].gt(500).all()
    assert plan.cost is None  # nobody knows the price of this model
    assert "10 requests to send, 0 in the cache" in str(plan)
    assert "cost unknown" in plan._repr_html_()
    await Experiment(scripted, grid("tweet_strategy", temperature=0.3), TWO[:1]).run()
    plan = await experiment.plan()
    assert (plan.to_send, plan.cached) == (8, 2)
    assert list(plan.frame()["cached"]) == [2, 0, 0, 0]


async def test_plans_of_other_modes(scripted: Pipeline, make_pool: Callable[..., LLMPool]) -> None:
    """A pool that does not read its cache sends everything, each time; one that replays says what is missing."""
    made = grid("social_network", temperature=[0.3, 1.1]) * grid("authenticity", temperature=[0.2, 0.9])
    await Experiment(scripted, grid("social_network", temperature=0.3), TWO).run()
    counts = {}
    for mode in ("use", "refresh", "replay"):
        plan = await Experiment(Pipeline(make_pool(cache=mode)), made, TWO).plan()
        counts[mode] = (plan.to_send, plan.cached)
    assert counts == {"use": (6, 4), "refresh": (2 + 16, 0), "replay": (6, 4)}
    assert "6 replies are missing from its cache" in str(plan)


async def test_a_plan_is_near_what_is_paid(
    pipeline: Pipeline, make_pool: Callable[..., LLMPool], provider: ScriptedProvider
) -> None:
    """Tokens within a third of what the embedded provider counts; cost by the prices of each model."""
    experiment = Experiment(pipeline, HOT_AND_COLD, TWO)
    planned = (await experiment.plan()).usage
    await experiment.run()
    assert experiment.counts.usage.tokens == pytest.approx(planned.tokens, rel=0.35)
    priced = Pipeline(make_pool(prices={"a": Price(input=1, output=2), "scripted": Price(input=1, output=1)}))
    known = await Experiment(priced, grid("social_network", model="a"), TWO).plan()
    tokens = {each.stage: (each.input_tokens, each.output_tokens) for each in known.requests}
    core, network = tokens["core_persona"], tokens["social_network"]
    assert known.cost == pytest.approx(2 * (core[0] + core[1] + network[0] + 2 * network[1]) / 1e6, rel=0.05)  # type: ignore[operator]
    unknown = await Experiment(priced, grid("social_network", model=["a", "b"]), TWO).plan()
    assert unknown.cost is None


async def test_a_failed_cell_is_a_row(provider: ScriptedProvider, scripted: Pipeline, tmp_path: Path) -> None:
    """With its error; the others go on, and run again only the failed ones are asked."""
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    provider.script = lambda body: "no" if body.get("temperature") == 1.1 else write(body)
    experiment = await Experiment(scripted, HOT_AND_COLD, [*TWO, bad]).run()
    frame = runs_df(experiment)
    assert list(frame["status"]) == ["done", "done", "failed", "partial", "partial", "failed"]
    assert frame["error"][2].startswith(f"image {bad}: ")
    assert frame["error"][3].startswith("stage social_network: ")
    assert frame["calls"].sum() == len(provider.bodies)
    assert list(conditions_df(experiment)["failed"]) == [1, 3]
    texts = texts_df(experiment)
    lost = texts[texts["text"].isna()]
    assert list(lost["temperature"]) == [0.3, 1.1, 1.1, 1.1]
    assert list(lost["image"]) == ["bad", *(path.stem for path in TWO), "bad"]
    assert lost["error"].str.contains("image|social_network").all()
    assert texts.drop(lost.index)["error"].isna().all()
    assert len(tweets_df(experiment)) == 0  # they were no part of it
    provider.script, provider.bodies = write, []
    await experiment.run()
    assert [stage_of(body) for body in provider.bodies] == ["social_network"] * 2
    assert list(runs_df(experiment)["status"]) == ["done", "done", "failed"] * 2


async def test_a_failed_shared_stage(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """Every cell of the image has its error, and it was asked for once."""
    provider.script = lambda body: "no"
    experiment = await Experiment(scripted, HOT_AND_COLD, TWO[:1]).run()
    frame = runs_df(experiment)
    assert list(frame["status"]) == ["failed", "failed"]
    assert frame["error"].str.startswith("stage core_persona: ").all()
    assert frame["calls"].sum() == len(provider.bodies) == 6
    assert set(texts_df(experiment)["error"]) == {"stage social_network: not run, as core_persona failed"}


async def test_a_refused_key_stops_it(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """At once, with what is done kept."""
    provider.script = lambda body: failure(401) if stage_of(body) == "social_network" else write(body)
    experiment = Experiment(
        scripted, grid("social_network", temperature=[0.1, 0.2, 0.3], replicates=9), EIGHT
    )
    with pytest.raises(KeyRefused):
        await experiment.run()
    assert len(provider.bodies) < 60
    provider.script = write
    await experiment.run()
    assert set(runs_df(experiment)["status"]) == {"done"}


async def test_nothing_is_sent_after_it_stopped(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """Images that were begun ahead are let go of as well, even while somebody holds the error."""
    first = base64.b64encode(open_picture(EIGHT[0]).data).decode()
    begun, never = asyncio.Event(), asyncio.Event()

    async def wait(body: dict[str, Any]) -> None:
        if stage_of(body) == "core_persona" and first not in str(body):
            begun.set()
            await never.wait()  # still at stage 1 when the key is refused
        await begun.wait()

    provider.wait = wait
    provider.script = lambda body: failure(401) if stage_of(body) == "social_network" else write(body)
    with pytest.raises(KeyRefused) as caught:
        await Experiment(scripted, HOT_AND_COLD, EIGHT, window=2).run()
    assert scripted.pool.in_flight == scripted.pool.waiting == 0
    assert caught.value.__traceback__ is not None


async def test_an_interrupted_experiment_goes_on(provider: ScriptedProvider, scripted: Pipeline) -> None:
    """What was done is not asked again, without the cache either."""
    off = Pipeline(LLMPool(api_base=provider.url, api_key="x", model="scripted", cache="off"))
    experiment = Experiment(off, grid("social_network", temperature=[0.1, 0.2], replicates=4), TWO, window=2)
    async for _ in experiment:
        if len(experiment.cells) == 6:
            break
    there = {cell.place: cell.run["social_network"] for cell in experiment.cells}
    await experiment.run()
    assert len(experiment.cells) == 16
    assert all(experiment.cell(*place).run["social_network"] == output for place, output in there.items())
    assert Counter(map(stage_of, provider.bodies))["social_network"] <= 16 + 2


async def test_frames_of_an_experiment(pipeline: Pipeline) -> None:
    """Condition, factors, image and replicate first, in the order of the grid; a stage keeps its own temperature."""
    made = grid("social_network", conditions={"wild": {"temperature": 1.4}, "own": {}, "other": {"seed": 3}})
    experiment = await Experiment(pipeline, made, TWO[::-1]).run()
    runs, stages, conditions = runs_df(experiment), stages_df(experiment), conditions_df(experiment)
    assert list(runs.columns[:5]) == ["condition", "temperature", "seed", "image", "replicate"]
    assert list(runs["condition"].cat.categories) == ["wild", "own", "other"]
    assert list(runs["image"].cat.categories) == [path.stem for path in TWO[::-1]]
    assert list(conditions["temperature"]) == [1.4, 0.85, 0.85]  # the pipeline's own where nothing is said
    assert list(conditions["cells"]) == [2, 2, 2]
    assert conditions["calls"].sum() == 6
    core = stages[stages["stage"] == "core_persona"]
    assert set(core["temperature"]) == {0.85}
    assert list(core["social_network_temperature"]) == [1.4, 1.4, 0.85, 0.85, 0.85, 0.85]
    assert (~stages["cached"]).sum() == 2 + 6
    some = runs_df(experiment.cells[2:4])
    assert list(some["condition"].cat.categories) == ["own"]
    texts = texts_df(experiment)
    assert set(texts["stage"]) == {"social_network"}
    assert set(texts["part"]) == {"close_friends", "past_relationships", "online_friends"}
    people = experiment.cells[0].run["social_network"].people()
    assert texts["text"][0].startswith(people[0].name)
    assert texts["text"].str.contains("\n").all()
    assert "shown" not in texts
    shown = texts_df(experiment, shown=True)
    record = experiment.cells[0].run.stages["social_network"]
    assert shown["shown"][0] == str(record.request)
    assert score(shown, "copy_rate")["copy_rate"].between(0, 1).all()
    with pytest.raises(ConfigError, match="an experiment"):
        conditions_df([experiment.cells[0].run])  # type: ignore[list-item]


async def test_texts_of_runs(pipeline: Pipeline) -> None:
    """A tweet is its text, an entry its content, a field of the core persona itself; no grid, no such columns."""
    run = await pipeline.run(TWO[0])
    texts = texts_df(run)
    assert list(texts.columns[:2]) == ["run", "persona"]
    by_stage = {name: list(rows["text"]) for name, rows in texts.groupby("stage")}
    assert by_stage["example_tweets"] == [tweet.text for tweet in run["example_tweets"].tweets]
    assert by_stage["character_book"] == [entry.content for entry in run["character_book"].entries]
    assert run["core_persona"].description in by_stage["core_persona"]
    assert list(texts_df([run], "authenticity")["part"]) == ["flaws"] * len(run["authenticity"].flaws)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            grid("socal_network", temperature=1),
            "unknown stage 'socal_network': did you mean 'social_network'",
        ),
        (grid("social_network", model="gpt-9"), "model 'gpt-9' needs an endpoint"),
    ],
)
def test_what_the_pipeline_does_not_have(pipeline: Pipeline, made: Any, message: str) -> None:
    """Said when the experiment is made."""
    with pytest.raises(ConfigError, match=message):
        Experiment(pipeline, made, TWO)


def test_a_prompt_of_another_stage(pipeline: Pipeline) -> None:
    """A hole that the stage cannot fill is named."""
    made = grid("social_network", prompt=stage_prompt("example_tweets"))
    with pytest.raises(PromptError, match="unknown variable 'tweet_strategy'"):
        Experiment(pipeline, made, TWO)
    with pytest.raises(ConfigError, match="unknown stage 'tweets'"):
        Experiment(pipeline, HOT_AND_COLD, TWO, stages=["tweets"])


async def test_the_same_picture_counts_once(pipeline: Pipeline, tmp_path: Path) -> None:
    """The same bytes are an error beforehand, the same pixels one of the image; one name in two folders is two images."""
    for name, options in (("a/face.png", {}), ("b/face.png", {"dpi": (72, 72)}), ("c/face.png", {})):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(picture_bytes("teal", **options))
    a, b, c = (tmp_path / each / "face.png" for each in "abc")
    with pytest.raises(ConfigError, match="the same picture more than once"):
        Experiment(pipeline, HOT_AND_COLD, [a, c])
    experiment = await Experiment(pipeline, HOT_AND_COLD, [a, b]).run()
    failed = runs_df(experiment).query("status == 'failed'")
    assert set(failed["image"]) < {str(a), str(b)}
    assert failed["error"].str.contains("is the same picture as").all()
    assert len(failed) == 2


async def test_an_experiment_shows_itself(pipeline: Pipeline) -> None:
    """How many cells, what was sent, and a row a condition; labels are escaped."""
    made = grid("social_network", temperature={"<b>": 0.3, "warm": 1.1})
    experiment = Experiment(pipeline, made, TWO)
    assert "2 conditions × 2 images × 1 replicate = 4 cells · 0 done" in repr(experiment)
    await experiment.run()
    assert "4 done · 6 requests sent" in repr(experiment)
    assert "<td>temperature=&lt;b&gt;</td><td>2</td><td>0</td>" in experiment._repr_html_()
    with pytest.raises(ConfigError, match="unknown image"):
        experiment.cell("temperature=warm", "nobody")
