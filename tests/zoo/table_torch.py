"""Networks of torchvision, timm and transformers, built with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
import transformers
from zoo.entries import Entry
from zoo.own_torch import OWN

IMAGENET = "imagenet"


def _torchvision(name: str, **options: Any) -> Callable[[], Any]:
    models: Any = torchvision.models
    return lambda: models.get_model(name, weights=None, **options).eval()


def _plain(name: str, size: int = 96, cam: str | None = None, **told: Any) -> Entry:
    return Entry(
        "torchvision classification",
        name,
        _torchvision(name),
        (size, size, 3),
        found=IMAGENET,
        cam=cam,
        **told,
    )


def _training(name: str, size: int, **options: Any) -> Entry:
    def build() -> Any:
        return torchvision.models.get_model(name, weights=None, **options).train()

    return Entry(
        "torchvision classification", f"{name} training", build, (size, size, 3), found=IMAGENET
    )


CLASSIFICATION = [
    _plain("alexnet", 127, r"features\.11"),
    _plain("vgg11_bn", 64, r"features\.27"),
    _plain("resnet18", 96, "layer4"),
    _plain("resnext50_32x4d", 96, "layer4"),
    _plain("wide_resnet50_2", 64, "layer4"),
    _plain("squeezenet1_1", 96),
    _plain("densenet121", 96, "features"),
    Entry(
        "torchvision classification",
        "inception_v3",
        _torchvision("inception_v3", init_weights=False, aux_logits=True),
        (139, 139, 3),
        found=IMAGENET,
        cam=r"Mixed_7c",
    ),
    _training("inception_v3", 139, init_weights=False, aux_logits=True),
    Entry(
        "torchvision classification",
        "googlenet",
        _torchvision("googlenet", init_weights=False, aux_logits=True),
        (96, 96, 3),
        found=IMAGENET,
        cam="inception5b",
    ),
    _training("googlenet", 96, init_weights=False, aux_logits=True),
    _plain("mobilenet_v2", 96, "features"),
    _plain("mobilenet_v3_small", 96, "features"),
    _plain("shufflenet_v2_x0_5", 96, "conv5"),
    _plain("mnasnet0_5", 96, "layers"),
    _plain("efficientnet_b0", 96, "features"),
    _plain("efficientnet_v2_s", 96, "features"),
    _plain("regnet_y_400mf", 96, "trunk_output"),
    _plain("regnet_x_400mf", 96, "trunk_output"),
    _plain("convnext_tiny", 96, "features"),
    _plain("vit_b_32", 224, r"encoder\.layers\.encoder_layer_11\.ln_1", tells_shape=True),
    _plain("swin_t", 96),
    _plain("swin_v2_t", 96),
    _plain("maxvit_t", 224),
]

SEGMENTATION = [
    Entry(
        "torchvision segmentation",
        name,
        _torchvision(name, weights_backbone=None, aux_loss=aux, num_classes=5),
        (96, 96, 3),
        part="[out]",
        found=IMAGENET,
        **told,
    )
    for name, aux, told in (
        ("fcn_resnet50", True, {}),
        ("deeplabv3_mobilenet_v3_large", True, {}),
        ("lraspp_mobilenet_v3_large", None, {}),
    )
]


def _detection(name: str, head: str, size: int = 128, **told: Any) -> Entry:
    def build() -> Any:
        options = {"min_size": size, "max_size": size} if "ssd" not in name else {}
        return torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=5, **options
        ).eval()

    return Entry(
        "torchvision detection",
        name,
        build,
        (size, size, 3),
        output=head,
        logits=head,
        class_axis=-1,
        found="identity",
        batch=1,
        proposals="rcnn" in name,
        **told,
    )


DETECTION = [
    # Proposals come from nms, which torchvision has in float32 and float64 alike.
    _detection("fasterrcnn_mobilenet_v3_large_320_fpn", "roi_heads.box_predictor.cls_score"),
    _detection("retinanet_resnet50_fpn", "head.classification_head"),
    _detection("fcos_resnet50_fpn", "head.classification_head"),
    _detection("ssdlite320_mobilenet_v3_large", "head.classification_head", 320),
    _detection("maskrcnn_resnet50_fpn", "roi_heads.box_predictor.cls_score"),
    _detection("keypointrcnn_resnet50_fpn", "roi_heads.box_predictor.cls_score"),
]

VIDEO = [
    Entry(
        "torchvision video",
        "r3d_18",
        lambda: torchvision.models.video.r3d_18(weights=None).eval(),
        (8, 48, 48, 3),
        found={"mean": (0.43216, 0.394666, 0.37645), "std": (0.22803, 0.22145, 0.216989)},
        cam="layer4",
    )
]


def _timm(name: str, size: int | None = None, **told: Any) -> Entry:
    def build() -> Any:
        return timm.create_model(name, pretrained=False).eval()

    shape = (size or 224, size or 224, 3)
    config = timm.get_pretrained_cfg(name)
    found = {"mean": config.mean, "std": config.std}
    return Entry("timm", name, build, shape, found=found, **told)


TIMM = [
    _timm("resnet10t", 96, cam="layer4"),
    _timm("regnety_002", 96),
    _timm("efficientnet_b0", 96),
    _timm("mobilenetv4_conv_small", 96),
    _timm("convnext_atto", 96),
    _timm("convnextv2_atto", 96),
    _timm("vit_tiny_patch16_224", cam=r"blocks\.11\.norm1", tells_shape=True),
    _timm("deit_tiny_distilled_patch16_224", cam=r"blocks\.11\.norm1", tells_shape=True),
    _timm("vit_wee_patch16_reg1_gap_256", 256, tells_shape=True),
    _timm("beit_base_patch16_224", tells_shape=True),
    _timm("swin_tiny_patch4_window7_224", tells_shape=True),
    _timm("swinv2_tiny_window8_256", 256, tells_shape=True),
    _timm("cait_xxs24_224"),
    # In eval mode torch 2.15 derives a batch norm wrongly on a processor if the batch is one, its
    # input is contiguous and the gradient is a view of tokens: 1.4e-4 where central differences
    # give 4.2e-4 here, and -5.1e-6 for 6.3e-6 in LeViT. With channels last it is right.
    _timm("xcit_nano_12_p16_224", channels_last=True),
    _timm("mixer_s32_224", swapped="mlp_tokens", tells_shape=True),
    _timm("resmlp_12_224", swapped="linear_tokens", tells_shape=True),
    _timm("poolformer_s12", 96),
    _timm("coatnet_pico_rw_224"),
    _timm("mobilevit_xxs", 128),
    _timm("ghostnet_050", 96),
    _timm("hrnet_w18_small", 96),
    _timm("levit_128s", channels_last=True, tells_shape=True),
    _timm("pvt_v2_b0", 96),
    _timm("fastvit_t8", 128),
    _timm("inception_next_atto", 96),
]
assert len(TIMM) == 25


def _seeded(make: Callable[[], Any]) -> Callable[[], Any]:
    def build() -> Any:
        torch.manual_seed(0)
        return make().eval()

    return build


def _resnet() -> Any:
    return transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[16, 24, 32, 40],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        num_labels=7,
    )


def _convnext() -> Any:
    return transformers.ConvNextConfig(
        hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], num_labels=7
    )


def _vit() -> Any:
    return transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=64,
        patch_size=16,
        num_labels=7,
    )


TRANSFORMERS = [
    Entry(
        "transformers",
        name,
        _seeded(make),
        (64, 64, 3),
        given="tf",
        part=part,
        **told,
    )
    for name, make, part, told in (
        (
            "ResNetForImageClassification",
            lambda: transformers.ResNetForImageClassification(_resnet()),
            "[logits]",
            {},
        ),
        (
            "ConvNextForImageClassification",
            lambda: transformers.ConvNextForImageClassification(_convnext()),
            "[logits]",
            {},
        ),
        (
            "ViTForImageClassification",
            lambda: transformers.ViTForImageClassification(_vit()),
            "[logits]",
            {"cam": r"vit\..*2\.layernorm_before", "tells_shape": True},
        ),
        (
            "ResNetModel",
            lambda: transformers.ResNetModel(_resnet()),
            "[last_hidden_state]",
            {},
        ),
        (
            "ViTModel",
            lambda: transformers.ViTModel(_vit()),
            "[last_hidden_state]",
            {"tells_shape": True},
        ),
    )
]

ENTRIES = [*CLASSIFICATION, *SEGMENTATION, *DETECTION, *VIDEO, *TIMM, *TRANSFORMERS, *OWN]
