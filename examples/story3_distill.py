"""Story 3: the Distill look, and what a prior does for a picture.

The plain way first: 300 steps from noise with a bilateral filter after each, for the first 64
channels of a layer, as an 8 x 8 sheet. Then the way people want instead: channels in a
colour-decorrelated Fourier space, seen through jitter, scale and rotation. And a learned prior,
twice: with the spectrum and the colours of your own photos, and painted by a generator, here a
decoder that has learned what crops of photos have in common.

    python examples/story3_distill.py --framework keras
    python examples/story3_distill.py --model keras:VGG16 --layer block3_conv1   # fetches weights
    python examples/story3_distill.py --model my_vggface.h5 --preprocessing caffe --layer conv3_1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import cnnviz
from cnnviz import canvas, images, photos

OUT = Path(__file__).parent / "out"
LAYERS = {
    # For the sheet, and a deeper one for the pictures with a prior.
    "demo torch": ("blocks.3.expand.bn", "blocks.8.expand.bn"),
    "demo keras": ("block3_expand_bn", "block8_expand_bn"),
    "keras:VGG16": ("block3_conv1", "block5_conv1"),
    "torchvision:vgg16": ("features.10", "features.24"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--framework", choices=["torch", "keras"], default="keras")
    parser.add_argument("--model", default="demo", help="a spec or a file; demo runs offline")
    parser.add_argument("--weights", help="a file, or none for random ones; not for demo")
    parser.add_argument("--preprocessing", help="where the model does not tell it")
    parser.add_argument("--layer", help="where the model is another")
    parser.add_argument("--photos", nargs="+", default=list(photos.paths().values()))
    parser.add_argument("--quick", action="store_true", help="4 channels and few steps")
    args = parser.parse_args()

    demo = args.model == "demo"
    framework = args.framework if demo else None
    given = {"weights": args.weights, "preprocessing": args.preprocessing}
    net = cnnviz.load(args.model, framework=framework, **{k: v for k, v in given.items() if v})
    name = f"demo {args.framework}" if demo else args.model
    layer, deep = (args.layer, args.layer) if args.layer else LAYERS[name]
    channels = range(4 if args.quick else min(64, net.layer(layer).channels or 0))
    steps = {"steps": 8} if args.quick else {}
    OUT.mkdir(exist_ok=True)
    stem = OUT / f"story3_{Path(name).stem.replace(' ', '_').replace(':', '_')}"

    plain = cnnviz.ascend_layer(net, layer, channels, "bilateral", **steps)
    small = images.resize(plain.images, (64, 64), "bilinear")
    print(images.save(f"{stem}_bilateral.png", images.grid(small, 8 if len(small) > 8 else 2)))

    few = [f"{deep}:{channel}" for channel in (9, 10, 11, 12)]
    distill = cnnviz.ascend(net, few, "distill", **steps)
    print(distill.save(f"{stem}_distill.png"), distill.clean.round(2))

    own = canvas.FourierCanvas(prior=cnnviz.fit_prior(args.photos))
    fitted = cnnviz.ascend(net, few, "distill", canvas=own, **steps)
    print(fitted.save(f"{stem}_own_photos.png"), fitted.clean.round(2))

    generator = canvas.GeneratorCanvas(decoder(net.framework, args.photos), (48,), limit=2.5)
    painted = cnnviz.ascend(net, few, "distill", canvas=generator, **steps)
    print(painted.save(f"{stem}_generator.png"), painted.clean.round(2))


def decoder(framework: str, paths: list[str], side: int = 48, codes: int = 48):
    """Learn a decoder from crops of photos: the directions in which they differ most."""
    rng = np.random.default_rng(0)
    crops = []
    for path in paths:
        photo = images.read(path)
        photo = images.resize(photo, (192, 192 * photo.shape[1] // photo.shape[0]), "bilinear")
        for _ in range(600 // len(paths)):
            y, x = (rng.integers(0, length - side + 1) for length in photo.shape[:2])
            crops.append(photo[y : y + side, x : x + side].ravel())
    crops = np.array(crops, np.float32)
    mean = crops.mean(0)
    _, spread, directions = np.linalg.svd(crops - mean, full_matrices=False)
    kernel = directions[:codes] * (spread[:codes, None] / len(crops) ** 0.5)
    if framework == "torch":
        import torch

        # Channels first, as torch's models paint.
        order = np.arange(len(mean)).reshape(side, side, 3).transpose(2, 0, 1).ravel()
        dense = torch.nn.Linear(codes, len(mean))
        with torch.no_grad():
            dense.weight.copy_(torch.from_numpy(kernel.T[order]))
            dense.bias.copy_(torch.from_numpy(mean[order]))
        return torch.nn.Sequential(dense, torch.nn.Unflatten(1, (3, side, side)))
    import keras

    dense = keras.layers.Dense(len(mean))
    model = keras.Sequential([keras.Input((codes,)), dense, keras.layers.Reshape((side, side, 3))])
    dense.set_weights([kernel, mean])
    return model


if __name__ == "__main__":
    main()
