"""Grids: conditions in order, with readable names; what cannot be told apart or asked is said before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalab.errors import ConfigError, PromptError
from personalab.grids import Grid, grid

TEMPLATE = "---\nvariables: core_persona\n---\n# system\nYou write.\n# user\n$core_persona\n"


def names(made: Grid) -> list[str]:
    return [condition.name for condition in made.conditions]


def test_lists_are_multiplied_out() -> None:
    """The last parameter goes fastest, and a single value is a list of one."""
    made = grid("social_network", temperature=[0.3, 1.1], model=("a", "b"), seed=7, replicates=3)
    assert names(made) == [
        "temperature=0.3, model=a, seed=7",
        "temperature=0.3, model=b, seed=7",
        "temperature=1.1, model=a, seed=7",
        "temperature=1.1, model=b, seed=7",
    ]
    assert made.replicates == 3
    assert made.levels("temperature") == [0.3, 1.1]
    assert made.row(made.conditions[1]) == {"temperature": 0.3, "model": "b", "seed": 7}
    assert made.conditions[1].changes("social_network") == {"temperature": 0.3, "model": "b", "seed": 7}
    assert made.conditions[1].changes("authenticity") == {}


def test_prompts_are_read_at_once_and_called_by_label_or_file(tmp_path: Path) -> None:
    """A file that is edited afterwards changes nothing; two files of one name are told by their folders."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "network.md").write_text(TEMPLATE.replace("You write", f"You {folder}"))
    path = tmp_path / "a" / "network.md"
    assert names(grid("social_network", prompt=path)) == ["prompt=network"]
    made = grid("social_network", prompt={"old": path, "new": TEMPLATE})
    path.write_text("gone")
    assert names(made) == ["prompt=old", "prompt=new"]
    assert made.conditions[0].settings[0].value.system == "You a."  # type: ignore[union-attr]
    path.write_text(TEMPLATE)
    assert names(grid("social_network", prompt=[path, tmp_path / "b" / "network.md"])) == [
        f"prompt={path}",
        f"prompt={tmp_path / 'b' / 'network.md'}",
    ]


def test_conditions_can_be_listed() -> None:
    """By themselves or by name; what one leaves alone has no value there."""
    made = grid("social_network", conditions=[{}, {"temperature": 0.3}, {"temperature": 1.1, "model": "b"}])
    assert names(made) == ["unchanged", "temperature=0.3", "temperature=1.1, model=b"]
    assert made.row(made.conditions[1]) == {"temperature": 0.3, "model": None}
    named = grid("social_network", conditions={"calm": {"temperature": 0.3}, "wild": {"temperature": 1.4}})
    assert names(named) == ["calm", "wild"]


def test_several_stages_at_once() -> None:
    """By product or by list; names and columns then say the stage."""
    product = grid("tweet_strategy", temperature=[0.3, 1.1]) * grid("example_tweets", top_p=0.9, replicates=2)
    assert names(product) == [
        "tweet_strategy_temperature=0.3, example_tweets_top_p=0.9",
        "tweet_strategy_temperature=1.1, example_tweets_top_p=0.9",
    ]
    assert (product.stages, product.replicates) == (("tweet_strategy", "example_tweets"), 2)
    assert list(product.factors) == ["tweet_strategy_temperature", "example_tweets_top_p"]
    listed = grid(conditions=[{"tweet_strategy": {"temperature": 0.3}}, {"example_tweets": {"top_p": 0.9}}])
    assert listed.stages == ("tweet_strategy", "example_tweets")
    assert all(condition.stages == listed.stages for condition in listed.conditions)
    one = grid("social_network", temperature=[0.3, 1.1]) * grid("social_network", model="a")
    assert names(one) == ["temperature=0.3, model=a", "temperature=1.1, model=a"]
    named = grid("social_network", conditions={"calm": {"temperature": 0.3}}) * grid(
        "authenticity", seed=[1, 2]
    )
    assert names(named) == ["calm, authenticity_seed=1", "calm, authenticity_seed=2"]


