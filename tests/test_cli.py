"""The command line as a user meets it: real processes, exit codes, errors on one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PORTRAITS, ScriptedProvider, failure

from personalab import STAGES, __version__
from personalab.offline.faults import Faults
from personalab.offline.writer import write

pytestmark = pytest.mark.slow

TURBAN, BUN = str(PORTRAITS / "teal_turban.png"), str(PORTRAITS / "silver_bun.png")


def personalab(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command; it has ended when this returns."""
    return subprocess.run(
        [sys.executable, "-m", "personalab", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | environment,
        check=False,
    )


def test_two_images_make_two_personas(tmp_path: Path) -> None:
    """A table of what was made, where it lies and what it cost; a second time nothing is paid."""
    first = personalab("persona", TURBAN, BUN)
    assert first.returncode == 0, first.stderr
    assert "14 requests sent, 0 from the cache" in first.stdout
    assert "outputs/personas/teal_turban_persona.png" in first.stdout
    assert "first_mes" in first.stdout
    assert len(list((tmp_path / "outputs" / "personas").glob("*_persona.json"))) == 2
    again = personalab("persona", TURBAN, BUN)
    assert "2 of 2 personas, 2 kept from before · 0 requests sent" in again.stdout
    assert "0 tokens paid" in again.stdout
    assert "14 requests sent" in personalab("persona", TURBAN, BUN, "--force").stdout
    assert "not a language model" in first.stderr
    assert first.stderr.count("\n") == 1


def test_json(tmp_path: Path) -> None:
    """One JSON list in the order of the images, for other programs."""
    done = personalab("persona", BUN, TURBAN, "--json", "--out", str(tmp_path / "here"))
    rows = json.loads(done.stdout)
    assert [Path(row["from"]).stem for row in rows] == ["silver_bun", "teal_turban"]
    assert all(Path(row["files"]["card"]).is_file() for row in rows)
    assert rows[0]["card_tokens"]["total"] > 0


def test_two_images_of_one_name_both_have_their_lines(tmp_path: Path) -> None:
    """In both tables, also where a name holds a line break."""
    names = [tmp_path / "a" / "fa\nce.png", tmp_path / "b" / "fa\nce.png"]
    for portrait, name in zip((TURBAN, BUN), names, strict=True):
        name.parent.mkdir()
        shutil.copy(portrait, name)
    done = personalab("persona", *map(str, names))
    assert done.returncode == 0, done.stderr
    weighed = done.stdout.partition("tokens in the card")[2]
    assert sum(line.strip().startswith("fa-ce") for line in weighed.splitlines()) == 2
    duplicate = tmp_path / "c\nd.png"
    shutil.copy(TURBAN, duplicate)
    again = personalab("persona", *map(str, names), str(duplicate))
    assert "c d.png: the same picture as" in again.stderr


def test_one_persona_is_shown() -> None:
    """A single persona is printed to be read."""
    done = personalab("persona", "--description", "a retired diver", "--language", "Español")
    assert done.returncode == 0, done.stderr
    assert "AI-made fiction" in done.stdout
    assert "social network" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["persona"], 2, "give one or more images"),
        (["card"], 2, "Missing argument"),
        (["persona", "--description", ""], 2, "give one or more images, or --description"),
        (["persona", TURBAN, "--description", "x"], 2, "and not both"),
        (["persona", "missing.png"], 2, "no image or folder missing.png, seen from"),
        (["persona", TURBAN, "--temperature", "social_netwerk=1"], 2, "did you mean 'social_network'"),
        (["persona", TURBAN, "--temperature", "1"], 2, "--temperature takes stage=value"),
        (["persona", TURBAN, "--temperature", "authenticity=hot"], 2, "takes a number"),
        (["persona", TURBAN, "--temperature", "authenticity=9"], 2, "less than or equal to 2"),
        (["persona", TURBAN, "--prompt", "authenticity=no.md"], 2, "no.md: cannot be read"),
        (["persona", TURBAN, "--model", "gpt-9"], 2, "set OPENAI_API_KEY"),
        (["persona", TURBAN, "--max-concurrent", "0"], 2, "MAX_CONCURRENT"),
        (["persona", TURBAN, "--colour", "red"], 2, "No such option"),
        (["portrait"], 2, "No such command"),
        (["card", "missing.json"], 1, "missing.json"),
        (["persona", str(PORTRAITS / "no*.png")], 2, "no image in"),
        (["calendar", "missing.json", "--month", "2026-12"], 1, "missing.json"),
        (["calendar", TURBAN, "--month", "2026-12"], 1, "the card is not in it"),
        (["calendar", "."], 2, "Missing option '--month'"),
        (["calendar", ".", "--month", "2026-12"], 2, "no persona in ."),
        (["tweets", "."], 2, "no persona in ."),
        (["offline", "--fault", "rate_limt=1"], 2, "did you mean 'rate_limit'"),
    ],
)
def test_errors_are_one_line(arguments: list[str], code: int, said: str) -> None:
    """What is wrong, where, and how to mend it; no traceback."""
    done = personalab(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if code:
        last = [line for line in done.stderr.splitlines() if "embedded provider answers (not" not in line]
        assert len(last) == 1


def test_a_refused_key(provider: ScriptedProvider) -> None:
    """Exit code 3, one line, and the key is not in it."""
    provider.script = lambda body: failure(401, "bad key sk-MARKER-12345")
    done = personalab(
        "persona",
        TURBAN,
        OPENAI_API_KEY="sk-MARKER-12345",
        OPENAI_BASE_URL=provider.url,
        PERSONALAB_MODEL="m",
    )
    assert done.returncode == 3
    assert "check OPENAI_API_KEY" in done.stderr
    assert "MARKER" not in done.stdout + done.stderr


def test_the_key_is_in_no_file(provider: ScriptedProvider, tmp_path: Path) -> None:
    """Neither in outputs nor in the cache, of a run that succeeds."""
    provider.script = write
    done = personalab(
        "persona",
        TURBAN,
        OPENAI_API_KEY="sk-MARKER-12345",
        OPENAI_BASE_URL=provider.url,
        PERSONALAB_MODEL="m",
    )
    assert done.returncode == 0, done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 10
    assert not [path for path in files if b"MARKER" in path.read_bytes()]


def test_settings_from_a_dotenv_file(provider: ScriptedProvider, tmp_path: Path) -> None:
    """`.env` is read, the environment wins over it, an argument over both."""
    provider.script = write
    (tmp_path / ".env").write_text(f"OPENAI_BASE_URL={provider.url}\nPERSONALAB_MODEL=from-file\n")
    personalab("persona", TURBAN)
    personalab("persona", TURBAN, PERSONALAB_MODEL="from-environment")
    personalab("persona", TURBAN, "--model", "from-argument", PERSONALAB_MODEL="from-environment")
    assert list(dict.fromkeys(body["model"] for body in provider.bodies)) == [
        "from-file",
        "from-environment",
        "from-argument",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_done(
    number: signal.Signals, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """Exit code 130, one line; the same command goes on where it was."""
    import threading

    hold = threading.Event()

    def script(body: dict[str, object]) -> str:
        return write(body)

    async def wait(body: dict[str, object]) -> None:
        import asyncio

        if len(provider.bodies) > 3:
            await asyncio.to_thread(hold.wait, 60)

    provider.script, provider.wait = script, wait
    environment = os.environ | {"OPENAI_BASE_URL": provider.url, "PERSONALAB_MODEL": "m"}
    process = subprocess.Popen(
        [sys.executable, "-m", "personalab", "persona", TURBAN],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "outputs" / "cache").glob("*/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    hold.set()
    assert (process.returncode, errors.count("\n")) == (130, 2), errors
    assert "so far: 0 of 1 personas" in errors
    assert "is kept" in errors
    sent = len(provider.bodies)
    again = personalab("persona", TURBAN, OPENAI_BASE_URL=provider.url, PERSONALAB_MODEL="m")
    assert again.returncode == 0
    assert len(provider.bodies) - sent == 4


def test_an_interrupt_while_loading(tmp_path: Path) -> None:
    """The command ends in silence, whatever it was just importing."""
    (tmp_path / "typer.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    )
    done = personalab("--version", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_cards_are_checked(tmp_path: Path) -> None:
    """A good card passes, a broken one is named with path, reason and mend."""
    personalab("persona", TURBAN)
    good = tmp_path / "outputs" / "personas" / "teal_turban_persona.json"
    done = personalab("card", str(good), str(good.with_suffix(".png")))
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("0 errors") == 2
    broken = json.loads(good.read_text())
    del broken["data"]["character_book"]["entries"][2]["keys"]
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + good.read_bytes())
    done = personalab("card", "missing.json", str(tmp_path / "broken.json"), str(tmp_path / "marked.json"))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "error json: begins with a byte order mark" in done.stdout
    assert "data.character_book.entries[2].keys" in done.stdout


def test_a_month_and_its_tweets(tmp_path: Path) -> None:
    """From two images to their tweets in three commands; nothing is planned twice, and a stranger's calendar is refused."""
    assert personalab("persona", TURBAN, BUN).returncode == 0
    personas, outputs = str(tmp_path / "outputs" / "personas"), tmp_path / "outputs"
    early = personalab("tweets", personas)
    assert (early.returncode, early.stderr.count("\n")) == (2, 2)
    assert "has no calendar in" in early.stderr
    planned = personalab("calendar", personas, "--month", "2027-02", "--holidays", "DE")
    assert planned.returncode == 0, planned.stderr
    assert "56 slots for 2 of 2 personas" in planned.stdout
    assert "0 requests sent" in personalab("calendar", personas, "--month", "2027-02").stdout
    written = personalab("tweets", personas, "--count", "3")
    assert written.returncode == 0, written.stderr
    assert "6 tweets for 2 of 2 personas · 6 requests sent" in written.stdout
    assert len(list((outputs / "tweets").glob("*.json"))) == 2
    bun = str(outputs / "personas" / "silver_bun_persona.png")
    strange = next(
        path
        for path in (outputs / "calendars").glob("*.json")
        if str(json.loads(path.read_bytes())["card"]).startswith("teal")
    )
    refused = personalab("tweets", bun, "--calendar", str(strange))
    assert refused.returncode == 2
    assert "not a calendar of these personas" in refused.stderr


def test_kept_failed_and_retried(provider: ScriptedProvider, tmp_path: Path) -> None:
    """A persona that lacks a part is asked again with --retry-failed, and says so with exit code 1 until then."""
    settings = {"OPENAI_BASE_URL": provider.url, "PERSONALAB_MODEL": "m"}
    provider.script = lambda body: "no" if "authenticity" in str(body["response_format"]) else write(body)
    failed = personalab("persona", TURBAN, **settings)
    assert failed.returncode == 1
    assert "stage authenticity" in failed.stderr
    provider.script, provider.bodies = write, []
    again = personalab("persona", TURBAN, BUN, "--retry-failed", **settings)
    assert again.returncode == 0, again.stderr
    assert len(provider.bodies) == 1
    warmer = personalab("persona", TURBAN, "--temperature", "authenticity=1.2", **settings)
    assert "authenticity: sampling.temperature 0.8 → 1.2" in warmer.stderr


def test_version_and_help() -> None:
    """The help of each command says enough."""
    assert personalab("--version").stdout.strip() == f"personalab {__version__}"
    top = personalab().stdout
    assert top == personalab("--help").stdout
    for word in ("persona", "calendar", "tweets", "card", "offline", "OPENAI_API_KEY", "Exit codes"):
        assert word in top
    assert "stage=value" in personalab("persona", "--help").stdout
    of_persona, of_offline = personalab("persona", "--help").stdout, personalab("offline", "--help").stdout
    assert [stage.name for stage in STAGES if stage.name not in of_persona] == []
    assert [fault for fault in Faults.model_fields if fault not in of_offline] == []
