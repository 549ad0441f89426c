"""Story 1: what this filter is looking for.

A picture grows out of a small patch of noise until one channel answers to it: 13 octaves of
gradient ascent, each 1.2 times as large as the last. Then a photo says whether real things
excite that channel too, and how it ranks among all channels of its layer.

    python examples/story1_filter.py --framework torch
    python examples/story1_filter.py --model torchvision:vgg16_bn     # fetches the weights
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cnnviz
from cnnviz import photos

OUT = Path(__file__).parent / "out"
CHANNELS = {
    # Before its ReLU6, behind which a channel ends at 6 and pushes no further.
    "demo torch": ("blocks.5.expand.bn", 79),
    "demo keras": ("block5_expand_bn", 79),
    "torchvision:vgg16_bn": ("features.42", 265),
    "keras:VGG16": ("block5_conv3", 265),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--framework", choices=["torch", "keras"], default="torch")
    parser.add_argument("--model", default="demo", help="a spec; demo runs offline")
    parser.add_argument("--weights", help="a file, or none for random ones; not for demo")
    parser.add_argument("--channel", help="LAYER:CHANNEL, where the model is another")
    parser.add_argument("--photo", default=photos.path("chelsea"))
    parser.add_argument("--quick", action="store_true", help="four octaves in place of 13")
    args = parser.parse_args()

    demo = args.model == "demo"
    net = cnnviz.load(args.model, framework=args.framework if demo else None, weights=args.weights)
    name = f"demo {args.framework}" if demo else args.model
    layer, channel = CHANNELS.get(name, ("", 0))
    if args.channel:
        layer, _, index = args.channel.rpartition(":")
        channel = int(index)
    OUT.mkdir(exist_ok=True)
    stem = OUT / f"story1_{name.replace(' ', '_').replace(':', '_')}"

    found = cnnviz.ascend(
        net, f"{layer}:{channel}", recipe="octaves", **({"octaves": 4} if args.quick else {})
    )
    for side, value in zip(found.recipe.sides(56), found.octaves[:, 0], strict=False):
        print(f"octave of {side:3} pixels: mean activation {value:.3f}")
    print(found.save(f"{stem}_picture.png"))

    profile = cnnviz.feature_maps(net, args.photo, layer).profile()
    rank, count = profile.rank(channel), len(profile.values)
    print(f"in {args.photo}, channel {channel} of {layer} ranks {rank} of {count}")
    profile.plot(mark=channel).savefig(f"{stem}_profile.png")
    print(f"{stem}_profile.png")


if __name__ == "__main__":
    main()
