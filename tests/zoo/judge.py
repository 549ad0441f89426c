"""One network held to what its own framework computes, check by check."""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from zoo.entries import CHECKS, Entry, TrueCall, Truth

import cnnviz
from cnnviz import INPUT, LOGITS, CnnvizError
from cnnviz.errors import UnknownPreprocessing
from cnnviz.layers import last_spatial
from cnnviz.preprocessing import as_preprocessing

CALLS = 50
GROWTH = 64 * 2**20


class Framework(Protocol):
    """What the judge must know of a framework; none of it comes from cnnviz."""

    def built(self, entry: Entry) -> Any: ...

    def truth(self, model: Any, entry: Entry, native: NDArray[Any], undo: Any) -> Truth: ...

    def snapshot(self, model: Any) -> Any: ...

    def alive(self) -> int: ...

    def clear(self) -> None: ...


@dataclass
class Report:
    """What came out for one entry."""

    group: str
    name: str
    layers: int = 0
    seconds: float = 0.0
    undecided: int = 0
    refusal: str | None = None
    failures: dict[str, str] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)

    @property
    def opened(self) -> bool:
        return self.refusal is None and not self.failures

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "opened": self.opened}


class Mismatch(AssertionError):
    """What cnnviz says is not what the framework computes."""


def judge(entry: Entry, framework: Framework) -> Report:
    """Run every check on one entry; a check that fails does not keep the others from running."""
    report = Report(entry.group, entry.name)
    started = time.perf_counter()
    try:
        _Case(entry, framework, report).run()
    finally:
        report.seconds = round(time.perf_counter() - started, 1)
        framework.clear()
        gc.collect()
    return report


