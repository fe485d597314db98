"""`personalab sweep`: a notebook over a grid of parameters."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from personalab.commands.options import InBatches, note
from personalab.stores import below
from personalab.sweep_progress import cells
from personalab.tables import ROWS_SHOWN, print_table, shorter
from personalab.trials import EXECUTED, offline_note
from personalab.views import plain

if TYPE_CHECKING:
    from personalab.sweeps import Sweep

HELP = "Run a notebook over a grid of parameters, each trial in a kernel of its own; what is done is kept."
EPILOG = (
    "Trials lie in outputs/sweeps/NAME/TRIAL: executed.ipynb, trial.json, log.txt, recorded values; report.html beside them "
    "shows all. The same command again goes on where it stopped. --dry-run runs the notebooks in a scratch copy of the project, the "
    "embedded provider answers, and what personalab does stays there; what they do by other means is done. Keys come from the environment, never as parameters. "
    "Example: personalab sweep notebooks/03_compare_temperatures.ipynb -g language=English,Español -g replicates=2,3"
)


def sweep(
    notebook: Annotated[
        Path, typer.Argument(help="A notebook with a cell tagged 'parameters'.", show_default=False)
    ],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "-g", "--vary", help="name=value,value,…: every combination is a trial. May be repeated."
        ),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", help="name=value: the same in all trials. May be repeated."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--grid", help="YAML file (lists by parameter, or a list of points) or CSV file (a row a trial)."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the sweep.  [default: the notebook's]")] = None,
    jobs: Annotated[int | None, typer.Option(help="Trials at once.  [default: one for each core]")] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds a trial may take.  [default: no limit]")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials that failed before again.")
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(help="fork, spawn or papermill.  [default: fork where the system can, else spawn]"),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Run the trials on a Dask cluster: its scheduler's address, such as tcp://host:8786."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Folder or URL for results, such as s3://bucket/sweeps.  [default: outputs/sweeps]"
        ),
    ] = None,
    batch: InBatches = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and what it would send, and send nothing.")
    ] = False,
) -> int:
    """A sweep from the command line: the exit code, 1 where a trial is not done."""
    from personalab.dry_sweeps import estimate_sweep
    from personalab.errors import ConfigError
    from personalab.notebooks import read_notebook
    from personalab.sweep_reports import report
    from personalab.sweeps import plan_sweep, run_plan
    from personalab.trial_grids import parse_fixed, parse_grid

    if grid and file:
        raise ConfigError("give -g or --grid, and not both: a file holds the whole grid")
    read = read_notebook(notebook)
    plan = plan_sweep(
        read,
        file or parse_grid(grid or [], read),
        parse_fixed(fixed or [], read),
        name=name,
        retry_failed=retry_failed,
        out=out,
    )
    if dry_run:
        print(plain(str(estimate_sweep(plan, jobs=jobs, timeout=timeout, engine=engine, batch=batch))))
        return 0
    for each in plan.notes:
        note(each)
    done = run_plan(plan, jobs=jobs, timeout=timeout, engine=engine, scheduler=scheduler, batch=batch)
    _print_trials(done)
    if said := offline_note(done.trials):
        note(said)
    print(plain(f"report: {report(plan.folder)}"))
    return 1 if done.failed else 0


def _print_trials(done: Sweep) -> None:
    """A table in the order of the grid, errors on standard error, a summary; of a long sweep only what is not done."""
    shown = done.trials if len(done.trials) <= ROWS_SHOWN else done.failed
    if shown:
        print_table(
            "trials" if len(shown) == len(done.trials) else f"trials: {len(shown)} of {len(done.trials)}",
            ["trial", "status"],
            ["seconds", "calls", "tokens", "cost"],
            [
                [trial.name, trial.status, f"{trial.seconds or 0:.1f}", *cells(trial.counts),
                 shorter(below(done.folder, trial.name, EXECUTED))]
                for trial in shown
            ],
        )  # fmt: skip
    for trial in done.failed:
        print(plain(f"{trial.name}: {trial.error or trial.status}"), file=sys.stderr)
    print(plain(str(done)))
