"""What a sweep tries: a list of points, each a value for every parameter that is given.

From a mapping of lists, multiplied out with the last one fastest; from a list of dicts, taken as they are; from a YAML file
of either, or a CSV file with a row a point; or from the words of a command line. Every point is checked against the notebook.
"""

from __future__ import annotations

import ast
import csv
import io
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from personalab.credentials import refuse_credentials
from personalab.errors import ConfigError
from personalab.notebooks import Notebook
from personalab.parameters import check_parameters, find_parameter, plain_value

Point = dict[str, Any]
Grid = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def points(notebook: Notebook, grid: Grid | Path | str | None, fixed: Mapping[str, Any]) -> list[Point]:
    """The points of a grid in its order, each with the fixed parameters first.

    Raises:
        ConfigError: a parameter the notebook does not have, a value of the wrong kind, a key, a parameter that is varied
            and fixed as well, a point that comes twice, or none at all.
    """
    if isinstance(grid, str | Path):
        grid = read_grid(Path(grid), notebook)
    varied = (
        [{}]
        if grid is None
        else _product(grid)
        if isinstance(grid, Mapping)
        else [dict(each) for each in grid]
    )
    every = [*fixed, *dict.fromkeys(name for point in varied for name in point)]
    if twice := {name for name in every if every.count(name) > 1}:
        raise ConfigError(f"parameter {min(twice)!r} is in the grid and fixed as well: give it once")
    where = notebook.path.name
    found: dict[str, Point] = {}
    for each in varied:
        refuse_credentials(dict(fixed) | each)
        point = check_parameters(dict(fixed) | each, notebook.parameters, where)
        if canonical(point) in found:
            raise ConfigError(
                f"the grid has {point_text(each)} twice: give it once, or add a parameter that differs"
            )
        found[canonical(point)] = point
    if not found:
        raise ConfigError("the grid has no point: give each parameter one value or more")
    return list(found.values())


def parse_grid(words: Iterable[str], notebook: Notebook) -> dict[str, list[Any]]:
    """A grid from `name=a,b,c` words of a command line.

    Raises:
        ConfigError: a word of another form, or a parameter or value that does not fit.
    """
    return {
        name: find_parameter(name, notebook.parameters, notebook.path.name).levels(text)
        for name, text in _pairs(words, "-g takes name=value,value")
    }


def parse_fixed(words: Iterable[str], notebook: Notebook) -> Point:
    """Fixed parameters from `name=value` words of a command line.

    Raises:
        ConfigError: a word of another form, or a parameter or value that does not fit.
    """
    return {
        name: find_parameter(name, notebook.parameters, notebook.path.name).read(text)
        for name, text in _pairs(words, "-p takes name=value")
    }


def default_values(notebook: Notebook) -> Point:
    """What a notebook's parameters are where they are not given. Left out are expressions, and what looks like a key."""
    found: Point = {}
    for parameter in notebook.parameters:
        with suppress(ConfigError, ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            value = plain_value(parameter.name, ast.literal_eval(parameter.default))
            refuse_credentials({parameter.name: value})
            found[parameter.name] = value
            found[parameter.name] = parameter.check(value)
    return found


def read_grid(path: Path, notebook: Notebook) -> Grid:
    """A grid from a YAML file (lists by parameter, or a list of points) or a CSV file (a row a point).

    An empty cell of a CSV file leaves the notebook's default.

    Raises:
        ConfigError: no such file, or another content.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"grid {path}: cannot be read: {error.strerror or error}; check the path") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"grid {path}: is no text in UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
    if path.suffix.lower() == ".csv":
        return _from_csv(path, text, notebook)
    if path.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise ConfigError(f"grid {path}: its name has to end in .yaml, .json or .csv, which says what it is")
    return _from_yaml(path, text)


def canonical(point: Mapping[str, Any]) -> str:
    """A point as text that is the same for equal points."""
    return json.dumps(point, sort_keys=True, ensure_ascii=False)


def point_text(point: Mapping[str, Any]) -> str:
    """A point to be read."""
    return ", ".join(f"{name}={value_text(value)}" for name, value in point.items()) or "the defaults"


def value_text(value: Any) -> str:
    """A value to be read: a text itself, anything else as JSON has it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def varied_names(every: Iterable[Mapping[str, Any]]) -> list[str]:
    """The parameters that are not the same in all points, in order."""
    seen = [dict(point) for point in every]
    names = dict.fromkeys(name for point in seen for name in point)
    return [name for name in names if len({canonical({"": point.get(name)}) for point in seen}) > 1]


def _product(grid: Mapping[str, Any]) -> list[Point]:
    levels = {
        name: list(values) if isinstance(values, list | tuple | range) else [values]
        for name, values in grid.items()
    }
    for name, values in levels.items():
        if not values:
            raise ConfigError(
                f"parameter {name!r} has no value in the grid: give one or more, or leave it out"
            )
    return [dict(zip(levels, values, strict=True)) for values in itertools.product(*levels.values())]


def _pairs(words: Iterable[str], form: str) -> Iterable[tuple[str, str]]:
    seen = set()
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigError(f"{form}, not {word!r}")
        refuse_credentials({name: text})
        if name in seen:
            raise ConfigError(f"parameter {name!r} is given twice: {form}")
        seen.add(name)
        yield name, text


def _from_yaml(path: Path, text: str) -> Grid:
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"grid {path}: is no YAML{where} ({problem or 'it cannot be read'}); mend it there"
        ) from None
    if isinstance(content, dict):
        return {str(name): values for name, values in content.items()}
    if isinstance(content, list) and content and all(isinstance(each, dict) for each in content):
        return [{str(name): value for name, value in each.items()} for each in content]
    raise ConfigError(
        f"grid {path}: has to hold lists by parameter (temperature: [0.3, 0.7]) or a list of points"
    )


def _from_csv(path: Path, text: str, notebook: Notebook) -> Grid:
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise ConfigError(f"grid {path}: has to hold a line of parameter names and a line for each point")
    parameters = [find_parameter(name.strip(), notebook.parameters, notebook.path.name) for name in rows[0]]
    found = []
    for line, row in enumerate(rows[1:], 2):
        if len(row) != len(parameters):
            raise ConfigError(
                f"grid {path}: row {line} has {len(row)} cells, and there are {len(parameters)} parameters"
            )
        cells = zip(parameters, row, strict=True)
        found.append(
            {parameter.name: parameter.read(cell.strip()) for parameter, cell in cells if cell.strip()}
        )
    return found
