"""Where a network of PyTorch is run by several threads, and where it is not."""

from __future__ import annotations

import random
import threading
import weakref
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import cloudpickle
import cnnviz_torch
import cnnviz_torch.adapter
import cnnviz_torch.streams
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import cnnviz
from cnnviz import passes
from cnnviz.errors import InvalidImage


class Convolution(nn.Module):
    """What all of these have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.mean = torch.zeros(4)
        self.count = 0
        self.kept = SimpleNamespace(times=0, skip=None)
        self.room = torch.full((64, 4, 6, 6), torch.nan)
        self.norm = nn.BatchNorm2d(4)
        self.step = None

    def forward(self, x: Any) -> Any:
        return self.conv(x).mean((2, 3))


class CountsInABuffer(Convolution):
    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.conv(x).mean((2, 3)) + self.calls


class CountsInANewBuffer(Convolution):
    def forward(self, x: Any) -> Any:
        self.calls = self.calls + 1
        return self.conv(x).mean((2, 3)) + self.calls


class CountsUnseen(Convolution):
    def forward(self, x: Any) -> Any:
        self.calls += 1
        return self.conv(x).mean((2, 3))


class CountsInPython(Convolution):
    def forward(self, x: Any) -> Any:
        self.count += 1
        return self.conv(x).mean((2, 3)) + self.count


class CountsDeeper(Convolution):
    def forward(self, x: Any) -> Any:
        self.kept.times += 1
        return self.conv(x).mean((2, 3)) + self.kept.times


class Averages(Convolution):
    def forward(self, x: Any) -> Any:
        found = self.conv(x).mean((2, 3))
        self.mean.mul_(0.9).add_(found.mean(0), alpha=0.1)
        return found - self.mean


class DrawsInTorch(Convolution):
    def forward(self, x: Any) -> Any:
        return nn.functional.dropout(self.conv(x), training=True).mean((2, 3))


class DrawsInPython(Convolution):
    """Leaves something out, seldom enough not to be seen by what it gives."""

    def forward(self, x: Any) -> Any:
        found = self.conv(x).mean((2, 3))
        return found * 0 if random.random() < 1e-6 else found


class DrawsInNumpy(Convolution):
    def forward(self, x: Any) -> Any:
        found = self.conv(x).mean((2, 3))
        return found * 0 if np.random.random() < 1e-6 else found  # noqa: NPY002


class DrawsASize(Convolution):
    def forward(self, x: Any) -> Any:
        side = int(torch.randint(3, 8, ()))
        return self.conv(x[..., :side, :side]).mean((2, 3))


KEPT: dict[str, Any] = {}


class KeepsOutside(Convolution):
    def forward(self, x: Any) -> Any:
        KEPT["x"] = x
        return self.conv(x).mean((2, 3)) + KEPT["x"].mean((1, 2, 3))[:, None]


class CallsAClosure(Convolution):
    """A copy's function would lead to the original."""

    def __init__(self) -> None:
        super().__init__()
        self.step = lambda x: self.norm(self.conv(x))

    def forward(self, x: Any) -> Any:
        return self.step(x).mean((2, 3))


class Uncopied(Convolution):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Patient(Convolution):
    """Waits for itself: its copies would, for each other."""

    lock = threading.Lock()

    def forward(self, x: Any) -> Any:
        with self.lock:
            return self.conv(x).mean((2, 3))


class KeepsAPiece(Convolution):
    def forward(self, x: Any) -> Any:
        torch.mul(self.conv(x), 2, out=self.room[: len(x)])
        return self.room[: len(x)].mean((2, 3))


class RenewsWeights(Convolution):
    """As layers do that hold the norm of their weights down."""

    def forward(self, x: Any) -> Any:
        self.conv.weight.data = torch.renorm(self.conv.weight.data, 2, 0, 1.0)
        return self.conv(x).mean((2, 3))


class SeedsItself(Convolution):
    """Draws the same numbers each time, and sets the generator back."""

    def forward(self, x: Any) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.conv(x).mean((2, 3)) + torch.randn(4)


class Gathers(Convolution):
    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Any] = []

    def forward(self, x: Any) -> Any:
        self.maps.append(self.conv(x))
        return self.maps[-1].mean((2, 3))


class Inner(nn.Module):
    def __init__(self, parent: nn.Module) -> None:
        super().__init__()
        self.parent = weakref.ref(parent)

    def forward(self, x: Any) -> Any:
        parent: Any = self.parent()
        return parent.norm(x)


