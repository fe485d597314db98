"""A real JupyterLab and a real browser for tests of what people see and press."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((found for name in BROWSERS if (found := shutil.which(name))), None)
TOKEN = "test"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
_QUIET = {"fetchNews": "false", "checkForUpdates": False}
_IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """A server on a folder; gives its address. It says by its log that it listens, and dies with its kernels."""
    home = folder / "home"
    settings = home / "config" / "lab" / "user-settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(_QUIET))
    port = free_port()
    environment = {
        **os.environ,
        "HOME": str(home),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "PERSONALAB_OUTPUTS": str(folder / "outputs"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}", "--expose-app-in-browser",
    ]  # fmt: skip
    server = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert server.stdout is not None
    seen = []
    for line in server.stdout:
        seen.append(line)
        if "Jupyter Server" in line and "is running at" in line:
            break
    else:
        raise RuntimeError("JupyterLab did not start:\n" + "".join(seen))
    threading.Thread(target=server.stdout.read, daemon=True).start()  # or it stops when the pipe is full
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}/api/shutdown?token={TOKEN}", method="POST")
        ):
            pass
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield chromium
        finally:
            chromium.close()


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of these cells of code."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return path


class Page:
    """A notebook open in a browser. `errors` are what its scripts threw, `dialogs` what they asked."""

    def __init__(self, chromium: Any, address: str, notebook: str) -> None:
        self.page = chromium.new_page()
        self.page.set_viewport_size({"width": 1280, "height": 1000})
        self.page.set_default_timeout(60_000)
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", self._asked)
        self.address, self.notebook = address, notebook
        self.open()

    def _asked(self, dialog: Any) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss() if dialog.type != "beforeunload" else dialog.accept()

    def open(self) -> None:
        """Open the notebook and wait for its kernel."""
        self.page.goto(f"{self.address}/lab/tree/{self.notebook}?reset&token={TOKEN}")
        self.page.wait_for_function(_IDLE)

    def run(self) -> None:
        """Run all cells and wait for the review."""
        self.command("notebook:run-all-cells")
        self.page.locator(".personalab-review:not(.asleep)").wait_for()

    def command(self, name: str, **arguments: Any) -> None:
        """A command of JupyterLab's."""
        self.page.evaluate("([name, given]) => jupyterapp.commands.execute(name, given)", [name, arguments])

    def save(self) -> None:
        """Save the notebook with its outputs."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.context.save()")

    def click(self, label: str) -> None:
        """Click a button of the review, found by its title, once the last act is answered, and wait for the answer."""
        self.settled()
        self.review.get_by_title(label, exact=True).click()
        self.settled()

    def restart(self) -> None:
        """Restart the kernel, as the menu does once asked."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.page.wait_for_function(_IDLE)

    def restarted(self) -> None:
        """Wait until a kernel that died has been started again by its server, and close what JupyterLab says of it."""
        self.page.locator(".jp-Dialog", has_text="died").wait_for()
        self.page.keyboard.press("Enter")
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        self.page.wait_for_function(_IDLE)

    @property
    def review(self) -> Any:
        """The widget."""
        return self.page.locator(".personalab-review")

    def press(self, key: str) -> None:
        """Press a key once the last act is answered."""
        self.settled()
        self.page.keyboard.press(key)

    def settled(self) -> None:
        """Wait until every act is answered."""
        self.page.wait_for_function(
            "() => !document.querySelector('.personalab-review').classList.contains('saving')"
        )
