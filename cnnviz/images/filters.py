"""Blurs of pictures: Gaussian, box and bilateral."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption, MissingDependency
from cnnviz.images.arrays import as_floats, require_picture

__all__ = ["bilateral", "box_blur", "gaussian_blur"]


def gaussian_blur(x: NDArray[Any], sigma: float) -> NDArray[Any]:
    """Blur pictures with a Gaussian; borders are mirrored without repeating the edge.

    Parameters
    ----------
    x : array
        Floats ``(H, W, C)`` or ``(N, H, W, C)`` of any range and any number of channels.
    sigma : float
        Standard deviation in pixels; 0 changes nothing.

    Returns
    -------
    array
        Of the same shape; float64 if `x` is, else float32; never a view of `x`.

    Raises
    ------
    InvalidImage
        `x` is not an array of floats of such a shape.
    InvalidOption
        `sigma` is below zero or not finite.
    MissingDependency
        OpenCV cannot be imported.
    """
    if not (np.isfinite(sigma) and sigma >= 0):
        raise InvalidOption(f"sigma must be zero or above, not {sigma}")
    if sigma == 0:
        return _floats(x)
    cv2 = opencv()
    return _each(x, lambda p: cv2.GaussianBlur(p, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101))


def box_blur(x: NDArray[Any], side: int) -> NDArray[Any]:
    """Replace each pixel by the mean of a square around it; borders are mirrored.

    Parameters
    ----------
    x : array
        Floats ``(H, W, C)`` or ``(N, H, W, C)`` of any range and any number of channels.
    side : int
        Side of the square in pixels, odd: an even one would shift the picture by half a pixel.

    Returns
    -------
    array
        Of the same shape; float64 if `x` is, else float32; never a view of `x`.

    Raises
    ------
    InvalidImage
        `x` is not an array of floats of such a shape.
    InvalidOption
        `side` is not an odd integer above zero.
    MissingDependency
        OpenCV cannot be imported.
    """
    if side != int(side) or side < 1 or side % 2 == 0:
        raise InvalidOption(f"side must be an odd integer above zero, not {side}")
    cv2 = opencv()
    return _each(
        x, lambda p: cv2.blur(p, (int(side), int(side)), borderType=cv2.BORDER_REFLECT_101)
    )


def bilateral(
    x: NDArray[Any], diameter: int, sigma_color: float, sigma_space: float
) -> NDArray[Any]:
    """Smooth pictures within their edges: near pixels count by how alike their colours are.

    The weight of a neighbour is a Gaussian of its distance times a Gaussian of the L1
    distance of the colours, over a disc; borders are mirrored.

    Parameters
    ----------
    x : array
        Pictures ``(H, W, C)`` or ``(N, H, W, C)``, floats with white at 1.
    diameter : int
        Of the disc, in pixels; odd, at least 3.
    sigma_color : float
        In grey levels, of 255, as for an 8-bit picture.
    sigma_space : float
        In pixels.

    Returns
    -------
    array
        Of the same shape; float64 if `x` is, else float32; never a view of `x`.

    Raises
    ------
    InvalidImage
        `x` is not an array of floats of such a shape.
    InvalidOption
        The diameter is not an odd integer of at least 3, or a sigma is not above zero.

    References
    ----------
    Tomasi and Manduchi, "Bilateral filtering for gray and color images", ICCV 1998.
    """
    if diameter != int(diameter) or diameter < 3 or diameter % 2 == 0:
        raise InvalidOption(f"diameter must be an odd integer of at least 3, not {diameter}")
    for name, sigma in (("sigma_color", sigma_color), ("sigma_space", sigma_space)):
        if not (np.isfinite(sigma) and sigma > 0):
            raise InvalidOption(f"{name} must be above zero, not {sigma}")
    # Not OpenCV's: that one knows neither float64 nor channels other than 1 and 3.
    x = _floats(x)
    height, width = x.shape[-3:-1]
    radius = int(diameter) // 2
    before = [(0, 0)] * (x.ndim - 3)
    padded = np.pad(x, [*before, (radius, radius), (radius, radius), (0, 0)], mode="reflect")
    total, weights = np.zeros_like(x), np.zeros_like(x[..., :1])
    for dy, dx in product(range(-radius, radius + 1), repeat=2):
        if dy * dy + dx * dx > radius * radius:
            continue
        top, left = radius + dy, radius + dx
        near = padded[..., top : top + height, left : left + width, :]
        colour = np.abs(near - x).sum(axis=-1, keepdims=True) * (255 / sigma_color)
        weight = np.exp(-0.5 * (colour * colour + (dy * dy + dx * dx) / sigma_space**2))
        total += weight * near
        weights += weight
    return np.asarray(total / weights)


def opencv() -> ModuleType:
    """Import OpenCV, or say how to install the build that needs no display.

    Raises
    ------
    MissingDependency
        It is not installed, or a library that it links, such as ``libGL.so.1``, is not.
    """
    try:
        import cv2
    except ImportError as error:
        reason = " ".join(str(error).split())
        # The two builds share a folder, so taking one away breaks the other: hence the force.
        raise MissingDependency(
            f"OpenCV cannot be imported ({reason}); install opencv-python-headless, which needs"
            " no display: pip uninstall -y opencv-python; pip install --force-reinstall"
            " --no-deps opencv-python-headless"
        ) from error
    return cv2


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep OpenCV to one thread: for many small calls its threads cost more than their work."""
    cv = opencv()
    before = cv.getNumThreads()
    cv.setNumThreads(1)
    try:
        yield
    finally:
        cv.setNumThreads(before)


def _floats(x: NDArray[Any]) -> NDArray[Any]:
    x = as_floats(x, "what is blurred")
    require_picture(x, "what is blurred")
    return x


def _each(x: NDArray[Any], blur: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """Apply an OpenCV filter to each picture, four channels at a time.

    OpenCV takes only so many channels (how many differs by version) and drops a single one.
    """
    x = _floats(x)
    out = np.empty_like(x)
    for picture, target in zip(
        x.reshape(-1, *x.shape[-3:]), out.reshape(-1, *x.shape[-3:]), strict=True
    ):
        for start in range(0, x.shape[-1], 4):
            part = np.ascontiguousarray(picture[..., start : start + 4])
            target[..., start : start + 4] = blur(part).reshape(part.shape)
    return out
