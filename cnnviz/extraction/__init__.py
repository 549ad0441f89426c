"""The features of a data set in a file: what layers make of every image, streamed."""

from __future__ import annotations

from cnnviz.extraction.extracting import check_target, extract, extraction_trial
from cnnviz.extraction.result import Extraction, Features

__all__ = ["Extraction", "Features", "check_target", "extract", "extraction_trial"]
