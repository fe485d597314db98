"""A file of lines on its way to a provider. It holds pictures, and is gone once it was sent."""

from __future__ import annotations

from pathlib import Path

from personalab.files import scratch_file


class LineFile:
    """Lines by their names, on disk as they come, so that memory does not grow with them.

    Raises:
        OutputError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = scratch_file(folder)
        self._file = self.path.open("w+b")
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def names(self) -> tuple[str, ...]:
        """The lines that are in it."""
        return tuple(self._places)

    def add(self, name: str, line: bytes) -> None:
        """One line more."""
        self._file.write(line)
        self._places[name] = self._end, len(line)
        self._end += len(line)
        self.size += len(line)

    def leave_out(self, name: str) -> None:
        """One line less, if it is there."""
        _, length = self._places.pop(name, (0, 0))
        self.size -= length

    def close(self) -> None:
        """No more lines: the file holds those that were not left out."""
        if self.size < self._end:
            whole = self.path
            self.path = scratch_file(self._folder)
            with self.path.open("wb") as file:
                for place, length in self._places.values():
                    self._file.seek(place)
                    file.write(self._file.read(length))
            whole.unlink(missing_ok=True)
        self._file.close()

    def remove(self) -> None:
        """It is not needed any more."""
        self._file.close()
        self.path.unlink(missing_ok=True)
