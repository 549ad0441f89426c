"""Story 4: what "tarantula" looks like, and what one layer makes of a photo.

A class picture by the recipe of the CS231n notebook, shown at step 1 and every 25; the same
ascent on one channel; the class once more by the default recipe, which is easier on the eye; and
the feature maps of one layer for a photo, as an 8 x 8 sheet.

    python examples/story4_class_and_maps.py --framework keras
    python examples/story4_class_and_maps.py --model torchvision:squeezenet1_1 \
        --channel features.10.expand3x3:5 --maps-model torchvision:resnet50   # fetch weights
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cnnviz
from cnnviz import figures, photos

OUT = Path(__file__).parent / "out"
LAYERS = {
    "demo torch": ("blocks.9.expand.act:2", "blocks.3.expand.act"),
    "demo keras": ("block9_expand_act:2", "block3_expand_act"),
    "torchvision:resnet50": ("layer3.0.conv3:5", "layer2.0.conv3"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--framework", choices=["torch", "keras"], default="torch")
    parser.add_argument("--model", default="demo", help="for the class; demo runs offline")
    parser.add_argument("--maps-model", help="for the feature maps; the same by default")
    parser.add_argument("--weights", help="none for random ones; not for demo")
    parser.add_argument("--target", default=76, type=int, help="76 is the tarantula of ImageNet")
    parser.add_argument("--channel", help="LAYER:CHANNEL, where the model is another")
    parser.add_argument("--layer", help="of the feature maps, where the model is another")
    parser.add_argument("--quick", action="store_true", help="26 steps in place of 100")
    args = parser.parse_args()

    def load(spec: str) -> tuple[str, cnnviz.Adapter]:
        demo = spec == "demo"
        net = cnnviz.load(spec, framework=args.framework if demo else None, weights=args.weights)
        return f"demo {args.framework}" if demo else spec, net

    name, net = load(args.model)
    stem = OUT / f"story4_{name.replace(' ', '_').replace(':', '_')}"
    OUT.mkdir(exist_ok=True)
    target, channel = f"class:{args.target}", args.channel or LAYERS.get(name, ("",))[0]
    options = {"steps": 26} if args.quick else {}
    for objective, what in ((target, "class"), (channel, "channel")):
        if objective:
            found = cnnviz.ascend(net, objective, recipe="cs231n", **options)
            steps, pictures = zip(*found.intermediates, strict=True)
            titles = [f"{objective}, step {step}" for step in steps]
            figure = figures.images_figure([p[0] for p in pictures], titles, columns=5)
            figure.savefig(f"{stem}_{what}.png")
            rise = f"from {found.trace[0, 0]:.2f} to {found.trace[-1, 0]:.2f}"
            print(f"{stem}_{what}.png: {objective} {rise}")
    if not args.quick:
        print(cnnviz.ascend(net, target).save(f"{stem}_class_by_default_recipe.png"))

    if args.maps_model and args.maps_model != args.model:
        name, net = load(args.maps_model)
    layer = args.layer or LAYERS.get(name, ("", None))[1]
    maps = cnnviz.feature_maps(net, photos.path("coffee"), layer)
    print(maps.save(f"{stem}_maps.png"), maps)


if __name__ == "__main__":
    main()
