"""Twenty classes of ImageNet, and what another classifier makes of their pictures.

The classes were chosen beforehand and played no part in choosing the recipe. The other classifier
is never looked at by the ascent; it is shown the finished pictures and gives each class a rank.

    python examples/twenty_classes.py
    python examples/twenty_classes.py --judge torchvision:mobilenet_v2      # fetches its weights
    python examples/twenty_classes.py --recipe distill --steps 256 --objective class
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import cnnviz
from cnnviz import figures

OUT = Path(__file__).parent / "out"
CLASSES = (
    *(1, 9, 71, 84, 107, 130, 207, 251, 291, 301),
    *(323, 340, 386, 388, 483, 779, 817, 949, 963, 980),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--framework", choices=["torch", "keras"], default="torch")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--objective", choices=["odds", "class"], default="odds")
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--judge", help="another classifier of ImageNet")
    parser.add_argument("--judge-weights", help="a file, in place of what is fetched")
    parser.add_argument("--quick", action="store_true", help="two classes, 8 steps, 64 pixels")
    args = parser.parse_args()

    net = cnnviz.load("demo", framework=args.framework)
    asked = [f"{args.objective}:{one}" for one in CLASSES[: 2 if args.quick else None]]
    options = {"size": 64, "steps": 8} if args.quick else {"steps": args.steps}
    made = cnnviz.ascend(net, asked, args.recipe, **options)
    names = [net.labels[one] for one in CLASSES[: len(asked)]]
    if args.judge:
        judge = cnnviz.load(args.judge, weights=args.judge_weights)
        found = made.transfer(judge)
        print(found)
        names = [f"{name}: {rank}" for name, rank in zip(names, found.ranks, strict=True)]
    grain = np.mean([card.high_frequency for card in made.quality()])
    print(f"{grain:.1%} of the pictures' energy is above half the Nyquist frequency")
    OUT.mkdir(exist_ok=True)
    path = OUT / f"twenty_classes_{args.recipe}_{args.objective}.png"
    figures.images_figure(made.shown, names, columns=5).savefig(path)
    print(path)


if __name__ == "__main__":
    main()
