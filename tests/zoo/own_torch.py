"""Networks as people write them themselves, in PyTorch."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from zoo.entries import Entry

Scores = namedtuple("Scores", ["features", "logits"])


def _block(a: int, b: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


def _head(channels: int, classes: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def small(channels: int = 3) -> nn.Sequential:
    """A body, a pooling and a head, as Sequentials."""
    return nn.Sequential(_block(channels, 8), nn.MaxPool2d(2), _block(8, 12), _head(12))


class Nested(nn.Module):
    """Blocks in stages in a body: two deep."""

    def __init__(self) -> None:
        super().__init__()
        stage = nn.Sequential(_block(3, 8), nn.Sequential(_block(8, 8), _block(8, 12)))
        self.body = nn.ModuleDict({"stem": _block(3, 3), "stage": stage})
        self.head = _head(12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body["stage"](self.body["stem"](x)))


class Functional(nn.Module):
    """Activations, pooling and softmax without modules; one relu layer called twice."""

    def __init__(self, softmax: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 10, 3)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(10, 5)
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = self.relu(self.conv2(self.relu(x)))
        x = self.fc(x.mean((2, 3)))
        return F.softmax(x, dim=1) if self.softmax else x


class Shared(nn.Module):
    """One convolution for two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), _head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv(F.avg_pool2d(x, 2))
        return self.head(F.interpolate(y, x.shape[2:]) + F.pad(self.conv(x), (1, 1, 1, 1)))


class TwoInputs(nn.Module):
    """A picture and numbers beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.beside = _block(3, 8), nn.Linear(3, 8)
        self.head = nn.Linear(16, 4)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        return self.head(torch.cat([self.body(image).mean((2, 3)), self.beside(table)], 1))


@dataclass
class Record:
    features: Tensor
    logits: Tensor


class Outputs(nn.Module):
    """Several outputs, in a structure of choice."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.head, self.wrap = _block(3, 8), _head(8), wrap

    def forward(self, x: Tensor) -> Any:
        x = self.body(x)
        return self.wrap(x, self.head(x))


class Pair(nn.Module):
    """A layer that gives two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"left": self.left(x), "right": self.right(x)}


class Structured(nn.Module):
    """A layer in the middle whose output is a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pair, self.head = _block(3, 8), Pair(), _head(12)

    def forward(self, x: Tensor) -> Tensor:
        found = self.pair(self.stem(x))
        return self.head(torch.cat([found["left"], found["right"]], 1))


