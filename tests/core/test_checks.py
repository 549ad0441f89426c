"""Each check of the contract fails on an adapter that breaks what it guards."""

from __future__ import annotations

import itertools
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest

from cnnviz import fields
from cnnviz.adapter import INPUT, LOGITS, Evaluation, Layer
from cnnviz.errors import InvalidOption, UnsupportedModel
from cnnviz.testing import CHECKS, SMALL_PREPROCESSING, NumpyOps, OracleAdapter, Subject


def snapshot(model):
    return {name: value.tobytes() for name, value in model.items()}


class Unordered(OracleAdapter):
    def layers(self):
        return super().layers()[::-1]


class InPlaceSeen(OracleAdapter):
    """Shows a batch norm after the ReLU that follows it, as a careless hook does."""

    def forward(self, x, *, taps):
        found = dict(super().forward(x, taps=taps))
        if "bn1" in found:
            found["bn1"] = np.maximum(found["bn1"], 0)
        return found


class ShapeOnlyWithOthers(InPlaceSeen):
    def forward(self, x, *, taps):
        taps = list(taps)
        found = super().forward(x, taps=taps)
        return found if len(taps) == 1 else OracleAdapter.forward(self, x, taps=taps)


class GradientOfNormalised(OracleAdapter):
    """Forgets that a picture is divided by the standard deviation."""

    def gradient(self, score, x, **options):
        found = super().gradient(score, x, **options)
        std = np.asarray(self.preprocessing.std)
        gradients = {k: v * std if k == INPUT else v for k, v in found.gradients.items()}
        return Evaluation(found.value, found.activations, gradients)


class WrongAtTap(OracleAdapter):
    def gradient(self, score, x, **options):
        found = super().gradient(score, x, **options)
        gradients = {k: v + (k in options["taps"]) for k, v in found.gradients.items()}
        return Evaluation(found.value, found.activations, gradients)


class PrepareNotDifferentiated(OracleAdapter):
    def gradient(self, score, x, *, prepare=None, prepare_args=(), **options):
        picture = prepare(x, *prepare_args) if prepare else x
        return super().gradient(score, picture, **options)


class Retracing(OracleAdapter):
    compiled = True


class Baked(OracleAdapter):
    """Keeps the first arguments that it was given for a score."""

    def __init__(self, **options):
        super().__init__(**options)
        self._first = {}

    def gradient(self, score, x, *, score_args=(), prepare_args=(), **options):
        args = self._first.setdefault(score, (score_args, prepare_args))
        return super().gradient(score, x, score_args=args[0], prepare_args=args[1], **options)


class Leaking(OracleAdapter):
    """Counts its calls within the user's own model."""

    def gradient(self, score, x, **options):
        self.model["fc.bias"] = self.model["fc.bias"] + 1e-9
        return super().gradient(score, x, **options)


class LeakingWhenScoreRaises(OracleAdapter):
    def gradient(self, score, x, **options):
        bias = self.model["fc.bias"]
        self.model["fc.bias"] = bias + 1.0
        found = super().gradient(score, x, **options)
        self.model["fc.bias"] = bias
        return found


class Swallowing(OracleAdapter):
    def gradient(self, score, x, **options):
        try:
            return super().gradient(score, x, **options)
        except ZeroDivisionError:
            return super().gradient(lambda acts: np.zeros(2), x, **{**options, "prepare": None})


class BatchMixing(OracleAdapter):
    def gradient(self, score, x, **options):
        found = super().gradient(score, x, **options)
        gradients = {k: v / len(v) for k, v in found.gradients.items()}
        return Evaluation(found.value, found.activations, gradients)


class TorchKernels(OracleAdapter):
    def weights(self, layer=None):
        return {k: v.T if v.ndim == 4 else v for k, v in super().weights(layer).items()}


class Guessing(OracleAdapter):
    def require_preprocessing(self):
        return SMALL_PREPROCESSING if self.preprocessing is None else self.preprocessing


