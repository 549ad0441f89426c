"""The first screen of a report: do the networks agree, by how much, and what was run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import cnnviz
from cnnviz.comparison.tallies import relative_difference
from cnnviz.layers import layers
from cnnviz.report.differences import worst
from cnnviz.report.findings import Results
from cnnviz.report.formats import listed, scientific, times
from cnnviz.report.networks import how_to_get, title_of

__all__ = ["Verdict", "as_notes", "facts", "missing", "verdict"]

LOGITS_BOUND = 1e-4
"""Largest difference of a logit at which two networks are said to agree."""
LAYERS_BOUND = 1e-4
"""Largest difference in a layer, as a part of its largest output, at which they agree."""


@dataclass(frozen=True)
class Verdict:
    """What a report comes to.

    Attributes
    ----------
    tone : {"agree", "part", "alone"}
        Whether the networks say the same, or there is only one.
    headline, detail : str
        A sentence, and what it rests on.
    cards : list of (str, str, str)
        Numbers that matter most: what, how much, and of what.
    """

    tone: str
    headline: str
    detail: str
    cards: list[tuple[str, str, str]]


def verdict(results: Results) -> Verdict:
    """Judge whether the networks say the same; with more than two, the one farthest apart."""
    first, others = results.reference, results.others
    seen = [
        f"{name} ({photo})" for name, photo in zip(first.cam.names, results.photos, strict=True)
    ]
    if not others:
        return Verdict("alone", f"{first.side.short} sees {listed(seen)}.", "", [])
    logits = max(float(np.abs(other.logits - first.logits).max()) for other in others)
    cams = max(
        relative_difference(one, two)
        for other in others
        for one, two in zip(first.cam.raw, other.cam.raw, strict=True)
    )
    rows = [row for table in results.layers for row in table]
    farthest = worst(rows)
    same = all(other.cam.target == first.cam.target for other in others)
    agree = same and logits < LOGITS_BOUND and farthest.relative < LAYERS_BOUND
    count = "two" if len(others) == 1 else str(1 + len(others))
    headline = f"The {count} networks agree: the largest logit difference is {scientific(logits)}."
    if not agree:
        headline = (
            f"The {count} networks part: a logit differs by {scientific(logits)},"
            f" {farthest.name} by {scientific(farthest.relative)} of its maximum."
        )
    who = "Both see" if same and count == "two" else f"{first.side.short} sees"
    equal = sum(w.equal for w in results.weights)
    compared = sum(w.compared for w in results.weights)
    extent = times((f"{first.logits.shape[1]:,} classes", f"{len(results.photos)} photos"))
    cards = [
        ("logits", scientific(logits), f"largest difference of {extent}"),
        ("Grad-CAM", scientific(cams), "of the maximum of a map, at most"),
        ("layers", scientific(farthest.relative), f"of a maximum, at most, in {len(rows)} layers"),
        ("weights", f"{equal} of {compared}", "tensors are the same, bit for bit"),
    ]
    return Verdict("agree" if agree else "part", headline, f"{who} {listed(seen)}.", cards)


def facts(results: Results) -> list[tuple[str, str]]:
    """Say what was run, name by value; no date, so that equal runs give equal pages."""
    net = results.reference.side.net
    rows = [
        (
            "network",
            f"EfficientNet-Lite0, {layers(net).total:,} parameters, trained on ImageNet",
        )
    ]
    rows += [
        (
            findings.side.title,
            f"{listed([f'{name} {version}' for name, version in findings.side.versions.items()])}"
            f", on {findings.side.net.device}",
        )
        for findings in results.findings
    ]
    size = times(results.reference.cam.images.shape[1:3])
    rows.append(("photos", f"{listed(results.photos)}, resized to {size}"))
    rows.append(("made with", f"cnnviz {cnnviz.__version__}"))
    return rows


def missing(results: Results) -> list[dict[str, str]]:
    """Say of each framework that is not there how to get it."""
    return [{"title": title_of(name), "command": how_to_get([name])} for name in results.missing]


def as_notes(results: Results) -> list[str]:
    """Give the lines for a terminal: the verdict, and how to get what is not there."""
    judged = verdict(results)
    return [
        " ".join(filter(None, (judged.headline, judged.detail))),
        *(f"{gap['title']} is not installed: {gap['command']} adds it" for gap in missing(results)),
    ]