class Tokens(nn.Module):
    """Patches with a class token before them and registers after them."""

    def __init__(self, registers: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.first = nn.Parameter(torch.randn(1, 1, 16))
        self.last = nn.Parameter(torch.randn(1, registers, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.blocks = nn.ModuleList([layer])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        first, last = self.first.expand(len(x), -1, -1), self.last.expand(len(x), -1, -1)
        x = torch.cat([first, x, last], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Recurrent(nn.Module):
    """A convolution read row by row by an LSTM, which gives a nested tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _block(3, 8)
        self.lstm, self.fc = nn.LSTM(8, 10, batch_first=True), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows, _ = self.lstm(self.body(x).mean(3).transpose(1, 2))
        return self.fc(rows[:, -1])


class Binary(nn.Module):
    """One score for each picture, without an axis of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.last = _block(3, 8), _head(8, 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.head(self.body(x)))[:, 0]


class Lit(lightning.LightningModule):
    """A Lightning module around a network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def _signals() -> nn.Module:
    body = [nn.Conv1d(2, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)]
    body += [nn.Conv1d(8, 12, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(12, 4))


def _volumes() -> nn.Module:
    body = [nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2)]
    body += [nn.Conv3d(6, 8, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 4))


def _training() -> nn.Module:
    return nn.Sequential(_block(3, 8), nn.Dropout(0.5), _block(8, 8), _head(8)).train()


def _frozen() -> nn.Module:
    model = small()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    return model


def _parametrised() -> nn.Module:
    model = small()
    nn.utils.parametrizations.weight_norm(model[2][0])
    return model


def _lora() -> nn.Module:
    import peft

    return peft.get_peft_model(Functional(), peft.LoraConfig(r=2, target_modules=["fc"]))


def _dynamic() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(Functional(), {nn.Linear}, dtype=torch.qint8)


def _exported() -> nn.Module:
    x = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    program = torch.export.export(Functional().double().eval(), (x,))
    return torch.export.unflatten(program)


def _compiled() -> nn.Module:
    model: Any = torch.compile(small().eval(), backend="eager")
    return model


def _own(
    name: str, build: Callable[[], Any], size: tuple[int, ...] = (32, 32, 3), **o: Any
) -> Entry:
    def ready() -> Any:
        model = build()
        return model if "training" in name or "TorchScript" in name else model.eval()

    o.setdefault("given", "identity")
    return Entry("own PyTorch", name, ready, size, **o)


OWN = [
    _own("Sequential of Sequentials", small),
    _own("nested two deep", Nested),
    _own("functions without modules", Functional),
    _own("softmax as a function", lambda: Functional(True), final="softmax", logits="fc"),
    _own(
        "softmax as a layer",
        lambda: nn.Sequential(small(), nn.Softmax(1)),
        final="softmax",
        logits="0",
    ),
    _own("one sigmoid, rank one", Binary, final="sigmoid", logits="head"),
    _own("shared layers", Shared),
    _own("two inputs", TwoInputs, other_inputs={"table": np.ones(3, np.float32)}),
    _own(
        "two inputs, one not given",
        TwoInputs,
        refused=r"takes more than a picture: table;.*other_inputs=",
    ),
    _own("tuple of outputs", lambda: Outputs(lambda f, s: (s, f)), part="[0]"),
    _own("list, scores second", lambda: Outputs(lambda f, s: [f, s]), part="[1]", output=1),
    _own("dictionary", lambda: Outputs(lambda f, s: {"f": f, "logits": s}), part="[logits]"),
    _own("named tuple", lambda: Outputs(Scores), part="[logits]"),
    _own("record", lambda: Outputs(Record), part="[logits]"),
    _own(
        "nested outputs",
        lambda: Outputs(lambda f, s: {"a": [f, s]}),
        part="[a][1]",
        output="[a][1]",
    ),
    _own("a layer of two tensors", Structured),
    _own("class token and registers", Tokens),
    _own("LSTM after convolutions", Recurrent),
    _own("grey", lambda: small(1), (28, 28, 1)),
    _own("five channels", lambda: small(5), (32, 32, 5)),
    _own("not square", small, (24, 40, 3)),
    _own("3 x 3 pixels", small, (3, 3, 3)),
    _own("1024 x 1024 pixels", small, (1024, 1024, 3), dtype="float32", tolerance=1e-4, batch=1),
    _own("signals, 1-D", _signals, (64, 2)),
    _own("volumes, 3-D", _volumes, (8, 12, 10, 1)),
    _own("training mode with dropout", _training),
    _own("partly frozen", _frozen),
    _own("weight norm", _parametrised),
    _own("float32", small, dtype="float32", tolerance=1e-4),
    _own("bfloat16", lambda: small().bfloat16(), dtype="bfloat16", tolerance=3e-2),
    _own("float16", lambda: small().half(), dtype="float16", tolerance=5e-3),
    _own("DataParallel", lambda: nn.DataParallel(small()), truth=lambda m: m.module),
    _own("torch.compile", _compiled, truth=lambda m: m._orig_mod),
    _own("torch.export, unflattened", _exported, batch=1, dtype="exported"),
    _own("Lightning module", Lit),
    _own(
        "TorchScript, scripted",
        lambda: torch.jit.script(small().eval()),
        refused=r"TorchScript, which hides its layers",
    ),
    _own(
        "TorchScript, traced",
        lambda: torch.jit.trace(small().eval(), torch.zeros(1, 3, 32, 32)),
        refused=r"TorchScript, which hides its layers",
    ),
    _own("LoRA by peft", _lora, refused=r"LoRA .*merge_and_unload"),
    _own("dynamically quantised", _dynamic, refused=r"is quantised .*float network"),
]
