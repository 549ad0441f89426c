"""Channels that do nothing, always the same, or what another does already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.adapter import Adapter
from cnnviz.errors import CnnvizError
from cnnviz.layers import tensor_role
from cnnviz.tables import html_table, text_table

if TYPE_CHECKING:
    from cnnviz.exemplars.result import Exemplars, LayerExemplars

__all__ = ["ChannelReport", "Finding", "reported"]

# A spread of less than this part of the layer's own is none.
_CONSTANT = 1e-6
_SAME = 0.999
# Findings that are printed.
_SHOWN = 40
_HEADER = ("layer", "channel", "finding", "activations", "weights")


@dataclass(frozen=True)
class Finding:
    """What is odd about a channel.

    Attributes
    ----------
    layer : str
    channel : int
    kind : {"dead", "constant", "duplicate"}
        Exactly zero everywhere; of one other value; a multiple of another's.
    activations : str
        What its activations say.
    weights : str
        What the weights that make it say; empty where there are none or no network.
    other : int or None
        The channel that a duplicate is one of, always an earlier one.
    """

    layer: str
    channel: int
    kind: str
    activations: str
    weights: str = ""
    other: int | None = None


@dataclass(frozen=True)
class ChannelReport:
    """The channels of some layers about which something is odd.

    Attributes
    ----------
    findings : tuple of Finding
    channels : dict of str to int
        How many each layer has.
    images : int
        On how many images this stands.
    """

    findings: tuple[Finding, ...]
    channels: dict[str, int]
    images: int

    def of(self, kind: str) -> list[Finding]:
        """Give the findings of one kind."""
        return [one for one in self.findings if one.kind == kind]

    def to_json(self) -> dict[str, Any]:
        """Give everything, of what JSON knows."""
        found = [asdict(one) for one in self.findings]
        return {"images": self.images, "channels": self.channels, "findings": found}

    def __str__(self) -> str:
        if not self.findings:
            return self._footer()[-1]
        return text_table(_HEADER, self._cells(), right=(1,), footer=self._footer())

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._cells(), self._footer())

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (one.layer, str(one.channel), _words(one), one.activations, one.weights)
            for one in self.findings[:_SHOWN]
        ]

    def _footer(self) -> list[str]:
        more = len(self.findings) - _SHOWN
        above = [f"... and {more} more, in .findings"] if more > 0 else []
        counts = [f"{len(self.of(kind))} {kind}" for kind in ("dead", "constant", "duplicate")]
        total = sum(self.channels.values())
        return [*above, f"of {total:,} channels over {self.images:,} images: {', '.join(counts)}"]


def reported(exemplars: Exemplars, net: Adapter[Any] | None) -> ChannelReport:
    """Look for dead, constant and duplicate channels in all layers of a scan."""
    findings: list[Finding] = []
    for name in exemplars:
        layer = exemplars[name]
        findings += _of_layer(layer, exemplars.sample_of(name), _kernel(net, name, layer.channels))
    channels = {name: exemplars[name].channels for name in exemplars}
    return ChannelReport(tuple(findings), channels, exemplars.seen)


def _of_layer(
    layer: LayerExemplars, sample: NDArray[Any], kernel: tuple[str, NDArray[Any]] | None
) -> list[Finding]:
    statistics = layer.statistics
    spread = statistics.std
    typical = float(np.nanmedian(spread)) if np.isfinite(spread).any() else 0.0
    found: dict[int, Finding] = {}
    for channel in np.flatnonzero(statistics.count > 0):
        c = int(channel)
        low, high = float(statistics.min[c]), float(statistics.max[c])
        weights = _weight_words(kernel, c)
        if low == high == 0:
            words = f"zero at all {statistics.count[c]:,} places"
            found[c] = Finding(layer.layer, c, "dead", words, weights)
        elif high - low <= _CONSTANT * max(abs(high), typical):
            words = f"{high:.4g} at all {statistics.count[c]:,} places"
            found[c] = Finding(layer.layer, c, "constant", words, weights)
    alive = [c for c in range(layer.channels) if c not in found]
    for c, other, alike in _duplicates(sample, alive):
        words = f"moves with channel {other}, correlation {alike:.5f}"
        found[c] = Finding(
            layer.layer, c, "duplicate", words, _weight_words(kernel, c, other), other
        )
    return [found[c] for c in sorted(found)]


def _duplicates(sample: NDArray[Any], alive: Sequence[int]) -> list[tuple[int, int, float]]:
    """Pair each channel with the first before it that it moves with over the sampled images."""
    # Two or three images agree by chance.
    if len(sample) < 8 or len(alive) < 2:
        return []
    x = sample[:, alive].astype(np.float64)
    x = x[np.isfinite(x).all(axis=1)]
    if len(x) < 8:
        return []
    x = x - x.mean(axis=0)
    size = np.linalg.norm(x, axis=0)
    fine = size > 0
    x = x / np.where(fine, size, 1)
    alike = np.tril(x.T @ x, -1)
    alike[~fine] = 0
    found = []
    for i in np.flatnonzero((alike > _SAME).any(axis=1)):
        first = int(np.argmax(alike[i] > _SAME))
        found.append((alive[int(i)], alive[first], float(alike[i, first])))
    return found


def _kernel(net: Adapter[Any] | None, name: str, channels: int) -> tuple[str, NDArray[Any]] | None:
    """Find the weights that make a layer's channels: its own, or of the last layer before it."""
    if net is None:
        return None
    try:
        table = list(net.layers())
        names = [layer.name for layer in table]
        start = names.index(net.layer(name).name)
    except (CnnvizError, ValueError):
        return None
    for layer in reversed(table[: start + 1]):
        if not layer.leaf or layer.channels != channels:
            continue
        weights = net.weights(layer.name)
        for key, value in weights.items():
            if tensor_role(key, weights) == "kernel" and value.shape[-1] == channels:
                return layer.name, value.reshape(-1, channels).astype(np.float64)
    return None


def _weight_words(
    kernel: tuple[str, NDArray[Any]] | None, channel: int, other: int | None = None
) -> str:
    if kernel is None:
        return ""
    name, values = kernel
    size = np.linalg.norm(values, axis=0)
    if other is None:
        typical = float(np.median(size))
        return f"norm {size[channel]:.3g} in {name}, where {typical:.3g} is the median"
    both = size[channel] * size[other]
    cosine = float(values[:, channel] @ values[:, other] / both) if both > 0 else 0.0
    return f"cosine {cosine:.4f} to it in {name}"


def _words(finding: Finding) -> str:
    return finding.kind if finding.other is None else f"{finding.kind} of {finding.other}"
