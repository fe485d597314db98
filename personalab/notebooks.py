"""A notebook that is run with other parameters: its text, its parameters, and a hash of what it does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from personalab.errors import ConfigError
from personalab.parameters import Parameter, read_parameters
from personalab.records import JsonObject, Record

_TAG = "parameters"
_INJECTED = "injected-parameters"


class Notebook(Record):
    """A notebook as it was read. What is run is this text, whatever happens to the file afterwards.

    `sha256` is of the code alone, so neither outputs nor prose change it.
    """

    path: Path
    text: str
    parameters: tuple[Parameter, ...]
    sha256: str

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def read_notebook(path: Path | str) -> Notebook:
    """Read a notebook and its parameters cell.

    Raises:
        ConfigError: no such file, no notebook of Python, or a parameters cell that is not plain Python.
    """
    path = Path(path).expanduser().absolute()
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        sources = [_source(cell) for cell in cells if _INJECTED not in _tags(cell)]
    except OSError as error:
        raise ConfigError(f"notebook {path}: cannot be read: {error.strerror}; check the path") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"notebook {path}: is no Jupyter notebook of version 4; open and save it in JupyterLab"
        ) from None
    language = content.get("metadata", {}).get("kernelspec", {}).get("language", "python")
    if str(language).lower() != "python":
        raise ConfigError(f"notebook {path}: is written in {language}; sweeps take notebooks in Python")
    tagged = next((cell for cell in cells if _TAG in _tags(cell)), None)
    return Notebook(
        path=path,
        text=text,
        parameters=read_parameters(_source(tagged), path.name) if tagged else (),
        sha256=hashlib.sha256(json.dumps(sources).encode()).hexdigest(),
    )


def _source(cell: JsonObject) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _tags(cell: JsonObject) -> list[str]:
    return list(cell.get("metadata", {}).get("tags", []))
