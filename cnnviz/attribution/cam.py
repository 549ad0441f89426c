"""Class activation maps: a layer's channels, weighted by what the class makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz import images
from cnnviz.adapter import LOGITS, Adapter
from cnnviz.attribution.result import Attribution
from cnnviz.classes import class_index, class_name
from cnnviz.discovery import adapt
from cnnviz.errors import InvalidOption
from cnnviz.grids import on_grid
from cnnviz.images import ImagesLike
from cnnviz.pictures import picture_batch
from cnnviz.progress import tracked
from cnnviz.scores import ClassScore, class_scores, places_note
from cnnviz.stages import last_spatial, why_last

__all__ = ["attribute", "cam", "grad_cam"]

Target = int | str | None


def grad_cam(
    net: Any,
    images: ImagesLike,
    target: Target | Sequence[Target] = None,
    layer: str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    batch: int = 8,
) -> Attribution:
    """Show where a class was seen: channels weighted by their mean gradient [1]_.

    One forward, and a backward that ends at the layer.

    Parameters
    ----------
    net : model or Adapter
    images : path, Pillow image, array or list of these
        Resized whole, not cropped, to what the network takes.
    target : int, str, or a sequence of these, optional
        Class by index or name, one for all pictures or one each; by default the predicted.
    layer : str, optional
        By default the last one with spatial extent; see `cnnviz.layers`.
    size : int or (int, int), optional
        Height and width of the pictures instead of the network's own.
    batch : int
        Pictures at a time.

    Returns
    -------
    Attribution
        ``.raw`` is ``sum_k mean(dy/dA_k) A_k``, ``(N, h, w)``, before the ReLU of the paper;
        ``.map`` is ``(N, H, W)`` in [0, 1]. Tokens are laid out on their grid; a network on
        signals gives ``(N, l)``, one on volumes ``(N, d, h, w)``.

    Raises
    ------
    InvalidImage
        A picture cannot be read or does not fit the network.
    UnknownLayer, ChannelOutOfRange
        The network has no such layer or class.
    InvalidOption
        The layer has no spatial extent, or targets and pictures differ in number.

    References
    ----------
    .. [1] Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
       Gradient-based Localization", ICCV 2017, arXiv:1610.02391.
    """
    run = _Run(net, images, target, layer, size)
    adapter, ops = run.net, run.net.ops
    score = ClassScore(ops)

    def one(x: Any, one_hot: Any) -> tuple[Any, Any, Any]:
        found = adapter.gradient(
            score,
            x,
            taps=[LOGITS, run.layer],
            wrt=[run.layer],
            score_args=() if one_hot is None else (one_hot,),
        )
        slope, maps = run.on_grid(found.gradients), run.on_grid(found.activations)
        space = tuple(range(1, len(maps.shape) - 1))
        weights = ops.mean(slope, axis=space, keepdims=True)
        raw = ops.sum(maps * weights, axis=(len(maps.shape) - 1,))
        strength = ops.max(ops.abs(slope), axis=(*space, len(maps.shape) - 1))
        return raw, found.activations[LOGITS], strength

    return run.finished("grad_cam", one, batch)


def cam(
    net: Any,
    images: ImagesLike,
    target: Target | Sequence[Target] = None,
    layer: str | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    batch: int = 8,
) -> Attribution:
    """Show where a class was seen: channels weighted by the classifier's own weights [1]_.

    For networks that end in a mean over space and one dense layer; whether this one does is
    checked on the numbers.

    Parameters
    ----------
    net, images, target, layer, size, batch
        As for `grad_cam`.

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
    run = _Run(net, images, target, layer, size)
    adapter, ops = run.net, run.net.ops
    kernel, bias = _classifier(adapter)

    def one(x: Any, one_hot: Any) -> tuple[Any, Any, Any]:
        found = adapter.forward(x, taps=[run.layer, LOGITS])
        logits = ops.to_numpy(class_scores(ops, found[LOGITS]))
        maps = ops.to_numpy(run.on_grid(found))
        space = tuple(range(1, maps.ndim - 1))
        if maps.shape[-1] != len(kernel) or not np.allclose(
            maps.mean(axis=space) @ kernel + bias,
            logits,
            rtol=1e-3,
            atol=1e-3 * float(np.abs(logits).max()),
        ):
            raise InvalidOption(
                f"the scores of {adapter.name} are not a dense layer of the mean of"
                f" {run.layer!r}, so CAM is not defined; use grad_cam"
            )
        classes = logits.argmax(1) if one_hot is None else ops.to_numpy(one_hot).argmax(1)
        weights = kernel[:, classes].T
        return np.einsum("n...k,nk->n...", maps, weights), logits, np.abs(weights).max(1)

    return run.finished("cam", one, batch)


_METHODS: Mapping[str, Callable[..., Attribution]] = {"cam": cam, "grad_cam": grad_cam}


def attribute(
    net: Any,
    images: ImagesLike,
    method: str = "grad_cam",
    target: Target | Sequence[Target] = None,
    layer: str | None = None,
    **options: Any,
) -> Attribution:
    """Show where a class was seen, by a method chosen by name: ``"grad_cam"`` or ``"cam"``.

    Raises
    ------
    InvalidOption
        There is no such method.
    """
    if method not in _METHODS:
        raise InvalidOption(f"no method {method!r}; there are {', '.join(map(repr, _METHODS))}")
    return _METHODS[method](net, images, target, layer, **options)


