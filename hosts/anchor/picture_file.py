"""Picture files that a storyboard's anchors name: whether each is one whole picture, said before any model is loaded.

Pillow reads the header of every picture, and decodes those that are small; large ones are decoded when they are needed.
A check may stand in ComfyUI's event loop, so it has bounds: PICTURES files, PIXELS decoded, READ bytes read without
decoding. What Pillow does not know but ComfyUI may (HEIC, JPEG XL, EXR) is left to ComfyUI, which reads pictures with
FFmpeg; nothing else is handed to FFmpeg, whose playlists name other files.
"""

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ...engine.storyboard.faults import StoryboardError
from ...engine.storyboard.media import resolve_media, why
from ...engine.storyboard.rules import show

PICTURES = 256  # files that one check opens; of further ones it sees only whether they are there
PIXELS = 10_000_000  # decoded in one check: a fifth of a second or so
READ = 2**26  # bytes of pictures that are not decoded and yet read whole in one check
MOVING = ("GIF", "PNG", "WEBP", "AVIF")  # formats that may hold several pictures which are shown one after the other
REMEDY = "choose a PNG, JPEG or WebP file"
# What files begin with that ComfyUI may read and Pillow does not: (place, bytes).
_OTHERS = (
    *((4, b"ftyp" + brand) for brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")),
    (0, b"\xff\x0a"),  # JPEG XL
    (0, b"\x00\x00\x00\x0cJXL "),
    (0, b"\x76\x2f\x31\x01"),  # EXR
)
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error, zlib.error)


def picture_check(folder: str | Path) -> Callable[[str], Path]:
    """Return what checks the pictures of one storyboard, each by its name below `folder`; it gives the path, and raises
    StoryboardError where that is no file there or not one whole picture.
    """
    found: dict[str, Path] = {}
    pixels, size = PIXELS, READ

    def check(image: str) -> Path:
        nonlocal pixels, size
        if image not in found:
            path = resolve_media(image, folder)
            if len(found) < PICTURES:
                fault, decoded = picture_fault(path, pixels, size)
                pixels -= decoded
                size -= path.stat().st_size if not fault and not decoded else 0
                if fault:
                    raise StoryboardError(f"image is {show(image)}, {fault}")
            found[image] = path
        return found[image]

    return check


def picture_fault(path: Path, pixels: int, size: int = 0) -> tuple[str, int]:
    """Return (what is wrong with a picture as a clause of a sentence, else "", pixels decoded to find out), where at
    most `pixels` may be decoded and, if that is too little, `size` bytes read.
    """
    try:
        status = path.stat()
    except OSError as error:
        return f"which cannot be opened ({why(error)}); check its rights", 0
    decode = _pixels(path, status.st_mtime_ns) <= pixels
    return _fault(path, status.st_mtime_ns, status.st_size, decode, status.st_size <= size)


@lru_cache(maxsize=1024)
def _pixels(path: Path, changed: int) -> int:
    """Return the pixels of a picture, 0 if that is no picture."""
    try:
        with Image.open(path) as picture:
            return int(picture.width * picture.height)
    except (Image.DecompressionBombError, *_BROKEN):
        return 0


@lru_cache(maxsize=1024)
def _fault(path: Path, changed: int, size: int, decode: bool, read: bool) -> tuple[str, int]:
    if size == 0:
        return f"which is an empty file; {REMEDY}", 0
    try:
        with Image.open(path) as picture:
            if picture.format in MOVING and getattr(picture, "is_animated", False):
                return "which holds several pictures and an anchor shows 1; save one of them by itself", 0
            if decode:
                picture.load()
                return "", picture.width * picture.height
            if read:
                picture.verify()
    except UnidentifiedImageError:
        with open(path, "rb") as file:
            begin = file.read(16)
        known = any(begin[place:].startswith(mark) for place, mark in _OTHERS)
        return "" if known else f"which is no picture; {REMEDY}", 0
    except Image.DecompressionBombError:
        return f"which has more pixels than the {2 * (Image.MAX_IMAGE_PIXELS or 0)} that are read; make it smaller", 0
    except _BROKEN as error:
        if isinstance(error, OSError) and error.strerror:  # the system's own, and not Pillow's
            return f"which cannot be opened ({why(error)}); check its rights", 0
        reason = " ".join(str(error).split())
        return f"which is damaged or cut off ({reason}); copy it again, or save it anew", 0
    return "", 0
