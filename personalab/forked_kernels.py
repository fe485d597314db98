"""Kernels forked from a warm parent: ready in a twentieth of a second where an ordinary one takes two, and the same otherwise.

`ForkedKernelManager` stands wherever a jupyter_client manager does: papermill, nbclient, nbmake. The parent
(`warm_parent.py`) is a process of its own, as this one has threads; it is started with the first kernel, serves any number
at once, and is replaced when the environment or an imported source file is no longer what it was when it started.
Kernels of other interpreters and languages start in the ordinary way. Why and how: docs/decisions/0017-forked-kernels.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
import weakref
from pathlib import Path
from queue import Empty
from string import Template
from typing import Any, NamedTuple, Self

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import Type

from personalab import warm_parent
from personalab.errors import KernelError

WARM_MODULES = (
    "pandas",
    "openai",
    "openai.resources.chat",
    "aiohttp",
    "ipywidgets",
    "personalab.pipeline",
    "personalab.jobs",
    "personalab.frames",
)
"""What every parent imports, as far as it is installed. None may start a thread or look at what a kernel sets up."""
WARM_WHERE_NAMED = {
    "altair": "altair",
    "charts": "altair",
    "comparison": "scipy.stats",
    "scipy": "scipy.stats",
}
"""What takes long to import, and is imported for notebooks in which this word stands."""
_SOCKET_FOLDER_MAX = 50
"""Characters of a folder in which sockets still get a path: 107 less what is below it."""
_START_SECONDS = 60.0
_READY_SECONDS = 1.0
_END_SECONDS = 10.0
_MESSAGE_BYTES = 10_000
_CHANGES_NOTHING = {
    "PERSONALAB_OUTPUTS",
    "PYTEST_CURRENT_TEST",
    "XDG_CACHE_HOME",
    "PWD",
    "OLDPWD",
    "SHLVL",
    "_",
}
"""Variables that no warm module looks at when it is imported, so that they need no parent of their own."""
_ORDINARY = ["-m", "ipykernel_launcher"]


def can_fork() -> bool:
    """Whether kernels can be forked on this system: Linux since 5.3."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class ForkedKernelManager(AsyncKernelManager):
    """A manager of one kernel, forked where its specification is the running interpreter's own."""

    warm_modules = WARM_MODULES

    @classmethod
    def for_notebook(cls, source: str) -> type[ForkedKernelManager]:
        """A manager whose parent has also imported what this code names."""
        named = {module for word, module in WARM_WHERE_NAMED.items() if word in source}
        return type(cls.__name__, (cls,), {"warm_modules": (*cls.warm_modules, *sorted(named))})

    client_factory = Type(klass=AsyncKernelClient, default_value="personalab.forked_kernels.ReadyClient")

    async def _async_pre_start_kernel(self, **options: Any) -> tuple[list[str], dict[str, Any]]:
        if self.provisioner is None and can_fork() and self.interpreter_flags() is not None:
            self.kernel_id = self.kernel_id or options.pop("kernel_id", str(uuid.uuid4()))
            self.provisioner = ForkedKernel(
                kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self
            )
        return await super()._async_pre_start_kernel(**options)

    def interpreter_flags(self) -> tuple[str, ...] | None:
        """What the specification gives this interpreter beside the kernel; None if it asks for something else."""
        specification = self.kernel_spec
        if specification is None or "kernel_provisioner" in specification.metadata:
            return None
        python, *rest = specification.argv
        if python not in ("python", "python3") and Path(python) != Path(sys.executable):
            return None
        flags = rest[: rest.index("-m")] if "-m" in rest else rest
        return tuple(flags) if rest[len(flags) :][:2] == _ORDINARY else None


