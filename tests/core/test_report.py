"""The report on the oracle: what it says, what it writes, and what it leaves alone."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import cnnviz
from cnnviz.comparison.tallies import Tally, relative_difference
from cnnviz.errors import InvalidOption, MissingDependency
from cnnviz.report import demo, demonstration, folder, networks
from cnnviz.report.depth import drawing, group
from cnnviz.report.differences import (
    LayerDifference,
    layer_differences,
    weight_differences,
)
from cnnviz.report.findings import Channel, Goal, Plan, Results, examine
from cnnviz.report.formats import listed, percent, scientific, times
from cnnviz.report.networks import Side, canonical, how_to_get, open_sides
from cnnviz.report.page import write_page
from cnnviz.report.plates import signed_picture
from cnnviz.report.record import as_json
from cnnviz.report.summary import as_notes, verdict
from cnnviz.testing.oracle import OracleAdapter
from cnnviz.testing.small import small_pictures, small_weights

LABELS = ("<b>bold</b>", "plain", "a & b", '"quoted"', "last")
PLAN = Plan(
    layers=("conv1", "conv2", "relu:1"),
    maps=3,
    maps_photo="one",
    channels=(Channel("conv2", 1),),
    classes=(Goal("plain"),),
    profile=Channel("conv2", 1),
    profile_photo="<two>",
    ascent={"size": 10, "steps": 1, "octaves": 1, "blur": 0.0},
    tensors=(("conv1", "kernel"), ("bn1", "scale")),
)


def photos() -> dict[str, Any]:
    return dict(zip(("one", "<two>"), small_pictures(2), strict=True))


def side(framework: str = "torch", **changes: Any) -> Side:
    weights = small_weights() | changes
    net = OracleAdapter(weights)
    net.labels = LABELS
    return Side.of(framework, net)


def shifted(amount: float = 0.5) -> Side:
    """The same network with another bias on class 2."""
    bias = small_weights()["fc.bias"].copy()
    bias[2] += amount
    return side("keras", **{"fc.bias": bias})


@pytest.fixture(scope="module")
def alone() -> Results:
    return examine([side()], photos(), PLAN, missing=["keras"])


@pytest.fixture(scope="module")
def both() -> Results:
    return examine([side(), shifted(1e-6)], photos(), PLAN)


@pytest.fixture(scope="module")
def apart() -> Results:
    return examine([side(), shifted()], photos(), PLAN)


def report(results: Results, out: Path) -> str:
    out.mkdir()
    return write_page(results, out).read_text(encoding="utf-8")


# Numbers


def test_differences_are_those_worked_out_by_hand():
    tally = Tally()
    tally.add(np.array([0.0, 2.0, -4.0]), np.array([0.0, 2.5, -4.0]))
    assert tally.largest == 0.5
    assert tally.relative == 0.5 / 4
    assert tally.mean == 0.5 / 3
    assert_allclose(tally.cosine, (2 * 2.5 + 16) / math.sqrt(20 * (2.5**2 + 16)))


def test_pieces_count_as_the_whole():
    a, b = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    whole, pieces = Tally(), Tally()
    whole.add(a, b)
    for k in range(7):
        pieces.add(a[k], b[k])
    assert whole.relative == pieces.relative
    assert_allclose([whole.mean, whole.cosine], [pieces.mean, pieces.cosine], rtol=1e-12)


def test_zeros_do_not_divide():
    zero, one = np.zeros(2), np.ones(2)
    assert relative_difference(zero, zero) == 0
    assert relative_difference(zero, one) == math.inf
    for a, b, cosine in ((zero, zero, 1.0), (zero, one, 0.0)):
        tally = Tally()
        tally.add(a, b)
        assert tally.cosine == cosine
    assert Tally().mean == 0


def test_layers_part_where_the_weights_do():
    bias = small_weights()["conv2.bias"] + 1
    rows = layer_differences(side(), side("keras", **{"conv2.bias": bias}), small_pictures(2))
    by_name = {row.name: row for row in rows}
    assert list(by_name) == ["conv1", "bn1", "relu:0", "pool", "conv2", "relu:1", "gap", "fc"]
    assert all(by_name[name].relative == 0 for name in ("conv1", "bn1", "relu:0", "pool"))
    assert by_name["conv1"].cosine == 1
    net = side().net
    outputs = net.forward(small_pictures(2), taps=["conv2"])["conv2"]
    assert_allclose(by_name["conv2"].mean, 1, rtol=1e-12)
    assert_allclose(by_name["conv2"].relative, 1 / np.abs(outputs).max(), rtol=1e-12)
    assert by_name["conv2"].shape == (2, 2, 6)
    assert by_name["fc"].relative > 0


def test_outputs_of_other_shapes_are_not_compared(monkeypatch):
    a, b = side(), side("keras")
    forward = b.net.forward
    monkeypatch.setattr(
        b.net, "forward", lambda x, taps: {k: v[..., :1] for k, v in forward(x, taps=taps).items()}
    )
    assert layer_differences(a, b, small_pictures(1)) == []


def test_weights_are_matched_by_layer_and_role():
    same = weight_differences(side(), side("keras"))
    assert (same.compared, same.equal, same.left_out, same.largest) == (10, 10, 0, 0)
    moved = weight_differences(side(), shifted(0.5))
    assert (moved.compared, moved.equal, moved.left_out) == (10, 9, 0)
    assert_allclose(moved.largest, 0.5)
    other = weight_differences(side(), side("keras", **{"fc.bias": np.zeros(1)}))
    assert (other.compared, other.left_out) == (9, 1)


def test_a_picture_is_judged_by_every_network(apart):
    channel, goal = apart.reference.portraits
    assert channel.scores["torch"] == channel.scores["keras"]
    assert_allclose(goal.scores["torch"], goal.scores["keras"])
    net = apart.reference.side.net
    wanted = net.forward(channel.image[None], taps=["conv2"])["conv2"][0, ..., 1].mean()
    assert_allclose(channel.scores["torch"], wanted)


def test_probabilities_add_up(both):
    shares = both.reference.probabilities
    assert_allclose(shares.sum(axis=1), 1)
    logits = both.reference.logits[0]
    assert_allclose(shares[0], np.exp(logits) / np.exp(logits).sum())


def test_the_json_holds_the_numbers(apart, alone):
    found = json.loads(json.dumps(as_json(apart), allow_nan=False))
    assert found["reference"] == "torch"
    between = found["differences"]["keras"]
    assert_allclose(list(between["logits"].values()), 0.5)
    assert between["grad_cam"] == {"one": 0, "<two>": 0}
    assert between["weights"]["equal"] == 9
    assert [row["name"] for row in between["layers"]][-1] == "fc"
    top = found["frameworks"]["torch"]["predictions"]["one"][0]
    assert top["class"] == int(apart.reference.logits[0].argmax())
    assert top["name"] == LABELS[top["class"]]
    single = as_json(alone)
    assert "differences" not in single
    assert single["missing"] == {"keras": "pip install 'cnnviz[keras,demo]'"}


def test_infinity_is_no_json(apart):
    rows = [replace(apart.layers[0][0], relative=math.inf), *apart.layers[0][1:]]
    found = as_json(replace(apart, layers=(rows,)))
    assert found["differences"]["keras"]["layers"][0]["relative"] is None
    json.dumps(found, allow_nan=False)


# Words


def test_the_verdict(both, apart, alone):
    agreed = verdict(both)
    assert agreed.tone == "agree"
    assert agreed.headline == (
        "The two networks agree: the largest logit difference is 1.0 × 10⁻⁶."  # noqa: RUF001
    )
    assert agreed.detail.startswith("Both see ")
    parted = verdict(apart)
    assert parted.tone == "part"
    assert "a logit differs by 0.5, fc by " in parted.headline
    assert verdict(alone).tone == "alone"
    assert verdict(alone).headline.startswith("PyTorch sees ")


def test_what_is_said_at_the_end(alone, both):
    assert as_notes(alone)[1:] == [
        "Keras is not installed: pip install 'cnnviz[keras,demo]' adds it"
    ]
    assert len(as_notes(both)) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7.64e-6, "7.6 × 10⁻⁶"),  # noqa: RUF001
        (9.99e-5, "1.0 × 10⁻⁴"),  # noqa: RUF001
        (0.0123, "0.012"),
        (math.inf, "inf"),
        (2.5e12, "2.5 × 10¹²"),  # noqa: RUF001
    ],
)
def test_scientific(value, text):
    assert scientific(value) == text


def test_other_formats():
    assert [percent(v) for v in (0, 0.0001, 0.5, 1)] == ["0.0 %", "< 0.1 %", "50.0 %", "100.0 %"]
    assert times((3, 3, 8)) == "3 × 3 × 8"  # noqa: RUF001
    assert times(()) == "scalar"
    assert [listed(["a", "b", "c"][:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


# Pictures


def test_the_difference_is_white_at_zero_and_red_above():
    picture = signed_picture(np.array([[-2.0, 0.0, 2.0]]), 2.0, scale=2)
    assert picture.shape == (2, 6, 3)
    assert_allclose(picture[0, 2], 0.97, atol=0.01)
    assert picture[0, 5, 0] > picture[0, 5, 2]
    assert picture[0, 0, 2] > picture[0, 0, 0]
    assert_allclose(signed_picture(np.zeros((1, 1)), 0.0), 0.97, atol=0.01)


def test_the_drawing_over_depth():
    kinds = ("Conv2d", "BatchNorm2d", "ReLU6", "Add")
    rows = [
        LayerDifference(f"l{k}", f"l{k}", kind, (1,), relative, 0.0, 1.0)
        for k, (kind, relative) in enumerate(zip(kinds, (0.0, 1e-7, 1e-5, math.inf), strict=True))
    ]
    plot = drawing(rows)
    assert plot["groups"] == ["convolution", "batch norm", "activation", "other"]
    places = [point["y"] for point in plot["points"]]
    # None on the lowest line with the least, infinity on the highest with the most.
    assert places[0] == places[1] == plot["bottom"]
    assert places[2] == places[3] == min(tick["y"] for tick in plot["ticks"])
    assert [tick["text"] for tick in plot["ticks"]] == ["10⁻⁷", "10⁻⁶", "10⁻⁵"]
    assert [point["x"] for point in plot["points"]] == sorted(p["x"] for p in plot["points"])
    assert drawing([rows[0]])["points"][0]["y"] == plot["bottom"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("DepthwiseConv2D", "convolution"),
        ("Linear", "convolution"),
        ("BatchNormalization", "batch norm"),
        ("ReLU", "activation"),
        ("GlobalAveragePooling2D", "other"),
    ],
)
def test_groups(kind, name):
    assert group(kind) == name


# The page


class _Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[Mapping[str, str | None]] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.add(tag)
        self.links += [named[key] for key in ("src", "href") if key in named]
        self.ids += [named["id"]] if "id" in named else []
        if tag == "img":
            self.images.append(named)


@pytest.mark.parametrize("which", ["alone", "both", "apart"])
def test_every_link_resolves_and_stays_on_disk(which, request, tmp_path):
    out = tmp_path / "out"
    read = _Links(report(request.getfixturevalue(which), out))
    assert len(read.ids) == len(set(read.ids))
    for link in read.links:
        if link.startswith("#"):
            assert link[1:] in read.ids
        elif link != "report.json":
            assert (out / link).is_file()
    assert not read.tags & {"script", "link", "iframe"}
    assert all(image["alt"] and image["width"] and image["height"] for image in read.images)
    assert sorted(image["src"] for image in read.images if image["src"]) == sorted(
        # The photos stand twice: as they are, and beside their maps.
        [f"pictures/{p.name}" for p in (out / "pictures").iterdir()]
        + ["pictures/photo-one.png", "pictures/photo-two.png"]
    )


def test_names_are_escaped(both, tmp_path):
    text = report(both, tmp_path / "out")
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold" in text
    assert "<two>" not in text
    assert "a &amp; b" in text


def test_equal_results_give_equal_pages(both, tmp_path):
    first, second = (report(both, tmp_path / name) for name in "ab")
    assert first == second
    for path in folder.files_below(tmp_path / "a"):
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_one_framework_says_how_to_get_the_other(alone, both, tmp_path):
    text = report(alone, tmp_path / "alone")
    assert "Keras is not installed here, so this page shows PyTorch alone." in text
    assert "pip install &#39;cnnviz[keras,demo]&#39;" in text
    assert 'id="layers"' not in text
    assert "−" not in text  # noqa: RUF001  no difference is spoken of
    assert "is not installed" not in report(both, tmp_path / "both")


def test_the_page_shows_each_part(both, tmp_path):
    text = report(both, tmp_path / "out")
    parts = ("predictions", "grad-cam", "feature-maps", "profile", "weights", "ascent", "layers")
    for part in parts:
        assert f'id="{part}"' in text
    assert text.count("<h3>Early") == text.count("<h3>Middle") == text.count("<h3>Late") == 1
    assert "1.0 × 10⁻⁶" in text  # noqa: RUF001
    assert re.search(r"<b>9 of 10</b> tensors are the same in PyTorch and Keras", text)
    assert "So every difference on this page" not in text


# The folder


def filled(path: Path, **files: str) -> dict[str, bytes]:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return snapshot(path)


def snapshot(path: Path) -> dict[str, bytes]:
    return {name: (path / name).read_bytes() for name in folder.files_below(path)}


def written(out: Path, text: str = "old") -> None:
    with folder.replaced(out) as draft:
        (draft / "pictures").mkdir()
        (draft / "pictures" / "a.png").write_text(text)
        manifest = {"kind": "cnnviz report", "files": folder.files_below(draft)}
        (draft / folder.MANIFEST).write_text(json.dumps(manifest))


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    out = tmp_path / "thesis"
    before = filled(out, chapter_tex="words", notes_txt="more")
    with pytest.raises(InvalidOption, match=r"'chapter.tex' and 1 more, which no report wrote"):
        demo(out)
    assert snapshot(out) == before
    assert os.listdir(tmp_path) == ["thesis"]


@pytest.mark.parametrize(
    "manifest",
    ["{}", "[]", "not json", '{"kind": "atlas", "files": ["a.txt"]}', '{"kind": "cnnviz report"}'],
)
def test_another_manifest_is_no_report(tmp_path, manifest):
    before = filled(tmp_path / "out", report_json=manifest, a_txt="mine")
    with pytest.raises(InvalidOption, match="no report wrote"):
        folder.check_replaceable(tmp_path / "out")
    assert snapshot(tmp_path / "out") == before


def test_a_report_with_something_added_is_refused(tmp_path):
    written(tmp_path / "out")
    (tmp_path / "out" / "pictures" / "mine.png").write_text("mine")
    with pytest.raises(InvalidOption, match=r"'pictures/mine\.png', which"):
        written(tmp_path / "out")
    assert (tmp_path / "out" / "pictures" / "mine.png").exists()


def test_a_file_and_a_missing_parent_are_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidOption, match="is a file; name a folder"):
        demo(tmp_path / "file")
    with pytest.raises(InvalidOption, match="there is no folder"):
        demo(tmp_path / "none" / "out")
    assert os.listdir(tmp_path) == ["file"]


def test_new_empty_and_earlier_folders_are_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        written(tmp_path / name)
        assert sorted(snapshot(tmp_path / name)) == ["pictures/a.png", "report.json"]
    written(tmp_path / "new", "newer")
    assert snapshot(tmp_path / "new")["pictures/a.png"] == b"newer"
    assert sorted(os.listdir(tmp_path)) == ["empty", "new"]


def test_a_folder_that_cannot_be_renamed_is_filled(tmp_path, monkeypatch):
    out = tmp_path / "mounted"
    written(out)
    rename = Path.rename

    def busy(self, target):
        if self == out:
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", busy)
    inode = out.stat().st_ino
    written(out, "newer")
    assert out.stat().st_ino == inode
    assert snapshot(out)["pictures/a.png"] == b"newer"
    assert os.listdir(tmp_path) == ["mounted"]


def test_a_failure_leaves_the_earlier_report(tmp_path):
    out = tmp_path / "out"
    written(out)
    before = snapshot(out)

    def fail():
        with folder.replaced(out) as draft:
            (draft / "index.html").write_text("half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert snapshot(out) == before
    assert os.listdir(tmp_path) == ["out"]


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    written(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "report.json").is_file()


# The networks


def test_names_are_shared():
    assert canonical("blocks.3.expand.conv") == "block3_expand_conv"
    assert how_to_get(["torch", "keras"]) == "pip install 'cnnviz[torch,keras,demo]'"
    keras = side("keras")
    keras.net.framework = "keras-tensorflow"
    assert (keras.short, keras.title) == ("Keras", "Keras on TensorFlow")


def test_versions_are_those_of_what_is_imported(monkeypatch):
    one = side()
    one.net.framework = "numpy-nothing"
    assert one.versions == {"numpy": np.__version__}


def installed(monkeypatch, torch: bool, keras: bool, broken: tuple[str, ...] = ()) -> None:
    monkeypatch.setattr(networks, "frameworks", lambda: {"keras": keras, "torch": torch})

    def load(spec, *, framework):
        assert spec == "demo"
        if framework in broken:
            raise MissingDependency(f"{framework} is not whole")
        # What frameworks read while they are imported.
        assert os.environ["OMP_WAIT_POLICY"]
        print("talk", file=sys.stderr)
        return side(framework).net

    monkeypatch.setattr(cnnviz, "load", load)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)


def test_all_frameworks_are_opened_torch_first(monkeypatch):
    installed(monkeypatch, torch=True, keras=True)
    sides, missing = open_sides()
    assert [s.framework for s in sides] == ["torch", "keras"]
    assert missing == []
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize("broken", [(), ("keras",)])
def test_what_is_not_there_is_named(monkeypatch, broken):
    installed(monkeypatch, torch=True, keras=bool(broken), broken=broken)
    sides, missing = open_sides()
    assert [s.framework for s in sides] == ["torch"]
    assert missing == ["keras"]


def test_nothing_installed_says_what_to_install(monkeypatch):
    installed(monkeypatch, torch=False, keras=False)
    with pytest.raises(MissingDependency, match=r"pip install 'cnnviz\[torch,keras,demo\]'"):
        open_sides()
    installed(monkeypatch, torch=True, keras=False, broken=("torch",))
    with pytest.raises(MissingDependency, match="torch is not whole"):
        open_sides()


def test_what_libraries_say_meanwhile_is_not_shown(monkeypatch, capfd):
    def load(spec, *, framework):
        os.write(2, b"from C++\n")
        return side(framework).net

    installed(monkeypatch, torch=True, keras=False)
    monkeypatch.setattr(cnnviz, "load", load)
    open_sides()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


# The whole


def test_the_main_job(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(demonstration, "open_sides", lambda: ([side(), shifted(1e-6)], []))
    monkeypatch.setattr(demonstration, "QUICK", PLAN)
    monkeypatch.setattr("cnnviz.photos.paths", photos)
    out = tmp_path / "out"
    page = demo(out, quick=True)
    assert page == out / "index.html"
    found = json.loads((out / "report.json").read_text())
    assert sorted([*found["files"], "report.json"]) == folder.files_below(out)
    said = capsys.readouterr().err
    assert "PyTorch: 2 pictures by gradient ascent" in said
    assert "The two networks agree" in said
    first = snapshot(out)
    assert demo(out, quick=True) == page
    assert snapshot(out) == first
    assert os.listdir(tmp_path) == ["out"]
