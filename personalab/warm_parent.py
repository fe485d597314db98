"""The warm parent: a process that has imported what notebooks import, and forks a kernel whenever it is asked.

Run as a file by `forked_kernels`, never imported into anything that has threads. It knows nothing of notebooks, and
Linux only: kernels are watched by pidfd and die with their parent (`PR_SET_PDEATHSIG`).

    python warm_parent.py CONTROL FOLDER MODULE…

CONTROL is the number of an inherited socket. Each message on it brings two handles, a `line` and `orders`, and asks for
one kernel. Over its line a kernel tells its process id when its channels are bound, and the parent its exit code when it
has ended; the other side sends numbers of signals, and hangs up to have it killed. When CONTROL is hung up, every kernel
is killed and this process ends: whoever asked for them is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import importlib
import importlib.util
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_NO_WARNING = "PYDEVD_DISABLE_FILE_VALIDATION"
"""With it debugpy does not warn of frozen modules when it is imported; in a kernel nobody sees that warning."""
_NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""For this process alone: pyarrow, which pandas imports where it is installed, starts a thread that tidies its memory."""
_TRIAL_CELL = "from IPython.display import HTML, display; display(HTML('')); print(); 0"


def main() -> None:
    """Warm up, say so on the control socket, serve until it is hung up."""
    control = socket.socket(fileno=int(sys.argv[1]))
    folder, modules = Path(sys.argv[2]), sys.argv[3:]
    with contextlib.suppress(ValueError):  # not there under -P
        sys.path.remove(str(Path(__file__).parent))  # kernels must not look for modules there
    os.environ |= _NO_THREADS
    before = dict(os.environ)
    _die_on_news(control, True)  # there is none before this process is warm but the end of whoever wants it
    try:
        warm_up(folder, modules)
    except RuntimeError as error:
        _tell(control, problem=str(error))
        return
    _die_on_news(control, False)
    set_by_imports = {name: value for name, value in os.environ.items() if before.get(name) != value}
    watched = write_watched(folder)
    _tell(control, watched=str(watched))
    kernel = Warm(control).serve()
    if kernel is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        become_kernel(*kernel, set_by_imports)


def warm_up(folder: Path, modules: list[str]) -> None:
    """Import the modules that are installed, and whatever else a kernel loads before its first cell.

    Raises:
        RuntimeError: a module started a thread, and a process with threads cannot be forked safely.
    """
    for module in ("ipykernel.kernelapp", *modules):
        _import(module)
    needed = _loaded_by_a_kernel(folder)
    os.environ[_NO_WARNING] = "1"
    for module in needed:
        _import(module)
    del os.environ[_NO_WARNING]
    # OpenBLAS ends its threads before a fork, so only now can they be counted.
    if (threads := len(os.listdir("/proc/self/task"))) > 1:  # noqa: PTH208
        raise RuntimeError(f"importing {', '.join(modules)} left {threads - 1} threads running")
    gc.collect()
    gc.freeze()  # else each collection in a kernel would copy the pages it shares with this process


