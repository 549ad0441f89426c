"""What a model takes: the picture, what it takes besides, and models that are not taken at all."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from cnnviz.errors import InvalidOption, UnsupportedModel
from cnnviz_keras.structure import flatten

__all__ = ["Inputs", "refuse_wrapped"]

Tensor = Any

_PICTURE = object()


def refuse_wrapped(model: keras.Model) -> None:
    """Refuse by name what is quantised or carries low-rank adapters.

    Raises
    ------
    UnsupportedModel
        With what to give instead.
    """
    for layer in flatten(model):
        where = f"{type(layer).__name__} {layer.name!r}"
        if getattr(layer, "lora_enabled", False):
            raise UnsupportedModel(
                f"{model.name} carries LoRA ({where}); give the merged network: Keras merges on"
                " model.save_weights('merged.weights.h5'), load that into a model built without"
                " enable_lora"
            )
        if getattr(layer, "quantization_mode", None) is not None:
            raise UnsupportedModel(
                f"{model.name} is quantised ({where}, {layer.quantization_mode}), so it has no"
                " gradients; give the float network that it was made of"
            )


class Inputs:
    """The inputs of a model, in the structure that it is called with.

    The picture is the first float input with as many axes as `rank`, or the first of four,
    five or three where that is not told, that is not among the others.

    Parameters
    ----------
    model : keras.Model
    examples : mapping of str to array, or None
        By the name of the Input, its key in a dictionary, or the argument of a subclassed
        model's `call`; without the axis of the batch.
    rank : int, optional
        Axes of the picture, that of the batch included.

    Attributes
    ----------
    shape : tuple or None
        That of the picture as the model was built for it, the batch included.
    rank : int

    Raises
    ------
    InvalidOption
        One is missing, or there is none of a given name.
    """

    def __init__(
        self, model: keras.Model, examples: Mapping[str, Any] | None, rank: int | None
    ) -> None:
        self._name = model.name
        self._examples = {str(k): np.asarray(v) for k, v in (examples or {}).items()}
        self._graph = _graph_inputs(model)
        self._keywords = self._graph is None
        wanted = self._graph if self._graph is not None else _called_with(model)
        leaves = list(_leaves(wanted))
        names = {name for _, of_leaf, _ in leaves for name in of_leaf}
        for name in self._examples:
            if name not in names:
                known = ", ".join(of_leaf[0] for _, of_leaf, _ in leaves)
                raise InvalidOption(f"{self._name} takes no input {name!r}; it takes {known}")
        free = [leaf for leaf in leaves if not self._examples.keys() & set(leaf[1])]
        if not free:
            raise InvalidOption(
                f"other_inputs names every input of {self._name}; leave out the one that takes"
                " the picture"
            )
        picture = _picture(free, rank)
        missing = [leaf for leaf in free if leaf is not picture and not leaf[2].optional]
        if missing:
            told = ", ".join(f"{n[0]!r}{_shape_text(spec)}" for _, n, spec in missing)
            example = ", ".join(f"{n[0]!r}: array" for _, n, _ in missing)
            raise InvalidOption(
                f"{self._name} takes more than a picture: {told}; give an example of each without"
                f" the batch axis: cnnviz.adapt(model, other_inputs={{{example}}})"
            )
        self.shape = picture[2].shape
        self.rank = rank or (len(self.shape) if self.shape else 4)
        self._wanted = wanted
        self._picture = picture[0]

    def arguments(self, native: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give what to call the model with, for pictures in its own format."""

        def fill(wanted: Any, path: tuple[Any, ...]) -> Any:
            if isinstance(wanted, _Spec):
                if path == self._picture:
                    return native
                key = next((n for n in wanted.names if n in self._examples), None)
                return None if key is None else self._repeated(key, wanted, native)
            if isinstance(wanted, Mapping):
                return {k: fill(inner, (*path, k)) for k, inner in wanted.items()}
            return type(wanted)(fill(inner, (*path, i)) for i, inner in enumerate(wanted))

        filled = fill(self._wanted, ())
        if not self._keywords:
            return (filled,), {}
        first, *others = filled.items()
        return (first[1],), {k: v for k, v in others if v is not None}

    def _repeated(self, key: str, spec: _Spec, native: Tensor) -> Tensor:
        example = self._examples[key]
        dtype: Any = spec.dtype
        if dtype is None:
            dtype = native.dtype if example.dtype.kind == "f" else example.dtype
        dtype = keras.backend.standardize_dtype(dtype)
        value = np.repeat(example[None], int(native.shape[0]), axis=0)
        return keras.ops.convert_to_tensor(value, dtype=dtype)


