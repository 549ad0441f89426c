"""A torch model after TensorFlow: told in words, where the process would otherwise be ended."""

from __future__ import annotations

import subprocess
import sys

import keras
import pytest

CODE = """
{first}
import keras, torch, cnnviz
model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
net = cnnviz.adapt(model, preprocessing="imagenet", input_shape=(16, 16, 3))
print(len(net.layers()), "layers")
"""


@pytest.mark.parametrize("first", ["", "import torchvision"])
def test_which_comes_first(first):
    code = CODE.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if first or keras.config.backend() != "tensorflow":
        assert (done.returncode, done.stdout) == (0, "1 layers\n"), done.stderr
    else:
        assert done.returncode == 1
        assert "import torchvision` above" in done.stderr.splitlines()[-1]
