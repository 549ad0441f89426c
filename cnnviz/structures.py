"""What models and layers give besides one tensor: tuples, dictionaries and records of tensors.

A part is addressed by the keys that lead to it, as in ``[0]``, ``[out]`` or ``[0][logits]``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["PRIMARY", "part_of", "parts", "primary", "with_part"]

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
