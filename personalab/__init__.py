"""personalab: an image becomes a persona, and prompts and temperatures can be compared stage by stage.

    from personalab import Pipeline
    run = await Pipeline().run("portrait.png")

Read `personalab/pipeline.py` first. The names below are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from personalab.cards import CharacterCard, read_card
    from personalab.errors import PersonalabError
    from personalab.loops import allow_nested, run
    from personalab.pipeline import Pipeline
    from personalab.pool import LLMPool
    from personalab.runs import Run, find_runs, load_run
    from personalab.stages import STAGES, stage

__version__ = "0.1.0"

_HOMES = {
    "CharacterCard": "cards",
    "LLMPool": "pool",
    "PersonalabError": "errors",
    "Pipeline": "pipeline",
    "Run": "runs",
    "STAGES": "stages",
    "allow_nested": "loops",
    "find_runs": "runs",
    "load_run": "runs",
    "read_card": "cards",
    "run": "loops",
    "stage": "stages",
}

__all__ = [
    "STAGES",
    "CharacterCard",
    "LLMPool",
    "PersonalabError",
    "Pipeline",
    "Run",
    "allow_nested",
    "find_runs",
    "load_run",
    "read_card",
    "run",
    "stage",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"personalab.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'personalab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