class _Run:
    """What every class activation map begins and ends with."""

    def __init__(
        self,
        net: Any,
        pictures: ImagesLike,
        target: Target | Sequence[Target],
        layer: str | None,
        size: int | tuple[int, int] | None,
    ) -> None:
        self.net: Adapter[Any] = adapt(net)
        self.pictures = picture_batch(self.net, pictures, size)
        found = self.net.layer(layer) if layer is not None else last_spatial(self.net)
        self._found = found
        self.layer = found.name
        if not found.spatial:
            # Raises what is wrong with it.
            on_grid(self.net, found, None, ())
        self.targets = self._targets(target)
        self.notes = [] if layer is not None else [f"taken at {self.layer!r}, {why_last(found)}"]
        channels = self.pictures.shape[-1]
        if self.pictures.ndim == 4 and channels not in (1, 3):
            self.notes.append(f"pictures are drawn as the mean of their {channels} channels")
        if self.net.final_activation is not None:
            self.notes.append(f"the score is that before the final {self.net.final_activation}")

    def on_grid(self, tensors: Mapping[str, Any]) -> Any:
        """Give the tensor at the layer as ``(N, *grid, C)``."""
        return on_grid(self.net, self._found, tensors[self.layer], self.pictures.shape[1:-1])

    def _targets(self, target: Target | Sequence[Target]) -> list[int] | None:
        """Give the class of each picture; None for the predicted ones."""
        count = len(self.pictures)
        if target is None:
            return None
        if isinstance(target, (int, np.integer, str)):
            return [class_index(self.net, target)] * count
        given = list(target)
        if len(given) != count:
            raise InvalidOption(
                f"{len(given)} targets for {count} pictures; give one for all, or one for each"
            )
        if any(one is None for one in given):
            raise InvalidOption("give every picture its class, or none of them any")
        return [class_index(self.net, one) for one in given if one is not None]

    def finished(self, method: str, one: Callable[..., Any], batch: int) -> Attribution:
        """Run a method chunk by chunk, and make pictures of the raw maps."""
        if batch < 1:
            raise InvalidOption(f"batch must be at least 1, not {batch}")
        net, ops = self.net, self.net.ops
        starts = range(0, len(self.pictures), batch)
        found = []
        for start in tracked(starts, f"{method} {net.name}", len(starts)):
            chunk = slice(start, start + batch)
            one_hot = None
            if self.targets is not None:
                one_hot = ops.asarray(np.eye(net.classes or 0)[self.targets[chunk]])
            results = one(ops.asarray(self.pictures[chunk]), one_hot)
            found.append([r if isinstance(r, np.ndarray) else ops.to_numpy(r) for r in results])
        raw, logits, strength = (np.concatenate(part) for part in zip(*found, strict=True))
        if not np.isfinite(raw).all():
            raise InvalidOption(
                f"the map at {self.layer!r} is not finite; check the weights of {net.name}"
            )
        note = places_note(logits)
        if note is not None:
            self.notes.append(note)
            logits = logits.mean(axis=tuple(range(1, logits.ndim - 1)))
        classes = self.targets or [int(c) for c in logits.argmax(1)]
        maps = _as_maps(raw, self.pictures.shape[1:-1])
        for i in range(len(raw)):
            if not maps[i].any():
                reason = "its gradient is zero" if strength[i] == 0 else "it is nowhere positive"
                self.notes.append(f"the map of picture {i} is empty: {reason}")
        return Attribution(
            raw=raw,
            map=maps,
            images=self.pictures,
            target=tuple(classes),
            names=tuple(class_name(net, c) for c in classes),
            score=logits[np.arange(len(raw)), classes],
            layer=self.layer,
            method=method,
            network=net.name,
            framework=net.framework,
            notes=tuple(self.notes),
        )


def _as_maps(raw: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Keep what speaks for the class, enlarge it, and divide it by its maximum."""
    maps = images.enlarge(np.maximum(raw, 0), size)
    top = maps.max(axis=tuple(range(1, maps.ndim)), keepdims=True)
    # A division by a maximum that has no inverse would give infinity.
    safe = np.where(top > np.finfo(maps.dtype).tiny, top, 1)
    return np.clip(np.where(top > np.finfo(maps.dtype).tiny, maps / safe, 0), 0, 1)


def _classifier(net: Adapter[Any]) -> tuple[NDArray[Any], NDArray[Any] | float]:
    """Find the dense layer that gives the class scores: its kernel (K, classes) and bias."""
    for layer in reversed(net.layers()):
        if layer.leaf and layer.parameters:
            weights = list(net.weights(layer.name).values())
            kernels = [w for w in weights if w.ndim == 2]
            if len(kernels) == 1 and kernels[0].shape[1] == net.classes:
                biases = [w for w in weights if w.shape == (net.classes,)]
                return kernels[0], biases[0] if biases else 0.0
            break
    raise InvalidOption(f"{net.name} does not end in a dense layer; use grad_cam")
