"""What judges a backend: an oracle in plain numpy and the checks that any adapter must pass."""

from __future__ import annotations

from cnnviz.testing.checks import CHECKS, Subject
from cnnviz.testing.oracle import NumpyOps, OracleAdapter
from cnnviz.testing.seeing import assert_fields
from cnnviz.testing.small import SMALL_PREPROCESSING, small_pictures, small_weights

__all__ = [
    "CHECKS",
    "SMALL_PREPROCESSING",
    "NumpyOps",
    "OracleAdapter",
    "Subject",
    "assert_fields",
    "small_pictures",
    "small_weights",
]