class NoParameters(OracleAdapter):
    def layers(self):
        return [Layer(x.name, x.kind, x.output_shape, 0) for x in super().layers()]


class RoughOps(NumpyOps):
    """Computes in half the digits."""

    def atan(self, x):
        return super().atan(x).astype(np.float32).astype(np.float64)


class Rough(OracleAdapter):
    def __init__(self, **options):
        super().__init__(**options)
        self.ops = RoughOps()


class FloatingOps(NumpyOps):
    def asarray(self, x):
        return np.asarray(x, np.float64)

    def roll(self, x, shift, axis):
        return super().roll(x, int(shift), axis)


class Floating(OracleAdapter):
    """Makes floats of integers too."""

    def __init__(self, **options):
        super().__init__(**options)
        self.ops = FloatingOps()


class CornersOps(NumpyOps):
    """Takes a place for one between the outer edges of the pixels, as align_corners does."""

    def sample(self, x, rows, columns):
        height, width = x.shape[1:3]
        return super().sample(x, rows * height / (height - 1), columns * width / (width - 1))


class Corners(OracleAdapter):
    def __init__(self, **options):
        super().__init__(**options)
        self.ops = CornersOps()


class BesideNotDifferentiated(OracleAdapter):
    """Takes what comes beside the picture for a constant."""

    def gradient(self, score, x, *, prepare=None, prepare_args=(), **options):
        made = prepare(x, *prepare_args) if prepare else x
        if not isinstance(made, tuple):
            return super().gradient(score, x, prepare=prepare, prepare_args=prepare_args, **options)
        return super().gradient(score, x, prepare=lambda x: (prepare(x)[0], made[1]), **options)


class BesideShown(OracleAdapter):
    """Gives what comes beside the picture for an activation of the network."""

    def gradient(self, score, x, *, prepare=None, prepare_args=(), **options):
        found = super().gradient(score, x, prepare=prepare, prepare_args=prepare_args, **options)
        made = prepare(x, *prepare_args) if prepare else x
        beside = made[1] if isinstance(made, tuple) else {}
        return Evaluation(found.value, {**found.activations, **beside}, found.gradients)


class NeverRedirected(OracleAdapter):
    def gradient(self, score, x, *, relu="plain", **options):
        return super().gradient(score, x, **options)


class AlwaysRedirected(OracleAdapter):
    """Never goes back to the plain rule."""

    def gradient(self, score, x, *, relu="plain", **options):
        self.rule = relu if relu != "plain" else getattr(self, "rule", "plain")
        return super().gradient(score, x, relu=self.rule, **options)


class RedirectedBeside(OracleAdapter):
    """Adds to the gradient of pictures that have one."""

    def gradient(self, score, x, *, relu="plain", **options):
        found = super().gradient(score, x, relu=relu, **options)
        if relu == "plain":
            return found
        plain = super().gradient(score, x, **options).gradients
        gradients = {k: v + plain[k] for k, v in found.gradients.items()}
        return Evaluation(found.value, found.activations, gradients)


class ForgetfulTrace(OracleAdapter):
    """Gives what the first function gave for all that have its name."""

    def traced(self, function):
        self.known = getattr(self, "known", function)
        return self.known


class RulesIgnored(OracleAdapter):
    def gradient(self, score, x, *, relu="plain", **options):
        return super().gradient(score, x, relu="plain", **options)


class RulesMixedUp(OracleAdapter):
    """Takes a deconvnet for guided backpropagation."""

    def gradient(self, score, x, *, relu="plain", **options):
        relu = "deconvnet" if relu == "guided" else relu
        return super().gradient(score, x, relu=relu, **options)


class JacobianTurned(OracleAdapter):
    """Gives the pictures before the scores."""

    def gradient(self, score, x, *, jacobian=False, **options):
        found = super().gradient(score, x, jacobian=jacobian, **options)
        if not jacobian:
            return found
        turned = {k: v.swapaxes(0, 1) for k, v in found.gradients.items()}
        return Evaluation(found.value, found.activations, turned)


