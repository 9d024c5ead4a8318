"""Bytes become a picture or are refused with a reason; nothing else happens to a run."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import images
from pipeline.errors import TextError
from tests import tiny

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def halves(mode: str = "RGB") -> Image.Image:
    """Two pixels high and four wide, red at the left, blue at the right."""
    picture = Image.new("RGB", (4, 2), RED)
    picture.paste(BLUE, (2, 0, 4, 2))
    return picture.convert(mode)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_what_keeps_its_pixels_gives_them_back(format):
    options = {"lossless": True} if format == "WEBP" else {}
    found = images.picture(encoded(halves(), format, **options))
    assert (found.mode, found.size) == ("RGB", (4, 2))
    assert np.array_equal(np.asarray(found), np.asarray(halves()))


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_colours_of_other_modes(mode):
    found = images.picture(encoded(halves(mode)))
    assert np.array_equal(np.asarray(found), np.asarray(halves()))


@pytest.mark.parametrize(("mode", "white"), [("1", 1), ("L", 255), ("LA", (255, 0))])
def test_grey_becomes_three_equal_channels_and_transparency_goes(mode, white):
    found = np.asarray(images.picture(encoded(Image.new(mode, (3, 2), white))))
    assert found.shape == (2, 3, 3)
    assert (found == 255).all()


def test_a_picture_is_turned_as_its_camera_says():
    """Orientation 6: what was saved as the left side is the top."""
    exif = Image.Exif()
    exif[0x0112] = 6
    found = images.picture(encoded(halves(), "PNG", exif=exif.tobytes()))
    assert found.size == (2, 4)
    assert found.getpixel((0, 0)) == RED
    assert found.getpixel((0, 3)) == BLUE


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert images.picture(data).getpixel((0, 0)) == RED


def noise_picture() -> Image.Image:
    values = np.random.default_rng(tiny.SEED).integers(0, 256, (16, 16, 3), np.uint8)
    return Image.fromarray(values)


PHOTOGRAPH = encoded(noise_picture(), "JPEG")


def bomb(side: int) -> bytes:
    """A PNG file of a few bytes that says it has side x side pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


REFUSED = {
    "nothing": (b"", "^empty$"),
    "no image": (b"<html>not found</html>", "^not an image: its bytes are no BMP, GIF, JPEG"),
    "PostScript": (encoded(halves(), "EPS"), "^not an image: its bytes are no BMP"),
    "truncated PNG": (encoded(noise_picture())[:400], "^not an image: "),
    "truncated JPEG": (PHOTOGRAPH[: len(PHOTOGRAPH) * 2 // 3], "^not an image: .*[Tt]runcated"),
    "only a head": (b"\x89PNG\r\n\x1a\n", "^not an image: "),
    "16 bits": (encoded(Image.new("I;16", (4, 4), 300)), "^not an image: its pixels are I;16"),
    "a line": (encoded(Image.new("L", (101, 1))), "^not an image: 101 x 1 pixels"),
    "a bomb that Pillow warns of": (bomb(10_000), "^not an image: .*100000000 pixels.*bomb"),
    "a bomb that Pillow refuses": (bomb(20_000), "^not an image: .*400000000 pixels.*bomb"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_has_its_reason(case):
    data, reason = REFUSED[case]
    with pytest.raises(TextError, match=reason) as first, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever filters are set, a bomb is refused
        images.picture(data)
    with pytest.raises(TextError) as second:
        images.picture(bytes(data))
    assert first.value.args == second.value.args  # no address in memory


@given(st.binary(max_size=300), st.sampled_from(["BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"]))
def test_noise_is_a_picture_or_a_reason(noise, format):
    whole = encoded(halves(), format)
    for data in (noise, whole[: len(whole) // 2] + noise, whole[:12] + noise + whole[12:]):
        try:
            assert images.picture(data).mode == "RGB"
        except TextError as error:
            assert error.args[0].startswith(("empty", "not an image: "))


@given(st.integers(0, 10**9), st.integers(0, 255))
def test_one_wrong_byte_is_a_picture_or_a_reason(place, value):
    data = bytearray(PHOTOGRAPH)
    data[place % len(data)] = value
    try:
        assert images.picture(bytes(data)).mode == "RGB"
    except TextError as error:
        assert error.args[0].startswith("not an image: ")


def test_every_suffix_is_of_a_format_that_is_read():
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in images.SUFFIXES} == set(images.FORMATS)
    assert all(Path(f"x{suffix}").suffix == suffix for suffix in images.SUFFIXES)
