"""Layers and models of PyTorch that give, take or return more than one tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets.torch_small import Small, settle, snapshot
from nets.torch_structures import Bare, Forked, ManyOutputs, Signal, Tokens, TwoInputs
from torch import nn

import cnnviz
from cnnviz import INPUT, LOGITS, OUTPUT
from cnnviz.errors import InvalidOption, TapNotReached, UnknownLayer, UnsupportedModel


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, shape)


def exact(model, **options):
    torch.manual_seed(0)
    return cnnviz.adapt(model.double().eval(), "identity", **options)


def value(net, x, tap):
    return net.ops.to_numpy(net.forward(net.ops.asarray(x), taps=[tap])[tap])


def native(x):
    return torch.from_numpy(x).movedim(-1, 1)


def test_a_layer_that_gives_two_tensors_has_a_name_for_each():
    net = exact(Forked(), input_shape=(9, 9, 3))
    names = cnnviz.layers(net).names
    assert names == ("conv1", "fork.conv", "fork[0]", "fork[1]", "single", "fc")
    with pytest.raises(UnknownLayer, match=r"fork\[0\]"):
        net.layer("fork")


@pytest.mark.parametrize("tap", ["fork[0]", "fork[1]", "single"])
def test_a_part_is_tapped_and_differentiated(tap):
    net, x = exact(Forked(), input_shape=(9, 9, 3)), pictures(2, 9, 9, 3)
    model = net.model
    first = model.conv1(native(x)).detach()
    a, b = model.fork.conv(first).detach(), first * 2
    c = a * b + 1
    leaf = {"fork[0]": a, "fork[1]": b, "single": c}[tap].requires_grad_()
    total = model.fc(((a * b + 1) if tap != "single" else c).mean((2, 3)))[:, 1].sum()
    (wanted,) = torch.autograd.grad(total, leaf)
    found = net.gradient(
        lambda acts: acts[LOGITS][:, 1], net.ops.asarray(x), taps=[LOGITS, tap], wrt=[tap]
    )
    np.testing.assert_allclose(found.activations[tap].movedim(-1, 1), leaf.detach(), rtol=1e-12)
    np.testing.assert_allclose(found.gradients[tap].movedim(-1, 1), wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("end", "name"),
    [
        (lambda x: torch.softmax(x, 1), "softmax"),
        (lambda x: x.softmax(-1), "softmax"),
        (lambda x: nn.functional.log_softmax(x, 1), "softmax"),
        (torch.sigmoid, "sigmoid"),
        (lambda x: x.sigmoid_(), "sigmoid"),
        (nn.Softmax(1), "softmax"),
        (lambda x: x * 2, None),
    ],
)
def test_a_softmax_without_a_module_is_stepped_over(end, name):
    net, x = exact(Bare(end), input_shape=(8, 8, 3)), pictures(2, 8, 8, 3)
    scores = net.model.scores(native(x)).detach().numpy()
    net.layers()
    assert net.final_activation == name
    np.testing.assert_allclose(value(net, x, LOGITS), scores if name else scores * 2, rtol=1e-12)
    with torch.no_grad():
        np.testing.assert_allclose(value(net, x, OUTPUT), net.model(native(x)), rtol=1e-12)


def test_scores_of_one_class_have_an_axis_of_classes():
    net = exact(Bare(lambda x: torch.sigmoid(x[:, 0])), input_shape=(8, 8, 3))
    assert value(net, pictures(2, 8, 8, 3), LOGITS).shape == (2, 1)
    assert (net.classes, net.final_activation) == (1, "sigmoid")


@pytest.mark.parametrize(
    ("output", "factor", "activation"),
    [(None, 1, None), ("plain", 1, None), ("[rest][0]", 2, None), ("[rest][1]", 3, "softmax")],
)
def test_an_output_is_chosen(output, factor, activation):
    net = exact(ManyOutputs(), input_shape=(8, 8, 3), **({"output": output} if output else {}))
    x = pictures(2, 8, 8, 3)
    scores = net.model.scores(native(x)).detach().numpy()
    np.testing.assert_allclose(value(net, x, LOGITS), factor * scores, rtol=1e-12)
    assert net.final_activation == activation
    np.testing.assert_allclose(value(net, x, "<output>[rest][0]"), 2 * scores, rtol=1e-12)


def test_a_picture_that_goes_by_keyword_alone():
    class ByName(Bare):
        def forward(self, *, pixel_values, return_dict=True):
            return {"logits": self.scores(pixel_values)}

    net, x = exact(ByName(), input_shape=(8, 8, 3)), pictures(2, 8, 8, 3)
    wanted = net.model.scores(native(x)).detach()
    np.testing.assert_allclose(value(net, x, LOGITS), wanted, rtol=1e-12)


def test_a_layer_serves_as_the_output():
    net = exact(ManyOutputs(), input_shape=(8, 8, 3), output="conv2")
    assert value(net, pictures(2, 8, 8, 3), LOGITS).shape == (2, 4, 4, 6)
    assert net.classes == 6


def test_an_output_that_there_is_not_is_refused():
    net = exact(ManyOutputs(), input_shape=(8, 8, 3), output="nothing")
    with pytest.raises(InvalidOption, match=r"plain, \[rest\]\[0\], \[rest\]\[1\]"):
        net.layers()


def test_other_inputs_are_repeated_for_every_picture():
    net = exact(TwoInputs(), input_shape=(8, 8, 3), other_inputs={"meta": [1.0, 2.0]})
    x = pictures(3, 8, 8, 3)
    wanted = net.model.scores(native(x)).detach().numpy() + 3
    np.testing.assert_allclose(value(net, x, LOGITS), wanted, rtol=1e-12)


def test_other_inputs_are_asked_for_by_name():
    with pytest.raises(InvalidOption, match=r"meta; .*other_inputs=\{'meta': array\}"):
        cnnviz.adapt(TwoInputs(), "identity")
    with pytest.raises(InvalidOption, match="no input 'mata'; it takes x, meta, scale"):
        cnnviz.adapt(TwoInputs(), "identity", other_inputs={"mata": [1.0]})


@pytest.mark.parametrize(("axes", "shape"), [(1, (20, 2)), (3, (4, 6, 8, 2))])
def test_signals_and_volumes(axes, shape):
    net, x = exact(Signal(axes), input_shape=shape), pictures(2, *shape)
    first, second, _ = net.layers()
    assert first.output_shape == (None, *shape[:-1], 5)
    assert second.spatial == tuple(n // 2 for n in shape[:-1])
    assert second.receptive_field == (5,) * axes
    with torch.no_grad():
        wanted = net.model.conv1(native(x)).movedim(1, -1)
    np.testing.assert_allclose(value(net, x, "conv1"), wanted, rtol=1e-12)
    found = net.gradient(lambda acts: acts[LOGITS][:, 0], net.ops.asarray(x), taps=[LOGITS])
    raw = native(x).requires_grad_()
    (slope,) = torch.autograd.grad(net.model(raw)[:, 0].sum(), raw)
    np.testing.assert_allclose(found.gradients[INPUT], slope.movedim(1, -1), rtol=1e-9)


def test_a_model_without_scores_says_what_to_write():
    class Boxes(Bare):
        def forward(self, x):
            return [{"boxes": one} for one in self.scores(x)]

    net = exact(Boxes(), input_shape=(8, 8, 3))
    assert len(net.layers()) == 3
    with pytest.raises(TapNotReached, match=r"cnnviz.adapt\(model, output="):
        value(net, pictures(1, 8, 8, 3), LOGITS)
    chosen = exact(Boxes(), input_shape=(8, 8, 3), output="fc")
    assert value(chosen, pictures(1, 8, 8, 3), LOGITS).shape == (1, 4)


class LowRank(nn.Linear):
    def __init__(self) -> None:
        super().__init__(6, 4)
        self.lora_A = nn.Linear(6, 2, bias=False)


def test_low_rank_and_quantised_layers_are_refused_by_name():
    lora = Bare()
    lora.fc = LowRank()
    with pytest.raises(UnsupportedModel, match=r"LowRank at 'fc'.*merge_and_unload\(\)"):
        cnnviz.adapt(lora, "identity")
    quantised = Bare()
    # What torch.ao and its successors leave in the place of a layer.
    quantised.fc = type("Linear", (nn.Linear,), {"__module__": "torch.ao.nn.quantized"})(6, 4)
    with pytest.raises(UnsupportedModel, match=r"quantised \(Linear at 'fc'\).*float network"):
        cnnviz.adapt(quantised, "identity")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: torch.compile(model, backend="eager"),
        nn.DataParallel,
        lambda model: torch.export.unflatten(
            torch.export.export(
                model,
                (torch.zeros(2, 3, 12, 10).double(),),
                dynamic_shapes=({0: torch.export.Dim("n")},),
            )
        ),
    ],
    ids=["compiled", "parallel", "exported"],
)
def test_wrappers_are_looked_through(wrap):
    plain = settle(Small()).eval()
    x = pictures(3, 12, 10, 3)
    wanted = value(cnnviz.adapt(plain, "identity"), x, "conv2")
    net = cnnviz.adapt(wrap(settle(Small()).eval()), "identity", input_shape=(12, 10, 3))
    np.testing.assert_allclose(value(net, x, "conv2"), wanted, rtol=1e-12)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_gives_numbers_in_single(kind):
    model = Bare().to(kind)
    net = cnnviz.adapt(model, "identity", input_shape=(8, 8, 3))
    before = snapshot_of_kind(model)
    found = value(net, pictures(2, 8, 8, 3), "conv2")
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert snapshot_of_kind(model) == before


def snapshot_of_kind(model):
    return {k: (v.dtype, v.float().numpy().tobytes()) for k, v in model.state_dict().items()}


def test_nothing_depends_on_the_order_of_calls():
    x = pictures(2, 8, 12, 3)
    model = Tokens()
    one, other = (exact(model, input_shape=(8, 12, 3)) for _ in range(2))
    taps = ["patch", "norm1", "attention[0]", "mlp", LOGITS]
    forth = [value(one, x, tap) for tap in taps]
    back = [value(other, x, tap) for tap in reversed(taps)][::-1]
    for a, b in zip(forth, back, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_of_many_parts_is_left_as_it_was():
    model = Forked().train()
    before = snapshot(model)
    net = cnnviz.adapt(model, "identity", input_shape=(9, 9, 3))
    x = net.ops.asarray(pictures(2, 9, 9, 3))
    for _ in range(3):
        net.forward(x, taps=["fork[0]", "fork[1]", OUTPUT])
        net.gradient(lambda acts: acts[LOGITS][:, 0], x, taps=[LOGITS], wrt=["fork[1]", INPUT])
    assert snapshot(model) == before