class ForkedKernel(LocalProvisioner):
    """A forked kernel's life: started over a line to the warm parent, signalled over it, dead when it says so."""

    _line: socket.socket | None = None
    _parent: WarmParent | None = None
    """Kept until the kernel has ended, also when another one has taken its place."""
    _code: int | None = None

    @property
    def has_process(self) -> bool:
        """Whether there is a kernel, be it a dead one that nobody has waited for."""
        return self._line is not None

    async def pre_launch(self, **options: Any) -> dict[str, Any]:
        """Choose the parent, and a place in its folder for the kernel's channels and connection file."""
        manager = self.parent
        assert isinstance(manager, ForkedKernelManager)
        flags = manager.interpreter_flags()
        assert flags is not None
        folder = str(Path.cwd() / (options.get("cwd") or ""))
        environment = dict(options.get("env") or os.environ)
        for name, value in self.kernel_spec.env.items():
            environment[name] = Template(value).safe_substitute(environment)
        self._parent = warm_parent_for(Needs.of(environment, folder, manager.warm_modules, flags))
        manager.transport = "ipc"  # sockets in a folder that only this user can open, and no ports to clash
        manager.ip = str(self._parent.folder / str(self.kernel_id))
        manager.connection_file = f"{manager.ip}.json"
        return await super().pre_launch(**options | {"env": environment, "cwd": folder})

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        """Fork the kernel and wait until its channels are bound.

        Raises:
            KernelError: it ended before, or took too long.
        """
        assert self._parent is not None
        self.cwd = options["cwd"]
        orders = {
            "arguments": cmd[cmd.index(_ORDINARY[-1]) + 1 :],
            "environment": options["env"] | {"JPY_PARENT_PID": str(self._parent.process.pid)},
            "folder": self.cwd,
        }
        self._code = None
        self._line = self._parent.fork(orders)
        try:
            said = await asyncio.wait_for(_heard(self._line), _START_SECONDS)
        except TimeoutError:
            await self.cleanup()
            raise KernelError(
                f"a forked kernel was not ready after {_START_SECONDS:.0f} s; try --engine papermill"
            ) from None
        message = json.loads(said or "{}")
        if "process" not in message:
            await self.cleanup()
            ended = f"it ended with exit code {message.get('code')}, its error is on the terminal"
            problem = message.get("problem", ended)
            raise KernelError(f"a kernel could not be forked: {problem}; mend it, or try --engine papermill")
        self.pid = self.pgid = message["process"]
        return self.connection_info

    async def poll(self) -> int | None:
        """None while the kernel lives, then its exit code."""
        if self._line is None:
            return self._code or 0
        if self._code is None:
            with contextlib.suppress(BlockingIOError):
                self._hear(_received(self._line))
        return self._code

    async def wait(self) -> int | None:
        """Its exit code, once it has ended."""
        if self._line is not None:
            if self._code is None:
                self._hear(await _heard(self._line))
            self._line.close()
            self._line = None
        return self._code

    async def send_signal(self, signum: int) -> None:
        """Signal the kernel and whatever it has started."""
        if self._line is not None and self._code is None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._line.send(bytes([signum]))

    async def kill(self, restart: bool = False) -> None:
        """Kill the kernel and whatever it has started, and wait until it is gone."""
        await self.send_signal(signal.SIGKILL)
        await self.wait()

    async def terminate(self, restart: bool = False) -> None:
        """Ask the kernel to end."""
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        """Let go of the line, which ends a kernel that is still there, and of the parent."""
        if self._line is not None:
            self._line.close()
            self._line = None
        self._parent = None

    def _hear(self, said: bytes) -> None:
        """Take the news of the kernel's end; silence means that the parent has died, and the kernel with it."""
        if said:
            self._code = json.loads(said)["code"]
            return
        self._code = -signal.SIGKILL
        if self.pgid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pgid, signal.SIGKILL)  # what it had started


class ReadyClient(AsyncKernelClient):
    """A client that is ready with the kernel's first answer, without another 0.2 s of listening for nothing."""

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Wait until the kernel answers and what it publishes arrives.

        Raises:
            RuntimeError: it died, or did not answer in time.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            self.kernel_info()
            with contextlib.suppress(Empty):
                answer = await self.get_shell_msg(timeout=_READY_SECONDS)
                await self.get_iopub_msg(timeout=_READY_SECONDS)
                if answer["msg_type"] == "kernel_info_reply":
                    self._handle_kernel_info_reply(answer)
                    return
            if not await self.is_alive():
                raise RuntimeError("Kernel died before replying to kernel_info")
            if deadline is not None and loop.time() > deadline:
                raise RuntimeError(f"Kernel didn't respond in {timeout:.0f} seconds")


class Needs(NamedTuple):
    """What a warm parent is made for; kernels that need something else need another one."""

    environment: dict[str, str]
    modules: tuple[str, ...]
    flags: tuple[str, ...]
    folder: str | None
    """The working folder, where it decides what is imported."""

    @classmethod
    def of(
        cls, environment: dict[str, str], folder: str, modules: tuple[str, ...], flags: tuple[str, ...]
    ) -> Self:
        """The needs of a kernel."""
        seen = {name: value for name, value in environment.items() if name not in _CHANGES_NOTHING}
        own = tuple(module for module in modules if not _is_shadowed(module.split(".")[0], folder))
        relative = not all(map(os.path.isabs, environment.get("PYTHONPATH", "/").split(os.pathsep)))
        return cls(seen, own, flags, folder if relative else None)


