"""The table of layers, and the layer that is taken by default."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from cnnviz.adapter import Layer
from cnnviz.errors import CnnvizError
from cnnviz.fields import Window
from cnnviz.layers import last_spatial, layers
from cnnviz.testing import OracleAdapter


class Listed(OracleAdapter):
    """An oracle that lists other layers than it has."""

    def __init__(self, *rows: Layer) -> None:
        super().__init__()
        self.rows = list(rows)

    def layers(self) -> tuple[Layer, ...]:
        return tuple(self.rows)


def leaf(name: str, kind: str, side: int = 7, channels: int = 8) -> Layer:
    return Layer(name, kind, (None, side, side, channels), 0)


def block(name: str, side: int = 7, channels: int = 8) -> Layer:
    return Layer(name, "Sequential", (None, side, side, channels), 0, leaf=False)


FLAT = Layer("fc", "Linear", (None, 10), 0)
POINT = leaf("avgpool", "AdaptiveAvgPool2d", side=1)


def test_the_table_is_a_sequence_in_order_of_execution() -> None:
    table = layers(OracleAdapter())
    assert len(table) == 8
    assert table.names == ("conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc")
    assert table[0].name == "conv1"
    assert [layer.name for layer in table[-2:]] == ["gap", "fc"]
    assert [layer.name for layer in table] == list(table.names)


def test_the_total_counts_what_is_trained_once() -> None:
    # 3*3*3*4+4, 2*4 of batch norm without its statistics, 3*3*4*6+6, 6*5+5; relu twice: 0.
    assert layers(OracleAdapter()).total == 112 + 8 + 222 + 35


def test_the_table_prints_aligned() -> None:
    net = Listed(
        Layer("a.conv", "Conv2d", (None, 56, 56, 64), 1234),
        Layer("a", "Block", (None, None, None, 64), 1234, leaf=False),
        Layer("windows", "Linear", (None, 49, 8), 5, grid=(), rows=64),
        Layer("tokens", "Norm", (None, 50, 8), 5, grid=(7, 7), class_tokens=1),
        Layer("box", "Boxes", None, 0, field="all"),
    )
    net.rows[0] = replace(net.rows[0], field=Window((7.0, 11.0), (1.0, 1.0)))
    assert str(layers(net)).splitlines() == [
        "name     kind    output shape                   parameters  receptive field",
        "-------  ------  -----------------------------  ----------  ---------------",
        "a.conv   Conv2d  ? x 56 x 56 x 64                    1,234  7 x 11",
        "a        Block   ? x ? x ? x 64                    (1,234)",
        "windows  Linear  64? x 49 x 8                            5",
        "tokens   Norm    ? x 50 x 8 (7 x 7 + 1 tokens)           5",
        "box      Boxes   no tensor                               0  all",
        "oracle: 5 layers, 377 parameters",
        "in parentheses: layers that hold some of those above them",
        "64?: so many rows a picture, such as windows or proposals",
    ]


def test_the_html_escapes_names() -> None:
    page = layers(Listed(Layer("<b>", "Lambda", None, 0)))._repr_html_()
    assert "<td>&lt;b&gt;</td>" in page
    assert "<b>" not in page


def test_the_json_is_json() -> None:
    rows = layers(OracleAdapter()).to_json()
    assert json.loads(json.dumps(rows)) == rows
    assert rows[0] == {
        "name": "conv1",
        "kind": "Conv",
        "output_shape": [None, 8, 8, 4],
        "channels": 4,
        "parameters": 112,
        "leaf": True,
        "grid": [8, 8],
        "class_tokens": 0,
        "rows": 1,
        "receptive_field": [3, 3],
        "field_start": [0.0, 0.0],
        "field_step": [1.0, 1.0],
        "leads_to_score": None,
    }


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([leaf("conv", "Conv2D"), FLAT], "conv", id="plain"),
        pytest.param(
            [
                leaf("layer3.0.relu", "ReLU", 14),
                block("layer3.0", 14),
                block("layer3", 14),
                leaf("layer4.0.conv1", "Conv2d"),
                leaf("layer4.0.relu:0", "ReLU"),
                leaf("layer4.0.relu:1", "ReLU"),
                block("layer4.0"),
                leaf("layer4.1.relu:0", "ReLU"),
                leaf("layer4.1.relu:1", "ReLU"),
                block("layer4.1"),
                block("layer4"),
                POINT,
                FLAT,
            ],
            "layer4",
            id="resnet",
        ),
        pytest.param(
            [
                leaf("features.41", "BatchNorm2d", 14),
                leaf("features.42", "ReLU", 14),
                leaf("features.43", "MaxPool2d"),
                block("features"),
                leaf("avgpool", "AdaptiveAvgPool2d"),
                FLAT,
            ],
            "features.42",
            id="vgg: features end in a pooling",
        ),
        pytest.param(
            [
                leaf("stem.act", "ReLU"),
                leaf("stem.blur", "AvgPool2d"),
                block("stem"),
                FLAT,
            ],
            "stem.act",
            id="a pooling ends the block, whatever its stride",
        ),
        pytest.param(
            [
                leaf("backbone/conv", "Conv2D"),
                leaf("backbone/out", "Activation"),
                block("backbone"),
                leaf("head/pad", "ZeroPadding2D", 9),
                leaf("head/up", "UpSampling2D", 14),
                FLAT,
            ],
            "backbone",
            id="keras: a nested model",
        ),
        pytest.param(
            [
                leaf("mixed.branch.conv", "Conv2d", channels=2),
                block("mixed.branch", channels=2),
                block("mixed", channels=8),
                FLAT,
            ],
            "mixed",
            id="inception: the branches are joined without a layer",
        ),
        pytest.param(
            [
                leaf("stage.act", "ReLU"),
                leaf("stage.drop", "Dropout2d"),
                leaf("stage.path", "DropPath"),
                block("stage"),
                FLAT,
            ],
            "stage",
            id="what does nothing at inference does not count",
        ),
        pytest.param(
            [leaf("stage.act", "ReLU"), block("stage", side=3), FLAT],
            "stage.act",
            id="the block pools without a layer",
        ),
        pytest.param(
            [
                leaf("conv1", "Conv2d"),
                leaf("conv10.act", "ReLU"),
                block("conv1"),
                FLAT,
            ],
            "conv10.act",
            id="a prefix is one of whole names",
        ),
        pytest.param(
            [
                leaf("twin.act:0", "ReLU"),
                block("twin:0"),
                leaf("twin.act:1", "ReLU"),
                block("twin:1"),
                FLAT,
            ],
            "twin:1",
            id="a block called twice",
        ),
        pytest.param(
            [Layer("free", "Conv2d", (None, None, None, 4), 0), leaf("seen", "Conv2d", 3), POINT],
            "seen",
            id="a single point is no map",
        ),
    ],
)
def test_the_default_is_the_last_stage_with_maps(rows: list[Layer], expected: str) -> None:
    assert last_spatial(Listed(*rows)).name == expected


def test_the_default_of_the_small_network() -> None:
    assert last_spatial(OracleAdapter()).name == "relu:1"


def test_a_network_without_maps_says_what_to_do() -> None:
    with pytest.raises(CnnvizError, match=r"oracle has no layer with height and width.*layers"):
        last_spatial(Listed(FLAT))
