"""What models and layers give besides one tensor: tuples, dictionaries and records of tensors.

A part is addressed by the keys that lead to it, as in ``[0]``, ``[out]`` or ``[0][logits]``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

from cnnviz.errors import InvalidOption

__all__ = ["PRIMARY", "chosen_tap", "part_of", "parts", "primary", "with_part"]

IsTensor = Callable[[Any], bool]

PRIMARY = ("logits", "out", "predictions", "scores")
"""Keys under which models of several outputs keep the class scores."""


def parts(value: Any, is_tensor: IsTensor) -> Iterator[tuple[str, Any]]:
    """Yield every tensor with the keys that lead to it; the keys of a bare tensor are empty.

    Tuples, lists, mappings, named tuples and records of other libraries are looked into.
    """
    if is_tensor(value):
        yield "", value
        return
    for key, inner in _items(value):
        for rest, tensor in parts(inner, is_tensor):
            yield f"[{key}]{rest}", tensor


def part_of(value: Any, keys: str) -> Any:
    """Give what lies under some keys, ``""`` for the value itself.

    Raises
    ------
    KeyError
        Nothing does.
    """
    for key in re.findall(r"\[([^\[\]]*)\]", keys):
        value = dict(_items(value))[key]
    return value


def with_part(value: Any, keys: str, new: Any) -> Any:
    """Copy a structure with another value under some keys; what is given is not changed."""
    if not keys:
        return new
    found = re.match(r"\[([^\[\]]*)\](.*)", keys)
    assert found is not None
    key, rest = found.groups()
    new = with_part(dict(_items(value))[key], rest, new)
    if isinstance(value, tuple) and hasattr(value, "_replace"):
        return value._replace(**{key: new})
    if isinstance(value, (tuple, list)):
        return type(value)(new if str(i) == key else old for i, old in enumerate(value))
    if isinstance(value, Mapping):
        fields = {k: new if str(k) == key else old for k, old in value.items()}
        # ModelOutput of transformers is both a mapping and a record, and is made by keywords.
        return type(value)(**fields) if dataclasses.is_dataclass(value) else type(value)(fields)  # type: ignore[call-arg]
    return dataclasses.replace(value, **{key: new})


def primary(value: Any, is_tensor: IsTensor) -> str | None:
    """Say under which keys the class scores lie in what a model returned.

    By name where a key says so, else the first tensor at the top; None if there is none.
    """
    found = dict(parts(value, is_tensor))
    for name in PRIMARY:
        if f"[{name}]" in found:
            return f"[{name}]"
    return next((keys for keys in found if keys.count("[") <= 1), None)


def chosen_tap(
    output: Any,
    is_tensor: IsTensor,
    wanted: str | int | None,
    *,
    layers: Container[str],
    names: Sequence[str] = (),
    model: str,
) -> str | None:
    """Say at which tap the class scores are: at an output, ``<output>[aux]``, or at a layer.

    Parameters
    ----------
    output : object
        What the model returned.
    is_tensor : callable
    wanted : str, int or None
        The keys of an output, its place or name, or a layer; None for `primary`.
    layers : container of str
    names : sequence of str
        What the framework calls the outputs, in the order in which they lie flat.
    model : str
        What to call the model in the error.

    Returns
    -------
    str or None
        None if nothing is wanted and the model returned no tensor.

    Raises
    ------
    InvalidOption
        There is no such output and no such layer.
    """
    if wanted is None:
        keys = primary(output, is_tensor)
        return None if keys is None else f"<output>{keys}"
    outputs = [keys for keys, _ in parts(output, is_tensor)]
    given = str(wanted)
    for keys in (given, f"[{given}]"):
        if keys in outputs:
            return f"<output>{keys}"
    if given in names and len(names) == len(outputs):
        return f"<output>{outputs[names.index(given)]}"
    if given in layers:
        return given
    known = [k[1:-1] if k.count("[") == 1 else k for k in outputs if k]
    known += [n for n in names if n not in known and len(outputs) > 1]
    raise InvalidOption(
        f"{model} has no output {given!r}"
        + (f"; there are {', '.join(known)}" if known else "; it returns one tensor")
        + ", or give the address of a layer"
    )


def _items(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(key), inner) for key, inner in value.items()]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return [(str(i), inner) for i, inner in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    return []
