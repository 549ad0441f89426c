"""The images that excite each channel most, and what the activations of a data set are like."""

from __future__ import annotations

from cnnviz.exemplars.channels import ChannelReport, Finding
from cnnviz.exemplars.costs import exemplars_trial
from cnnviz.exemplars.figures import profile_in_data
from cnnviz.exemplars.finding import find_exemplars
from cnnviz.exemplars.result import Example, Exemplars, LayerExemplars
from cnnviz.exemplars.statistics import EDGES, ChannelStatistics

__all__ = [
    "EDGES",
    "ChannelReport",
    "ChannelStatistics",
    "Example",
    "Exemplars",
    "Finding",
    "LayerExemplars",
    "exemplars_trial",
    "find_exemplars",
    "profile_in_data",
]
