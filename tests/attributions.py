"""Settings with which every method of attribution takes next to no time, and where it is taken."""

from __future__ import annotations

import cnnviz

OPTIONS = {
    "smooth_grad_cam_pp": {"samples": 3},
    "smoothgrad": {"samples": 3},
    "smoothgrad_squared": {"samples": 3},
    "vargrad": {"samples": 3},
    "integrated_gradients": {"steps": 5},
    "rise": {"masks": 16, "cells": 4},
    "superpixels": {"samples": 16, "segments": 8},
    "occlusion": {"patch": 4},
    "ss_cam": {"samples": 2},
    "is_cam": {"samples": 2},
}
AT = {name: "pool" for name, method in cnnviz.METHODS.items() if method.at == "layers"}
# Where the mean and the dense layer follow, and where there are few channels.
AT |= {"cam": "relu:1", "guided_grad_cam": "conv2"}

# For a classifier of ImageNet: as little work as shows that it is right.
OPTIONS_ON_PHOTOS = {
    **OPTIONS,
    "occlusion": {"patch": 32},
    "rise": {"masks": 16},
    "is_cam": {"channels": 16, "samples": 2},
    "ss_cam": {"channels": 16, "samples": 2},
    "score_cam": {"channels": 16},
}
