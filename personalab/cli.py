"""The `personalab` command: a thin mirror of the package; each command is a module of `commands`."""

from __future__ import annotations

import io
import os
import sys
import warnings
from typing import Annotated

import typer
from typer.exceptions import TyperException

from personalab import __version__
from personalab.commands import cache, card, chat, check, months, offline, persona, sweep
from personalab.commands.options import (
    EXIT_BUDGET,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_USAGE,
    note,
    told,
)
from personalab.errors import (
    AccessRefused,
    BudgetExhausted,
    ConfigError,
    PersonalabError,
    PriceUnknown,
    PromptError,
)

app = typer.Typer(
    name="personalab",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="An image becomes a persona, saved as a character card. With no key and no base URL set, the embedded "
    "provider answers: plausible text, but no language model.",
    epilog="Settings: OPENAI_API_KEY, OPENAI_BASE_URL, PERSONALAB_MODEL, MAX_CONCURRENT, PERSONALAB_OUTPUTS, also from "
    "a .env file; arguments win. Exit codes: 0 all done, 1 something failed, 2 wrong use or settings, 3 refused by the "
    "provider (key, model, quota), 4 the budget is used up, 130 interrupted.",
)


def main() -> int:
    """Run the command line; every error is one line on standard error."""
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a letter is no reason to fail
    try:
        code: int = typer.main.get_command(app).main(standalone_mode=False) or EXIT_OK
        sys.stdout.flush()
    except (ConfigError, PromptError, PriceUnknown) as error:
        return told(str(error), EXIT_USAGE)
    except AccessRefused as error:
        return told(str(error), EXIT_REFUSED)
    except BudgetExhausted as error:
        return told(str(error), EXIT_BUDGET)
    except PersonalabError as error:
        return told(str(error), EXIT_FAILED)
    except TyperException as error:
        return told(error.format_message(), EXIT_USAGE)
    except ModuleNotFoundError as error:
        return told(f"this needs {error.name}: pip install 'personalab[notebook]'", EXIT_USAGE)
    except OSError as error:
        if error.filename is not None:  # of a file, and so not of the output: nobody thought of it
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tries once more at its end
        return told(
            f"the output cannot be written: {error.strerror}; free space or send it elsewhere", EXIT_FAILED
        )
    if code == EXIT_INTERRUPTED:
        return told("interrupted: what is done is kept, and the same command goes on from there", code)
    return code


app.command(help=check.HELP, epilog=check.EPILOG)(check.check)
app.command(help=persona.HELP, epilog=persona.EPILOG)(persona.persona)
app.command(help=months.CALENDAR_HELP, epilog=months.CALENDAR_EPILOG)(months.calendar)
app.command(help=months.TWEETS_HELP, epilog=months.TWEETS_EPILOG)(months.tweets)
app.command(help=chat.HELP, epilog=chat.EPILOG)(chat.chat)
app.command(help=sweep.HELP, epilog=sweep.EPILOG)(sweep.sweep)
app.command(help=card.HELP, epilog=card.EPILOG)(card.card)
app.command(help=cache.HELP, epilog=cache.EPILOG)(cache.cache)
app.command(help=offline.HELP, epilog=offline.EPILOG)(offline.offline)


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"personalab {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    note(f"warning: {message}")
