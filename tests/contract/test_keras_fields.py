"""What gradients reach in Keras networks is where their layers say that they look."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from nets import keras_small

import cnnviz
from cnnviz.errors import UnknownField
from cnnviz.testing import assert_fields

L = keras.layers
FREE = {"dtype": "float64"}
SAME = {"padding": "same", **FREE}


def conv(*args, **options):
    return L.Conv2D(*args, **{**FREE, **options})


def branches(join):
    def make(x):
        x = conv(4, 3, strides=2)(x)
        a = conv(4, 2, strides=2, padding="same")(conv(4, 3)(x))
        b = conv(4, 5, strides=2, padding="same")(conv(4, 3)(x))
        return conv(2, 3)(join(**FREE)([a, b]))

    return make


def chain(*layers):
    def make(x):
        for layer in layers:
            x = layer(x)
        return x

    return make


LINEAR = {
    "valid": lambda: chain(conv(4, 3), conv(4, 4, strides=3)),
    "same": lambda: chain(conv(4, 3, strides=2, **SAME), conv(4, 4, strides=2, **SAME)),
    "even": lambda: chain(conv(4, 4, **SAME), conv(4, 2, strides=2, **SAME), conv(4, 4, **SAME)),
    "wide-stride": lambda: chain(conv(4, 5, strides=3, **SAME), conv(4, 3, **SAME)),
    "dilated": lambda: chain(conv(4, 3, dilation_rate=2, **SAME), conv(4, 3, dilation_rate=3)),
    "depthwise": lambda: chain(
        L.DepthwiseConv2D(5, strides=2, **SAME), L.SeparableConv2D(4, 3, **SAME)
    ),
    "average": lambda: chain(conv(4, 3), L.AveragePooling2D(3, 2, **SAME)),
    "average-valid": lambda: chain(conv(4, 3), L.AveragePooling2D(2, **FREE), conv(4, 3)),
    "padded": lambda: chain(L.ZeroPadding2D(((3, 0), (1, 2)), **FREE), conv(4, 4, strides=2)),
    "cropped": lambda: chain(conv(4, 3), L.Cropping2D(((1, 2), (3, 0)), **FREE), conv(4, 2)),
    "nearest": lambda: chain(conv(4, 3, strides=2), L.UpSampling2D(2, **FREE), conv(4, 3)),
    "linear": lambda: chain(
        conv(4, 3, strides=2), L.UpSampling2D(2, interpolation="bilinear", **FREE), conv(4, 3)
    ),
    "transposed": lambda: chain(conv(4, 3, strides=2), L.Conv2DTranspose(4, 4, 2, **SAME)),
    "transposed-odd": lambda: chain(conv(4, 3, strides=2), L.Conv2DTranspose(4, 3, 2, **SAME)),
    "transposed-valid": lambda: chain(conv(4, 3, strides=2), L.Conv2DTranspose(4, 3, 2, **FREE)),
    "sum": lambda: branches(L.Add),
    "cat": lambda: branches(L.Concatenate),
    "normed": lambda: chain(conv(4, 3, **SAME), L.BatchNormalization(**FREE), conv(4, 3)),
}


def adapted(make, size=(24, 28), positive=True):
    x = keras.Input((*size, 3), **FREE)
    model = keras.Model(x, make(x))
    for weight in model.weights if positive else ():
        weight.assign(np.abs(keras_small.numbers(weight)) + 0.01)
    return cnnviz.adapt(model, "identity")


@pytest.mark.parametrize("size", [(24, 28), (23, 27), (25, 22)], ids=["even", "odd", "mixed"])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_networks_see_all_of_their_fields_and_nothing_else(name, size):
    net = adapted(LINEAR[name](), size)
    assert assert_fields(net, size, pictures=1) == len(net.layers())


def test_networks_with_maxima_look_nowhere_else():
    net = adapted(
        chain(conv(4, 3), L.MaxPooling2D(3, 2, **SAME), L.ReLU(**FREE), conv(4, 3, **SAME)),
        positive=False,
    )
    assert assert_fields(net, (24, 28), exact=lambda layer: False) == 4


def test_the_start_follows_the_size_of_the_picture():
    x = keras.Input((None, None, 3), **FREE)
    net = cnnviz.adapt(keras.Model(x, conv(4, 3, strides=2, name="a", **SAME)(x)), "identity")
    net.settle(24, 24)
    assert net.layer("a").field.start == (0, 0)
    (odd,) = (layer for layer in net.layers_at(25, 24) if layer.name == "a")
    assert odd.field.start == (-1, 0)
    assert (net.listed_size, net.layer("a").field.start) == ((24, 24), (0, 0))
    assert assert_fields(net, (25, 24), exact=lambda layer: False) == 1


def test_places_that_were_moved_are_not_told():
    def make(x):
        return conv(2, 3, name="last")(L.Permute((2, 1, 3), **FREE)(conv(4, 3)(x)))

    with pytest.raises(UnknownField, match="measured_window"):
        adapted(make).layer("last").patch((0, 0), (24, 28))


@pytest.mark.parametrize("name", ["same", "transposed"])
def test_what_is_measured_is_what_is_told(name):
    net = adapted(LINEAR[name](), (40, 44))
    last = net.layers()[-1]
    assert cnnviz.measured_window(net, last.name, pictures=1) == last.field
