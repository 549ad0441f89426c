"""Any network that people have: each entry of the table held to its own framework."""

from __future__ import annotations

from typing import Any

import pytest
from zoo.entries import Entry
from zoo.judge import judge

# What the libraries of the networks warn of themselves; ours stay errors.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "`torch.jit.*is deprecated",
        "`torch.jit.*is not supported",
        "torch.ao.quantization is deprecated",
        "torch.quantize_per_tensor",
        "enable_nested_tensor is True",
        "__array__ implementation doesn't accept a copy keyword",
        "Layer .* does not have a `quantize` method",
        "Layer 'stage_.' looks like it has unbuilt state",
        ".*was passed an input with a mask attached to it",
    )
]


def test_network(entry: Entry, framework: Any, record: Any) -> None:
    report = judge(entry, framework)
    record(report)
    assert not report.failures, "\n".join(f"{k}: {v}" for k, v in report.failures.items())
