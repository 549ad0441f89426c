"""Every method of attribution says the same of photos in both frameworks, on the demo network.

In float32 a unit that stands at a kink of its ReLU6 may fall on one side in one framework and on
the other in the other, and then all that it sees changes by some thousandths. So a map that rests
on slopes down to the picture is held to its direction everywhere, and to 1e-4 in pictures where
no unit fell apart; float64 shows that nothing else is behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from attributions import OPTIONS_ON_PHOTOS
from cnnviz_keras import lite0 as keras_lite0
from cnnviz_torch import lite0 as torch_lite0

import cnnviz
from cnnviz import images, lite0, photos

SIDE = 64
THROUGH_KINKS = {
    "full_grad",
    "gradient_x_input",
    "guided_backprop",
    "guided_grad_cam",
    "integrated_gradients",
    "refine_cam",
    "saliency",
    "smoothgrad",
    "smoothgrad_squared",
    "vargrad",
}
# A share of a score lost, over 1280 channels of both signs: what is left of it is small.
LOOSER = {"ablation_cam": 1e-3}


@pytest.fixture(scope="module")
def pictures() -> Any:
    read = [images.read_batch(str(path), size=(SIDE, SIDE)) for path in photos.paths().values()]
    whole = np.concatenate(read)
    return np.concatenate([whole, whole[:, :, ::-1]])


@pytest.fixture(scope="module")
def nets() -> Any:
    return [cnnviz.load("demo", framework=name, input_size=SIDE) for name in ("torch", "keras")]


@pytest.fixture(scope="module")
def exact_nets() -> Any:
    return [
        cnnviz.adapt(builder.build("float64"), lite0.PREPROCESSING)
        for builder in (torch_lite0, keras_lite0)
    ]


@pytest.fixture(scope="module")
def classes(nets: Any, pictures: Any) -> list[int]:
    found = cnnviz.attribute(nets[0], pictures, "cam").target
    return [int(one) for one in found]


@pytest.mark.parametrize("method", sorted(cnnviz.METHODS))
def test_maps_of_photos(method: str, nets: Any, pictures: Any, classes: list[int]) -> None:
    options: dict[str, Any] = OPTIONS_ON_PHOTOS.get(method, {})
    one, two = (cnnviz.attribute(net, pictures, method, classes, **options) for net in nets)
    np.testing.assert_allclose(one.score, two.score, rtol=1e-4)
    apart = []
    for a, b in zip(np.float64(one.raw), np.float64(two.raw), strict=True):
        if not a.any():
            assert not b.any()
            continue
        assert np.vdot(a, b) >= (1 - 1e-4) * np.linalg.norm(a) * np.linalg.norm(b)
        apart.append(np.abs(a - b).max() / np.abs(a).max())
    assert len(apart) >= 3
    enough = sorted(apart)[1] if method in THROUGH_KINKS else max(apart)
    assert enough <= LOOSER.get(method, 1e-4), apart


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients"])
def test_what_is_apart_is_rounding(
    method: str, exact_nets: Any, pictures: Any, classes: list[int]
) -> None:
    options: dict[str, Any] = OPTIONS_ON_PHOTOS.get(method, {})
    one, two = (
        cnnviz.attribute(net, pictures[:1], method, classes[:1], **options) for net in exact_nets
    )
    assert one.raw.dtype == np.float64
    assert np.abs(one.raw - two.raw).max() <= 1e-9 * np.abs(one.raw).max()