class _Spec:
    """What is known of one input."""

    def __init__(
        self,
        names: tuple[str, ...],
        shape: tuple[int | None, ...] | None,
        dtype: str | None = None,
        optional: bool = False,
    ) -> None:
        self.names = names
        self.shape = shape
        self.dtype = dtype
        self.optional = optional


_Leaf = tuple[tuple[Any, ...], tuple[str, ...], _Spec]


def _graph_inputs(model: keras.Model) -> Any:
    """Give the inputs of a functional or Sequential model, in its own structure."""
    struct = getattr(model, "_inputs_struct", None)
    if struct is None:
        inputs = getattr(model, "inputs", None)
        if not inputs:
            return None
        struct = inputs[0] if len(inputs) == 1 else list(inputs)

    def spec(value: Any, key: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: spec(inner, k) for k, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [spec(inner, None) for inner in value]
        name = value._keras_history.operation.name
        names = (name,) if key in (None, name) else (str(key), name)
        optional = bool(getattr(value._keras_history.operation, "optional", False))
        return _Spec(names, tuple(value.shape), str(value.dtype), optional)

    return spec(struct, None)


def _called_with(model: keras.Model) -> dict[str, Any]:
    """Give the arguments of a subclassed model's `call`, with the shapes it was built for."""
    config = model.get_build_config() or {}
    built = config.get("shapes_dict", {})
    found: dict[str, Any] = {}
    for parameter in list(inspect.signature(model.call).parameters.values()):
        name = parameter.name
        if name in ("training", "mask") or parameter.kind in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ):
            continue
        shape = built.get(f"{name}_shape", built.get(name))
        if not found and shape is None:
            shape = config.get("input_shape")
        found[name] = _of_shapes(name, shape, parameter.default is not parameter.empty)
    return found or {"inputs": _Spec(("inputs",), None)}


def _of_shapes(name: str, shape: Any, optional: bool) -> Any:
    if isinstance(shape, Mapping):
        return {k: _of_shapes(str(k), inner, False) for k, inner in shape.items()}
    if isinstance(shape, (list, tuple)) and any(isinstance(n, (list, tuple)) for n in shape):
        return [_of_shapes(f"{name}[{i}]", inner, False) for i, inner in enumerate(shape)]
    return _Spec(
        (name,), tuple(shape) if isinstance(shape, (list, tuple)) else None, None, optional
    )


def _leaves(wanted: Any, path: tuple[Any, ...] = ()) -> Any:
    if isinstance(wanted, _Spec):
        yield path, wanted.names, wanted
    elif isinstance(wanted, Mapping):
        for key, inner in wanted.items():
            yield from _leaves(inner, (*path, key))
    else:
        for i, inner in enumerate(wanted):
            yield from _leaves(inner, (*path, i))


def _picture(free: list[_Leaf], rank: int | None) -> _Leaf:
    floats = [
        leaf
        for leaf in free
        if leaf[2].dtype is None or keras.backend.is_float_dtype(leaf[2].dtype)
    ] or free
    for wanted in (rank,) if rank is not None else (4, 5, 3):
        for leaf in floats:
            if leaf[2].shape is not None and len(leaf[2].shape) == wanted:
                return leaf
    return floats[0]


def _shape_text(spec: _Spec) -> str:
    return f" of {tuple(spec.shape[1:])}" if spec.shape else ""
