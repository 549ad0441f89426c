"""Every backend holds the contract, for the small network in each form that people write."""

from __future__ import annotations

import pytest

from cnnviz.testing import CHECKS
from contract.subjects import subjects


def pytest_generate_tests(metafunc):
    backend = metafunc.config.getoption("--backend")
    if not backend or backend == "core":
        # Never a silent skip: a contract that nobody was held to proves nothing.
        raise pytest.UsageError("tests/contract needs --backend torch, keras-tensorflow, ...")
    makers = subjects(backend)
    metafunc.parametrize("make", makers.values(), ids=makers.keys())


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_contract(check, make, backend):
    check(make())
