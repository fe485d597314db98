"""What a sweep would send, found out by running it: its trials' notebooks, in a scratch copy of the project, with nothing sent.

What a notebook asks cannot be read off it, and what it asked the last time was with other parameters. So it runs: the cache is
read, and what is not in it the embedded provider answers. docs/decisions/0022-batch-requests.md says what that is worth.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from personalab.config import ROOT_MARKS, load_settings
from personalab.dry import CACHE_BELOW, PlannedCall, read_calls
from personalab.errors import OutputError
from personalab.records import Record, Usage
from personalab.sweeps import Crew, Plan, cores, reason_text, run_all
from personalab.trial_grids import point_text
from personalab.trial_runs import Task, stop_trials
from personalab.trials import Trial

_TRIALS, _PROJECT = "trials", "project"
_NOT_COPIED = ("cache", "sweeps")


class Amount(Record):
    """Requests of one model: how many, their tokens, US dollars; None where unknown."""

    model: str
    requests: int
    usage: Usage
    cost: float | None

    def __str__(self) -> str:
        tokens = [f"{_count(self.usage.input_tokens)} tokens in", f"{_count(self.usage.output_tokens)} out"]
        cost = "cost unknown" if self.cost is None else f"${self.cost:.4f}"
        return f"{self.model}: {self.requests:,} requests · about {', '.join(tokens)} · {cost}"


class TrialEstimate(Record):
    """What a trial would send. `error` is why its notebook did not come to an end: it would send that at least."""

    trial: Trial
    amounts: tuple[Amount, ...]
    error: str | None = None


class SweepEstimate(Record):
    """What a sweep would send, trial by trial, as a dry run found it."""

    plan: Plan
    trials: tuple[TrialEstimate, ...]
    together: tuple[Amount, ...]

    def __str__(self) -> str:
        found = {each.trial.name: each for each in self.trials}
        lines = [self.plan.head]
        for each in self.plan.planned:
            lines.append(
                f"  {'run ' if each.runs else 'keep'}  {reason_text(each.why)}  {point_text(each.trial.parameters)}"
            )
            if (estimate := found.get(each.trial.name)) is not None:
                lines += [f"        {amount}" for amount in estimate.amounts] or ["        nothing to send"]
                lines += (
                    [f"        at least, as it did not come to its end: {estimate.error}"]
                    if estimate.error
                    else []
                )
        if self.trials:
            lines += [f"together  {amount}" for amount in self.together] or ["together  nothing to send"]
            lines.append(
                "Tokens are estimates: answers are the embedded provider's, none is asked again. What trials share stands in one of them."
            )
        return "\n".join([*lines, *self.plan.notes])

    __repr__ = __str__


def estimate_sweep(
    plan: Plan, *, jobs: int | None = None, timeout: float | None = None, engine: str | None = None, batch: bool = False, progress: bool = True,
) -> SweepEstimate:  # fmt: skip
    """Run the trials of a plan dry. Nothing is sent, and personalab writes nothing outside of a scratch folder.

    What a notebook writes by other means than personalab's, or asks with another client, it does in a dry run too.

    Raises:
        OutputError: the scratch folder cannot be made.
    """
    wanted = [each.trial for each in plan.planned if each.runs]
    if not wanted:
        return SweepEstimate(plan=plan, trials=(), together=())
    batch = batch or load_settings().batch
    with _scratch_project(plan) as (scratch, notebook), ThreadPoolExecutor(jobs or cores()) as pool:
        trials_folder = scratch / _TRIALS
        folders = {trial.name: trials_folder / trial.name for trial in wanted}
        tasks = [
            Task(
                trial=trial,
                sweep=trials_folder,
                folder=folders[trial.name],
                notebook=plan.notebook.model_copy(update={"path": notebook}),
                timeout=timeout,
                engine=engine,
                batch=batch,
                dry=scratch,
            )
            for trial in wanted
        ]
        crew = Crew(pool, stop_trials)
        ended = run_all(plan.model_copy(update={"folder": trials_folder}), tasks, crew, progress)
        calls = [read_calls(folders[trial.name]) for trial in wanted]
    trials = tuple(
        TrialEstimate(trial=trial, amounts=_amounts(each), error=ended[trial.name].error)
        for trial, each in zip(wanted, calls, strict=True)
    )
    return SweepEstimate(
        plan=plan, trials=trials, together=_amounts([call for each in calls for call in each])
    )


def _amounts(calls: Iterable[PlannedCall]) -> tuple[Amount, ...]:
    by_model: dict[str, list[PlannedCall]] = {}
    for call in calls:
        by_model.setdefault(call.model, []).append(call)
    return tuple(
        Amount(
            model=model,
            requests=len(each),
            usage=sum((call.usage for call in each), Usage()),
            cost=_sum([call.cost for call in each]),
        )
        for model, each in sorted(by_model.items())
    )


def _sum(costs: list[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


@contextmanager
def _scratch_project(plan: Plan) -> Iterator[tuple[Path, Path]]:
    """A folder in which the notebook finds everything where it is, and writes where nothing is; and the notebook's path in it.

    Along the way from the project's root down to the notebook and to results folders are made, with links to what is in them. Results
    are copied, as they decide what is made again; the cache is looked up by a link that is not written.
    """
    outputs = load_settings().outputs.absolute()
    folder = plan.notebook.path.absolute().parent
    root = next(
        (each for each in (folder, *folder.parents) if any((each / mark).is_file() for mark in ROOT_MARKS)),
        folder.parent,  # so that "../outputs" is inside
    )
    try:
        made = tempfile.TemporaryDirectory(prefix="personalab-dry-", ignore_cleanup_errors=True)
        scratch = Path(made.name).resolve()
        _fill(scratch, root, folder, outputs)
    except OSError as error:
        raise OutputError(f"no room for a dry run: {error}; free space for temporary files") from error
    with made:
        yield scratch, scratch / _PROJECT / folder.relative_to(root) / plan.notebook.path.name


def _fill(scratch: Path, root: Path, folder: Path, outputs: Path) -> None:
    project = scratch / _PROJECT
    # To results too, as what is made in a folder that is a link is made where the link leads.
    way = {each for each in (folder, *folder.parents, *outputs.parents) if each.is_relative_to(root)} - {
        outputs
    }
    for here in way:
        there = project / here.relative_to(root)
        there.mkdir(parents=True, exist_ok=True)
        for entry in here.iterdir() if here.is_dir() else ():
            if entry in way or entry == outputs:
                continue
            # Files beside the notebook are copied, so that writing over one spares the original.
            if here == folder and entry.is_file() and not entry.name.startswith("."):
                shutil.copy2(entry, there / entry.name)
            else:
                (there / entry.name).symlink_to(entry)
    inside = project / outputs.relative_to(root) if outputs.is_relative_to(root) else scratch / "outputs"
    if outputs.is_dir():
        shutil.copytree(
            outputs,
            inside,
            ignore=lambda at, names: _NOT_COPIED if Path(at) == outputs else (),
            dirs_exist_ok=True,
        )
    inside.mkdir(parents=True, exist_ok=True)
    if inside != scratch / "outputs":
        (scratch / "outputs").symlink_to(inside)
    (scratch / CACHE_BELOW).symlink_to(outputs / "cache")


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"
