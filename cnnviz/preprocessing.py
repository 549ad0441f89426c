"""The affine map from RGB in [0, 1] to what a network was trained on, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnviz.errors import InvalidOption

__all__ = ["PRESETS", "Preprocessing", "as_preprocessing"]

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Preprocessing:
    """How a picture in [0, 1] becomes what a network expects.

    The network sees ``(picture * scale - mean) / std``, channel by channel, the channels
    first put into `order`. Equal values are equal objects, and hash alike.

    Attributes
    ----------
    mean, std : tuple of float
        One value for all channels or one a channel, in the network's own channel order
        and in units of the scaled picture.
    scale : float
        1 for networks fed with [0, 1], 255 for those fed with [0, 255].
    order : {"rgb", "bgr"}
        Order of the channels that the network takes.
    size : (int, int) or None
        Height and width, in pixels, that photos are resized to; None if any will do.
    interpolation : {"nearest", "bilinear", "bicubic", "lanczos"}
        How photos are resized, always with antialiasing when they shrink.
    source : str
        Where the values were read; not part of the comparison.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    order: Literal["rgb", "bgr"] = "rgb"
    size: tuple[int, int] | None = None
    interpolation: Interpolation = "bilinear"
    source: str = field(default="given by hand", compare=False)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = np.atleast_1d(np.asarray(getattr(self, name), dtype=np.float64))
            if values.ndim != 1 or not np.isfinite(values).all():
                raise InvalidOption(f"preprocessing {name} must be finite numbers, one a channel")
            object.__setattr__(self, name, tuple(float(v) for v in values))
        if min(self.std) <= 0 or self.scale <= 0:
            raise InvalidOption("preprocessing std and scale must be above zero")
        if self.order not in ("rgb", "bgr"):
            raise InvalidOption(f"preprocessing order must be 'rgb' or 'bgr', not {self.order!r}")
        if self.interpolation not in ("nearest", "bilinear", "bicubic", "lanczos"):
            raise InvalidOption(f"unknown interpolation {self.interpolation!r}")
        if self.size is not None:
            height, width = self.size
            if min(height, width) < 1:
                raise InvalidOption(f"preprocessing size must be above zero, not {self.size}")
            object.__setattr__(self, "size", (int(height), int(width)))

    def affine(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give ``(shift, factor)`` of ``(x - shift) * factor``, in the network's channel order."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return mean / self.scale, self.scale / std

    def apply(self, x: NDArray[Any]) -> NDArray[Any]:
        """Map pictures ``(..., C)`` in [0, 1] to what the network sees; the dtype stays."""
        shift, factor = (v.astype(x.dtype) for v in self.affine())
        if self.order == "bgr":
            x = x[..., ::-1]
        return np.asarray((x - shift) * factor)

    def resized(self, size: tuple[int, int] | None) -> Preprocessing:
        """Give the same map for another size of picture."""
        return replace(self, size=size)


PRESETS: Mapping[str, Preprocessing] = MappingProxyType(
    {
        "imagenet": Preprocessing(
            (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), source="preset imagenet"
        ),
        "caffe": Preprocessing(
            (103.939, 116.779, 123.68), scale=255.0, order="bgr", source="preset caffe"
        ),
        "tf": Preprocessing((0.5,), (0.5,), source="preset tf"),
        "identity": Preprocessing(source="preset identity"),
    }
)


def as_preprocessing(value: Preprocessing | str | Mapping[str, Any]) -> Preprocessing:
    """Make a `Preprocessing` of a preset's name, a mapping of its fields, or itself.

    Raises
    ------
    InvalidOption
        The name is no preset, or a field is unknown or wrong.
    """
    if isinstance(value, Preprocessing):
        return value
    if isinstance(value, str):
        if value not in PRESETS:
            raise InvalidOption(
                f"no preprocessing preset {value!r}; there are {', '.join(map(repr, PRESETS))}"
            )
        return PRESETS[value]
    if isinstance(value, Mapping):
        try:
            return Preprocessing(**value)
        except TypeError as error:
            raise InvalidOption(f"preprocessing: {error}") from error
    raise InvalidOption(
        "preprocessing must be a preset's name, a mapping or cnnviz.Preprocessing,"
        f" not {type(value).__name__}"
    )
