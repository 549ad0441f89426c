"""The grid pointing game: which methods put the map of a class where its picture is.

Photos of four classes or more are laid out two by two in every order, and each class of each
mosaic is explained.
What counts is the share of the positive map in the cell of that class: 1 at best, 0.25 by chance.
Rows come as they are found, as a Markdown table; methods that hide or add noise take few samples.

    python examples/pointing_game.py                        # photos of scikit-image's wheel
    python examples/pointing_game.py --methods grad_cam layer_cam rise
    python examples/pointing_game.py --judge torchvision:mobilenet_v2       # fetches its weights
    python examples/pointing_game.py --photo a.jpg=daisy --photo b.jpg=bee --photo ...
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cnnviz
from cnnviz.attribution import quality
from cnnviz.classes import class_index

# What two small classifiers both see in them first, resized whole, not cropped.
PHOTOS = {
    "chelsea.png": "Egyptian cat",
    "coffee.png": "espresso",
    "motorcycle_left.png": "moped",
    "camera.png": "tripod",
}
FEWER: dict[str, dict[str, Any]] = {
    "smooth_grad_cam_pp": {"samples": 10},
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
ONE_CLASS = {"shapley_cam"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--framework", choices=["torch", "keras"], default="torch")
    parser.add_argument("--photo", action="append", metavar="FILE=CLASS", help="four or more")
    parser.add_argument("--judge", help="another classifier of ImageNet")
    parser.add_argument("--judge-weights", help="a file, in place of what is fetched")
    parser.add_argument("--methods", nargs="+", choices=cnnviz.METHODS, help="by default all")
    parser.add_argument("--cell", type=int, default=160, help="pixels a side")
    parser.add_argument("--count", type=int, help="at most so many mosaics")
    parser.add_argument("--quick", action="store_true", help="one mosaic of 96 pixels, 2 methods")
    args = parser.parse_args()

    cell, count = (48, 1) if args.quick else (args.cell, args.count)
    size = 2 * cell, 2 * cell
    nets = [cnnviz.load("demo", framework=args.framework, input_size=size)]
    if args.judge:
        nets.append(cnnviz.load(args.judge, weights=args.judge_weights, input_size=size))
    given = [one.rpartition("=")[::2] for one in args.photo or []] or _photos()
    classes = [class_index(nets[0], name) for _, name in given]
    laid = quality.mosaics(
        [file for file, _ in given], classes, size=cell, placements="all", count=count
    )
    for net in nets:
        for (file, name), one in zip(given, classes, strict=True):
            seen = cnnviz.attribute(net, file, target=one, size=cell, score="probability")
            print(f"{net.name}: {Path(file).name} is {name} with {seen.score[0]:.2f}")
        print(f"{net.name}: class activation maps are taken at {seen.layer!r}")

    print(f"\n{len(laid)} mosaics of {2 * cell} px, {4 * len(laid)} maps a network\n")
    print(f"| method | at | {' | '.join(net.name for net in nets)} | settings |")
    print(f"|---|---|{'---|' * len(nets)}---|")
    for name, chance in ("random map", quality.random_map), ("centre box", quality.centre_box):
        drawn = chance(4 * len(laid), size).reshape(-1, 4, *size)
        share = f"{quality.grid_shares(drawn).mean():.3f}"
        print(f"| {name} | | {' | '.join([share] * len(nets))} | |", flush=True)
    some = ["grad_cam", "gradient_x_input"] if args.quick else args.methods
    for name in some or sorted(cnnviz.METHODS, key=_cost):
        options, cells = FEWER.get(name, {}), []
        for net in nets:
            alone = name in ONE_CLASS
            try:
                found = quality.grid_pointing(net, laid, name, together=not alone, **options)
            except cnnviz.CnnvizError as error:
                cells.append(str(error))
            else:
                cells.append(f"{found.mean:.3f} ± {found.std:.3f}")
        told = ", ".join(f"{key}={value}" for key, value in options.items())
        where = cnnviz.METHODS[name]
        at = f"{where.stages} stages" if where.stages else where.at.removesuffix("s")
        print(f"| {name} | {at} | {' | '.join(cells)} | {told} |", flush=True)


def _cost(method: str) -> int:
    """Sort cheap methods before those that take many samples."""
    return (["occlusion", *FEWER].index(method) + 1) if method in {"occlusion", *FEWER} else 0


def _photos() -> list[tuple[str, str]]:
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise SystemExit("name four photos with --photo FILE=CLASS, or install scikit-image")
    folder = Path(found.origin).parent / "data"
    return [(str(folder / file), name) for file, name in PHOTOS.items()]


if __name__ == "__main__":
    main()
