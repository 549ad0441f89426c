"""The small network in each form that a backend must open."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from cnnviz.testing import SMALL_PREPROCESSING, Subject


def torch_subjects() -> dict[str, Callable[[], Subject]]:
    nets = importlib.import_module("nets.torch_small")
    adapter = importlib.import_module("cnnviz_torch").TorchAdapter
    torch = importlib.import_module("torch")

    def subject(model, names=None, softmax=False):
        net = adapter(nets.settle(model), preprocessing=SMALL_PREPROCESSING)
        return Subject(net, nets.snapshot, names or {}, softmax)

    def in_training():
        # Contract: evaluated as in eval mode, and still in training afterwards.
        made = subject(nets.Small())
        made.adapter.model.train()
        return made

    def frozen():
        made = subject(nets.Small())
        made.adapter.model.requires_grad_(False)
        return made

    def out_of_place():
        made = subject(nets.Small())
        made.adapter.model.relu.inplace = False
        return made

    def mixed():
        made = subject(nets.Nested(), nets.NESTED_NAMES)
        made.adapter.model.stem.train()
        made.adapter.model.head.fc.requires_grad_(False)
        return made

    return {
        "small": lambda: subject(nets.Small()),
        "softmax": lambda: subject(nets.Small(softmax=True), softmax=True),
        "nested": lambda: subject(nets.Nested(), nets.NESTED_NAMES),
        "viewing": lambda: subject(nets.Viewing()),
        "training": in_training,
        "frozen": frozen,
        "out-of-place": out_of_place,
        "mixed": mixed,
        "parallel": lambda: subject(torch.nn.DataParallel(nets.settle(nets.Small()))),
    }


def keras_subjects() -> dict[str, Callable[[], Subject]]:
    nets = importlib.import_module("nets.keras_small")
    adapter = importlib.import_module("cnnviz_keras").KerasAdapter

    def subject(model, names=None, softmax=False):
        net = adapter(nets.settle(model), preprocessing=SMALL_PREPROCESSING)
        return Subject(net, nets.snapshot, names or {}, softmax)

    def frozen():
        model = nets.functional()
        model.trainable = False
        return subject(model)

    return {
        "functional": lambda: subject(nets.functional()),
        "softmax-layer": lambda: subject(nets.functional("layer"), softmax=True),
        "softmax-activation": lambda: subject(nets.functional("activation"), softmax=True),
        "sequential": lambda: subject(nets.sequential(), nets.SEQUENTIAL_NAMES),
        "nested": lambda: subject(nets.nested(), nets.NESTED_NAMES),
        "subclassed": lambda: subject(nets.called(nets.Subclassed())),
        "mixed": lambda: subject(nets.called(nets.Mixed()), nets.MIXED_NAMES),
        "frozen": frozen,
    }


def subjects(backend: str) -> dict[str, Callable[[], Subject]]:
    return torch_subjects() if backend == "torch" else keras_subjects()
