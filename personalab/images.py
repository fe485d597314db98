"""From any image file to a picture that can be sent: upright, plain, without metadata, of bounded size.

Images are hostile: only common formats are opened, pixels are counted before they are decoded, and what leaves is
encoded anew from pixels alone.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from personalab.config import PICTURE_BYTES_MAX, PICTURE_PIXELS_LARGE, PICTURE_PIXELS_MAX, PICTURE_SIDE_MAX
from personalab.errors import ConfigError, ImageError
from personalab.names import path_text
from personalab.records import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow warns of broken EXIF and of large pictures, which are counted here. Said once: `catch_warnings` around each
# picture would, in threads, switch off the warnings of the whole process.
warnings.filterwarnings("ignore", module=r"PIL\.")
_LARGE = threading.Lock()  # a decoded picture takes hundreds of megabytes: one of the large ones at a time
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"))
"""By which the images of a folder are told; a file named by itself may end as it likes."""
BROKEN_IMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, OverflowError, MemoryError)
"""What reading an image raises: Pillow lets decoders raise what they like on broken data."""


def open_picture(source: Path | str | bytes, *, name: str = "", side_max: int = PICTURE_SIDE_MAX) -> Picture:
    """The picture in a file or in its bytes: the first frame, turned as its EXIF says, in RGB, transparency on white.

    `name` stands in messages about bytes.

    Raises:
        ImageError: missing, empty, cut off, no image of a known format, or too many pixels; names the file.
    """
    name = (name or "(bytes)") if isinstance(source, bytes) else path_text(source)
    return _picture(_pixels(read_image(source), name, side_max))


def read_image(source: Path | str | bytes) -> bytes:
    """The bytes of an image file, not looked into yet.

    Raises:
        ImageError: missing, empty, too large, or no ordinary file; names the file.
    """
    name = "(bytes)" if isinstance(source, bytes) else path_text(source)
    if isinstance(source, bytes):
        data = source
    else:
        try:
            status = Path(source).stat()
            if not stat.S_ISREG(status.st_mode):  # reading a pipe waits for a writer, a device never ends
                raise ImageError(name, "is no ordinary file (a folder, pipe or device); give an image file")
            if status.st_size > PICTURE_BYTES_MAX:
                raise ImageError(name, f"is larger than {PICTURE_BYTES_MAX // 1_000_000} MB; make it smaller")
            data = Path(source).read_bytes()
        except OSError as error:
            seen = "" if Path(source).is_absolute() else f", seen from {Path.cwd()}"
            raise ImageError(
                name, f"cannot be read: {error.strerror or error}{seen}; check the path"
            ) from error
        except ValueError as error:  # a NUL in the path
            raise ImageError(repr(name), "is not a path") from error
    if not data:
        raise ImageError(name, "is empty (0 bytes); export or download it again")
    return data


def each_image(images: Path | str | Iterable[Path | str]) -> Iterator[Path]:
    """Image files one by one, in order: files as they are, a folder's images by name, and what a glob matches.

    A name that leads to nothing is given as it is, so that whoever opens it says so.

    Raises:
        ConfigError: a single folder or glob without an image.
    """
    if isinstance(images, Path | str):
        found = _matches(Path(images))
        if not found:
            raise _no_image(images)
        yield from map(Path, found)
        return
    for image in images:
        found = _matches(Path(image))
        if not found and isinstance(
            images, Sequence
        ):  # known beforehand, so it can be said before anything is made
            raise _no_image(image)
        yield from map(Path, found or [str(image)])


def _no_image(where: Path | str) -> ConfigError:
    endings = " ".join(sorted(ENDINGS))
    return ConfigError(
        f"no image in {where}: give image files or a folder that holds some (known endings: {endings})"
    )


def _matches(path: Path) -> list[str]:
    """The images a path stands for; a file that is there stands for itself, whatever its name."""
    if path.is_dir():
        there = set(os.listdir(path))  # noqa: PTH208 - 10,000 Paths take room
        # What a batch wrote is not what it reads, where both lie in one folder.
        made = {
            f"{name.removesuffix('_run.json')}_persona.png" for name in there if name.endswith("_run.json")
        }
        names = (name for name in there - made if not name.startswith("."))
        images = sorted(name for name in names if os.path.splitext(name)[1].lower() in ENDINGS)  # noqa: PTH122
        return [str(path / name) for name in images]
    if path.exists() or not has_magic(str(path)):
        return [str(path)]
    return [name for name in sorted(glob(str(path), recursive=True)) if Path(name).is_file()]  # noqa: PTH207


def _pixels(data: bytes, name: str, side_max: int) -> Image:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, name)
            with _LARGE if image.width * image.height > PICTURE_PIXELS_LARGE else nullcontext():
                image.draft("RGB", (2 * side_max, 2 * side_max))  # lets JPEG decode at a fraction of its size
                image.load()
                upright = ImageOps.exif_transpose(image) or image
                upright.thumbnail((side_max, side_max), Image.Resampling.LANCZOS) if max(
                    upright.size
                ) > side_max else None
                return _opaque(upright)
    except UnidentifiedImageError as error:
        raise ImageError(
            name, f"is not an image, whatever its name says; known formats: {', '.join(FORMATS)}"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(name, f"has far too many pixels; {_too_large()}") from error
    except BROKEN_IMAGE as error:
        raise ImageError(name, f"is damaged or cut off ({error}); export or download it again") from error


def _check_size(image: Image, name: str) -> None:
    width, height = image.size
    if width * height > PICTURE_PIXELS_MAX:
        raise ImageError(name, f"has {width} × {height} pixels; {_too_large()}")


def _too_large() -> str:
    return f"at most {PICTURE_PIXELS_MAX // 1_000_000} million pixels are opened: make it smaller"


def _opaque(image: Image) -> Image:
    from PIL import Image

    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        low, high = image.convert("F").getextrema()
        span = (float(high) - float(low)) or 1.0  # type: ignore[arg-type]
        image = image.convert("F").point(lambda value: (value - float(low)) * 255 / span).convert("L")  # type: ignore[arg-type]
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _picture(image: Image) -> Picture:
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    file = io.BytesIO()
    image.info.clear()
    image.save(file, "PNG")
    return Picture(sha256=digest.hexdigest(), width=image.width, height=image.height, data=file.getvalue())