def test_only_replicates() -> None:
    """A stage as it is, several times, is a grid too."""
    made = grid("social_network", replicates=5)
    assert (names(made), made.stages, made.replicates) == (["unchanged"], ("social_network",), 5)


TWICE = [{"temperature": 1}, {"temperature": 1.0}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"temprature": [1]},
            "unknown parameter of stage social_network 'temprature': did you mean 'temperature'",
        ),
        ({"temperature": []}, "temperature=.. of stage social_network is empty: give a value"),
        ({"temperature": [0.3, 0.3]}, "'temperature=0.3' and 'temperature=0.3' are the same: leave one out"),
        (
            {"temperature": {"a": 0.3, "b": 0.3}},
            "'temperature=a' and 'temperature=b' are the same: leave one out",
        ),
        ({"temperature": 3}, "social_network: temperature: Input should be less than or equal to 2"),
        ({"temperature": "hot"}, "temperature='hot' is no number"),
        ({"temperature": True}, "temperature=True is no number"),
        ({"model": [""]}, "model='' is no name of a model"),
        ({"prompt": [TEMPLATE]}, "a prompt given as text needs a label"),
        ({"replicates": 0}, "replicates=0: each condition is asked once at least"),
        ({"conditions": []}, "conditions=... is empty"),
        ({"conditions": TWICE}, "'temperature=1' and 'temperature=1' are the same"),
        ({"conditions": [{}], "temperature": 1}, "multiply two grids"),
        ({"conditions": [{"temperature": [1, 2]}]}, "a condition has one temperature, not 2"),
        ({"stage": None, "temperature": 1}, "a grid of which stage"),
        ({"stage": None, "conditions": [{"temperature": 1}]}, "of which stage is temperature"),
        ({"stage": None, "conditions": [{}]}, "conditions change nothing"),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], message: str) -> None:
    """One line that says how to mend it."""
    with pytest.raises(ConfigError, match=message) as caught:
        grid(**{"stage": "social_network", **arguments})
    assert "\n" not in str(caught.value)


def test_a_prompt_file_that_is_missing(tmp_path: Path) -> None:
    """It is named when the grid is made."""
    with pytest.raises(PromptError, match=r"nowhere\.md: cannot be read"):
        grid("social_network", prompt=tmp_path / "nowhere.md")


def test_products_that_cannot_be() -> None:
    """One parameter in both, or two counts of replicates."""
    one = grid("social_network", temperature=[0.3, 1.1], replicates=2)
    with pytest.raises(ConfigError, match="both grids vary temperature of social_network"):
        one * grid("social_network", temperature=0.5)
    with pytest.raises(ConfigError, match="say replicates in one of the grids"):
        one * grid("authenticity", temperature=0.5, replicates=3)


def test_a_grid_shows_itself() -> None:
    """As text and as a table, with labels escaped."""
    made = grid("social_network", model={"<b>": "a", "small": "b"}, replicates=2)
    assert str(made) == "2 conditions × 2 replicates of social_network\n  model=<b>\n  model=small"
    assert "<td>&lt;b&gt;</td>" in made._repr_html_()
    assert "<b>" not in made._repr_html_()


@given(
    temperatures=st.lists(
        st.floats(0, 2).map(lambda value: round(value, 3)), min_size=1, max_size=6, unique=True
    ),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
)
def test_names_tell_conditions_apart(temperatures: list[float], seeds: list[int]) -> None:
    """Whatever the values, there is a condition for each pair, in order, and no two have one name."""
    made = grid("social_network", temperature=temperatures, seed=seeds)
    assert [tuple(made.row(condition).values()) for condition in made.conditions] == [
        (temperature, seed) for temperature in temperatures for seed in seeds
    ]
    assert len(set(names(made))) == len(made.conditions)
