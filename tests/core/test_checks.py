"""Each check of the contract fails on an adapter that breaks what it guards."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cnnviz.adapter import INPUT, LOGITS, Evaluation, Layer
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


BROKEN = {
    "check_layers": (Unordered, NoParameters),
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
