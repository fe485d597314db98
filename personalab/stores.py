"""Where results lie: in a folder of this machine, or below a URL such as `s3://bucket/sweeps`, which fsspec opens.

A folder is a `Path`, a URL stays text. A `file://` URL is a folder. Keys of a store are the environment's business.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from personalab.errors import ConfigError, OutputError
from personalab.files import write_whole

Place = Path | str
"""A folder here, or the URL of one elsewhere."""


def place_of(text: Path | str) -> Place:
    """The place that a person names by a path or a URL."""
    if isinstance(text, Path) or "://" not in text:
        return Path(text)
    return Path(url2pathname(urlsplit(text).path)) if text.startswith("file://") else text.rstrip("/")


def below(place: Place, *names: str) -> Place:
    """What lies under these names below a place."""
    return place.joinpath(*names) if isinstance(place, Path) else "/".join((place, *names))


def name_of(place: Place) -> str:
    """The last part of a place."""
    return place.name if isinstance(place, Path) else place.rsplit("/", 1)[-1]


class Store:
    """The files below a URL, by their names from there, with slashes.

    Raises:
        ConfigError: a kind of URL that nobody here can open.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            import fsspec
        except ImportError:
            raise ConfigError(
                f"{url}: results by URL need fsspec: pip install 'personalab[cluster]'"
            ) from None
        try:
            self._files, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:  # it says what to install, or which kinds there are
            raise ConfigError(f"{url}: cannot be opened: {' '.join(str(error).split())}") from None
        self._root = str(root).rstrip("/")

    def find(self, *patterns: str) -> list[str]:
        """The names of files that fit one of the patterns, in order.

        Raises:
            OutputError: the store does not answer, or does not let us.
        """
        with _told(self.url, "read"):
            self._files.invalidate_cache()  # others write there
            found = [path[len(self._root) + 1 :] for path in self._files.find(self._root)]
        return sorted(name for name in found if any(_fits(name, pattern) for pattern in patterns))

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Contents by name, all asked for at once; what is gone is left out.

        Raises:
            OutputError: as `find`.
        """
        wanted = [f"{self._root}/{name}" for name in names]
        if not wanted:
            return {}
        with _told(self.url, "read"):
            found = self._files.cat(wanted, on_error="return")
            for content in found.values():
                if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                    raise content
        return {
            path[len(self._root) + 1 :]: content
            for path, content in found.items()
            if isinstance(content, bytes)
        }

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write files, each whole or not at all, in no order.

        Raises:
            OutputError: as `find`.
        """
        with _told(self.url, "write"):
            self._files.pipe({f"{self._root}/{name}": content for name, content in contents.items()})

    def remove(self, names: Iterable[str]) -> None:
        """Delete files.

        Raises:
            OutputError: as `find`.
        """
        unwanted = [f"{self._root}/{name}" for name in names]
        if unwanted:
            with _told(self.url, "write"):
                self._files.rm(unwanted)


@contextmanager
def local_copy(place: Place, *patterns: str) -> Iterator[Path]:
    """A place as a folder: a folder itself, else a copy of the files that fit, which is gone afterwards.

    Raises:
        OutputError: the store does not answer, or does not let us.
    """
    if isinstance(place, Path):
        yield place
        return
    store = Store(place)
    with tempfile.TemporaryDirectory(prefix="personalab-") as folder:
        copy = Path(folder, name_of(place))
        copy.mkdir()
        for name, content in sorted(store.read(store.find(*patterns)).items()):
            write_whole(copy / name, content, durable=False)
        yield copy


def write_below(place: Place, name: str, content: bytes) -> Place:
    """Write one file below a place, whole or not at all; gives where it is.

    Raises:
        OutputError: it cannot be written.
    """
    if isinstance(place, Path):
        return write_whole(place / name, content, durable=False)
    Store(place).write({name: content})
    return below(place, name)


def _fits(name: str, pattern: str) -> bool:
    """Whether a name has the pattern's parts, each a plain name: a store's keys may hold anything."""
    parts, wanted = PurePosixPath(name).parts, PurePosixPath(pattern).parts
    return (
        len(parts) == len(wanted)
        and ".." not in parts
        and "\\" not in name
        and all(fnmatchcase(part, each) for part, each in zip(parts, wanted, strict=True))
    )


@contextmanager
def _told(url: str, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  each store's library has errors of its own, and they share no base
        said: Any = " ".join(str(error).split()) or type(error).__name__
        raise OutputError(
            f"{url}: cannot {what}: {said}; check the address, and the store's keys in the environment"
        ) from None