class JacobianOfFirst(OracleAdapter):
    """Differentiates the first score only, and shows it for all."""

    def gradient(self, score, x, *, jacobian=False, **options):
        found = super().gradient(score, x, jacobian=jacobian, **options)
        if jacobian:
            same = {k: v[:1].repeat(len(v), 0) for k, v in found.gradients.items()}
            return Evaluation(found.value, found.activations, same)
        return found


class CurvatureOfSlope(OracleAdapter):
    """Multiplies the slope by the activation, and differentiates nothing again."""

    def gradient(self, score, x, *, curvature=False, **options):
        found = super().gradient(score, x, **options)
        if not curvature:
            return found
        acts = {**found.activations, **self.forward(x, taps=options["wrt"])}
        bends = {tap: found.gradients[tap] * acts[tap] for tap in options["wrt"]}
        return Evaluation(found.value, found.activations, found.gradients, bends)


class CurvatureUnasked(OracleAdapter):
    def gradient(self, score, x, **options):
        if options["taps"] == [LOGITS]:
            options["curvature"] = True
        return super().gradient(score, x, **options)


class ResumedWithItsOwn(OracleAdapter):
    """Goes on with the first activation that it was ever given."""

    def resume(self, x, *, at, taps):
        go_on, first = super().resume(x, at=at, taps=taps), []

        def baked(activation):
            first.append(activation)
            return go_on(first[0])

        return baked


class ResumedForMany(OracleAdapter):
    def resume(self, x, *, at, taps):
        return super().resume(x[:1], at=at, taps=taps)


class OffsetsOfBiases(OracleAdapter):
    """Takes the offset of a batch norm for all that it adds."""

    def offsets(self):
        return {**super().offsets(), "bn1": self.model["bn1.offset"]}


class WritesUntilItFails(OracleAdapter):
    def assign(self, weights):
        for name, value in weights.items():
            super().assign({name: value})


class WritesElsewhere(OracleAdapter):
    """Writes into a copy that no run looks at."""

    def assign(self, weights):
        mine = OracleAdapter(self.model)
        mine.assign(weights)
        self.weights = mine.weights


class NamesOfTheLayerAlone(OracleAdapter):
    def weight_names(self, layer):
        return {name: name for name in self.weights(layer)}


class NamesTurned(OracleAdapter):
    """Takes one of two weights of a shape for the other."""

    def weight_names(self, layer):
        names = dict(super().weight_names(layer))
        return dict(zip(names, reversed(names.values()), strict=True))


class NamesOfKernelsAlone(OracleAdapter):
    """Forgets running statistics."""

    def weight_names(self, layer):
        names = super().weight_names(layer)
        return {k: v for k, v in names.items() if k not in ("mean", "variance")}


class NoSettings(OracleAdapter):
    def settings(self, layer):
        self.layer(layer)
        return {}


class DefaultEps(OracleAdapter):
    """Tells what most batch norms have, rather than what this one has."""

    def settings(self, layer):
        found = super().settings(layer)
        return {**found, "eps": 1e-5} if "eps" in found else found


class WordsOfItsOwn(OracleAdapter):
    def settings(self, layer):
        found = super().settings(layer)
        return {**found, "family": found["family"].replace("convolution", "Conv2D")}


class PaddingUntold(OracleAdapter):
    def settings(self, layer):
        return {k: v for k, v in super().settings(layer).items() if k != "padding"}


class MeanOfWindows(OracleAdapter):
    """Takes a mean over all of space for one over windows, where it could say nothing."""

    def settings(self, layer):
        return {"family": "average pool"} if layer == "gap" else super().settings(layer)


class SettingsOfAnything(OracleAdapter):
    def settings(self, layer):
        known = {known.name for known in self.layers()}
        return super().settings(layer if layer in known else "conv1")


class LeavingNotEntering(OracleAdapter):
    def entering(self, x, *, layers):
        return self.forward(x, taps=list(super().entering(x, layers=layers)))


