"""Networks of both frameworks on one command line, in whatever order they are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import Run, in_a_process

KERAS = """
import keras
from keras import layers

def make():
    keras.utils.set_random_seed(0)
    return keras.Sequential([
        keras.Input((16, 16, 3)),
        layers.Conv2D(4, 3, name="conv"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5, name="fc"),
    ])
"""
TORCH = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

def make():
    return Net().eval()
"""
BOTH = "import a_keras, b_torch\nin_keras, in_torch = a_keras.make, b_torch.make\n"


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Run]:
    for name, text in (("a_keras", KERAS), ("b_torch", TORCH), ("both", BOTH)):
        (tmp_path / f"{name}.py").write_text(text)
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "img.png")
    return lambda *arguments: in_a_process(*arguments, cwd=tmp_path)


@pytest.mark.parametrize(
    "specs", [("a_keras.py:make", "b_torch.py:make"), ("both.py:in_keras", "both.py:in_torch")]
)
def test_keras_may_be_named_first(shell: Callable[..., Run], specs: tuple[str, str]) -> None:
    run = shell("compare", *specs, "img.png", "--preprocessing", "identity")
    assert (run.status, run.err) == (1, "")
    assert "diagnosis: conv: wrong weights" in run.out


def test_weights_go_from_keras_to_torch(shell: Callable[..., Run], tmp_path: Path) -> None:
    run = shell("port", "a_keras.py:make", "b_torch.py:make", "--out", "net.pt")
    assert (run.status, run.err) == (0, "")
    assert "are the same in float64" in run.out
    assert (tmp_path / "net.pt").is_file()
