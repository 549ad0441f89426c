"""What a map is, in numbers and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Card"]


@dataclass(frozen=True)
class Card:
    """What must be known of a map before it is believed.

    Attributes
    ----------
    method : str
    network, framework : str
        Whose score it is.
    layer : str
        Where it was taken; empty for the picture itself.
    target : int or None
        The class; None where something else is explained.
    name : str
        Of what is explained.
    score_kind : str
        ``"logit"``, ``"probability"``, ``"objective"``, ``"region"`` or ``"function"``.
    score : float
        What the network gives the picture.
    low, high : float
        The range of the raw map.
    negative : float
        Share of its magnitude that is below zero and not to be seen in `Attribution.map`; zero
        of several layers, whose maps are cut at zero before they are fused.
    empty : str
        Why there is nothing to see, where there is not.
    fuse : str
        How several layers became one map; empty for one.
    facts : mapping of str to float
        Further numbers: ``residue``, the part of the score that the map does not account for;
        ``residue_share``, its share of what the score changed by; ``steps``; or measures of
        quality such as ``deletion``.
    """

    method: str
    network: str
    framework: str
    layer: str
    target: int | None
    name: str
    score_kind: str
    score: float
    low: float
    high: float
    negative: float
    empty: str = ""
    fuse: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give it as numbers and text, the facts among them."""
        found = asdict(self)
        return {**{k: v for k, v in found.items() if k != "facts"}, **found["facts"]}

    def __str__(self) -> str:
        at = f" at {self.layer!r}" if self.layer else ""
        text = (
            f"{self.method}{at} of {self.name}: {self.score_kind} {self.score:.4g},"
            f" raw {self.low:.3g} to {self.high:.3g}, "
            + (f"fused by {self.fuse}" if self.fuse else f"{self.negative:.0%} below zero")
        )
        facts = "".join(f", {key} {value:.4g}" for key, value in self.facts.items())
        return text + facts + (f"; empty: {self.empty}" if self.empty else "")
