"""Parameters: what a notebook declares, which values fit, how texts and grids become points, what no parameter may be."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_notebooks import write_notebook

from personalab.credentials import hide, is_credential_name, known_credentials, refuse_credentials
from personalab.errors import ConfigError
from personalab.notebooks import Notebook, read_notebook
from personalab.parameters import Parameter, read_parameters
from personalab.trial_grids import canonical, parse_fixed, parse_grid, points, varied_names
from personalab.trials import trial_name

CELL = """
# What papermill may change
images: str | list[str] = "../data"  # a folder, or files
temperature = 0.7  # 0 to 2
count = 0
stage: Literal["authenticity", "social_network"] = "authenticity"
seed: Optional[int] = None
out = Path("x") / "y"
strict = False
extra = {"a": 1}
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    """One with many kinds of parameters."""
    return read_notebook(write_notebook(tmp_path / "some.ipynb", CELL, "1 + 1"))


def parameter(name: str, source: str = CELL) -> Parameter:
    """A parameter of the cell above."""
    return next(each for each in read_parameters(source, "x.ipynb") if each.name == name)


def test_what_a_cell_declares() -> None:
    """Name, kinds from the annotation or else the default, the default as written, the comment."""
    found = {each.name: each for each in read_parameters(CELL, "x.ipynb")}
    assert list(found) == ["images", "temperature", "count", "stage", "seed", "out", "strict", "extra"]
    assert found["images"] == Parameter(
        name="images", kinds=("str", "list"), default="'../data'", comment="a folder, or files"
    )
    assert found["temperature"].kinds == ("float",)
    assert found["temperature"].comment == "0 to 2"
    assert found["stage"].choices == ("authenticity", "social_network")
    assert found["seed"].kinds == ("int", "None")
    assert found["out"].kinds == ()
    assert found["out"].default == "Path('x') / 'y'"


@pytest.mark.parametrize(
    ("name", "value", "becomes"),
    [
        ("temperature", 1, 1.0),
        ("temperature", np.float64(0.3), 0.3),
        ("images", Path("a/b.png"), "a/b.png"),
        ("images", ("a", Path("b")), ["a", "b"]),
        ("seed", None, None),
        ("out", 3, 3),
        ("stage", "social_network", "social_network"),
        ("extra", {"b": (1, 2)}, {"b": [1, 2]}),
    ],
)
def test_values_that_fit(name: str, value: Any, becomes: Any) -> None:
    """They become what a notebook can be given."""
    found = parameter(name).check(value)
    assert found == becomes
    assert type(found) is type(becomes)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("temperature", "hot", "'temperature' takes float, not 'hot'"),
        ("temperature", True, "takes float, not True"),
        ("temperature", float("nan"), "nan is no number"),
        ("count", 0.5, "annotate it in the notebook, such as `count: int"),
        ("stage", "other", "'authenticity' or 'social_network', not 'other'"),
        ("images", 3, "takes str or list, not 3"),
        ("out", object(), "a object cannot be written into a notebook"),
        ("strict", 1, "takes bool"),
        ("images", ["a", "\udc80"], "is no text in UTF-8"),
    ],
)
def test_values_that_do_not_fit(name: str, value: Any, said: str) -> None:
    """An error that names the parameter and what it takes."""
    with pytest.raises(ConfigError, match=said):
        parameter(name).check(value)


@pytest.mark.parametrize(
    ("name", "text", "becomes"),
    [
        ("temperature", "1", 1.0),
        ("count", "3", 3),
        ("seed", "none", None),
        ("strict", "true", True),
        ("images", "a.png", "a.png"),
        ("images", "12", "12"),
        ("images", '["a.png", "b.png"]', ["a.png", "b.png"]),
        ("out", "0.5", 0.5),
        ("out", "words", "words"),
        ("stage", "authenticity", "authenticity"),
    ],
)
def test_texts(name: str, text: str, becomes: Any) -> None:
    """From a command line: the narrowest meaning that fits."""
    found = parameter(name).read(text)
    assert found == becomes
    assert type(found) is type(becomes)


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()))
def test_a_printed_value_is_read_back(value: float) -> None:
    """What Python prints means the same on the command line."""
    read = parameter("x", f"x = {value!r}").read(str(value))
    assert read == value
    assert type(read) is type(value)