class LeadsBack(Convolution):
    """A copy's part would call the original."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner(self)

    def forward(self, x: Any) -> Any:
        return self.inner(self.conv(x)).mean((2, 3))


SCRATCH: list[Any] = [None]


class Scratches(Convolution):
    """Writes and reads what all share after the last module."""

    def forward(self, x: Any) -> Any:
        found = self.conv(x)
        SCRATCH[0] = found * 2
        total = found.sum()
        return SCRATCH[0].mean((2, 3)) + total * 0


class KeepsWithin(Convolution):
    """Keeps what it reads back in what a copy has of its own."""

    def forward(self, x: Any) -> Any:
        self.kept.skip = x.mean((1, 2, 3))[:, None]
        return self.conv(x).mean((2, 3)) + self.kept.skip


STAYING = [
    CountsInABuffer,
    CountsInANewBuffer,
    CountsUnseen,
    CountsInPython,
    CountsDeeper,
    Averages,
    DrawsInTorch,
    DrawsInPython,
    DrawsInNumpy,
    DrawsASize,
    KeepsOutside,
    KeepsAPiece,
    KeepsWithin,
    RenewsWeights,
    SeedsItself,
    Gathers,
    LeadsBack,
    Scratches,
    CallsAClosure,
    Uncopied,
    Patient,
]


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()


def adapted(model: nn.Module) -> Any:
    return cnnviz.adapt(model, "identity", input_shape=(8, 8, 3))


def pictures(count: int = 24) -> Any:
    return np.random.default_rng(0).random((count, 8, 8, 3)).astype(np.float32)


def streams(net: Any, tap: str) -> int:
    openers = net.streams(net.ops.asarray(pictures(4)), taps=[tap], most=2)
    return len(openers)


def test_threads_of_operations_are_shared_out_and_given_back(two_threads):
    net = adapted(plain())
    seen: list[int] = []

    def run(opener: Any) -> None:
        opener()
        seen.append(torch.get_num_threads())

    openers = net.streams(net.ops.asarray(pictures(4)), taps=["0"], most=2)
    for opener in openers:
        thread = threading.Thread(target=run, args=(opener,))
        thread.start()
        thread.join()
    assert torch.get_num_threads() == 2
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert (seen, later) == ([1, 1], [2])


def test_one_thread_of_operations_is_one_stream():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert streams(adapted(plain()), "0") == 1
    finally:
        torch.set_num_threads(before)


def test_a_plain_network_is_run_in_two(two_threads):
    assert streams(adapted(Convolution().train()), cnnviz.LOGITS) == 2


@pytest.mark.parametrize("make", STAYING)
def test_what_cannot_be_run_twice_at_once_stays_in_one_thread(make, two_threads, monkeypatch):
    monkeypatch.setattr(cnnviz_torch.streams, "_PATIENCE", 0.5)
    model = make().train()
    net = adapted(model)
    net.layers()
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    held = [{**vars(part), **part._buffers} for part in model.modules()]
    mean, times = model.mean.clone(), model.kept.times
    assert streams(net, cnnviz.LOGITS) == 1
    # Nor was anything changed to find it out.
    for name, value in model.state_dict().items():
        assert torch.equal(value, tensors[name])
    for part, before in zip(model.modules(), held, strict=True):
        now = {**vars(part), **part._buffers}
        assert all(now[key] is value for key, value in before.items())
    assert torch.equal(model.mean, mean)
    assert model.kept.times == times
    assert all(part.training for part in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_refusal_is_remembered(two_threads, monkeypatch):
    monkeypatch.setattr(cnnviz_torch.streams, "_PATIENCE", 0.5)
    net = adapted(Patient().eval())
    assert streams(net, cnnviz.LOGITS) == 1
    monkeypatch.setattr(cnnviz_torch.adapter, "copies", lambda *_: pytest.fail("tried again"))
    assert streams(net, cnnviz.LOGITS) == 1


def test_an_adapter_can_be_sent_once_it_was_tried(two_threads):
    model = plain()
    net = cnnviz_torch.TorchAdapter(model, input_shape=(8, 8, 3))
    net._preprocessing = cnnviz.adapt(model, "identity").require_preprocessing()
    assert streams(net, "0") == 2
    there = cloudpickle.loads(cloudpickle.dumps(net))
    assert there._tried == (None, [], False)
    assert streams(there, "0") == 2


def test_a_network_too_large_to_be_copied_stays_in_one_thread(two_threads, monkeypatch):
    size = sum(p.nbytes for p in plain().parameters())
    for room, wanted in ((2 * size, 2), (2 * size - 1, 1)):
        monkeypatch.setattr(cnnviz_torch.streams, "_ROOM", room)
        assert streams(adapted(plain()), "0") == wanted


@pytest.mark.parametrize("frozen", [False, True])
def test_a_network_made_in_inference_mode_is_run(frozen, two_threads):
    with torch.inference_mode():
        model = plain() if frozen else nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
        model.requires_grad_(False)
    found = cnnviz.find_exemplars(adapted(model), pictures(), ["0"], batch=4)
    assert found["0"].statistics.count[0] == 24 * 36


def test_what_a_scan_cannot_run_is_told_as_before(two_threads):
    class Refusing(Convolution):
        def forward(self, x: Any) -> Any:
            if len(x) == 4 and bool(x.max() > 0.5):
                raise ValueError("not these")
            return super().forward(x)

    net = adapted(Refusing().eval())
    with pytest.raises(InvalidImage, match="not these"):
        cnnviz.find_exemplars(net, pictures(), ["conv"], batch=4)
    assert torch.get_num_threads() == 2


def test_a_context_of_the_caller_holds(two_threads):
    scale: ContextVar[float] = ContextVar("scale", default=1.0)

    class Scaling(Convolution):
        def forward(self, x: Any) -> Any:
            return self.conv(x * scale.get()).mean((2, 3))

    torch.manual_seed(0)
    net = adapted(Scaling().eval())
    token = scale.set(3.0)
    try:
        assert streams(net, "conv") == 2
        found = cnnviz.find_exemplars(net, pictures(), ["conv"], batch=4)
        maps = cnnviz.feature_maps(net, pictures(), ["conv"])["conv"]
    finally:
        scale.reset(token)
    assert found["conv"].statistics.mean == pytest.approx(maps.mean((0, 1, 2)), rel=1e-5)


def test_a_setting_of_the_thread_that_asked_keeps_a_network_there(two_threads):
    local = threading.local()

    class Local(Convolution):
        def forward(self, x: Any) -> Any:
            return self.conv(x * getattr(local, "scale", 1.0)).mean((2, 3))

    net = adapted(Local().eval())
    assert streams(net, "conv") == 2
    local.scale = 3.0
    assert streams(net, "conv") == 1


@pytest.mark.parametrize(
    ("threads", "most", "wanted"),
    [
        (1, 4, (1, 1)),
        (2, 4, (2, 1)),
        (3, 2, (2, 1)),
        (3, 4, (3, 1)),
        (5, 4, (4, 1)),
        (7, 4, (3, 2)),
        (64, 4, (4, 16)),
        (64, 1, (1, 64)),
    ],
)
def test_few_threads_are_left_over(threads, most, wanted):
    assert cnnviz_torch.streams.shared_out(threads, most) == wanted


def test_a_network_is_tried_again_once_it_is_another(two_threads, monkeypatch):
    tried: list[Any] = []
    own = cnnviz_torch.adapter.independent

    def noted(*given: Any) -> bool:
        tried.append(given)
        return own(*given)

    monkeypatch.setattr(cnnviz_torch.adapter, "independent", noted)
    model = plain()
    net = adapted(model)
    for change in (
        lambda: None,
        lambda: model[4].weight.data.mul_(2),
        lambda: setattr(model[4], "weight", nn.Parameter(torch.zeros(2, 4))),
        lambda: setattr(model[0], "stride", (1, 1)),
        lambda: model.__setitem__(1, nn.GELU()),
    ):
        change()
        assert streams(net, "0") == 2
    # New numbers in the same tensors are no other network.
    assert len(tried) == 4
    assert streams(net, "1") == 2
    assert len(tried) == 5


def test_hooks_of_the_user_are_called_in_the_thread_that_asked(two_threads):
    model = plain()
    callers: set[int] = set()
    model[1].register_forward_hook(lambda *_: callers.add(threading.get_ident()))
    cnnviz.find_exemplars(adapted(model), pictures(), ["0"], batch=4)
    assert callers == {threading.get_ident()}


def test_what_is_set_for_a_thread_holds(two_threads):
    net = adapted(plain())
    assert streams(net, "0") == 2
    with torch.autocast("cpu", torch.bfloat16):
        assert streams(net, "0") == 1
    with FlopCounterMode(display=False):
        assert streams(net, "0") == 1
    with torch.device("cpu"):
        assert streams(net, "0") == 1


@pytest.fixture
def asked(monkeypatch):
    """In how many threads a scan would run."""
    found: list[int] = []
    own = cnnviz_torch.TorchAdapter.streams

    def noted(self: Any, x: Any, *, taps: Any, most: int) -> Any:
        found.append(most)
        return own(self, x, taps=taps, most=most)

    monkeypatch.setattr(cnnviz_torch.TorchAdapter, "streams", noted)
    monkeypatch.setattr(passes, "_FEW", 4)
    return found


def test_few_images_begin_no_threads(asked):
    for count in (12, 16):
        cnnviz.find_exemplars(adapted(plain()), pictures(count), ["0"], batch=4)
    assert asked == [4]


def test_large_activations_take_fewer_threads(asked, monkeypatch):
    # Of a batch: 4 images of 6 x 6 x 4 numbers of four bytes.
    held = 4 * 6 * 6 * 4 * 4
    for room in (held // 2, held, 3 * held // 2):
        monkeypatch.setattr(passes, "_HELD", room)
        cnnviz.find_exemplars(adapted(plain()), pictures(), ["0"], batch=4)
    assert asked == [2, 2, 3]
