"""Pictures one after another, as a film."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnviz.errors import InvalidImage, InvalidOption, MissingDependency
from cnnviz.files import write_bytes
from cnnviz.images.resampling import resize
from cnnviz.images.writing import to_uint8

__all__ = ["ANIMATED", "save_animation"]

ANIMATED = (".gif", ".mp4")
"""What a film may end in."""


def save_animation(
    path: str | os.PathLike[str], frames: Sequence[NDArray[Any]], seconds: float = 0.2
) -> Path:
    """Write a film: GIF, or MP4 in H.264, by the suffix of `path`.

    Parameters
    ----------
    path : str or path
        Ends in ``.gif`` or ``.mp4``; its folder must exist. MP4 needs the extra ``video``.
    frames : sequence of array
        ``(H, W, C)`` with 1 or 3 channels, float in [0, 1] or uint8. Smaller ones are enlarged
        to the size of the last.
    seconds : float
        How long each is shown; the last five times as long.

    Raises
    ------
    InvalidImage
        There are fewer than two frames, or one is no picture.
    InvalidOption
        The suffix is another one, or the folder is missing.
    MissingDependency
        MP4 is asked for, and PyAV is not there.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in ANIMATED:
        raise InvalidOption(f"a film ends in {' or '.join(ANIMATED)}, not {str(path)!r}")
    if len(frames) < 2:
        raise InvalidImage(
            "a film has at least two pictures; keep some on the way, such as keep=8 for each"
            " eighth step"
        )
    if not 0.01 <= seconds <= 60:
        raise InvalidOption(f"each picture is shown for 0.01 to 60 seconds, not {seconds}")
    size = frames[-1].shape[:2]
    pixels = [_rgb(frame, (size[0], size[1])) for frame in frames]
    pixels.extend([pixels[-1]] * 4)
    encoded = _gif(pixels, seconds) if suffix == ".gif" else _mp4(pixels, seconds)
    return write_bytes(path, encoded)


def _rgb(frame: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    pixels = to_uint8(frame)
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise InvalidImage(f"a film has pictures (H, W, 1) or (H, W, 3), not {pixels.shape}")
    if pixels.shape[:2] != size:
        pixels = to_uint8(np.clip(resize(pixels / 255, size, "bicubic"), 0, 1))
    return pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, -1)


def _gif(pixels: Sequence[NDArray[np.uint8]], seconds: float) -> bytes:
    pages = [Image.fromarray(p).quantize(256, Image.Quantize.MEDIANCUT) for p in pixels]
    buffer = io.BytesIO()
    duration = max(20, round(seconds * 1000))
    pages[0].save(buffer, "GIF", save_all=True, append_images=pages[1:], duration=duration, loop=0)
    return buffer.getvalue()


def _mp4(pixels: Sequence[NDArray[np.uint8]], seconds: float) -> bytes:
    try:
        import av
    except ImportError as error:
        raise MissingDependency(
            "an MP4 is encoded by PyAV; pip install 'cnnviz[video]', or write a .gif"
        ) from error
    from fractions import Fraction

    buffer = io.BytesIO()
    rate = Fraction(1 / seconds).limit_denominator(1000)
    height, width = (side + side % 2 for side in pixels[0].shape[:2])
    with av.open(buffer, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=rate)
        # Every player takes this kind of pixel, which has even sides.
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16"}
        for one in pixels:
            pad = ((0, height - one.shape[0]), (0, width - one.shape[1]), (0, 0))
            frame = av.VideoFrame.from_ndarray(np.pad(one, pad, "edge"), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return buffer.getvalue()