@given(st.text())
def test_any_text_is_a_text(text: str) -> None:
    """Where a text is taken, every text is one, and stays as it is."""
    assert parameter("x", "x = ''").read(text) == text


@given(st.text())
def test_levels_never_fail_otherwise(text: str) -> None:
    """Whatever is typed, the error is ours."""
    with suppress(ConfigError):
        assert parameter("x", "x = 1").levels(text)


def test_a_grid_is_multiplied_out(notebook: Notebook) -> None:
    """The last parameter fastest; what is fixed is in every point; a single value is one level."""
    found = points(
        notebook,
        {"temperature": [0.3, 1], "stage": ["authenticity", "social_network"], "count": 2},
        {"seed": 1},
    )
    assert [(each["temperature"], each["stage"]) for each in found] == [
        (0.3, "authenticity"), (0.3, "social_network"), (1.0, "authenticity"), (1.0, "social_network"),
    ]  # fmt: skip
    assert all(each["seed"] == 1 and each["count"] == 2 for each in found)
    assert varied_names(found) == ["temperature", "stage"]


def test_command_line_words(notebook: Notebook) -> None:
    """Commas part levels; JSON where a level holds a comma; a fixed value is taken whole."""
    assert parse_grid(["temperature=0.3, 1", 'images=["a,b", ["c"]]'], notebook) == {
        "temperature": [0.3, 1.0], "images": ["a,b", ["c"]],
    }  # fmt: skip
    assert parse_fixed(["images=a,b", "seed=7"], notebook) == {"images": "a,b", "seed": 7}


def test_grids_in_files(notebook: Notebook, tmp_path: Path) -> None:
    """YAML with lists or points, CSV with a row a point, whose empty cells are left to the notebook."""
    (tmp_path / "lists.yaml").write_text("temperature: [0.3, 0.7]\nstrict: true\n")
    (tmp_path / "points.yaml").write_text("- {temperature: 0.3}\n- {temperature: 0.7, count: 2}\n")
    (tmp_path / "rows.csv").write_text('\ufefftemperature,images\r\n0.3,"a, b"\r\n0.7,\r\n', encoding="utf-8")
    assert points(notebook, tmp_path / "lists.yaml", {}) == [
        {"temperature": 0.3, "strict": True}, {"temperature": 0.7, "strict": True},
    ]  # fmt: skip
    assert points(notebook, tmp_path / "points.yaml", {}) == [
        {"temperature": 0.3}, {"temperature": 0.7, "count": 2},
    ]  # fmt: skip
    assert points(notebook, tmp_path / "rows.csv", {}) == [
        {"temperature": 0.3, "images": "a, b"}, {"temperature": 0.7},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"temprature": [1]}, "did you mean 'temperature'"),
        ({"temperature": []}, "'temperature' has no value"),
        ({"temperature": [1, 1.0]}, "twice"),
        ({"seed": [1]}, "in the grid and fixed as well"),
        ([], "no point"),
        ("missing.yaml", "missing.yaml: cannot be read"),
    ],
)
def test_grids_that_cannot_be(notebook: Notebook, grid: Any, said: str) -> None:
    """An error before anything runs."""
    with pytest.raises(ConfigError, match=said):
        points(notebook, grid, {"seed": 7})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "temperature\n", "a line for each point"),
        ("a.csv", "temperature,count\n1\n", "row 2 has 1 cells"),
        ("a.yaml", "3", "lists by parameter"),
        ("a.yaml", "a: [", "is no YAML"),
        ("a.txt", "", "has to end in"),
    ],
)
def test_files_that_are_no_grid(notebook: Notebook, tmp_path: Path, name: str, text: str, said: str) -> None:
    """The file and its mend are named."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        points(notebook, tmp_path / name, {})


def test_notebooks_that_cannot_be(tmp_path: Path) -> None:
    """No notebook, another language, no parameters cell where parameters are given, magics in it."""
    (tmp_path / "a.ipynb").write_text("{}")
    with pytest.raises(ConfigError, match="is no Jupyter notebook"):
        read_notebook(tmp_path / "a.ipynb")
    with pytest.raises(ConfigError, match="not plain Python"):
        read_notebook(write_notebook(tmp_path / "b.ipynb", "%pip install x"))
    plain = write_notebook(tmp_path / "c.ipynb", "1")
    plain.write_text(plain.read_text().replace('"parameters"', '"other"'))
    with pytest.raises(ConfigError, match="no cell tagged 'parameters'"):
        points(read_notebook(plain), {"x": [1]}, {})
    plain.write_text(plain.read_text().replace('"language": "python"', '"language": "R"'))
    with pytest.raises(ConfigError, match="written in R"):
        read_notebook(plain)


def test_the_hash_is_of_the_code(tmp_path: Path) -> None:
    """Outputs change nothing, a changed cell does."""
    path = write_notebook(tmp_path / "a.ipynb", "x = 1", "print(x)")
    before = read_notebook(path).sha256
    path.write_text(
        path.read_text().replace(
            '"outputs": []', '"outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}]'
        )
    )
    assert read_notebook(path).sha256 == before
    assert read_notebook(write_notebook(path, "x = 1", "print(x + 1)")).sha256 != before


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "OPENAI_API_KEY",
        "openaiApiKey",
        "token",
        "HF_TOKEN",
        "password",
        "db_password",
        "api_key_2",
        "secret",
    ],
)
def test_names_of_keys(name: str) -> None:
    """They end in a word for a key."""
    assert is_credential_name(name)


@pytest.mark.parametrize(
    "name", ["max_tokens", "keywords", "monkey", "tokens", "key_terms", "stage", "secretary", ""]
)
def test_other_names(name: str) -> None:
    """They only hold its letters."""
    assert not is_credential_name(name)


@pytest.mark.parametrize(
    "value",
    ["sk-MARKER-12345", "ghp_0123456789abcdefghij", "https://me:pass@host/v1", ["x", {"y": "sk-MARKER-12345"}],
     {"headers": {"api_key": "x"}}, "-----BEGIN RSA PRIVATE KEY-----", "prefix from-the-environment-1 suffix"],
)  # fmt: skip
def test_values_that_look_like_keys(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, and not shown."""
    monkeypatch.setenv("SOME_TOKEN", "from-the-environment-1")
    with pytest.raises(ConfigError, match="looks like a key") as refused:
        refuse_credentials({"model": value})
    assert "MARKER" not in str(refused.value)
    assert "OPENAI_API_KEY" in str(refused.value)