def write_watched(folder: Path) -> Path:
    """Write which files have to stay as they are for the imports to be those of today: path and time of change.

    Of installed libraries only their folder, whose time changes with every installation.
    """
    paths = {key: Path(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    installed = {paths["purelib"], paths["platlib"]}
    watched = set(installed)
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if name and not any(Path(name).is_relative_to(path) for path in paths.values()):
            watched.add(Path(name))
    times = {str(path): path.stat().st_mtime_ns for path in watched if path.exists()}
    file = folder / "watched.json"
    file.write_text(json.dumps(times))
    return file


class Warm:
    """The kernels of this process, and the loop that serves those who asked for them."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines: dict[int, socket.socket] = {}  # by process id
        self._selector = selectors.PollSelector()  # has nothing in the system that a fork would share
        self._selector.register(control, selectors.EVENT_READ, self._fork)

    def serve(self) -> tuple[socket.socket, int] | None:
        """Answer until the control socket is hung up. In a forked child: its line and its orders."""
        while True:
            for key, _ in self._selector.select():
                if (kernel := key.data()) is not None:
                    return kernel if kernel[1] >= 0 else None

    def _fork(self) -> tuple[socket.socket, int] | None:
        try:
            message, handles, *_ = socket.recv_fds(self._control, 1, 2, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            message, handles = b"", []
        if not message:
            self._end()
            return self._control, -1
        line, orders = socket.socket(fileno=handles[0]), handles[1]
        parent = os.getpid()
        try:
            child = os.fork()
        except OSError as error:  # no memory or too many processes: this kernel fails, the others go on
            _tell(line, problem=error.strerror)
            line.close()
            os.close(orders)
            return None
        if child == 0:
            _die_with(parent)
            os.setsid()
            for other in (self._control, *self._lines.values()):
                other.close()
            return line, orders
        os.close(orders)
        self._lines[child] = line
        ended = os.pidfd_open(child)
        self._selector.register(line, selectors.EVENT_READ, lambda: self._signal(child))
        self._selector.register(ended, selectors.EVENT_READ, lambda: self._reap(child, ended))
        return None

    def _signal(self, child: int) -> None:
        """Pass on the signal that was asked for; kill when whoever asked for the kernel has hung up."""
        if (line := self._lines.get(child)) is None:
            return  # it was waited for a moment ago
        try:
            wanted = line.recv(1)
        except ConnectionResetError:
            wanted = b""
        if not wanted:
            self._selector.unregister(line)
        _signal_group(child, wanted[0] if wanted else signal.SIGKILL)

    def _reap(self, child: int, ended: int) -> None:
        # Until it is waited for its number is its own, and so is the group of what it started and left behind.
        _signal_group(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self._selector.unregister(ended)
        os.close(ended)
        line = self._lines.pop(child)
        with contextlib.suppress(KeyError):  # hung up before
            self._selector.unregister(line)
        _tell(line, code=code)
        line.close()

    def _end(self) -> None:
        for child in self._lines:
            _signal_group(child, signal.SIGKILL)
        for child in self._lines:
            os.waitpid(child, 0)


def become_kernel(line: socket.socket, orders: int, set_by_imports: dict[str, str]) -> None:
    """Turn this forked child into the ordinary kernel that its orders describe, and run it to its end."""
    with os.fdopen(orders, "rb") as file:
        file.seek(0)
        wanted: dict[str, Any] = json.load(file)
    os.environ.clear()
    os.environ.update(wanted["environment"] | set_by_imports)
    time.tzset()
    os.chdir(wanted["folder"])
    sys.argv = [_launcher(), *wanted["arguments"]]
    importlib.invalidate_caches()
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()  # `random`, `uuid` and `secrets` see to it themselves
    kernel = _kernel([*wanted["arguments"], f"--IPKernelApp.parent_handle={os.getppid()}"])
    _tell(line, process=os.getpid())
    line.close()
    kernel.start()


def _kernel(arguments: list[str]) -> Any:
    """An ipykernel application, its channels bound. History in memory, unless the arguments say where."""
    from ipykernel.kernelapp import IPKernelApp

    history = "--HistoryManager.hist_file"
    if not any(argument.startswith(history) for argument in arguments):
        arguments = [f"{history}=:memory:", *arguments]
    kernel: Any = IPKernelApp.instance()
    kernel.initialize(arguments)
    return kernel


def _loaded_by_a_kernel(folder: Path) -> list[str]:
    """What a kernel loads until its first cell has run; learned from a child that is thrown away."""
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(parent)
        before = set(sys.modules)
        place = ["--transport=ipc", f"--ip={folder / 'trial'}", f"-f={folder / 'trial.json'}"]
        kernel = _kernel([*place, "--IPKernelApp.parent_handle=1"])
        kernel.shell.run_cell(_TRIAL_CELL)
        with os.fdopen(writing, "w") as file:
            json.dump(sorted(set(sys.modules) - before), file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        said = file.read()
    os.waitpid(child, 0)
    return list(json.loads(said)) if said else []


def _die_on_news(control: socket.socket, wanted: bool) -> None:
    """Have the system end this process (SIGIO) when something happens to a socket, also in the midst of an import."""
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC if wanted else flags & ~os.O_ASYNC)


def _tell(line: socket.socket, **news: object) -> None:
    with contextlib.suppress(
        BrokenPipeError, ConnectionResetError
    ):  # nobody listens any more, which is seen next
        line.send(json.dumps(news).encode())


def _import(module: str) -> None:
    # What cannot be imported here, as it is not installed, broken, or wants a kernel around it, is left to the kernels.
    with contextlib.suppress(Exception):
        importlib.import_module(module)


def _die_with(parent: int) -> None:
    """Have the system kill this process when its parent dies; at once if that has happened already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _signal_group(child: int, number: int) -> None:
    try:
        os.killpg(child, number)
    except ProcessLookupError:  # it has no group of its own yet
        os.kill(child, number)


def _launcher() -> str:
    found = importlib.util.find_spec("ipykernel_launcher")
    return (found.origin if found else None) or ""


if __name__ == "__main__":
    main()
