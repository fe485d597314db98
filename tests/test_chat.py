"""`personalab chat` and `personalab card` in other forms, as a user meets them: real processes, a real terminal."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ScriptedProvider
from sample_cards import card_data, picture

from personalab.cards import CharacterCard, read_card, read_picture

pytestmark = pytest.mark.slow


@pytest.fixture
def persona(tmp_path: Path) -> Path:
    """A card with its portrait."""
    return CharacterCard.from_data(card_data()).save(tmp_path / "moira.png", picture(64, 96))


def personalab(*words: object, said: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command with these lines as its input."""
    return subprocess.run(
        [sys.executable, "-m", "personalab", *map(str, words)],
        input=said,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_script_talks(persona: Path, tmp_path: Path) -> None:
    """Line by line, with commands; it is said once that this is fiction and that no model answers."""
    done = personalab(
        "chat", persona, said="The ledger?\n/lore\n\n/again\n/undo\n/nonsense\n//slash\n/save\n/quit\nnever\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("AI-made fiction") == done.stderr.count("not a language model") == 1
    assert done.stdout.startswith(f"Moira Kettley: {card_data()['first_mes'][:30]}")
    assert "spoke: The ledger (key 'ledger'" in done.stdout
    assert "/nonsense is no command" in done.stderr
    assert re.search(r"\n1 turn, [\d,]+ tokens paid; saved as .+\.json\n$", done.stderr)
    saved = Path(re.findall(r"saved as (.+)", done.stderr)[0])
    assert saved.is_relative_to(tmp_path / "outputs" / "chats" / "Moira-Kettley")
    stored = json.loads(saved.read_text(encoding="utf-8"))
    assert [turn["said"] for turn in stored["turns"]] == ["/slash"]
    assert [turn["said"] for turn in stored["set_aside"]] == ["The ledger?", "The ledger?"]
    assert stored["card"] == "moira.png"


def test_input_that_is_no_text(persona: Path) -> None:
    """Bytes that are no UTF-8 end nothing, neither as a message nor as a name."""
    odd = os.fsencode(persona.with_name("moira")) + b"\xff.png"
    persona.rename(os.fsdecode(odd))
    done = subprocess.run(
        [sys.executable, "-m", "personalab", "chat", odd, "--user", b"Ann\xff"],
        input=b"caf\xe9 \x00?\n", capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert (done.returncode, done.stdout.count(b"Moira Kettley:")) == (0, 2)


def test_an_answer_is_shown_where_it_cannot_be_saved(persona: Path) -> None:
    """It was paid for; then one line says why it is not saved."""
    Path("chats").write_text("no folder")
    done = personalab("chat", persona, "--out", "chats", said="Hello.\n")
    assert (done.returncode, done.stdout.count("Moira Kettley:")) == (1, 2)
    assert "cannot write into chats" in done.stderr.splitlines()[-1]


def test_going_on(persona: Path) -> None:
    """--resume last goes on with the newest chat with this card, a file with that one; without one it says so."""
    missing = personalab("chat", persona, "--resume", "last")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 2)
    assert "no chat with this card" in missing.stderr
    first = personalab("chat", persona, "--user", "Ann", said="One.\n/save\n")
    saved = re.findall(r"saved as (.+)", first.stderr)[0]
    second = personalab("chat", persona, "--resume", "last", said="Two.\n/save\n")
    assert "Ann: One." in second.stdout
    assert set(re.findall(r"saved as (.+)", second.stderr)) == {saved}
    third = personalab("chat", persona, "--resume", saved, said="/lore all\n")
    assert "Ann: Two." in third.stdout
    assert "silent: Dessa Howe (no key was found)" in third.stdout


def test_a_script_ends_at_the_first_error(persona: Path, provider: ScriptedProvider) -> None:
    """With the error on one line, its exit code, and nothing said after it."""
    refused = personalab("chat", persona, "--greeting", "9")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
        2,
        "personalab: Moira Kettley has greetings 0 to 2, not 9",
    )
    over = personalab("chat", persona, "--budget", "1requests", said="One.\nTwo.\nThree.\n")
    assert over.returncode == 4
    assert over.stdout.count("Moira Kettley:") == 2


class Terminal:
    """The command in a real terminal: what it shows, and keys to press."""

    def __init__(self, *words: object, **variables: str) -> None:
        import pty

        self.process, self._file = 0, 0
        self.process, self._file = pty.fork()
        if self.process == 0:
            os.environ.update(variables, TERM="xterm-256color")
            os.execv(sys.executable, [sys.executable, "-m", "personalab", *map(str, words)])
        self.seen, self._read = "", 0

    def until(self, shown: str | Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until something is shown, after what was waited for before, or until something is so."""
        end = time.monotonic() + seconds
        while not (self._shown(shown) if isinstance(shown, str) else shown()):
            assert time.monotonic() < end, f"{shown!r} did not come: {self.seen[-2000:]!r}"
            if select.select([self._file], [], [], 0.1)[0]:
                part = os.read(self._file, 65536).decode("utf-8", "replace")
                self.seen += part
                if "\x1b[6n" in part:  # where is the cursor?
                    self.press("\x1b[1;1R")

    def _shown(self, text: str) -> bool:
        place = self.seen.find(text, self._read)
        if place >= 0:
            self._read = place + len(text)
        return place >= 0

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._file, keys.encode())

    def ended(self) -> int:
        """The exit code, once it has ended."""
        try:
            while os.read(self._file, 65536):
                pass
        except OSError:  # the other end is closed
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_in_a_terminal(persona: Path, provider: ScriptedProvider) -> None:
    """Ctrl-C stops an answer and keeps the talk, hostile text moves nothing, an error goes by, Ctrl-D ends."""

    async def hang(body: dict[str, Any]) -> None:
        if body["messages"][-1]["content"] == "Hang.":
            await asyncio.sleep(600)

    provider.wait = hang
    provider.script = lambda body: "Evil \x1b]0;owned\x07\x1b[2J\u202e answer."
    terminal = Terminal(
        "chat", persona, "--user", "Ann", OPENAI_BASE_URL=provider.url, PERSONALAB_MODEL="scripted"
    )
    terminal.until("Ann>")
    assert "AI-made fiction" in terminal.seen
    terminal.press("Hang.\r")
    terminal.until("is writing")
    terminal.until(lambda: provider.in_flight == 1)
    terminal.press("\x03")
    terminal.until("stopped; nothing was said")
    terminal.until("Ann>")
    terminal.press("Hello.\r")
    terminal.until("Evil ]0;owned[2J answer.")
    terminal.until("Ann>")
    terminal.press("/again now\r")
    terminal.until("Evil ")
    terminal.until("Ann>")
    answers = terminal.seen.count("is writing")
    terminal.press("/undo\r")
    terminal.until("taken back")
    terminal.until("Ann>")
    assert terminal.seen.count("is writing") == answers
    terminal.press("/undo\r")
    terminal.until("nothing was said yet")
    terminal.until("Ann>")
    terminal.press("\x04")
    assert terminal.ended() == 0
    assert "\x1b]0;owned" not in terminal.seen


# Cards in other forms


def test_a_card_in_other_forms(persona: Path, tmp_path: Path) -> None:
    """CHARX with the portrait, the lorebook in both forms; what was written is read again by our own reader."""
    done = personalab(
        "card", persona, "--charx", "a.charx", "--lorebook", "book.json", "--world-info", "world.json"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert read_card("a.charx").name == "Moira Kettley"
    assert (read_picture("a.charx") or b"")[:8] == b"\x89PNG\r\n\x1a\n"
    assert json.loads(Path("book.json").read_bytes())["spec"] == "lorebook_v3"
    assert list(json.loads(Path("world.json").read_bytes())["entries"]) == ["0", "1"]
    assert personalab("card", "a.charx").returncode == 0
    again = personalab("card", "a.charx", "--charx", "b.charx")
    assert again.returncode == 0
    assert Path("a.charx").read_bytes() == Path("b.charx").read_bytes()


def test_a_json_card_brings_the_portrait_beside_it(persona: Path) -> None:
    """As personalab saves them: one name, two endings."""
    read_card(persona).save(persona.with_suffix(".json"))
    assert personalab("card", persona.with_suffix(".json"), "--charx", "a.charx").returncode == 0
    assert read_picture("a.charx") is not None
    persona.unlink()
    assert personalab("card", persona.with_suffix(".json"), "--charx", "a.charx").returncode == 0
    assert read_picture("a.charx") is None


def test_what_cannot_be_written(persona: Path) -> None:
    """One line and an exit code: several cards, a card without a lorebook, a folder that is not there to write."""
    several = personalab("card", persona, persona, "--charx", "a.charx")
    assert (several.returncode, several.stderr) == (
        2, "personalab: one card is written in another form at a time, not 2\n",
    )  # fmt: skip
    data = card_data()
    del data["character_book"]
    bare = CharacterCard.from_data(data).save("bare.json")
    nothing = personalab("card", bare, "--lorebook", "book.json")
    assert (nothing.returncode, "has no lorebook" in nothing.stderr, Path("book.json").exists()) == (
        1,
        True,
        False,
    )