@pytest.mark.parametrize(
    "value", ["https://host:8000/v1", "task-force of ten", "../data/x.png", 3, None, ["a"], "12:30 me@host"]
)
def test_other_values(value: Any) -> None:
    """Ordinary texts, addresses and numbers are let through."""
    refuse_credentials({"model": value})


def test_known_keys_are_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment and `.env`, also inside JSON; stand-ins such as `ollama` are words like others."""
    monkeypatch.setenv("OTHER_API_KEY", 'quo"ted-MARKER')
    monkeypatch.setenv("SHORT_KEY", "ollama")
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-MARKER-12345\n")
    text = json.dumps({"a": 'x sk-MARKER-12345 y quo"ted-MARKER', "b": "ollama"})
    hidden = hide(text, known_credentials())
    assert json.loads(hidden) == {"a": "x [hidden] y [hidden]", "b": "ollama"}


VALUES = st.one_of(st.text(max_size=40), st.integers(), st.none(), st.lists(st.text(max_size=9), max_size=3))


@given(st.dictionaries(st.text(min_size=1, max_size=30), VALUES, max_size=5))
def test_names_of_folders(point: dict[str, Any]) -> None:
    """Whatever the values, the name is one safe part of a path, the same again, and within what file systems take."""
    name = trial_name(point, list(point))
    assert name == trial_name(dict(reversed(point.items())), list(point))
    assert Path(name).name == name
    assert len(name.encode()) <= 120
    assert not name.startswith((".", "-"))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), max_size=8))
def test_other_points_have_other_names(every: list[dict[str, Any]]) -> None:
    """Two points that differ never share a folder."""
    distinct = {canonical(point): point for point in every}
    assert len({trial_name(point, ["a"]) for point in distinct.values()}) == len(distinct)