class WarmParent:
    """A running warm parent. It ends, and its kernels with it, when nothing refers to this any more."""

    def __init__(self, needs: Needs) -> None:
        self.needs = needs
        self.folder = Path(tempfile.mkdtemp(prefix="personalab-", dir=_socket_folder()))
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        handles = [str(theirs.fileno()), str(self.folder)]
        command = [sys.executable, *needs.flags, warm_parent.__file__, *handles, *needs.modules]
        with theirs:
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=needs.environment,
                cwd=needs.folder or self.folder,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this process, which then decides
            )
        self.end = weakref.finalize(self, _end, self._control, self.process, self.folder, os.getpid())
        _controls.add(self._control)
        self._watched: dict[str, int] = {}
        try:
            self._warm_up()
        except BaseException:
            self.process.kill()  # it has no kernels yet
            self.end()
            raise

    def _warm_up(self) -> None:
        self._control.settimeout(_START_SECONDS)
        try:
            said = json.loads(self._control.recv(_MESSAGE_BYTES) or b"{}")
        except TimeoutError:
            said = {"problem": f"it was not ready after {_START_SECONDS:.0f} s"}
        if "watched" not in said:
            problem = said.get("problem", "it ended, its error is on the terminal")
            raise KernelError(f"no warm parent for forked kernels: {problem}; try --engine papermill")
        self._watched = json.loads(Path(said["watched"]).read_text())

    def serves(self, needs: Needs) -> bool:
        """Whether a kernel forked now would be what an ordinary one is."""
        return self.process.poll() is None and self.needs == needs and self._is_fresh()

    def fork(self, orders: dict[str, Any]) -> socket.socket:
        """Ask for a kernel. Gives the line over which it will answer."""
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        line.setblocking(False)
        handle = os.memfd_create("orders")
        with theirs, os.fdopen(handle, "wb") as file:
            file.write(json.dumps(orders).encode())
            file.flush()
            # Where the parent has died nobody answers, which is heard.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self._control, [b"k"], [theirs.fileno(), handle])
        return line

    def _is_fresh(self) -> bool:
        try:
            return all(os.stat(path).st_mtime_ns == changed for path, changed in self._watched.items())  # noqa: PTH116
        except OSError:
            return False


def warm_parent_for(needs: Needs) -> WarmParent:
    """The parent for such kernels; a new one if the present one does not serve them.

    Raises:
        KernelError: it cannot be started.
    """
    global _current
    with _lock:
        if _current is None or not _current.serves(needs):
            _current = None  # it ends now, unless kernels of it still run
            _current = WarmParent(needs)
        return _current


def _is_shadowed(module: str, folder: str) -> bool:
    """Whether a kernel in the folder would find another module of that name there."""
    here = [Path(folder, module, "__init__.py"), Path(folder, f"{module}.py")]
    found = [path for path in here if path.exists()]
    if not found:
        return False
    installed = importlib.util.find_spec(module)
    return installed is None or installed.origin is None or not found[0].samefile(installed.origin)


async def _heard(line: socket.socket) -> bytes:
    """The next message on a line, waited for; nothing when it is hung up."""
    try:
        return await asyncio.get_running_loop().sock_recv(line, _MESSAGE_BYTES)
    except ConnectionResetError:
        return _received(line)


def _received(line: socket.socket) -> bytes:
    try:
        return line.recv(_MESSAGE_BYTES)
    except ConnectionResetError:  # a signal came too late for the other side; what it had said comes next
        return line.recv(_MESSAGE_BYTES)


def _socket_folder() -> str:
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= _SOCKET_FOLDER_MAX else "/tmp"


def _end(control: socket.socket, process: subprocess.Popen[bytes], folder: Path, owner: int) -> None:
    control.close()
    if os.getpid() == owner:  # a fork's child only lets go of the socket
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


_lock = threading.Lock()
_current: WarmParent | None = None
_controls: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _after_fork() -> None:
    # A fork's child must not keep alive what is to end with its parent; it starts a warm parent of its own.
    global _lock, _current
    for control in list(_controls):
        control.close()
    _lock, _current = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
