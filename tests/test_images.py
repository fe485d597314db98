"""Image files of every kind give a picture or one clear line."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from conftest import picture_bytes
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from personalab.cards import read_card
from personalab.errors import CardError, ImageError
from personalab.images import open_picture

RED = (255, 0, 0)


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (picture_bytes(), (64, 96)),
        (picture_bytes(kind="JPEG"), (64, 96)),
        (picture_bytes(kind="WEBP"), (64, 96)),
        (picture_bytes(kind="BMP"), (64, 96)),
        (saved(Image.new("CMYK", (10, 20)), "JPEG"), (10, 20)),
        (saved(Image.new("L", (10, 20), 9)), (10, 20)),
        (saved(Image.new("1", (10, 20), 1)), (10, 20)),
        (saved(Image.new("I;16", (10, 20), 40000)), (10, 20)),
        (saved(Image.new("LA", (10, 20))), (10, 20)),
        (picture_bytes(size=(20000, 300)), (1024, 15)),
        (picture_bytes(size=(3000, 2)), (1024, 1)),
        (picture_bytes(size=(2048, 1024), kind="JPEG"), (1024, 512)),
    ],
)
def test_kinds_that_work(data: bytes, size: tuple[int, int]) -> None:
    """Every common kind comes out as RGB PNG of at most 1024 pixels a side."""
    picture = open_picture(data)
    image = decoded(picture.data)
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", size)
    assert (picture.width, picture.height) == size


def test_a_rotated_photo_is_turned_upright() -> None:
    """The EXIF orientation is applied, and then gone."""
    image = Image.new("RGB", (40, 20), "blue")
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = open_picture(saved(image, "PNG", exif=exif))
    assert (picture.width, picture.height) == (20, 40)
    assert decoded(picture.data).getpixel((19, 0)) == RED
    assert not decoded(picture.data).getexif()


def test_transparency_is_put_on_white() -> None:
    """A palette with a transparent colour and an alpha channel alike."""
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, *RED])
    palette.putpixel((1, 1), 1)
    image = decoded(open_picture(saved(palette, "PNG", transparency=0)).data)
    assert (image.getpixel((0, 0)), image.getpixel((1, 1))) == ((255, 255, 255), RED)
    assert decoded(open_picture(saved(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))).data).getpixel((0, 0)) == (
        255,
        255,
        255,
    )


def test_an_animation_gives_its_first_frame() -> None:
    """Of a GIF with several frames the first is taken."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(open_picture(data).data).getpixel((4, 4)) == RED


def test_sixteen_bits_keep_their_contrast() -> None:
    """A 16-bit grey picture is scaled, not cut to white."""
    image = Image.new("I;16", (2, 1))
    image.putpixel((0, 0), 1000)
    image.putpixel((1, 0), 60000)
    result = decoded(open_picture(saved(image)).data)
    assert (result.getpixel((0, 0)), result.getpixel((1, 0))) == ((0, 0, 0), (255, 255, 255))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"hello, I am text", "is not an image, whatever its name says; known formats: PNG"),
        (picture_bytes()[:60], "is damaged or cut off|is not an image"),
        (picture_bytes(size=(300, 300), kind="JPEG")[:500], "is damaged or cut off"),
        (huge_png(30000, 30000), "has far too many pixels; at most 64 million"),
        (huge_png(9000, 9000), "has 9000 × 9000 pixels; at most 64 million"),
        (huge_png(1000, 1000), "is damaged or cut off"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is not an image"),
    ],
)
def test_kinds_that_do_not(data: bytes, said: str, tmp_path: Path) -> None:
    """One line that names the file and what to do."""
    path = tmp_path / "face.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=said) as caught:
        open_picture(path)
    assert str(caught.value).startswith(f"image {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["missing.png", ".", "a\0b.png"])
def test_paths_that_are_no_files(path: str) -> None:
    """Missing, a folder, no path at all."""
    with pytest.raises(ImageError):
        open_picture(path)


def test_metadata_changes_neither_picture_nor_hash() -> None:
    """Texts, EXIF and colour profiles do not leave the machine, and do not make another picture of it."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("prompt", "a SECRET prompt")
    exif = Image.Exif()
    exif[0x010F] = "SECRET camera"
    image = Image.new("RGB", (8, 8), "teal")
    plain, marked = (
        open_picture(saved(image)),
        open_picture(saved(image, pnginfo=info, exif=exif, icc_profile=b"SECRET profile")),
    )
    assert plain == marked
    assert b"SECRET" not in marked.data
    assert plain.sha256 != open_picture(saved(Image.new("RGB", (8, 8), "navy"))).sha256


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10_000),
    st.binary(min_size=1, max_size=20),
    st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"]),
)
def test_mutated_files_are_pictures_or_image_errors(position: int, noise: bytes, kind: str) -> None:
    """No damage raises anything else."""
    data = bytearray(picture_bytes(kind=kind))
    position %= len(data)
    data[position : position + len(noise)] = noise
    with contextlib.suppress(ImageError):
        open_picture(bytes(data))


@pytest.mark.timeout(10)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """Reading a named pipe would wait for ever for somebody to write into it."""
    pipe = tmp_path / "face.png"
    os.mkfifo(pipe)
    with pytest.raises(ImageError, match=r"face\.png: is no ordinary file"):
        open_picture(pipe)
    with pytest.raises(CardError, match=r"face\.png: is no ordinary file"):
        read_card(pipe)
