"""Pictures from files, Pillow images and arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cnnviz.errors import InvalidImage
from cnnviz.images.arrays import as_unit
from cnnviz.images.resampling import checked_size, resize
from cnnviz.preprocessing import Interpolation

__all__ = ["ImageLike", "ImagesLike", "read", "read_batch", "upright"]

ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any]
"""One image: a path, a Pillow image, or an array, uint8 or float in [0, 1]."""
ImagesLike: TypeAlias = ImageLike | Sequence[ImageLike]
"""One image, an array ``(N, H, W, C)`` or a list of images."""

# ITU-R BT.601, as in Pillow and OpenCV.
_LUMA = (0.299, 0.587, 0.114)


def read(image: ImageLike, channels: int = 3) -> NDArray[Any]:
    """Read one image as RGB, or as grey, with floats in [0, 1].

    A photo is turned upright by its EXIF orientation. Grey is repeated to RGB, RGB becomes
    grey by its luma (ITU-R BT.601), and what is transparent is laid on white. Of an animation
    the first frame is taken, or the one that a Pillow image stands at. Sixteen bits of grey
    are scaled, not clipped.

    Parameters
    ----------
    image : path, Pillow image or array
        An array is uint8 or float in [0, 1], ``(H, W)`` or ``(H, W, C)``, RGB or RGBA.
    channels : int
        How many are wanted: 3 for RGB, 1 for grey; any other number only from an array that
        has it.

    Returns
    -------
    array
        ``(H, W, channels)``; float64 from an array of float64, else float32. It shares no
        memory with `image`.

    Raises
    ------
    InvalidImage
        The file is missing, damaged or no image, or the array has another shape, dtype or
        range. The error is one line that names the image and says what to do.
    """
    return _read(image, channels, "the image")


def read_batch(
    images: ImagesLike,
    *,
    channels: int = 3,
    size: tuple[int, int] | None = None,
    interpolation: Interpolation = "bilinear",
) -> NDArray[Any]:
    """Read images as one batch, each as `read` does, resized to `size` if one is given.

    The whole photo is squashed to `size`: nothing is cropped and no border is added. One that
    has the size already is not touched, bit for bit.

    Parameters
    ----------
    images : path, Pillow image, array, or list of these
        An array is one image, ``(H, W)`` or ``(H, W, C)`` with 1, 3 or 4 channels (or
        `channels` of them), or a batch ``(N, H, W, C)``.
    channels : int
        As for `read`.
    size : (int, int), optional
        Height and width of the batch, in pixels. Without it all images must have one size.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        How they are resized, with antialiasing where they shrink; then clipped to [0, 1].

    Returns
    -------
    array
        ``(N, H, W, channels)``; float64 if one of the images is, else float32. It shares no
        memory with `images`.

    Raises
    ------
    InvalidImage
        There is no image, one cannot be read, or they differ in size and none is given.
    InvalidOption
        The size is not two integers above zero, or the interpolation is unknown.
    """
    if size is not None:
        size = checked_size(size)
    if isinstance(images, list | tuple):
        if not images:
            raise InvalidImage("the list of images is empty; give at least one")
        pictures = []
        for i, image in enumerate(images):
            name = f"image {i} of the list"
            pictures.append(_fit(_read(image, channels, name), size, interpolation))
            if pictures[i].shape != pictures[0].shape:
                first, other = (
                    " x ".join(map(str, p.shape[:2])) for p in (pictures[0], pictures[i])
                )
                raise InvalidImage(
                    f"images differ in size: image 0 is {first}, image {i} is {other} (height x"
                    " width); give a size to resize them all to"
                )
        return np.stack(pictures)
    if not isinstance(images, str | os.PathLike | Image.Image):
        array = _array(images, "the batch of images")
        if array.ndim == 4:
            _require_channels(array, channels, "the batch of images")
            unit = as_unit(array, "the batch of images")
            return _fit(_recolour(unit, channels, "the batch of images"), size, interpolation)
    return _fit(_read(images, channels, "the image"), size, interpolation)[None]


def _fit(
    x: NDArray[Any], size: tuple[int, int] | None, interpolation: Interpolation
) -> NDArray[Any]:
    if size is None or x.shape[-3:-1] == size:
        return x
    if interpolation in ("bicubic", "lanczos"):
        # These overshoot at edges, and Pillow, by which networks were trained, clips 8 bits
        # between its two passes as well: width first, then height (from 13.0 not always).
        x = np.clip(resize(x, (x.shape[-3], size[1]), interpolation), 0, 1)
    return np.asarray(np.clip(resize(x, size, interpolation), 0, 1))


def _read(image: Any, channels: int, name: str) -> NDArray[Any]:
    if isinstance(image, str | os.PathLike):
        name = repr(os.fspath(image))
        with _explained(name), Image.open(image) as opened:
            return _recolour(_pixels(opened, name), channels, name)
    if isinstance(image, Image.Image):
        name = f"{name} ({image.mode}, {image.width} x {image.height})"
        with _explained(name):
            return _recolour(_pixels(image, name), channels, name)
    array = _array(image, name)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3:
        more = "; take one of the batch, x[0]" if array.ndim == 4 else ""
        raise InvalidImage(f"{name} must have shape (H, W) or (H, W, C), not {array.shape}{more}")
    _require_channels(array, channels, name)
    return _recolour(as_unit(array, name), channels, name)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises about a file into one line that names it."""
    try:
        yield
    except (InvalidImage, MemoryError):
        raise
    except FileNotFoundError as error:
        more = "; download it first" if "://" in name else ""
        raise InvalidImage(f"there is no file {name}{more}") from error
    except IsADirectoryError as error:
        raise InvalidImage(
            f"{name} is a folder; list its files: sorted(pathlib.Path({name}).iterdir())"
        ) from error
    except UnidentifiedImageError as error:
        raise InvalidImage(f"{name} is empty or not an image that Pillow can read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidImage(f"{name} has too many pixels; shrink it first ({error})") from error
    except Exception as error:  # the decoders of Pillow raise nearly anything at a damaged file
        if isinstance(error, OSError) and error.strerror:
            raise InvalidImage(f"{name} cannot be read: {error.strerror}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidImage(
            f"{name} is damaged, cut short or of an unknown kind ({reason}); get or save it again"
        ) from error


def upright(image: Image.Image) -> Image.Image:
    """Load an image and turn it by its EXIF orientation, if that can be read."""
    # First, since a TIFF is turned as it is loaded.
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  a photo with damaged EXIF is still a photo
        return image.copy()


def _pixels(image: Image.Image, name: str) -> NDArray[Any]:
    """Give grey ``(H, W, 1)`` or RGB ``(H, W, 3)``, float in [0, 1]."""
    image = upright(image)
    if image.mode == "F":
        return as_unit(np.asarray(image), name)[..., None]
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise InvalidImage(
                f"{name} has integers from {grey.min()} to {grey.max()}; of greys that are not"
                " 8-bit only 16-bit ones are known: scale it to [0, 1] and give the array"
            )
        return (grey.astype(np.float32) / 65535)[..., None]
    if image.has_transparency_data:
        return _on_white(as_unit(np.asarray(image.convert("RGBA")), name))
    if image.mode in ("1", "L"):
        return as_unit(np.asarray(image.convert("L")), name)[..., None]
    return as_unit(np.asarray(image.convert("RGB")), name)


def _array(image: Any, name: str) -> NDArray[Any]:
    if not hasattr(image, "__array__"):
        kind = type(image).__name__
        more = "; a list is taken only where a batch is" if isinstance(image, list | tuple) else ""
        raise InvalidImage(f"{name} must be a path, a Pillow image or an array, not {kind}{more}")
    try:
        return np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = f"{type(image).__module__}.{type(image).__name__}"
        raise InvalidImage(
            f"{name} is a {kind} that numpy cannot read; give it as an array, channels last:"
            " x.detach().cpu().numpy()"
        ) from error


def _require_channels(array: NDArray[Any], channels: int, name: str) -> None:
    """Refuse an array whose last axis cannot be channels; the error says what it may be."""
    if array.shape[-1] in (1, 3, 4, channels):
        return
    wanted = "(H, W, C)" if array.ndim == 3 else "(N, H, W, C)"
    if array.shape[-3] in (1, 3, 4, channels):
        advice = "if channels come first, move them: np.moveaxis(x, -3, -1)"
    elif array.ndim == 3:
        advice = "a batch of grey images needs a last axis: x[..., None]"
    else:
        advice = "the last axis is the channels"
    raise InvalidImage(
        f"{name} has shape {array.shape}, not {wanted} with {_known(channels)} channels; {advice}"
    )


def _known(channels: int) -> str:
    return "1, 3 or 4" if channels in (1, 3, 4) else f"{channels}"


def _on_white(rgba: NDArray[Any]) -> NDArray[Any]:
    alpha = rgba[..., 3:]
    return np.asarray(rgba[..., :3] * alpha + (1 - alpha))


def _recolour(x: NDArray[Any], channels: int, name: str) -> NDArray[Any]:
    """Make grey or RGB of grey, RGB or RGBA ``(..., C)`` in [0, 1]."""
    if x.shape[-1] == channels:
        return x
    if channels in (1, 3) and x.shape[-1] in (1, 3, 4):
        if x.shape[-1] == 4:
            x = _on_white(x)
        if channels == 1 and x.shape[-1] == 3:
            red, green, blue = (x[..., i : i + 1] * weight for i, weight in enumerate(_LUMA))
            x = red + green + blue
        elif channels == 3 and x.shape[-1] == 1:
            x = np.repeat(x, 3, axis=-1)
        return x
    raise InvalidImage(
        f"{name} has {x.shape[-1]} channels and the network takes {channels}; give an array of"
        f" {channels} channels"
    )
