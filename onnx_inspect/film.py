"""Films of pictures, and the only user of Pillow: GIF for any browser, MP4 for players."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from . import files, image
from .errors import OutputError
from .image import Picture

Format = Literal["", "gif", "mp4", "png"]
"""Of a film; "png" stands for its frames, a file each."""
FRAMES = 60
"""Of a film, unless so many steps apart are asked for."""
REST = 2.0
"""Seconds that the last frame of a GIF stays before it begins anew."""


def interval(kind: Format, every: int, steps: int) -> int:
    """Steps from one frame to the next: as asked for, else so that a film has `FRAMES`; 0 for none without a film."""
    return every or (max(1, steps // FRAMES) if kind else 0)


def write(path: str | Path, frames: Sequence[Picture], rate: float = 12) -> None:
    """Writes frames of one size, (H, W, 3), as a film, all or nothing; the suffix, .gif or .mp4, says how.

    Args:
        path: the file.
        frames: the pictures.
        rate: frames per second.

    Raises:
        OutputError: there are no frames, or it cannot be written.
    """
    kind = Path(path).suffix.lower()
    if not len(frames):
        raise OutputError(f"There are no frames for the film '{path}': keep some (--every).")
    if kind not in (".gif", ".mp4"):
        raise OutputError(f"Cannot write {path}: {kind or 'no suffix'} is no film. Use .gif or .mp4.")
    files.write_bytes(path, _gif(frames, rate) if kind == ".gif" else image.encode_mp4(frames, rate))


def _gif(frames: Sequence[Picture], rate: float) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    # A palette for each frame, and no dithering, which would flicker.
    first, *rest = (Image.fromarray(np.ascontiguousarray(f)).quantize(256, dither=Image.Dither.NONE) for f in frames)
    shown = [round(1000 / rate)] * len(rest) + [round(1000 * REST)]
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=shown, loop=0, optimize=False, disposal=1)
    return buffer.getvalue()
