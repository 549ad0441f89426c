"""What the doctor of networks says of each planted fault, and of networks without one.

Rows come as they are found, as Markdown tables.

    PYTHONPATH=tests KERAS_BACKEND=tensorflow python -m doctor_table > rows.md
    PYTHONPATH=tests KERAS_BACKEND=tensorflow python -m doctor_table --only "batch norm eps"
"""

from __future__ import annotations

import argparse

# Torch first: Triton, which torch brings in late, cannot come after TensorFlow's LLVM.
import torchvision  # noqa: F401

# ruff: isort: split
from faults import FAULTS, opened, sound

import cnnviz
from cnnviz import photos

NETWORKS = {
    "demo": "EfficientNet-Lite0",
    "resnet18": "ResNet-18",
    "mixed": "mixed",
    "loose": "loose",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="faults with this in their name")
    args = parser.parse_args()
    chosen = [fault for fault in FAULTS if not args.only or args.only in fault.name]

    print("| fault | planted in | network | layer named | cause named | certainty | right |")
    print("|---|---|---|---|---|---|---|")
    right = 0
    for fault in chosen:
        found = cnnviz.compare(*fault.plant(), photos.path("coffee")).diagnoses
        told = (found[0].other, found[0].cause, found[0].sure) if found else ("", "none", "")
        holds = told == (fault.layer, fault.cause, "proved")
        right += holds
        layer = f"`{told[0]}`" if told[0] else ""
        wanted = "yes" if holds else f"no: {fault.cause} at `{fault.layer}`"
        where = f"{fault.side} | {NETWORKS[fault.network]} | {layer}"
        print(f"| {fault.name} | {where} | {told[1]} | {told[2]} | {wanted} |", flush=True)
    print(f"\n{right} of {len(chosen)} right, {len({f.name for f in chosen})} kinds of fault.")

    if args.only:
        return
    print("\n| network without a fault | reference | farthest apart | diagnosis |")
    print("|---|---|---|---|")
    for network, name in NETWORKS.items():
        pair = [opened(model, network) for model in sound(network)]
        for one, two in (pair, pair[::-1]):
            kept = cnnviz.compare(one, two, list(photos.paths().values()))
            apart = "" if kept.worst is None else f"{kept.worst.relative:.1e}"
            told_of = str(kept.diagnosis or "none")
            print(f"| {name} | {one.framework} | {apart} | {told_of} |", flush=True)


if __name__ == "__main__":
    main()
