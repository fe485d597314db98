"""Charts of comparisons: what they show is what the frames say, and they need no connection."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from conftest import PORTRAITS

from personalab import Pipeline
from personalab.charts import Figure, by_level, heat_map, network, paired, telling_words
from personalab.errors import ConfigError
from personalab.experiments import Experiment
from personalab.frames import people_df, stages_df, texts_df
from personalab.grids import grid
from personalab.stats import mean_interval

SCORES = pd.DataFrame(
    [
        {"image": image, "temperature": temperature, "replicate": replicate, "length": length, "text": f"{image} {length}"}
        for image, lengths in {"a": (10, 12, 20, 20), "b": (11, 11, 13, 15), "c": (9, 9, 8, 8)}.items()
        for (temperature, replicate), length in zip([(0.3, 0), (0.3, 1), (1.1, 0), (1.1, 1)], lengths, strict=True)
    ]
)  # fmt: skip
WORDS = pd.DataFrame(
    {"word": ["tea", "sea", "no", "me", "[x.y]"], "z": [3.0, 2.1, 0.0, -1.0, -4.0], "count_a": 1}
)


def rows(figure: Figure) -> list[dict[str, Any]]:
    """All data that a chart holds."""
    return [row for values in figure.chart.to_dict()["datasets"].values() for row in values]


def works_alone(figure: Figure) -> bool:
    """Whether a chart is a picture and a specification that asks no address."""
    bundle = figure._repr_mimebundle_()
    spec = bundle["application/vnd.vegalite.v5+json"]
    addresses = json.dumps({name: part for name, part in spec.items() if name != "$schema"})
    return bundle["image/png"].startswith(b"\x89PNG") and "http" not in addresses and '"url"' not in addresses


def test_metric_by_level() -> None:
    """Each image's mean over replicates, and the mean over images with the interval that `stats` gives."""
    figure = by_level(SCORES, "length")
    images = {(row["image"], row["level"]): row for row in rows(figure) if "image" in row}
    means = {row["level"]: row for row in rows(figure) if "low" in row}
    assert {key: row["value"] for key, row in images.items()} == {
        ("a", 0.3): 11, ("b", 0.3): 11, ("c", 0.3): 9, ("a", 1.1): 20, ("b", 1.1): 14, ("c", 1.1): 8,
    }  # fmt: skip
    assert images["a", 0.3]["text"] == "a 10"
    interval = mean_interval([20, 14, 8])
    assert interval is not None
    assert (means[1.1]["value"], means[1.1]["low"], means[1.1]["high"]) == (14, interval.low, interval.high)
    assert works_alone(figure)
    assert "temperature" in json.dumps(figure.chart.to_dict())


def test_one_image_has_no_interval() -> None:
    """It is drawn all the same."""
    figure = by_level(SCORES.query("image == 'a'"), "length")
    assert [row["low"] for row in rows(figure) if "low" in row] == [None, None]
    assert works_alone(figure)


def test_pairs_are_of_one_image() -> None:
    """In the order of their difference; an image that lacks a level is left out."""
    lacking = pd.concat([SCORES, SCORES.query("image == 'a' and temperature == 0.3").assign(image="d")])
    figure = paired(lacking, "length", by="temperature")
    ends = {row["image"]: row["difference"] for row in rows(figure) if "difference" in row}
    assert ends == {"a": 9, "b": 3, "c": -1}
    spec = json.dumps(figure.chart.to_dict())
    assert '"sort": ["c", "b", "a"]' in spec
    assert "1.1 is higher than 0.3 for 2 of 3 images, lower for 1" in spec
    assert '"shape"' in spec  # not by colour alone
    assert works_alone(figure)


def test_heat_map_is_coloured_by_row() -> None:
    """The mean of each square in words; a row without differences is grey."""
    frame = pd.DataFrame(
        {
            "stage": ["x", "x", "x", "y", "y"],
            "condition": ["p", "p", "q", "p", "q"],
            "seconds": [1.0, 3.0, 4.0, 7.0, 7.0],
        }
    )
    figure = heat_map(frame, "seconds")
    squares = {
        (row["row"], row["column"]): (row["value"], row["share"], row["shown"]) for row in rows(figure)
    }
    assert squares == {
        ("x", "p"): (2, 0, "2"),
        ("x", "q"): (4, 1, "4"),
        ("y", "p"): (7, -1, "7"),
        ("y", "q"): (7, -1, "7"),
    }
    assert works_alone(figure)


def test_words_that_mean_something_to_vega() -> None:
    """A word such as `if`, which its expressions have as well, is a word like others."""
    assert telling_words(pd.DataFrame({"word": ["if", "true"], "z": [1.0, -2.0]})).png()


def test_telling_words() -> None:
    """The outermost on both sides, with the other columns to be read."""
    figure = telling_words(WORDS, "v1", "v2", top=1)
    assert [(row["word"], row["more"], row["count_a"]) for row in rows(figure) if "word" in row] == [
        ("tea", "v2", 1),
        ("[x.y]", "v1", 1),
    ]
    assert works_alone(figure)


async def test_charts_of_an_experiment(pipeline: Pipeline) -> None:
    """The frames of an experiment go in as they are, in the order of the grid."""
    made = grid("social_network", temperature=[1.1, 0.3], replicates=2)
    experiment = await Experiment(pipeline, made, sorted(PORTRAITS.glob("*.png"))[:2]).run()
    texts = texts_df(experiment)
    texts["length"] = texts["text"].str.len()
    assert works_alone(by_level(texts, "length"))
    names = by_level(texts, "length", by="condition").chart.to_dict()
    assert '"sort": ["temperature=1.1", "temperature=0.3"]' in json.dumps(names)
    assert works_alone(paired(texts, "length", by="condition"))
    assert works_alone(heat_map(stages_df(experiment), "output_tokens"))
    people = people_df(experiment)
    one = network(people_df(experiment.cells[:1]))
    assert {row["name"] for row in rows(one)} == {
        experiment.cells[0].run["core_persona"].name,
        *(person.name for person in experiment.cells[0].run["social_network"].people()),
    }
    assert works_alone(one)
    graphs = [row["graph"] for row in rows(network(people))]
    assert len(set(graphs)) == 8
    assert graphs[0] == f"temperature=1.1 · {experiment.cells[0].image} · 0"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: by_level(SCORES, "lenght"), "unknown column 'lenght': did you mean 'length'"),
        (lambda: paired(SCORES, "length", by="replicate", levels=[0, 7]), "unknown level of replicate '7'"),
        (
            lambda: paired(SCORES.assign(prompt=[*"abc"] * 4), "length"),
            "two levels of prompt can be paired, not 3",
        ),
        (lambda: telling_words(WORDS.drop(columns="z")), "unknown column 'z'"),
        (lambda: network(people_df([])), "nobody to draw"),
        (lambda: by_level(SCORES.assign(length=None), "length"), "column length is empty"),
        (lambda: paired(SCORES.assign(length=None), "length", by="temperature"), "column length is empty"),
        (
            lambda: heat_map(SCORES.assign(length=None), "length", rows="image", columns="temperature"),
            "column length is empty",
        ),
    ],
)
def test_what_cannot_be_drawn(draw: Any, message: str) -> None:
    """One line that says how to mend it."""
    with pytest.raises(ConfigError, match=message):
        draw()
