"""Making thumbnails: what runs in subworkers, away from the web server."""

from __future__ import annotations

import io
import os
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from fastworker import task

LONGEST_SIDE = 256
"""Pixels. As PNG that is 262 kB at most: a result may have 1 MiB."""

MAX_PIXELS = 50_000_000
"""A small file can hold a huge picture; one of this size takes 200 MB while it is worked on."""


@task
def make_thumbnail(picture: bytes) -> bytes:
    """A PNG of at most 256 × 256 pixels, upright, of any picture that Pillow reads."""
    try:
        return _thumbnail(picture)
    except UnidentifiedImageError as error:
        raise ValueError("not a picture of a known format") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        # Pillow has many ways to say it. A builtin exception reaches the caller as itself.
        raise ValueError(f"this picture cannot be read: {error}") from error


@task
def make_thumbnail_of_file(name: str) -> bytes:
    """The same for a picture in the shared folder, for those too large to be an argument."""
    path = pictures_folder() / name
    if path.parent != pictures_folder():
        raise ValueError(f"{name!r} is not a name in the folder of pictures")
    return make_thumbnail(path.read_bytes())


def pictures_folder() -> Path:
    """Where large pictures are: ``THUMBNAILS_FOLDER``, the same for web server and subworkers."""
    return Path(os.environ.get("THUMBNAILS_FOLDER", "pictures")).absolute()


def _thumbnail(picture: bytes) -> bytes:
    with Image.open(io.BytesIO(picture)) as opened:
        width, height = opened.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} × {height} pixels are too many; {MAX_PIXELS} are allowed")
        opened.draft("RGB", (2 * LONGEST_SIDE, 2 * LONGEST_SIDE))  # JPEG: decodes less of it
        upright = ImageOps.exif_transpose(opened)
        small = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    png = io.BytesIO()
    small.save(png, "PNG")
    return png.getvalue()
