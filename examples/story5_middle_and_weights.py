"""Story 5: what is in the middle layers and in the weights.

The first 12 channels of several layers for one photo, as sheets of 3 x 4, with the channels that
are black everywhere; for every weight tensor its statistics and a histogram. Then the same on a
net written twice: in PyTorch as a Sequential and as a class, in Keras functional and subclassed.
The code of the model is never changed.

    python examples/story5_middle_and_weights.py --framework keras
    python examples/story5_middle_and_weights.py --model torchvision:alexnet     # fetches weights
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import cnnviz
from cnnviz import images, photos

OUT = Path(__file__).parent / "out"
PHOTO = photos.path("chelsea")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--framework", choices=["torch", "keras"], default="torch")
    parser.add_argument("--model", default="demo", help="a spec; demo runs offline")
    parser.add_argument("--weights", help="a file, or none for random ones; not for demo")
    parser.add_argument("--quick", action="store_true", help="two layers in place of four")
    args = parser.parse_args()

    demo = args.model == "demo"
    net = cnnviz.load(args.model, framework=args.framework if demo else None, weights=args.weights)
    name = f"demo_{args.framework}" if demo else args.model.replace(":", "_")
    OUT.mkdir(exist_ok=True)

    # Spread over the depth, whatever the network calls its layers.
    relus = [x.name for x in cnnviz.layers(net) if "ReLU" in x.kind and x.spatial]
    count = 2 if args.quick else 4
    show_layers(net, [relus[i * len(relus) // count] for i in range(count)], name)
    stats = cnnviz.weight_stats(net)
    print(stats)
    print(stats.save(OUT / f"story5_{name}_weights.csv"))
    print(stats.save(OUT / f"story5_{name}_weights.png"))

    forms = (torch_forms if args.framework == "torch" else keras_forms)()
    found = {}
    for form, model in forms.items():
        small = cnnviz.adapt(model, "imagenet", input_shape=(224, 224, 3))
        convolutions = [x.name for x in cnnviz.layers(small) if x.kind.startswith("Conv")]
        found[form] = show_layers(small, convolutions, f"small_{args.framework}_{form}")
        print(f"{form}:\n{cnnviz.weight_stats(small)}")
    first, second = found.values()
    same = all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    print(f"{' and '.join(forms)} have {'the same' if same else 'different'} feature maps")


def show_layers(net: cnnviz.Adapter, layers: list[str], name: str) -> list[Any]:
    """Save the first 12 channels of each layer and say which channels are dead."""
    maps = cnnviz.feature_maps(net, PHOTO, layers)
    for layer in layers:
        path = OUT / f"story5_{name}_{layer.replace('/', '.')}.png"
        images.save(path, maps.sheet(layer, first=12, columns=4))
        dead = maps.dead(layer)
        print(f"{path}: {len(dead)} of {maps[layer].shape[-1]} channels are dead {dead or ''}")
    return list(maps.maps.values())


def torch_forms() -> dict[str, Any]:
    """Write a small net as a Sequential and as a class, with the same weights."""
    from collections import OrderedDict

    import torch
    from torch import nn

    def parts() -> dict[str, nn.Module]:
        return {
            "conv1": nn.Conv2d(3, 16, 7, 2),
            "relu1": nn.ReLU(),
            "conv2": nn.Conv2d(16, 12, 3, 2),
            "relu2": nn.ReLU(),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flat": nn.Flatten(),
            "fc": nn.Linear(12, 10),
        }

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts().items():
                self.add_module(name, part)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
            return self.fc(self.flat(self.pool(x)))

    torch.manual_seed(0)
    sequential, written = nn.Sequential(OrderedDict(parts())), Small()
    written.load_state_dict(sequential.state_dict())
    return {"sequential": sequential.eval(), "class": written.eval()}


def keras_forms() -> dict[str, Any]:
    """Write a small net functional and subclassed, with the same weights."""
    import keras
    from keras import layers

    def parts() -> list[layers.Layer]:
        return [
            layers.Conv2D(16, 7, 2, activation="relu", name="conv1"),
            layers.Conv2D(12, 3, 2, activation="relu", name="conv2"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(10, name="fc"),
        ]

    class Small(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="subclassed")
            self.conv1, self.conv2, self.pool, self.fc = parts()

        def call(self, x: Any) -> Any:
            return self.fc(self.pool(self.conv2(self.conv1(x))))

    keras.utils.set_random_seed(0)
    picture = y = keras.Input((224, 224, 3))
    for part in parts():
        y = part(y)
    functional = keras.Model(picture, y, name="functional")
    subclassed = Small()
    subclassed(np.zeros((1, 224, 224, 3), "float32"))
    subclassed.set_weights(functional.get_weights())
    return {"functional": functional, "subclassed": subclassed}


if __name__ == "__main__":
    main()
