"""A scan in a process of its own, which the tests kill.

python -m scans.victim OUT EXECUTOR
"""

from __future__ import annotations

import sys
from pathlib import Path

from cnnviz import executor, find_exemplars
from cnnviz.testing import OracleAdapter, small_pictures

__all__ = ["MAKERS", "run"]

MAKERS = {
    "serial": executor.serial,
    "processes": lambda: executor.processes(2, threads=1),
    "ray": lambda: executor.ray(2),
}


def run(out: Path, name: str, shards: int = 12) -> None:
    """Find exemplars, or go on with finding them."""
    pictures = small_pictures(1440, side=24)
    with MAKERS[name]() as place:
        find_exemplars(
            OracleAdapter(),
            pictures,
            "all",
            labels=[i % 5 for i in range(len(pictures))],
            batch=8,
            out=out,
            resume=True,
            executor=place,
            shards=shards,
        )


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2])
