"""The affine map from RGB in [0, 1] to what a network was trained on, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, cast

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

    def check_channels(self, channels: int) -> None:
        """Refuse a network of another number of channels than there are values.

        Raises
        ------
        InvalidOption
            There is neither one value nor one a channel, or BGR is asked of what is no colour.
        """
        counts = {len(self.mean), len(self.std)} - {1, channels}
        if counts:
            raise InvalidOption(
                f"the preprocessing ({self.source}) has {max(counts)} values and the network takes"
                f" {channels} channels; give one value, or one a channel:"
                " cnnviz.Preprocessing(mean, std), or 'identity'"
            )
        if self.order == "bgr" and channels != 3:
            raise InvalidOption(
                f"the preprocessing ({self.source}) is for BGR and the network takes {channels}"
                " channels; give order='rgb'"
            )

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


def as_preprocessing(value: Any) -> Preprocessing:
    """Make a `Preprocessing` of what tells it.

    Parameters
    ----------
    value : str, mapping, Preprocessing or image processor
        A preset's name, the fields, the map itself, an image processor of transformers or an
        image converter of KerasHub. Neither library is imported.

    Raises
    ------
    InvalidOption
        The name is no preset, a field is unknown or wrong, or the processor does what is no
        affine map.
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
    if hasattr(value, "image_mean") or hasattr(value, "do_rescale"):
        return _of_image_processor(value)
    if hasattr(value, "image_size") and hasattr(value, "scale") and hasattr(value, "offset"):
        return _of_image_converter(value)
    raise InvalidOption(
        "preprocessing must be a preset's name, a mapping, cnnviz.Preprocessing, an image"
        f" processor of transformers or an image converter of KerasHub, not {type(value).__name__}"
    )


# As Pillow numbers them; box and hamming are close to bilinear.
_PILLOW: Mapping[int, Interpolation] = MappingProxyType(
    {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "bilinear", 5: "bilinear"}
)


def _of_image_processor(given: Any) -> Preprocessing:
    # It multiplies bytes by the factor, and only then takes the mean off.
    rescaled = getattr(given, "do_rescale", True)
    factor = getattr(given, "rescale_factor", None) or 1 / 255
    scale = 255 * factor if rescaled else 255.0
    # In floats 255 * (1 / 255) may miss one by a bit.
    scale = round(scale, 12)
    mean: Any = 0.0
    std: Any = 1.0
    if getattr(given, "do_normalize", True) and getattr(given, "image_mean", None) is not None:
        mean, std = given.image_mean, given.image_std
    if rescaled and getattr(given, "rescale_offset", False):
        # After the factor one is taken off: the range is then about zero.
        mean = np.asarray(mean) + 1
    resample = getattr(given, "resample", None)
    return Preprocessing(
        mean,
        std,
        scale=scale,
        size=_processor_size(given),
        interpolation=_PILLOW.get(2 if resample is None else int(resample), "bilinear"),
        source=type(given).__name__,
    )


def _processor_size(given: Any) -> tuple[int, int] | None:
    """Read what comes out in the end: the crop, else the size that photos are resized to."""
    # A processor that says nothing of cropping crops nothing.
    for wanted, default, key in (
        ("do_center_crop", False, "crop_size"),
        ("do_resize", True, "size"),
    ):
        size = getattr(given, key, None)
        if size is None or not getattr(given, wanted, default):
            continue
        if isinstance(size, int):
            return size, size
        side = _item(size, "shortest_edge")
        height, width = _item(size, "height") or side, _item(size, "width") or side
        if height and width:
            return int(height), int(width)
    return None


def _item(size: Any, key: str) -> int | None:
    # A dictionary in older releases, a record with attributes in newer ones.
    return size.get(key) if isinstance(size, Mapping) else getattr(size, key, None)


def _of_image_converter(given: Any) -> Preprocessing:
    # It multiplies bytes by its scale and adds its offset: x s + o = (255 x + o / s) / (1 / s).
    factor = np.atleast_1d(np.asarray(1.0 if given.scale is None else given.scale, np.float64))
    offset = np.asarray(0.0 if given.offset is None else given.offset, np.float64)
    if not (factor > 0).all():
        raise InvalidOption(f"{type(given).__name__} has a scale that is not above zero")
    factor, offset = (v.ravel() for v in np.broadcast_arrays(factor, offset))
    size = given.image_size
    if isinstance(size, int):
        size = (size, size)
    if size is not None and not all(size):
        size = None
    interpolation = getattr(given, "interpolation", "bilinear")
    interpolation = {"lanczos3": "lanczos", "lanczos5": "lanczos"}.get(interpolation, interpolation)
    known = interpolation in ("nearest", "bilinear", "bicubic", "lanczos")
    # In units of white, so that numbers of ImageNet read as they are known.
    return Preprocessing(
        tuple(-offset / factor / 255),
        tuple(1 / factor / 255),
        size=None if size is None else (int(size[0]), int(size[1])),
        interpolation=cast("Interpolation", interpolation if known else "bilinear"),
        source=type(given).__name__,
    )
