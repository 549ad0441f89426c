"""What the template shows, section by section: pictures written, numbers put into words."""

from __future__ import annotations

from typing import Any

import numpy as np

from cnnviz.comparison.tallies import relative_difference
from cnnviz.features import FeatureMaps, Profile
from cnnviz.figures import histogram_figure
from cnnviz.report.differences import tensor_key
from cnnviz.report.findings import Channel, Findings, Results
from cnnviz.report.formats import listed, percent, scientific, times
from cnnviz.report.plates import Album, Plate, signed_picture
from cnnviz.report.record import top_classes

__all__ = [
    "feature_sheets",
    "grad_cams",
    "judged_apart",
    "portraits",
    "predictions",
    "profiles",
    "weights",
]

Section = dict[str, Any]

_MAP_SIDE = 112


def predictions(results: Results, album: Album) -> list[Section]:
    """Give for each photo the likeliest classes and how likely each network holds them."""
    found = []
    for i, photo in enumerate(results.photos):
        classes = dict.fromkeys(c for f in results.findings for c in top_classes(f, i))
        labels = results.reference.side.net.labels or ()
        rows = [
            {
                "name": labels[c] if labels else f"class {c}",
                "shares": [
                    {"text": percent(p), "width": f"{100 * p:.2f}%"}
                    for p in (float(f.probabilities[i, c]) for f in results.findings)
                ],
            }
            for c in classes
        ]
        image = results.reference.cam.images[i]
        found.append(
            {
                "photo": photo,
                "plate": album.picture(f"photo {photo}", image, f"The photo {photo}"),
                "rows": rows,
                "differences": [
                    scientific(float(np.abs(f.logits[i] - results.reference.logits[i]).max()))
                    for f in results.others
                ],
            }
        )
    return found


def grad_cams(results: Results, album: Album) -> list[Section]:
    """Give for each photo the overlay of each network, and where the maps differ."""
    overlays = [f.cam.overlay() for f in results.findings]
    found = []
    for i, photo in enumerate(results.photos):
        looked = [
            {
                "side": f.side.title,
                "name": f.cam.names[i],
                "plate": album.picture(
                    f"grad-cam {photo} {f.side.framework}",
                    overlays[k][i],
                    f"Grad-CAM of {f.cam.names[i]} over the photo {photo}, by {f.side.title}",
                ),
            }
            for k, f in enumerate(results.findings)
        ]
        differences = [
            _cam_difference(results.reference, f, i, photo, album) for f in results.others
        ]
        found.append({"photo": photo, "looked": looked, "differences": differences})
    return found


