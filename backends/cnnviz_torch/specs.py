"""Networks by name or file, and what is known of their preprocessing.

A loader takes the spec, the weights and the device, and gives the model, its preprocessing and
the names of its classes, as far as they are known. The adapter puts a torch model on the device.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import nn

from cnnviz.errors import InvalidOption, MissingDependency, UnknownModel, UnsupportedModel
from cnnviz.preprocessing import (
    PRESETS,
    Interpolation,
    Preprocessing,
    as_preprocessing,
)

__all__ = [
    "check_order",
    "exported_shape",
    "find_preprocessing",
    "fixed_size",
    "load_exported",
    "load_timm",
    "load_torchscript",
    "load_torchvision",
]

Loaded = tuple[nn.Module, Preprocessing | None, Sequence[str] | None]


def find_preprocessing(model: nn.Module) -> Preprocessing | None:
    """Read a model's preprocessing off what timm, torchvision or transformers keep of it."""
    config = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if config:
        return _from_timm(config)
    name = type(model).__module__
    if name.startswith("torchvision.models.detection."):
        return PRESETS["identity"]  # these normalise their pictures themselves
    if name.startswith("torchvision.models."):
        return _from_torchvision_module(sys.modules[name], model)
    # A network of transformers says where it was read from, not what it was trained on.
    folder = getattr(getattr(model, "config", None), "_name_or_path", None)
    kept = Path(str(folder)) / "preprocessor_config.json" if folder else None
    if kept is not None and kept.is_file():
        told: Any = SimpleNamespace(**json.loads(kept.read_text("utf-8")))
        return as_preprocessing(told)
    return None


def fixed_size(module: nn.Module) -> tuple[int, int] | None:
    """Give the height and width that a network was built for, where it keeps them."""
    told = (
        getattr(module, "image_size", None),
        getattr(getattr(module, "patch_embed", None), "img_size", None),
        getattr(getattr(module, "config", None), "image_size", None),
    )
    for size in told:
        if isinstance(size, int):
            return size, size
        if isinstance(size, (tuple, list)) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def load_torchvision(spec: str, weights: str | None = None, device: str | None = None) -> Loaded:
    """Build ``torchvision:NAME``; see `cnnviz.load`."""
    check_order()
    try:
        from torchvision.models import (
            get_model,
            get_model_builder,
            get_model_weights,
            list_models,
        )
    except ImportError as error:
        raise MissingDependency(
            "torchvision is not installed; pip install 'cnnviz[torch]'"
        ) from error
    name = spec.partition(":")[2].lower()
    if name not in list_models():
        raise _unknown(name, "torchvision", list_models())
    best = get_model_weights(name).DEFAULT

    def build(pretrained: bool) -> Any:
        if pretrained:
            return get_model(name, weights=best)
        # Else segmentation and detection would fetch the weights of their backbones.
        known = inspect.signature(get_model_builder(name)).parameters
        bare = {"weights_backbone": None} if "weights_backbone" in known else {}
        return get_model(name, weights=None, **bare)

    model = _with_weights(spec, weights, build)
    labels = best.meta.get("categories") if weights in (None, "pretrained") else None
    return model.eval(), _from_transforms(best.transforms, str(best)), labels


def load_timm(spec: str, weights: str | None = None, device: str | None = None) -> Loaded:
    """Build ``timm:NAME``; see `cnnviz.load`."""
    check_order()
    try:
        import timm
    except ImportError as error:
        raise MissingDependency("timm is not installed; pip install timm") from error
    name = spec.partition(":")[2]
    if not timm.is_model(name):
        raise _unknown(name, "timm", timm.list_models())
    model = _with_weights(
        spec, weights, lambda pretrained: timm.create_model(name, pretrained=pretrained)
    )
    return model.eval(), None, None


def load_exported(spec: str, weights: str | None = None, device: str | None = None) -> Loaded:
    """Open a ``.pt2`` file of `torch.export.save`, with the modules that it was made of."""
    _no_weights(spec, weights)
    check_order()
    # It prints what it tried in vain, with a traceback.
    logger = logging.getLogger("torch.export")
    silent = logger.disabled
    logger.disabled = True
    try:
        program = torch.export.load(spec)
        module = torch.export.unflatten(program)
    except Exception as error:
        raise UnknownModel(f"{spec} is not a readable .pt2 export: {_line(error)}") from error
    finally:
        logger.disabled = silent
    if any(map(_learns, program.graph.nodes)):
        raise UnsupportedModel(
            f"{spec} was exported in training mode, which cannot be undone; export model.eval()"
        )
    return module.eval(), None, None


def exported_shape(module: nn.Module) -> tuple[int | None, int | None, int] | None:
    """Give height, width (None where any will do) and channels that an export takes."""
    if not isinstance(module, torch.export.UnflattenedModule):
        return None
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    shape = getattr(inputs[0].meta.get("val"), "shape", ()) if len(inputs) == 1 else ()
    if len(shape) != 4:
        return None
    channels, height, width = (side if isinstance(side, int) else None for side in shape[1:])
    return height, width, channels or 3


