"""Generators: another model, from a code to pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from cnnviz.errors import InvalidOption
from cnnviz_keras.specs import first_line
from cnnviz_keras.structure import channels_first

__all__ = ["decoder"]

Tensor = Any


def decoder(model: keras.Model) -> Callable[[Tensor], Tensor]:
    """Make a function from codes to pictures, channels last, of a generator in evaluation."""
    first = channels_first(model)

    def paint(code: Tensor) -> Tensor:
        try:
            painted = model(code, training=False)
        except Exception as error:
            raise InvalidOption(
                f"the generator does not take codes {tuple(code.shape)}: {first_line(error)}"
            ) from error
        if first and len(painted.shape) == 4:
            painted = keras.ops.transpose(painted, (0, 2, 3, 1))
        return painted

    return paint
