"""Image files -> pictures: upright, 8-bit RGB; what cannot be shown so is refused with its reason.

Pillow decodes; animations give their first frame, transparency is dropped, and a colour
profile is not applied.
"""

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import TextError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Named, because Pillow would hand a PostScript file of any name to an interpreter.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
# Pillow turns these into RGB value by value; it would clip the 16 and 32 bits of the others.
MODES = ("1", "CMYK", "L", "LA", "LAB", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "YCbCr")
# A line of pixels, scaled until its short side fits a model, would fill the memory.
MAX_ASPECT = 100


def picture(data: bytes) -> Image.Image:
    """Decode the bytes of an image file, rotated as its EXIF orientation says, in RGB.

    Raises TextError with the reason: "empty", or "not an image: WHY" for bytes that no
    decoder of FORMATS takes, for a file cut short, for more pixels than Pillow's guard
    against decompression bombs allows, for more than 8 bits a channel, and for sides of
    which one is over MAX_ASPECT times the other.
    """
    if not data:
        raise TextError("empty")
    with warnings.catch_warnings():
        # Pillow warns of oddities in files that it can read; of a bomb it warns first, too.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
                _check(opened)
                return ImageOps.exif_transpose(opened).convert("RGB")
        except TextError:
            raise
        except UnidentifiedImageError as error:
            # Its own message holds an address in memory.
            raise TextError(f"not an image: its bytes are no {', '.join(FORMATS)}") from error
        except Exception as error:  # a decoder of foreign bytes raises whatever they lead it to
            raise TextError(f"not an image: {str(error) or type(error).__name__}") from error


def _check(opened: Image.Image) -> None:
    width, height = opened.size
    if opened.mode not in MODES:
        raise TextError(
            f"not an image: its pixels are {opened.mode}, expected 8 bits a channel at most; "
            "convert it"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise TextError(
            f"not an image: {width} x {height} pixels, one side over {MAX_ASPECT} times the other"
        )
