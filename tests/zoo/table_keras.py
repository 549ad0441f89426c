"""Networks of keras.applications and KerasHub, built with random weights."""

from __future__ import annotations

import sys
from typing import Any

import keras
import keras_hub
from zoo.entries import Entry
from zoo.own_keras import OWN

H = keras_hub.models


def _application(name: str, size: int = 96, cam: str | None = None, **options: Any) -> Entry:
    final = "softmax"

    def build() -> Any:
        make = getattr(keras.applications, name)
        return make(weights=None, input_shape=(size, size, 3), **options)

    def seen(pictures: Any) -> Any:
        home = sys.modules[getattr(keras.applications, name).__module__]
        return home.preprocess_input(pictures)

    shape = (size, size, 3)
    return Entry("keras.applications", name, build, shape, final=final, cam=cam, seen=seen)


APPLICATIONS = [
    _application("ConvNeXtTiny", 64),
    _application("DenseNet121", 64, "relu"),
    _application("EfficientNetB0", 64, "top_activation"),
    _application("EfficientNetV2B0", 64, "top_activation"),
    _application("InceptionV3", 139, "mixed10"),
    _application("InceptionResNetV2", 139, "conv_7b_ac"),
    _application("MobileNet", 64),
    _application("MobileNetV2", 64, "out_relu"),
    _application("MobileNetV3Small", 64),
    _application("NASNetMobile", 64),
    _application("ResNet50", 64, "conv5_block3_out"),
    _application("ResNet50V2", 64, "post_relu"),
    _application("VGG16", 64, "block5_conv3"),
    _application("Xception", 96, "block14_sepconv2_act"),
]


def _hub(name: str, build: Any, size: tuple[int, int] = (64, 64), **told: Any) -> Entry:
    told.setdefault("given", "tf")
    return Entry("KerasHub", name, build, (*size, 3), **told)


def _resnet() -> Any:
    return H.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64, 64],
        stackwise_num_blocks=[1, 1, 1],
        stackwise_num_strides=[1, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )


def _vit(**options: Any) -> Any:
    return H.ViTBackbone(
        image_shape=(64, 32, 3),
        patch_size=16,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        **options,
    )


def _classifier() -> Any:
    converter = keras_hub.layers.ImageConverter(image_size=(64, 64), scale=1 / 127.5, offset=-1)
    return H.ResNetImageClassifier(
        backbone=_resnet(),
        num_classes=5,
        preprocessor=H.ResNetImageClassifierPreprocessor(image_converter=converter),
    )


HUB = [
    _hub("ResNetBackbone", _resnet),
    _hub(
        "VGGBackbone",
        lambda: H.VGGBackbone(
            stackwise_num_repeats=[1, 1], stackwise_num_filters=[8, 12], image_shape=(64, 64, 3)
        ),
    ),
    _hub(
        "DenseNetBackbone",
        lambda: H.DenseNetBackbone(
            stackwise_num_repeats=[2, 2], growth_rate=8, image_shape=(64, 64, 3)
        ),
    ),
    _hub(
        "XceptionBackbone",
        lambda: H.XceptionBackbone(
            stackwise_conv_filters=[[16, 16], [32, 32]],
            stackwise_pooling=[True, False],
            image_shape=(64, 64, 3),
        ),
    ),
    _hub("ViTBackbone", _vit, (64, 32)),
    _hub(
        "SwinTransformerBackbone",
        lambda: H.SwinTransformerBackbone(
            image_shape=(64, 64, 3), embed_dim=12, depths=[2, 2], num_heads=[2, 2], window_size=4
        ),
    ),
    _hub(
        "DeiTBackbone",
        lambda: H.DeiTBackbone(
            image_shape=(64, 64, 3),
            patch_size=16,
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            intermediate_dim=32,
        ),
    ),
    _hub(
        "MiTBackbone",
        lambda: H.MiTBackbone(
            layerwise_depths=[1, 1],
            num_layers=2,
            layerwise_num_heads=[1, 2],
            layerwise_sr_ratios=[4, 2],
            max_drop_path_rate=0.1,
            layerwise_patch_sizes=[7, 3],
            layerwise_strides=[4, 2],
            hidden_dims=[16, 32],
            image_shape=(64, 64, 3),
        ),
    ),
    _hub("ResNetImageClassifier", _classifier, given=None, found="tf"),
]

ENTRIES = [*APPLICATIONS, *HUB, *OWN]
