"""Runs killed at random moments and gone on with; workers killed while they work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scans.victim import MAKERS, run

from cnnviz.testing import OracleAdapter

MOMENTS = 20
TESTS = Path(__file__).resolve().parents[1]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run(out, "serial", shards=1)
    return contents(out)


def started(out: Path, name: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen([sys.executable, "-m", "scans.victim", str(out), name], env=environment)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", MAKERS)
def test_killed_at_random_moments(name, undisturbed, tmp_path):
    begun = time.monotonic()
    assert started(tmp_path / "first", name).wait() == 0
    took = time.monotonic() - begun
    assert contents(tmp_path / "first") == undisturbed
    rng = np.random.default_rng(0)
    early = 0
    for moment in range(MOMENTS):
        out = tmp_path / str(moment)
        victim = started(out, name)
        try:
            # Uniform over the whole run, its start and its end included.
            victim.wait(float(rng.uniform(0, took)))
        except subprocess.TimeoutExpired:
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            early += 1
        assert started(out, name).wait() == 0
        assert contents(out) == undisturbed, f"killed at moment {moment}"
    # The test would be none if most runs had ended before they were killed.
    assert early > MOMENTS // 2


@pytest.mark.slow
def test_workers_end_with_a_master_that_is_killed(tmp_path):
    import psutil

    victim = started(tmp_path / "out", "processes")
    workers: list[Any] = []
    end = time.monotonic() + 120
    while len(workers) < 2 and time.monotonic() < end:
        time.sleep(0.2)
        children = psutil.Process(victim.pid).children(recursive=True)
        workers = [c for c in children if "popen_loky" in " ".join(c.cmdline())]
        if not list((tmp_path / "out" / "shards").glob("*.npz")):
            workers = []
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert len(workers) == 2
    _, left = psutil.wait_procs(workers, timeout=20)
    assert not left


@dataclass
class Dies:
    """A task whose worker is killed once, while it is at an item."""

    mark: Path

    @property
    def environment(self) -> Mapping[str, str]:
        return {}

    def open(self) -> Any:
        return OracleAdapter()

    def run(self, opened: Any, item: int) -> int:
        if item == 3 and not self.mark.exists():
            self.mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item


@pytest.mark.slow
@pytest.mark.parametrize("name", ["processes", "ray"])
def test_what_a_killed_worker_was_at_is_done_by_another(name, tmp_path, monkeypatch):
    # Ray's workers would find no module of tests.
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    mark = tmp_path / "mark"
    with MAKERS[name]() as place:
        found = dict(place.map_shards(Dies(mark), range(9)))
        assert found == {n: n * n for n in range(9)}
        assert list(place.map_units(Dies(mark), range(50))) == [(n, n * n) for n in range(50)]
    assert mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["processes", "ray"])
def test_a_worker_killed_in_a_scan(name, undisturbed, tmp_path):
    """Kill one of the workers themselves, from outside, while the master waits."""
    import psutil

    victim = started(tmp_path / "out", name)
    killed = 0
    end = time.monotonic() + 300
    while victim.poll() is None and time.monotonic() < end and not killed:
        time.sleep(0.02)
        if not list((tmp_path / "out" / "shards").glob("*.npz")):
            continue
        for child in psutil.Process(victim.pid).children(recursive=True):
            # By what they are: loky's workers, and Ray's actors, which name themselves.
            words = " ".join(child.cmdline())
            if "_Actor.run" in words or "loky.backend.popen_loky" in words:
                child.kill()
                killed += 1
                break
    assert victim.wait(300) == 0
    assert killed == 1
    assert contents(tmp_path / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3, 8])
@pytest.mark.parametrize("name", MAKERS)
def test_any_number_of_shards_anywhere(name, shards, undisturbed, tmp_path):
    run(tmp_path / "out", name, shards)
    assert contents(tmp_path / "out") == undisturbed