class _Case:
    def __init__(self, entry: Entry, framework: Framework, report: Report) -> None:
        self.entry, self.framework, self.report = entry, framework, report

    def run(self) -> None:
        self.model = self.framework.built(self.entry)
        self.before = self.framework.snapshot(self.model)
        if self.entry.refused is not None:
            self.check("opened", self.refusal)
            self.check("untouched", self.untouched)
            return
        if not self.check("opened", self.open):
            self.check("untouched", self.untouched)
            return
        rng = np.random.default_rng(0)
        shape = (self.entry.batch, *self.entry.input_shape)
        self.pictures = rng.uniform(0, 1, shape)
        self.truth = self.framework.truth(
            self.model, self.entry, self.pictures[:1], self.net.require_preprocessing()
        )
        for name in CHECKS[1:]:
            if name not in self.entry.skip:
                self.check(name, getattr(self, name))

    def check(self, name: str, run: Callable[[], None]) -> bool:
        try:
            run()
        # A crash within cnnviz is a result of this check, not the end of the zoo.
        except Exception as error:  # noqa: BLE001
            line = str(error).strip().splitlines() or [""]
            kind = "" if isinstance(error, Mismatch) else f"{type(error).__name__}: "
            self.report.failures[name] = f"{kind}{line[0]}"[:400]
            return False
        self.report.passed.append(name)
        return True

    def refusal(self) -> None:
        try:
            cnnviz.adapt(self.model, **self.entry.options()).layers()
        except CnnvizError as error:
            said = str(error)
        else:
            raise Mismatch("opened, though it must be refused by name")
        assert self.entry.refused is not None
        if "\n" in said or not re.search(self.entry.refused, said):
            raise Mismatch(f"refused, but not by name: {said!r}")
        self.report.refusal = said

    def open(self) -> None:
        self.net = cnnviz.adapt(self.model, **self.entry.options())
        if self.entry.tells_shape and tuple(self.net.input_shape) != self.entry.input_shape:
            raise Mismatch(f"input_shape {self.net.input_shape}, not {self.entry.input_shape}")
        self.table = list(self.net.layers())
        self.report.layers = len(self.table)

    def layers(self) -> None:
        """Every call, in order, with the shape that it has."""
        wanted = self.truth.names()
        ours, theirs = [t.name for t in self.table], [name for name, _, _ in wanted]
        if ours != theirs:
            at = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
                min(len(ours), len(theirs)),
            )
            raise Mismatch(
                f"{len(ours)} layers for {len(theirs)}; at {at}: {ours[at : at + 3]} for"
                f" {theirs[at : at + 3]}"
            )
        for layer, (name, call, keys) in zip(self.table, wanted, strict=True):
            if layer.leaf != call.leaf:
                raise Mismatch(f"{name}: leaf is {layer.leaf}")
            if keys is None:
                if layer.output_shape is not None:
                    raise Mismatch(f"{name} gives no tensor, listed as {layer.output_shape}")
                continue
            native = call.parts[keys]
            shapes = [_shape(np.moveaxis(native, axis, -1)) for axis in _axes(call, keys)]
            if layer.output_shape not in shapes:
                raise Mismatch(f"{name}: listed as {layer.output_shape}, is {shapes}")
            # Proposals are as many as a network finds in a picture.
            found = self.entry.proposals and layer.rows != 1 and native.shape[0] != 1
            if native.ndim and layer.rows != native.shape[0] and not found:
                raise Mismatch(f"{name}: {layer.rows} rows listed, {native.shape[0]} are")
            self.report.undecided += keys not in call.axes

    def taps(self) -> None:
        """All layers tapped in one run."""
        wanted = {name: (call, keys) for name, call, keys in self.truth.names()}
        names = [t.name for t in self.table if t.output_shape is not None and t.name in wanted]
        x = self.net.ops.asarray(self.pictures[:1])
        found = self.net.forward(x, taps=names)
        wrong = []
        for name in names:
            call, keys = wanted[name]
            got = self.net.ops.to_numpy(found[name])
            errors = [
                _error(got, np.moveaxis(call.parts[keys], axis, -1)) for axis in _axes(call, keys)
            ]
            if min(errors) > self.entry.tolerance:
                wrong.append(f"{name} ({min(errors):.1e})")
        if wrong:
            raise Mismatch(f"{len(wrong)} of {len(names)} differ: {', '.join(wrong[:4])}")

    def scores(self) -> None:
        """The class scores before a final softmax, and which it is."""
        x = self.net.ops.asarray(self.pictures[:1])
        got = self.net.ops.to_numpy(self.net.forward(x, taps=[LOGITS])[LOGITS])
        want = self.truth.scores.reshape(got.shape)
        if _error(got, want) > self.entry.tolerance:
            raise Mismatch(f"the scores differ by {_error(got, want):.1e}")
        if self.entry.batch > 1:
            both = self.net.ops.asarray(self.pictures)
            first = self.net.ops.to_numpy(self.net.forward(both, taps=[LOGITS])[LOGITS])[:1]
            if _error(first, got) > self.entry.tolerance:
                raise Mismatch(f"in a batch the scores differ by {_error(first, got):.1e}")
        if self.net.classes != want.shape[-1]:
            raise Mismatch(f"{self.net.classes} classes, not {want.shape[-1]}")
        if self.net.final_activation != self.entry.final:
            raise Mismatch(f"ends in {self.entry.final}, adapter says {self.net.final_activation}")

    def gradients(self) -> None:
        """At the input and at an early, a middle and a late layer, together and the last alone."""
        wanted = {
            name: (call, keys)
            for name, call, keys in self.truth.names()
            if call.leaf and keys is not None and keys in call.gradients
        }
        listed = {t.name for t in self.table}
        names = [name for name in wanted if name in listed]
        if not names:
            raise Mismatch("no layer on the way to the score is listed")
        picked = [names[int(len(names) * part)] for part in (0.1, 0.5, 0.9)]
        picked = list(dict.fromkeys(picked))
        x = self.net.ops.asarray(self.pictures[:1])
        score = ClassScore(self.net.ops, self.truth.target)
        wrong = []
        for wrt in ([INPUT, *picked], picked[-1:]):
            found = self.net.gradient(score, x, taps=[LOGITS], wrt=wrt).gradients
            for name in wrt:
                got = self.net.ops.to_numpy(found[name])
                if name == INPUT:
                    error = _error(got, self.truth.input_gradient)
                else:
                    call, keys = wanted[name]
                    slope = call.gradients[keys]
                    error = min(
                        _error(got, np.moveaxis(slope, axis, -1)) for axis in _axes(call, keys)
                    )
                if error > 10 * self.entry.tolerance:
                    wrong.append(f"{name} ({error:.1e})")
        if wrong:
            raise Mismatch(f"differ from autograd: {', '.join(wrong)}")

    def cam(self) -> None:
        """The default layer and its map."""
        layer = last_spatial(self.net).name
        if self.entry.cam is not None and not re.fullmatch(self.entry.cam, layer):
            raise Mismatch(f"the default layer is {layer}, not {self.entry.cam}")
        found = cnnviz.grad_cam(self.net, self.pictures, target=self.truth.target)
        size = (self.entry.batch, *self.entry.input_shape[:-1])
        if found.map.shape != size:
            raise Mismatch(f"a map of {found.map.shape} for {size}")
        if not np.isfinite(found.raw).all() or np.ptp(found.raw) <= 1e-12 * np.abs(found.raw).max():
            raise Mismatch(f"the map at {found.layer} is constant")
        if found.layer != layer or not any(repr(layer) in note for note in found.notes):
            raise Mismatch(f"the notes do not name {layer}: {found.notes}")

    def preprocessing(self) -> None:
        """Found, or asked for by a line that says what to write."""
        told = {k: v for k, v in self.entry.options().items() if k != "preprocessing"}
        net = cnnviz.adapt(self.model, **told)
        if self.entry.given is not None:
            if net.preprocessing is not None:
                raise Mismatch(f"found {net.preprocessing}, which nothing tells")
            try:
                net.require_preprocessing()
            except UnknownPreprocessing as error:
                if "preprocessing=" not in str(error):
                    raise Mismatch(f"does not say what to write: {error}") from error
            return
        found = net.require_preprocessing()
        if self.entry.seen is not None:
            # Pictures of 255 levels, as preprocess_input takes them.
            want, got = self.entry.seen(self.pictures * 255), found.apply(self.pictures)
            if not np.allclose(want, got, atol=1e-6 * np.abs(want).max()):
                raise Mismatch(f"found {found}, which is not its own preprocess_input")
        if self.entry.found is not None:
            want = as_preprocessing(self.entry.found)
            same = np.allclose(
                np.broadcast_arrays(*found.affine(), np.zeros(3))[:2],
                np.broadcast_arrays(*want.affine(), np.zeros(3))[:2],
            )
            if not same or found.order != want.order:
                raise Mismatch(f"found {found}, not {want}")

    def untouched(self) -> None:
        """Bit for bit what it was, also after an interrupt in the middle."""
        if self.entry.refused is None and "opened" in self.report.passed:
            try:
                x = self.net.ops.asarray(self.pictures[:1])
                self.net.gradient(_interrupt, x, taps=[self.first()])
            except KeyboardInterrupt:
                pass
            else:
                raise Mismatch("an interrupt was swallowed")
        after = self.framework.snapshot(self.model)
        if after != self.before:
            changed = [k for k in self.before if after.get(k) != self.before[k]]
            changed += [k for k in after if k not in self.before]
            raise Mismatch(f"changed: {', '.join(map(str, changed[:5]))}")

    def leaks(self) -> None:
        """Fifty gradients leave no tensor, no hook, no trace and no memory behind."""
        x = self.net.ops.asarray(self.pictures[:1])
        tap = self.first()
        score = TapSum(self.net.ops, tap)

        def some(count: int) -> tuple[int, int | None, int]:
            for _ in range(count):
                self.net.gradient(score, x, taps=[tap])
            gc.collect()
            return self.framework.alive(), _resident(), score.runs

        some(3)
        alive, held, runs = some(3)
        alive_then, held_then, runs_then = some(CALLS)
        if alive_then > alive:
            raise Mismatch(f"{alive_then - alive} tensors more after {CALLS} calls")
        if held is not None and held_then is not None and held_then - held > GROWTH:
            raise Mismatch(f"{(held_then - held) / 2**20:.0f} MiB more after {CALLS} calls")
        if self.net.compiled and runs_then > runs:
            raise Mismatch(f"traced {runs_then - runs} times more in {CALLS} equal calls")

    def first(self) -> str:
        """The first layer with a tensor: what ends there costs little."""
        return next(t.name for t in self.table if t.leaf and t.output_shape is not None)