def load_torchscript(spec: str, weights: str | None = None, device: str | None = None) -> Loaded:
    """Open a TorchScript file; a pickle of a whole module is refused, since it would run code."""
    _no_weights(spec, weights)
    try:
        model: nn.Module = torch.jit.load(spec, map_location="cpu")  # type: ignore[no-untyped-call]
        return model.eval(), None, None
    except (RuntimeError, ValueError, OSError) as error:
        raise UnknownModel(
            f"{spec} is not TorchScript; a file of weights or a pickled module needs its code:"
            " write module.py:function that builds the model and loads it"
        ) from error


def _learns(node: torch.fx.Node) -> bool:
    """Say whether a step of an export draws at random or counts statistics, as in training."""
    # Where each has its argument `training`.
    places = {"dropout": 2, "feature_dropout": 2, "alpha_dropout": 2, "batch_norm": 5}
    place = places.get(getattr(node.target, "__name__", "").partition(".")[0])
    return place is not None and len(node.args) > place and node.args[place] is True


def check_order() -> None:
    """Refuse what would end the process: Triton after TensorFlow, each with an LLVM of its own."""
    if "triton" in sys.modules or find_spec("triton") is None:
        return
    if "tensorflow" not in sys.modules and find_spec("tensorflow") is not None:
        # TensorFlow may come yet, and torch brings Triton in late.
        # A broken one is not brought in later either.
        with suppress(ImportError):
            import_module("triton")
    if "tensorflow" in sys.modules:
        raise UnsupportedModel(
            "TensorFlow was imported first, and torch's Triton would now end the process (both"
            " bring LLVM); write `import torchvision` above the first import of keras or tensorflow"
        )


def _with_weights(spec: str, weights: str | None, build: Any) -> nn.Module:
    """Build a network with fetched, random or given weights."""
    if weights in (None, "pretrained"):
        try:
            return build(True)  # type: ignore[no-any-return]
        except (OSError, RuntimeError) as error:
            raise UnknownModel(
                f"the weights of {spec} could not be fetched ({_line(error)});"
                " give a file, or 'none' for random ones (--weights none)"
            ) from error
    if weights != "none" and not Path(weights).is_file():
        raise UnknownModel(
            f"there is no file {weights!r}; weights are 'pretrained', 'none' or a file"
        )
    model: nn.Module = build(False)
    if weights != "none":
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            model.load_state_dict(state)
        except Exception as error:
            reason = shorten(str(error), 200, placeholder=" ...")
            raise UnknownModel(f"{weights} does not fit {spec}: {reason}") from error
    return model


def _no_weights(spec: str, weights: str | None) -> None:
    if weights is not None:
        raise InvalidOption(f"{spec} brings its own weights; leave --weights out")


def _unknown(name: str, where: str, known: Sequence[str]) -> UnknownModel:
    from difflib import get_close_matches

    close = ", ".join(get_close_matches(name, known, n=3, cutoff=0.3))
    return UnknownModel(f"{where} has no model {name!r}; the closest names are {close or 'none'}")


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _from_transforms(transforms: Any, source: str) -> Preprocessing | None:
    """Read a torchvision preset (or a partial of one) for classification."""
    preset = (
        transforms() if callable(transforms) and not hasattr(transforms, "mean") else transforms
    )
    mean, std = getattr(preset, "mean", None), getattr(preset, "std", None)
    if mean is None or std is None:
        return None
    # Segmentation resizes and crops nothing.
    crop = getattr(preset, "crop_size", None) or getattr(preset, "resize_size", None)
    side = crop[0] if isinstance(crop, (list, tuple)) else crop
    interpolation = getattr(getattr(preset, "interpolation", None), "value", "bilinear")
    return Preprocessing(
        tuple(mean),
        tuple(std),
        size=(side, side) if side else None,
        interpolation=_interpolation(interpolation),
        source=source,
    )


def _from_torchvision_module(module: Any, model: nn.Module) -> Preprocessing | None:
    """Give what all weights of a torchvision family agree on, at the size most of them take.

    Of a family whose members differ, such as EfficientNet, those with as many parameters as
    the model are asked.
    """
    from torchvision.models import WeightsEnum

    members = [
        member
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, WeightsEnum)
        # A network for segmentation imports the weights of its backbone, for other pictures.
        and value.__module__ == module.__name__
        for member in list(cast(Any, value))
        # Weights without classes were taken over from elsewhere, with a scale of their own.
        if member.meta.get("categories")
    ]
    count = sum(p.numel() for p in model.parameters())
    same = [member for member in members if member.meta.get("num_params") == count]
    source = f"torchvision weights of {module.__name__}"
    found = [_from_transforms(member.transforms, source) for member in same or members]
    known = [p for p in found if p is not None]
    if not known or len({(p.mean, p.std) for p in known}) != 1:
        return None
    sizes = [p.size for p in known]
    return max(known, key=lambda p: (sizes.count(p.size), p.size == (224, 224)))


def _from_timm(config: Any) -> Preprocessing | None:
    mean, std = config.get("mean"), config.get("std")
    if mean is None or std is None:
        return None
    size = config.get("input_size")
    return Preprocessing(
        tuple(mean),
        tuple(std),
        size=tuple(size[1:]) if size else None,
        interpolation=_interpolation(config.get("interpolation", "bilinear")),
        source="timm pretrained_cfg",
    )


def _interpolation(name: str) -> Interpolation:
    names: dict[str, Interpolation] = {
        "nearest": "nearest",
        "bilinear": "bilinear",
        "bicubic": "bicubic",
        "lanczos": "lanczos",
    }
    return names.get(name, "bilinear")
