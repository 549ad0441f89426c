"""A network that is one dense layer on the pixels, so that what measures give is known."""

from __future__ import annotations

import numpy as np

from cnnviz.adapter import Layer
from cnnviz.preprocessing import Preprocessing
from cnnviz.testing import OracleAdapter

__all__ = ["LinearNet"]


class LinearNet(OracleAdapter):
    """Scores ``x @ kernel + bias`` of pictures ``(N, *sides, 3)``.

    Parameters
    ----------
    sides : (int, int)
    classes : int
    seed : int
    """

    def __init__(self, sides: tuple[int, int] = (4, 5), classes: int = 3, seed: int = 0) -> None:
        super().__init__(preprocessing=Preprocessing((0, 0, 0), (1, 1, 1), size=sides))
        rng = np.random.default_rng(seed)
        count = sides[0] * sides[1] * 3
        self.model = {
            "fc.kernel": rng.normal(0, 1, (count, classes)),
            "fc.bias": rng.normal(0, 1, classes),
        }
        self.sides, self.classes = sides, classes
        self._graph = [
            ("same", "Identity", lambda x: x),
            ("flat", "Flatten", lambda x: x.reshape(len(x), -1)),
            ("fc", "Dense", lambda x: x @ self.model["fc.kernel"] + self.model["fc.bias"]),
        ]

    def layers(self):
        """List the three layers."""
        kernel = self.model["fc.kernel"]
        return [
            Layer("same", "Identity", (None, *self.sides, 3), 0),
            Layer("flat", "Flatten", (None, len(kernel)), 0),
            Layer("fc", "Dense", (None, self.classes), kernel.size + self.classes),
        ]

    def slope(self, target: int) -> np.ndarray:
        """Give the derivative of a class score, ``(*sides, 3)``."""
        return self.model["fc.kernel"][:, target].reshape(*self.sides, 3)

    def score(self, x: np.ndarray, target: int) -> np.ndarray:
        """Give a class score of pictures ``(N, *sides, 3)``."""
        flat = x.reshape(len(x), -1)
        return flat @ self.model["fc.kernel"][:, target] + self.model["fc.bias"][target]
