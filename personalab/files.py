"""Writing files whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from personalab.errors import OutputError


def write_whole(path: Path, content: bytes) -> Path:
    """Write a file so that a reader sees the old content or the new, never a part, also after a crash.

    Written to a temporary file in the same folder, flushed to disk, then renamed over. Gives the path back.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-", suffix=path.suffix)
        part = Path(temporary)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o666 & ~_UMASK)  # mkstemp lets only the owner read
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Read once: the system can only tell the mask by setting it, which must not happen while threads write files.
_UMASK = _umask()
