"""Small notebooks for tests: a parameters cell and a few others."""

from __future__ import annotations

import json
from pathlib import Path


def write_notebook(path: Path, parameters: str, *cells: str) -> Path:
    """A notebook of code cells, the first with the parameters."""
    sources = (parameters, *cells)
    content = {
        "cells": [
            {
                "cell_type": "code",
                "id": f"c{place}",
                "metadata": {} if place else {"tags": ["parameters"]},
                "source": source,
                "outputs": [],
                "execution_count": None,
            }
            for place, source in enumerate(sources)
        ],
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