class ClassScore:
    """The score of a class; dense scores are averaged over their places."""

    def __init__(self, ops: Any, target: int) -> None:
        self.ops, self.target = ops, target

    def __call__(self, activations: Any) -> Any:
        scores = activations[LOGITS][..., self.target]
        axes = tuple(range(1, len(scores.shape)))
        return self.ops.mean(scores, axis=axes) if axes else scores


class TapSum:
    """The sum of a tap, which counts how often it runs."""

    def __init__(self, ops: Any, tap: str) -> None:
        self.ops, self.tap, self.runs = ops, tap, 0

    def __call__(self, activations: Any) -> Any:
        self.runs += 1
        x = activations[self.tap]
        return self.ops.sum(x, axis=tuple(range(len(x.shape))))


def _interrupt(activations: Any) -> Any:
    raise KeyboardInterrupt


def _axes(call: TrueCall, keys: str) -> list[int]:
    """Where the channels may be: one axis if it is known, else any but the first."""
    ndim = call.parts[keys].ndim
    if keys in call.axes:
        return [call.axes[keys] or 0]
    return list(range(1, ndim)) if ndim > 2 else [ndim - 1]


def _shape(x: NDArray[Any]) -> tuple[int | None, ...]:
    return (None, *x.shape[1:])


def _error(got: NDArray[Any], want: NDArray[Any]) -> float:
    """The largest difference, relative to the largest value; infinite for another shape."""
    if got.shape != want.shape:
        return float("inf")
    if not want.size:
        return 0.0
    got, want = got.astype(np.float64), want.astype(np.float64)
    # Masks of attention hold minus infinity.
    if not np.array_equal(np.isfinite(got), np.isfinite(want)):
        return float("inf")
    finite = np.isfinite(want)
    scale = np.abs(want[finite]).max(initial=0.0)
    apart = np.abs(got - want)[finite].max(initial=0.0)
    return float(apart / scale) if scale else float(apart)


def _resident() -> int | None:
    """Memory held now, or None: the most ever held was set by the largest network."""
    path = Path("/proc/self/statm")
    if not path.exists():
        return None
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
