"""Story 2: where the network looked.

CAM (2016) and Grad-CAM (2017) of the predicted class, or of any other, for three photos: the
raw signed map at the layer's own resolution, the map in [0, 1], and the overlay of 0.3 heat and
0.7 photo. And what the filters next to the picture extract: the first kernels as colour tiles.

    python examples/story2_where.py --framework keras
    python examples/story2_where.py --model torchvision:resnet101 --layer layer4
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cnnviz
from cnnviz import figures, images, photos

OUT = Path(__file__).parent / "out"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--framework", choices=["torch", "keras"], default="torch")
    parser.add_argument("--model", default="demo", help="a spec; demo runs offline")
    parser.add_argument("--weights", help="a file, or none for random ones; not for demo")
    parser.add_argument("--layer", help="the last one with height and width by default")
    parser.add_argument("--target", help="a class by its name; the predicted one by default")
    parser.add_argument("--quick", action="store_true", help="one photo in place of three")
    args = parser.parse_args()

    demo = args.model == "demo"
    net = cnnviz.load(args.model, framework=args.framework if demo else None, weights=args.weights)
    name = f"demo_{args.framework}" if demo else args.model.replace(":", "_")
    OUT.mkdir(exist_ok=True)
    chosen = dict(list(photos.paths().items())[: 1 if args.quick else None])

    for method in ("cam", "grad_cam"):
        try:
            found = cnnviz.attribute(net, list(chosen.values()), method, args.target, args.layer)
        except cnnviz.CnnvizError as error:
            # CAM is only for networks that end in a mean over space and a dense layer.
            print(f"{method}: {error}")
            continue
        for note in found.notes:
            print(f"{method}: {note}")
        found.plot().savefig(OUT / f"story2_{name}_{method}.png")
        for i, photo in enumerate(chosen):
            print(f"{method} of {photo}: {found.names[i]}, score {found.score[i]:.2f}")
            stem = OUT / f"story2_{name}_{method}_{photo}"
            figures.signed_figure(found.raw[i], f"{photo}: {found.names[i]}, raw").savefig(
                f"{stem}_raw.png"
            )
            images.save(f"{stem}_map.png", found.map[i])
            images.save(f"{stem}_overlay.png", found.overlay()[i])

    images.save(OUT / f"story2_{name}_kernels.png", cnnviz.weight_stats(net).kernel_sheet())
    print(f"pictures are in {OUT}")


if __name__ == "__main__":
    main()