class EnteringInPlace(OracleAdapter):
    """Shows what goes into a ReLU after it has worked in place."""

    def entering(self, x, *, layers):
        found = super().entering(x, layers=layers)
        return {k: np.maximum(v, 0) if k.startswith("relu") else v for k, v in found.items()}


class EnteringUnnormalised(OracleAdapter):
    def entering(self, x, *, layers):
        found = super().entering(x, layers=layers)
        return {k: x if k == "conv1" else v for k, v in found.items()}


class EnteringTheFirstCall(OracleAdapter):
    def entering(self, x, *, layers):
        found = super().entering(x, layers=layers)
        first = super().entering(x, layers=["relu:0"])["relu:0"]
        return {k: first if k == "relu:1" else v for k, v in found.items()}


class EnteringAnything(OracleAdapter):
    """Leaves out a layer that there is not."""

    def entering(self, x, *, layers):
        known = {layer.name for layer in self.layers()}
        return super().entering(x, layers=[name for name in layers if name in known])


class AppliedInTraining(OracleAdapter):
    """Runs a batch norm on the statistics of what it is given."""

    def apply(self, layer, x):
        found = super().apply(layer, x)
        if layer != "bn1":
            return found
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        scale, offset = self.model["bn1.scale"], self.model["bn1.offset"]
        return (x - mean) / np.sqrt(variance + 1e-3) * scale + offset


class AppliedInPlace(OracleAdapter):
    def apply(self, layer, x):
        found = super().apply(layer, x)
        if layer.startswith("relu"):
            np.maximum(x, 0, out=x)
        return found


class AppliedToItsOwn(OracleAdapter):
    """Keeps what it gave first, as a trace does into which the tensor was baked."""

    def apply(self, layer, x):
        self.kept = getattr(self, "kept", {})
        return self.kept.setdefault((layer, x.shape[0]), super().apply(layer, x))


class ApplyAtAnyPrice(OracleAdapter):
    """Gives zeros where a layer does not take what it is given."""

    def apply(self, layer, x):
        try:
            return super().apply(layer, x)
        except InvalidOption:
            return np.zeros(1)


class ApplyAtLength(OracleAdapter):
    """Hands on all of what a framework says, with the lines of its trace."""

    def apply(self, layer, x):
        try:
            return super().apply(layer, x)
        except InvalidOption as error:
            raise InvalidOption(f"{error}\n  in conv2d\n  in forward") from error


class CopyOfNothing(OracleAdapter):
    """Gives the model itself for a copy."""

    def in_float64(self):
        return nullcontext(self)


class CopyRounded(OracleAdapter):
    """Went through float32 on its way."""

    @contextmanager
    def in_float64(self):
        with super().in_float64() as copy:
            yield OracleAdapter({k: np.float64(np.float32(v)) for k, v in copy.model.items()})


class CopyInShortFloats(OracleAdapter):
    """Has all of the numbers and computes in half of the digits."""

    @contextmanager
    def in_float64(self):
        with super().in_float64() as copy:
            whole = copy.forward
            copy.forward = lambda x, *, taps: {
                k: np.float64(np.float32(v)) for k, v in whole(x, taps=taps).items()
            }
            yield copy


class CopyRefused(OracleAdapter):
    def in_float64(self):
        raise UnsupportedModel("the oracle cannot be copied to float64")


class CopyRenamed(OracleAdapter):
    @contextmanager
    def in_float64(self):
        with super().in_float64() as copy:
            listed = [
                Layer(f"{x.name}_1", x.kind, x.output_shape, x.parameters) for x in copy.layers()
            ]
            copy.layers = lambda: listed
            yield copy


class CopyWithoutPreprocessing(OracleAdapter):
    @contextmanager
    def in_float64(self):
        with super().in_float64() as copy:
            made = Guessing(copy.model)
            made._preprocessing = None
            yield made


class CopyLeavesAMark(OracleAdapter):
    """Rounds the model itself."""

    @contextmanager
    def in_float64(self):
        with super().in_float64() as copy:
            yield copy
        self.model["fc.bias"] = np.float64(np.float32(self.model["fc.bias"]))


