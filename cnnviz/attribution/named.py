"""The two best known methods under their own names."""

from __future__ import annotations

from typing import Any

from cnnviz.attribution.methods import attribute
from cnnviz.attribution.result import Attribution
from cnnviz.attribution.targets import Targets
from cnnviz.images import ImagesLike

__all__ = ["cam", "grad_cam"]


def grad_cam(
    net: Any,
    images: ImagesLike,
    target: Targets = None,
    layer: str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
) -> Attribution:
    """Show where a class was seen: channels weighted by their mean gradient [1]_.

    One forward, and a backward that ends at the layer.

    Parameters
    ----------
    net, images, target, layer, size, batch
        As for `attribute`.

    Returns
    -------
    Attribution
        ``.raw`` is ``sum_k mean(dy/dA_k) A_k``, ``(N, h, w)``, before the ReLU of the paper;
        ``.map`` is ``(N, H, W)`` in [0, 1]. Tokens are laid out on their grid; a network on
        signals gives ``(N, l)``, one on volumes ``(N, d, h, w)``.

    Raises
    ------
    InvalidImage, UnknownLayer, ChannelOutOfRange, InvalidOption
        As `attribute`.

    References
    ----------
    .. [1] Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
       Gradient-based Localization", ICCV 2017, arXiv:1610.02391.
    """
    return attribute(net, images, "grad_cam", target, layer, size=size, batch=batch)


def cam(
    net: Any,
    images: ImagesLike,
    target: Targets = None,
    layer: str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
) -> Attribution:
    """Show where a class was seen: channels weighted by the classifier's own weights [1]_.

    For networks that end in a mean over space and one dense layer; whether this one does is
    checked on the numbers.

    Parameters
    ----------
    net, images, target, layer, size, batch
        As for `attribute`.

    Returns
    -------
    Attribution
        ``.raw`` is ``sum_k w_k A_k``, ``(N, h, w)``, without the bias.

    Raises
    ------
    InvalidOption
        The scores are not the dense layer of the layer's mean; use `grad_cam`.

    References
    ----------
    .. [1] Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016,
       arXiv:1512.04150.
    """
    return attribute(net, images, "cam", target, layer, size=size, batch=batch)
