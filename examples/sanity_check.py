"""The sanity check: which methods give another map once the network has forgotten everything.

Weights are redrawn from the last layer to the first; a map that still has the order of its pixels
when none is left shows edges of the picture, not what the network has learned. The weights are
written back at the end. Numbers come as they are found, as a Markdown table.

    python examples/sanity_check.py
    python examples/sanity_check.py --methods grad_cam guided_backprop --stages 6
    python examples/sanity_check.py --photo a.jpg --photo b.jpg --seeds 3
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

import cnnviz
from cnnviz import photos
from cnnviz.attribution import quality

FEWER: dict[str, dict[str, Any]] = {
    "smooth_grad_cam_pp": {"samples": 5},
    "smoothgrad": {"samples": 10},
    "smoothgrad_squared": {"samples": 10},
    "vargrad": {"samples": 10},
    "integrated_gradients": {"steps": 20},
    "superpixels": {"samples": 200},
    "rise": {"masks": 300},
    "score_cam": {"channels": 64},
    "ss_cam": {"channels": 64, "samples": 2},
    "is_cam": {"channels": 64, "samples": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--framework", choices=["torch", "keras"], default="torch")
    parser.add_argument("--photo", action="append", help="by default those that come along")
    parser.add_argument("--methods", nargs="+", choices=cnnviz.METHODS, help="by default all")
    parser.add_argument("--stages", type=int, default=2, help="points of the cascade")
    parser.add_argument("--seeds", type=int, default=1, help="how often all weights are redrawn")
    parser.add_argument("--quick", action="store_true", help="one photo, 96 pixels, two methods")
    args = parser.parse_args()

    net = cnnviz.load("demo", framework=args.framework)
    files = args.photo or list(photos.paths().values())
    files, size = (files[:1], 96) if args.quick else (files, None)
    some = ["grad_cam", "guided_backprop"] if args.quick else args.methods
    before = _digest(net)
    print(f"{net.name}, {', '.join(Path(file).name for file in files)}\n")
    for i, name in enumerate(some or sorted(cnnviz.METHODS, key=FEWER.__contains__)):
        options = FEWER.get(name, {})
        try:
            found = [
                quality.randomisation(
                    net, files, [name], stages=args.stages, seed=seed, size=size,
                    options={name: options},
                )
                for seed in range(args.seeds)
            ]  # fmt: skip
        except cnnviz.CnnvizError as error:
            print(f"| {name} | {error} |", flush=True)
            continue
        if i == 0:
            shares = "".join(f" {share:.0%} |" for share in found[0].shares)
            print(f"| method |{shares} SSIM | passes | settings |")
            print(f"|---|{'---|' * len(found[0].shares)}---|---|---|")
        alike = np.abs([one.absolute[0] for one in found]).mean(0)
        close = np.mean([one.ssim[0, -1] for one in found])
        passed = f"{sum(one.passed[name] for one in found)} of {len(found)}"
        told = ", ".join(f"{key}={value}" for key, value in options.items())
        numbers = "".join(f" {one:.2f} |" for one in (*alike, close))
        print(f"| {name} |{numbers} {passed} | {told} |", flush=True)
    print("\nColumns in per cent: |rank correlation| once so many of the layers are redrawn.")
    print("Weights as before." if _digest(net) == before else "WEIGHTS CHANGED.")


def _digest(net: Any) -> str:
    """Sum up every bit of the weights."""
    found = hashlib.sha256()
    for name, value in net.weights().items():
        found.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    main()