class OtherFields(OracleAdapter):
    """Tells of one layer that it looks elsewhere than it does."""

    at = "conv1"
    field = fields.enlarged(fields.first(2), (3, 3), (1, 1), (1, 1))

    def layers_at(self, *size):
        listed = super().layers_at(*size)
        return [replace(x, field=self.field) if x.name == self.at else x for x in listed]


class FieldsTooSmall(OtherFields):
    field = fields.enlarged(fields.first(2), (3, 2), (1, 1))


class FieldsTooLarge(OtherFields):
    field = fields.enlarged(fields.first(2), (3, 4), (1, 1))


class FieldsWithoutStride(OtherFields):
    at = "pool"
    field = fields.enlarged(fields.first(2), (4, 4), (1, 2))


BROKEN = {
    "check_layers": (Unordered, NoParameters),
    "check_fields": (OtherFields, FieldsTooSmall, FieldsTooLarge, FieldsWithoutStride),
    "check_activations": (InPlaceSeen,),
    "check_single_taps": (ShapeOnlyWithOthers,),
    "check_gradients": (GradientOfNormalised, BatchMixing),
    "check_inner_score": (GradientOfNormalised,),
    "check_gradient_at_scored_tap": (WrongAtTap,),
    "check_prepare": (PrepareNotDifferentiated,),
    "check_traced_once": (Retracing, Baked),
    "check_no_trace": (Leaking, LeakingWhenScoreRaises, Swallowing),
    "check_batch_equals_singles": (BatchMixing,),
    "check_weights": (TorchKernels,),
    "check_preprocessing_needed": (Guessing,),
    "check_ops": (Rough, Floating, GradientOfNormalised),
    "check_sample": (Corners, GradientOfNormalised),
    "check_prepare_beside": (BesideNotDifferentiated, BesideShown),
    "check_redirected": (NeverRedirected, AlwaysRedirected, RedirectedBeside),
    "check_traced": (Retracing, ForgetfulTrace),
    "check_relu_rules": (RulesIgnored, RulesMixedUp),
    "check_jacobian": (JacobianTurned, JacobianOfFirst, GradientOfNormalised),
    "check_curvature": (CurvatureOfSlope, CurvatureUnasked),
    "check_resume": (ResumedWithItsOwn, ResumedForMany),
    "check_offsets": (OffsetsOfBiases,),
    "check_assign": (WritesUntilItFails, WritesElsewhere),
    "check_weight_names": (NamesOfTheLayerAlone, NamesTurned, NamesOfKernelsAlone),
    "check_settings": (
        NoSettings,
        DefaultEps,
        WordsOfItsOwn,
        PaddingUntold,
        MeanOfWindows,
        SettingsOfAnything,
    ),
    "check_entering": (
        LeavingNotEntering,
        EnteringInPlace,
        EnteringUnnormalised,
        EnteringTheFirstCall,
        EnteringAnything,
    ),
    "check_apply": (
        AppliedInTraining,
        AppliedInPlace,
        AppliedToItsOwn,
        ApplyAtAnyPrice,
        ApplyAtLength,
    ),
    "check_in_float64": (
        CopyOfNothing,
        CopyRounded,
        CopyInShortFloats,
        CopyRefused,
        CopyRenamed,
        CopyWithoutPreprocessing,
        CopyLeavesAMark,
    ),
}


def test_every_check_is_tried():
    assert {check.__name__ for check in CHECKS} == set(BROKEN)


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        pytest.param(check, broken, id=f"{check.__name__}-{broken.__name__}")
        for check in CHECKS
        for broken in BROKEN[check.__name__]
    ],
)
def test_check_catches(check, broken):
    with pytest.raises(AssertionError):
        check(Subject(broken(), snapshot, tolerance=1e-7))


def test_faults_differ():
    """Two names for one fault would make a check look better guarded than it is."""
    faults = set(itertools.chain(*BROKEN.values()))
    assert len({fault.__name__ for fault in faults}) == len(faults)
