"""How the weights of a layer are wrong, by what people do to them on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnviz.comparison.flattening import channels_first_order, flattened_map
from cnnviz.comparison.pairs import Pair
from cnnviz.comparison.probes import Probe, weights_by_role

__all__ = ["Fault", "weight_fault"]

Array = NDArray[Any]

_NEUTRAL = {
    "bias": 0.0,
    "offset": 0.0,
    "running mean": 0.0,
    "scale": 1.0,
    "running variance": 1.0,
    "kernel": 0.0,
}


@dataclass(frozen=True)
class Fault:
    """What is wrong, in words.

    Attributes
    ----------
    cause : str
        Its name: ``"batch norm eps"``.
    what : str
        As it is, and as the other network has it.
    advice : str
        What to change.
    """

    cause: str
    what: str
    advice: str


def weight_fault(
    one: Probe,
    two: Probe,
    pair: Pair,
    roles: Sequence[str],
    wanted: Mapping[str, Array],
    there: Mapping[str, Array],
    layers: Sequence[Pair],
) -> Fault:
    """Say how some weights of a layer are wrong.

    Parameters
    ----------
    one, two : Probe
    pair : Pair
        The layer.
    roles : sequence of str
        Which weights.
    wanted, there : mapping of str to array
        As they should be, and as they are, by role.
    layers : sequence of Pair
        All layers, to see whether the weights are those of another.
    """
    named = " and ".join(roles)
    missing = [role for role in roles if _is_neutral(role, there.get(role))]
    if len(missing) == len(roles):
        return Fault(
            "missing weight",
            f"its {named} is what a new layer has" if len(roles) == 1 else f"its {named} are new",
            f"load the {named}",
        )
    other = _owner(one, pair, roles, there, layers)
    if other is not None:
        return Fault(
            "swapped weights",
            f"its {named} is that of {other!r}",
            f"give it that of {pair.main!r}",
        )
    if all(_rounded(wanted.get(role), there.get(role)) for role in roles):
        return Fault(
            "dtype", f"its {named} was rounded to half precision", "keep the weights in float32"
        )
    for role in roles:
        if role == "kernel" and "kernel" in there and "kernel" in wanted:
            found = _kernel_fault(one, pair, wanted["kernel"], there["kernel"])
            if found is not None:
                return found
    if set(roles) == {"scale", "running variance"} or set(roles) == {"offset", "running mean"}:
        a, b = roles
        if _same(wanted[a], there[b]) and _same(wanted[b], there[a]):
            return Fault("swapped weights", f"its {named} are exchanged", "exchange them back")
    return Fault("wrong weights", f"its {named} differs", f"load the {named} again")


def _kernel_fault(one: Probe, pair: Pair, wanted: Array, there: Array) -> Fault | None:
    for cause, what, changed in _variants(one, pair, wanted):
        if _same(changed, there):
            return Fault(cause, f"its kernel {what}", "put the kernel into the layout of its layer")
    if wanted.shape == there.shape and wanted.any():
        factor = float(np.vdot(wanted, there) / np.vdot(wanted, wanted))
        if factor and _same(wanted * factor, there):
            return Fault("scale", f"its kernel is {factor:.4g} times the other", "undo the factor")
    return None


def _variants(one: Probe, pair: Pair, kernel: Array) -> list[tuple[str, str, Array]]:
    """Give what a kernel becomes by known mistakes."""
    found: list[tuple[str, str, Array]] = []
    if kernel.ndim == 2:
        flat = flattened_map(one, pair.main)
        if flat is not None:
            index = channels_first_order(flat[0])
            told = "has the rows of a map that is flattened in another order"
            found += [("flatten order", told, kernel[i]) for i in (index, np.argsort(index))]
        if kernel.shape[0] == kernel.shape[1]:
            found.append(("kernel layout", "is transposed", kernel.T))
    if kernel.ndim == 4:
        groups = int(one.settings(pair.main).get("groups", 1))
        outputs = kernel.shape[-1]
        if groups > 1 and outputs > groups:
            for order in ((groups, outputs // groups), (outputs // groups, groups)):
                split = kernel.reshape(*kernel.shape[:-1], *order)
                turned = np.swapaxes(split, -1, -2).reshape(kernel.shape)
                told = "has channels and multipliers exchanged"
                found.append(("depthwise order", told, turned))
        if kernel.shape[2] == 3:
            found.append(("BGR", "takes blue, green, red", kernel[:, :, ::-1]))
        if kernel.shape[0] == kernel.shape[1] > 1:
            found.append(("kernel layout", "has height and width exchanged", kernel.swapaxes(0, 1)))
            found.append(("kernel layout", "is turned by 180 degrees", kernel[::-1, ::-1]))
        if kernel.shape[2] == kernel.shape[3]:
            told = "has inputs and outputs exchanged"
            found.append(("kernel layout", told, kernel.swapaxes(2, 3)))
    return found


def _owner(
    one: Probe,
    pair: Pair,
    roles: Sequence[str],
    there: Mapping[str, Array],
    layers: Sequence[Pair],
) -> str | None:
    """Find another layer of the first network that has these very weights."""
    for other in layers:
        if other.main == pair.main or other.family != pair.family:
            continue
        theirs = weights_by_role(one.net, other.main)
        if all(role in theirs and role in there for role in roles) and all(
            _same(theirs[role][1], there[role]) for role in roles
        ):
            return other.main
    return None


def _is_neutral(role: str, value: Array | None) -> bool:
    # A kernel of a dense or convolutional layer is never new as zeros, but may be lost so.
    return value is None or (role in _NEUTRAL and bool((value == _NEUTRAL[role]).all()))


def _rounded(wanted: Array | None, there: Array | None) -> bool:
    """Say whether numbers are what half precision leaves of others."""
    if wanted is None or there is None or wanted.shape != there.shape:
        return False
    return any(
        bool(np.array_equal(kept(there), there))
        # To the nearest, or cut off: at most a step away.
        and bool((np.abs(np.float64(wanted) - there) <= step * np.abs(wanted) + least).all())
        for kept, step, least in ((_in_float16, 2.0**-10, 2.0**-24), (_in_bfloat16, 2.0**-7, 0.0))
    )


def _in_float16(value: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(value, np.float16).astype(np.float64)


def _in_bfloat16(value: Array) -> Array:
    # The upper half of the bits of a float32.
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return bits.view(np.float32).astype(np.float64)


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-5, atol=1e-9))
