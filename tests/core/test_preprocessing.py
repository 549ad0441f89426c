"""Preprocessing read off the image processors of other libraries, which are stood in for here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cnnviz
from cnnviz.errors import InvalidOption
from cnnviz.preprocessing import as_preprocessing
from cnnviz.testing import small_pictures

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def processor(**changes: Any) -> SimpleNamespace:
    """Say what an image processor of transformers says of itself."""
    given: dict[str, Any] = {
        "do_resize": True,
        "size": {"height": 192, "width": 224},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    return SimpleNamespace(**given | changes)


def processed(given: SimpleNamespace, x: np.ndarray) -> np.ndarray:
    """Compute what a processor does to a picture in [0, 1], in its own order of steps."""
    x = x * 255
    if given.do_rescale:
        x = x * given.rescale_factor - (1 if getattr(given, "rescale_offset", False) else 0)
    if given.do_normalize:
        x = (x - np.array(given.image_mean)) / np.array(given.image_std)
    return x


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": None, "do_normalize": None},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True},
        {"image_mean": [0.5], "image_std": [0.25]},
    ],
)
def test_a_processor_gives_the_map_that_it_computes(changes: dict[str, Any]) -> None:
    given = processor(**changes)
    x = small_pictures(1)
    np.testing.assert_allclose(as_preprocessing(given).apply(x), processed(given, x), atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({}, (192, 224)),
        ({"size": {"shortest_edge": 256}}, (256, 256)),
        ({"size": SimpleNamespace(height=None, width=None, shortest_edge=96)}, (96, 96)),
        ({"size": 160}, (160, 160)),
        ({"do_center_crop": True, "crop_size": {"height": 128, "width": 64}}, (128, 64)),
        ({"do_center_crop": False, "crop_size": {"height": 128, "width": 64}}, (192, 224)),
        ({"crop_size": {"height": 128, "width": 64}}, (192, 224)),
        ({"do_resize": False}, None),
        ({"do_resize": None}, None),
        ({"size": {"longest_edge": 512}}, None),
    ],
)
def test_the_size_is_what_comes_out_in_the_end(
    changes: dict[str, Any], size: tuple[int, int] | None
) -> None:
    assert as_preprocessing(processor(**changes)).size == size


@pytest.mark.parametrize(
    ("code", "name"),
    [(0, "nearest"), (1, "lanczos"), (2, "bilinear"), (3, "bicubic"), (None, "bilinear")],
)
def test_the_numbers_of_pillow_have_names(code: int | None, name: str) -> None:
    assert as_preprocessing(processor(resample=code)).interpolation == name


def test_a_processor_of_imagenet_is_the_preset() -> None:
    found = as_preprocessing(processor(do_resize=False, resample=2))
    assert found == cnnviz.Preprocessing(MEAN, STD)
    assert found.source == "SimpleNamespace"


def converter(**changes: Any) -> SimpleNamespace:
    """Say what an image converter of KerasHub says of itself."""
    given = {"image_size": (32, 48), "scale": None, "offset": None, "interpolation": "bicubic"}
    return SimpleNamespace(**given | changes)


@pytest.mark.parametrize(
    ("scale", "offset"),
    [
        (None, None),
        (1 / 255, None),
        (1 / 127.5, -1),
        ([1 / 255 / s for s in STD], [-m / s for m, s in zip(MEAN, STD, strict=True)]),
        (1 / 255, [-0.1, -0.2, -0.3]),
        (None, [-123.68, -116.779, -103.939]),
    ],
)
def test_a_converter_gives_the_map_that_it_computes(scale: Any, offset: Any) -> None:
    found = as_preprocessing(converter(scale=scale, offset=offset))
    x = small_pictures(1)
    wanted = 255 * x * np.array(1 if scale is None else scale)
    wanted = wanted + np.array(0 if offset is None else offset)
    np.testing.assert_allclose(found.apply(x), wanted, atol=1e-10)
    assert (found.size, found.interpolation) == ((32, 48), "bicubic")


def test_a_converter_may_take_any_size() -> None:
    assert as_preprocessing(converter(image_size=None)).size is None


def test_a_converter_that_turns_the_range_round_is_refused() -> None:
    with pytest.raises(InvalidOption, match="scale that is not above zero"):
        as_preprocessing(converter(scale=-1.0))


def test_what_tells_nothing_is_refused_by_its_type() -> None:
    with pytest.raises(InvalidOption, match=r"image processor of transformers.*not int"):
        as_preprocessing(3)