def _cam_difference(one: Findings, two: Findings, i: int, photo: str, album: Album) -> Section:
    reference = one.cam.raw[i].astype(np.float64)
    difference = (two.cam.raw[i] - reference) / (np.abs(reference).max() or 1.0)
    reach = float(np.abs(difference).max())
    scale = max(1, one.cam.images.shape[1] // len(reference))
    return {
        "side": two.side.short,
        "reach": scientific(reach),
        "plate": album.picture(
            f"grad-cam {photo} difference {two.side.framework}",
            signed_picture(difference, reach, scale),
            f"Difference of the two maps of {photo}, at most {scientific(reach)} of the maximum",
            pixels=True,
        ),
    }


def feature_sheets(results: Results, album: Album) -> list[Section]:
    """Give for each layer the same channels as each network computes them."""
    return [
        _sheets(results, layer, depth, album)
        for layer, depth in zip(results.plan.layers, ("early", "middle", "late"), strict=True)
    ]


def _sheets(results: Results, layer: str, depth: str, album: Album) -> Section:
    photo = results.photos.index(results.plan.maps_photo)
    maps = results.reference.maps[layer][photo]
    # A channel that is the same everywhere shows nothing.
    varied = np.argsort(-maps.std(axis=(0, 1), dtype=np.float64), kind="stable")
    channels = sorted(int(c) for c in varied[: results.plan.maps])
    sheets = []
    for f in results.findings:
        sheet = f.maps.sheet(
            layer, photo, channels, columns=4, scale=max(1, _MAP_SIDE // len(maps))
        )
        name = f.side.names[layer]
        alt = f"{len(channels)} grey feature maps of {name}, by {f.side.title}"
        plate = album.picture(f"maps {layer} {f.side.framework}", sheet, alt, pixels=True)
        sheets.append({"side": f.side.title, "name": name, "plate": plate})
    return {
        "depth": depth,
        "name": results.reference.side.names[layer],
        "shape": times(maps.shape),
        "shown": len(channels),
        "sheets": sheets,
        "differences": [
            scientific(relative_difference(results.reference.maps[layer], f.maps[layer]))
            for f in results.others
        ],
    }


def profiles(results: Results, album: Album) -> Section:
    """Give the mean of each channel of one layer, with the chosen channel marked."""
    chosen = results.plan.profile
    i = results.photos.index(results.plan.profile_photo)
    drawn, values = [], []
    for f in results.findings:
        profile = _profile(f, chosen, i)
        values.append(profile.values)
        figure = profile.plot(chosen.index)
        figure.set_size_inches(6.2, 2.7)
        alt = (
            f"Mean activation of each channel of {profile.layer} by {f.side.title}: channel"
            f" {chosen.index} has rank {profile.rank(chosen.index)} of {len(profile.values)}"
        )
        plate = album.figure(f"profile {f.side.framework}", figure, alt)
        drawn.append({"side": f.side.title, "plate": plate})
    first = _profile(results.reference, chosen, i)
    return {
        "photo": results.photos[i],
        "name": first.layer,
        "channel": chosen.index,
        "rank": first.rank(chosen.index),
        "count": len(first.values),
        "drawn": drawn,
        "differences": [scientific(relative_difference(values[0], v)) for v in values[1:]],
    }


def _profile(findings: Findings, chosen: Channel, photo: int) -> Profile:
    maps, own = findings.maps[chosen.layer], findings.side.names[chosen.layer]
    one = FeatureMaps({own: maps[photo : photo + 1]}, findings.maps.images[photo : photo + 1])
    return one.profile(own)


def weights(results: Results, album: Album) -> Section:
    """Give the first kernels, histograms of some tensors, and a table of all."""
    stats = results.reference.weights
    drawn = []
    for f in results.findings:
        side, framework = f.side, f.side.framework
        kernels = f.weights.kernel_sheet(scale=18, columns=8)
        by_key = {tensor_key(row.name, row.role): row for row in f.weights.table}
        shown = [by_key[key] for key in results.plan.tensors]
        alt = f"The kernels of the first convolution as colour tiles, by {side.title}"
        drawn.append(
            {
                "side": side.title,
                "name": f.weights.first_kernel_name,
                "kernels": album.picture(f"kernels {framework}", kernels, alt, pixels=True),
                "histograms": album.figure(
                    f"histograms {framework}",
                    histogram_figure(shown, columns=2),
                    f"Histograms of {listed([row.name for row in shown])}, by {side.title}",
                ),
            }
        )
    return {
        "drawn": drawn,
        "kernels": "?" if stats.first_kernel is None else stats.first_kernel.shape[-1],
        "rows": [
            {
                "name": row.name,
                "role": row.role,
                "shape": times(row.shape),
                "numbers": [f"{v:.4g}" for v in (row.mean, row.std, row.min, row.max)],
                "statistic": row.is_statistic,
            }
            for row in stats.table
        ],
        "differences": [
            {"side": f.side.short, "equal": w.equal, "compared": w.compared, "left_out": w.left_out}
            for f, w in zip(results.others, results.weights, strict=True)
        ],
    }


def portraits(results: Results, album: Album) -> list[Section]:
    """Give for each channel and class the picture that each network was led to."""
    return [_portrait(results, k, album) for k in range(len(results.reference.portraits))]


def _portrait(results: Results, k: int, album: Album) -> Section:
    target = results.reference.portraits[k].target
    if isinstance(target, Channel):
        title = f"channel {target.index} of {results.reference.side.names[target.layer]}"
    else:
        title = f"class {target.name}"
    made: list[tuple[str, Plate]] = []
    for f in results.findings:
        image = f.portraits[k].image
        alt = f"Picture that excites {title}, made by {f.side.title}"
        plate = album.picture(f"ascent {title} {f.side.framework}", image, alt)
        made.append((f.side.short, plate))
    own = [f.portraits[k].scores[f.side.framework] for f in results.findings]
    return {
        "title": title,
        "made": [{"side": side, "plate": plate} for side, plate in made],
        "scores": [
            {
                "of": f.side.short,
                "by": [
                    {"side": g.side.short, "text": f"{f.portraits[k].scores[g.side.framework]:.4g}"}
                    for g in results.findings
                ],
            }
            for f in results.findings
        ],
        "apart": [percent(abs(v - own[0]) / max(abs(v), abs(own[0]), 1e-12)) for v in own[1:]],
    }


def judged_apart(results: Results) -> str:
    """Say how far apart the scores are that different networks give the same picture."""
    apart = [0.0]
    for findings in results.findings:
        for portrait in findings.portraits:
            scores = list(portrait.scores.values())
            apart.append((max(scores) - min(scores)) / max(1e-12, *map(abs, scores)))
    return scientific(max(apart))
