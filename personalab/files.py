"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from personalab.dry import check_inside
from personalab.errors import OutputError

_PART = ".part"
_PART_SECONDS = 3600.0
_FULL = "free space or choose another folder"
_TAKEN = "a file stands where a folder is needed: move it or choose another folder"
_RIGHTS = "ask for the right to write there or choose another folder"
_WRITE_MENDS = {
    errno.ENOSPC: _FULL,
    getattr(errno, "EDQUOT", errno.ENOSPC): _FULL,
    errno.EFBIG: "files may not become so large here (ulimit -f): raise the limit or choose another folder",
    errno.ENOTDIR: _TAKEN,
    errno.EEXIST: _TAKEN,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
}


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> Path:
    """Write a file so that a reader sees the old content or the new, never a part, also after a crash.

    Written to a temporary file in the same folder, flushed to disk, then renamed over. Gives the path back. Without
    `durable` the flush is left out: nothing is lost when the process dies, only when the whole machine does.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        part = _part(path.parent, content, durable)
        try:
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def write_new(paths: Iterable[Path], content: bytes) -> Path:
    """Write a file whole under the first of several names that nobody has; nothing is ever overwritten.

    Two processes that try the same name at the same moment get different ones.

    Raises:
        OutputError: the folder cannot be made or written, or every name is taken.
    """
    part: Path | None = None
    path = Path()
    try:
        for path in paths:
            part = part or _part(path.parent, content)
            with suppress(FileExistsError):
                os.link(part, path)  # fails where the name is taken, which a rename does not
                return path
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    raise OutputError(f"cannot write {path}: every name is taken")


def check_writable(folder: Path) -> None:
    """Make a folder and write into it: better before something is paid for than when there is a result to keep.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        _part(folder, b"").unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error


def scratch_file(folder: Path) -> Path:
    """A new file for a short life, which only its owner reads; what a killed process leaves of such is cleared as parts are.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=_PART)
    except OSError as error:
        raise cannot_write(folder, error) from error
    os.close(handle)
    return Path(name)


def clear_parts(folder: Path) -> None:
    """Remove what killed processes left half written, once it is old enough to be nobody's."""
    for part in folder.glob(f".*{_PART}"):
        with suppress(OSError):
            if part.stat().st_mtime < time.time() - _PART_SECONDS:
                part.unlink()


def _part(folder: Path, content: bytes, durable: bool = True) -> Path:
    """A temporary file in the folder with the content. Its ending is nobody's, so no search finds it."""
    check_inside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=_PART)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        part.chmod(0o666 & ~_UMASK)  # mkstemp lets only the owner read
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def cannot_write(path: Path | str, error: OSError) -> OutputError:
    """The error of a file or folder that could not be written, with what mends it."""
    mend = _WRITE_MENDS.get(error.errno or 0, "choose another folder")
    return OutputError(f"cannot write {path}: {error.strerror or error}; {mend}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Read once: the system can only tell the mask by setting it, which must not happen while threads write files.
_UMASK = _umask()
