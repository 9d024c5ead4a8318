"""Images as tokens: the pixels that a vision transformer reads, its patches and their names.

A vision transformer cuts an image into a grid of patches and puts tokens of its own before
them: the class token, and in some models a distillation token or registers.
"""

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import images
from pipeline.errors import InputError

Pixels = NDArray[np.float32]

# Parameters that become tokens before the patches, in the order they stand in.
_MARKS = {
    "cls_token": "CLS",
    "class_embedding": "CLS",
    "distillation_token": "DIST",
    "register_tokens": "REG",
}


def pixels(processor: Any, data: bytes) -> Pixels:
    """The values a model's image processor makes of an image file: (channels, height, width).

    Raises TextError where the file is not an image that can be decoded.
    """
    return _processed(processor, images.picture(data))


def blank(processor: Any) -> Pixels:
    """Zeros in the shape that an image processor gives a square image."""
    return np.zeros_like(_processed(processor, Image.new("RGB", (64, 64))))


def noise(processor: Any, seed: int) -> bytes:
    """The file of an image of random colours, as large as an image processor makes them."""
    tall, wide = blank(processor).shape[1:]
    colours = np.random.default_rng(seed).integers(0, 256, (tall, wide, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(colours).save(file, "PNG")
    return file.getvalue()


def _processed(processor: Any, picture: Image.Image) -> Pixels:
    # Without its layout said, an image of three rows would be taken for three channels.
    batch = processor(images=picture, input_data_format="channels_last", return_tensors="np")
    values: Pixels = batch["pixel_values"]
    if values.ndim != 4 or len(values) != 1:
        raise InputError(
            f"{type(processor).__name__} makes an array of shape {values.shape} of one image; "
            "expected (1, channels, height, width): use a model that reads an image whole."
        )
    image: Pixels = values[0]
    return image


def grid(network: Any, pixels: Pixels) -> tuple[int, int]:
    """Rows and columns of the patches that a network cuts an image into."""
    size = getattr(network.config, "patch_size", None)
    if not size:
        raise InputError(
            f"{type(network).__name__} states no patch_size, so its tokens cannot be named: "
            "use a vision transformer that cuts an image into patches."
        )
    tall, wide = size if isinstance(size, list | tuple) else (size, size)
    return pixels.shape[-2] // tall, pixels.shape[-1] // wide


def marks(network: Any) -> list[str]:
    """Names of the tokens a network puts before the patches: [CLS]; [DIST]; [REG0], [REG1], ..."""
    found = {}
    for name, parameter in network.named_parameters():
        # One vector, alone or in a batch of one; or several vectors in a batch of one.
        found[name.rpartition(".")[2]] = 1 if parameter.ndim == 1 else parameter.shape[-2]
    return [
        f"[{mark}{number if found[name] > 1 else ''}]"
        for name, mark in _MARKS.items()
        if name in found
        for number in range(found[name])
    ]


def patch_names(rows: int, columns: int) -> list[str]:
    """The patches of a grid as "row,column", counted from 0, row after row from the top left."""
    return [f"{row},{column}" for row in range(rows) for column in range(columns)]


def fibonacci_sphere(n: int) -> NDArray[np.float64]:
    """Spread n points evenly over the unit sphere: (n, 3).

    Point i stands at height 1 - (2 i + 1) / n, so that each has a band of the same area, and
    is rotated by the golden angle from the one before (Á. González, Mathematical Geosciences
    42, 2010, section 3, for the lattice). Raises InputError for n below 1.
    """
    if n < 1:
        raise InputError(f"a sphere of {n} points; give at least 1")
    i = np.arange(n)
    height = 1 - (2 * i + 1) / n
    radius = np.sqrt(1 - height**2)
    angle = i * math.pi * (3 - math.sqrt(5))
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), height])
