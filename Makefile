# demo · lab · test · check · docs · pictures · bench · clean.  Everything runs in .venv, which is made when it is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo lab test check docs pictures bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    personas from the portraits, with the embedded provider (no key, no network)"
	@echo "make lab     JupyterLab on the notebooks (LAB=… its own options)"
	@echo "make test    install what tests need, run them all, the notebooks included"
	@echo "make check   lint and types"
	@echo "make docs    the documentation as a site, with the reference: docs/_build/docs/index.html"
	@echo "make bench   measure everything into docs/benchmarks.md (hours; QUICK=1 minutes)"

demo: .venv/.demo
	@$(BIN)/personalab persona data/portraits/*.png

test: .venv/.all
	$(BIN)/python -m pytest --nbmake

check: .venv/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/.all
	$(BIN)/python -m sphinx -b html -c docs -W --keep-going -q . docs/_build
	@echo "docs/_build/docs/index.html"

# Anew from the code: what the pages show of it, and the README's pictures (needs Chromium).
pictures: .venv/.all
	$(BIN)/python docs/drawn.py
	$(BIN)/python docs/pictures.py

bench: .venv/.all
	$(BIN)/python benchmarks/run.py $(if $(QUICK),--quick) $(PARTS)

lab: .venv/.all
	@test "$$(id -u)" != 0 || echo "as root JupyterLab wants: make lab LAB=--allow-root"
	$(BIN)/jupyter lab --notebook-dir=. $(LAB) notebooks/00_quickstart.ipynb

clean:
	rm -rf .venv

# uv where it is there, else pip. The stamp files say what is installed; a changed pyproject.toml installs again.
.venv/.demo: pyproject.toml
	@$(MAKE) --no-print-directory install WHAT=.
	@touch $@

.venv/.all: pyproject.toml
	@$(MAKE) --no-print-directory install WHAT='.[all]'
	@touch $@ .venv/.demo

.PHONY: install
install:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: install Python 3.11 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed, say make PYTHON=/path/to/python3"; exit 1; }
	@echo "installing $(WHAT) into .venv; this takes a minute or two"
	@if command -v uv >/dev/null; then \
	  { test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) .venv; } && \
	  uv pip install --quiet --compile-bytecode --python $(BIN)/python -e '$(WHAT)'; \
	else \
	  { test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { echo "the venv module is missing: on Debian and Ubuntu, apt install python3-venv"; exit 1; }; } && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '$(WHAT)'; \
	fi || { echo "installing failed: the package registry has to be reachable; run the same command again"; exit 1; }
