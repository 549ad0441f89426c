"""The command line on the oracle: results, and one clear line for whatever can be mended."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from shell import RUN, Run, assert_refused, contents, in_a_process, run_here

import cnnviz
from cnnviz.cli import main
from cnnviz.images import to_uint8
from cnnviz.testing import OracleAdapter, small_pictures

MODULE = """
from cnnviz.testing import OracleAdapter

def build():
    print("building")
    return OracleAdapter()

def grey(): return OracleAdapter(preprocessing=None)
def a_dict(): return {"layers": 3}
def broken(): raise RuntimeError("no such checkpoint\\nand more")
def ends(): raise SystemExit("usage: train.py DATA")
def stopped(): raise KeyboardInterrupt
not_a_function = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a network and photos, good and bad."""
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "script.py").write_text("import no_such_module\n")
    photo = Image.fromarray(to_uint8(small_pictures(1, 12)[0]))
    photo.save(tmp_path / "photo.png")
    photo.rotate(180).save(tmp_path / "other.png")
    whole = (tmp_path / "photo.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "old.png").write_bytes(b"here before")
    (tmp_path / "junk.keras").write_bytes(b"junk")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(folder: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    def run(*arguments: str) -> Run:
        return run_here(capfd, *arguments)

    return run


def pixels(name: str) -> NDArray[np.uint8]:
    with Image.open(name) as picture:
        return np.asarray(picture)


# Results


def test_layers_are_listed(cli: Callable[..., Run]) -> None:
    run = cli("layers", "net.py:build")
    assert run.status == 0
    assert run.out.splitlines()[2].split() == ["conv1", "Conv", *"?x8x8x4", "112", *"3x3"]
    assert run.out.splitlines()[-1] == "oracle: 8 layers, 377 parameters"


def test_layers_are_listed_for_programs(cli: Callable[..., Run]) -> None:
    run = cli("layers", "net.py:build", "--json")
    assert run.json == json.loads(json.dumps(cnnviz.layers(OracleAdapter()).to_json()))


def test_what_a_model_prints_is_not_part_of_the_result(cli: Callable[..., Run]) -> None:
    run = cli("layers", "net.py:build", "--json")
    assert run.out.startswith("[")
    assert run.err == ""


def test_features_are_summarised(cli: Callable[..., Run]) -> None:
    run = cli("features", "net.py:build", "photo.png", "--layer", "relu:0", "--layer", "fc")
    assert run.status == 0
    header, _, relu, dense = run.out.splitlines()
    assert header.split() == ["layer", "shape", "mean", "strongest", "channels", "dead"]
    assert relu.startswith("relu:0  1 x 8 x 8 x 4")
    assert dense.startswith("fc      1 x 5")


def test_a_marked_channel_has_a_rank(cli: Callable[..., Run]) -> None:
    maps = cnnviz.feature_maps(OracleAdapter(), "photo.png", "conv1")
    expected = maps.profile().rank(2)
    run = cli("features", "net.py:build", "photo.png", "--layer", "conv1", "--mark", "2")
    assert f"conv1 channel 2: mean {maps.profile().values[2]:.4g}, rank {expected} of 4" in run.out
    found = cli("features", "net.py:build", "photo.png", "--layer=conv1", "--mark=2", "--json").json
    assert found["layers"][0]["rank"] == expected
    assert found["layers"][0]["values"] == maps.profile().values.tolist()


def test_one_layer_of_one_photo_is_its_sheet(cli: Callable[..., Run]) -> None:
    chosen = ["--layer", "conv1", "--first", "3", "--columns", "2", "--out", "sheet.png"]
    run = cli("features", "net.py:build", "photo.png", *chosen)
    assert run.out.splitlines()[-1] == "wrote sheet.png"
    sheet = cnnviz.feature_maps(OracleAdapter(), "photo.png", "conv1").sheet(first=3, columns=2)
    np.testing.assert_array_equal(pixels("sheet.png"), to_uint8(sheet))


def test_several_sheets_and_profiles_share_a_picture(cli: Callable[..., Run]) -> None:
    single = ["features", "net.py:build", "photo.png", "--layer", "conv1", "--out"]
    cli(*single, "one.png")
    cli(*single, "marked.png", "--mark", "1")
    cli("features", "net.py:build", "photo.png", "other.png", *single[3:], "two.png")
    cli(*single, "layers.png", "--layer", "fc")
    one, marked, two, layers = map(pixels, ("one.png", "marked.png", "two.png", "layers.png"))
    assert marked.shape == layers.shape
    assert marked.shape[1] > one.shape[1]
    # Pixel for pixel, each below its title.
    bar, gap = 24, 12
    assert two.shape == (2 * (len(one) + bar) + gap, *one.shape[1:])
    np.testing.assert_array_equal(two[bar : bar + len(one)], one)
    np.testing.assert_array_equal(marked[bar : bar + len(one), : one.shape[1]], one)
    assert (two[:bar] < 255).any()


def test_features_are_written_as_numbers(cli: Callable[..., Run]) -> None:
    cli("features", "net.py:build", "photo.png", "other.png", "--out", "maps.npz")
    with np.load("maps.npz") as found:
        assert found["relu:1"].shape == (2, 2, 2, 6)


def test_weights_are_described_and_drawn(cli: Callable[..., Run]) -> None:
    run = cli("weights", "net.py:build", "--out", "w.csv", "--kernels", "k.png")
    assert "conv1.kernel" in run.out
    assert run.out.splitlines()[-2:] == ["wrote k.png", "wrote w.csv"]
    assert len(Path("w.csv").read_text().splitlines()) == 11
    stats = cnnviz.weight_stats(OracleAdapter())
    np.testing.assert_array_equal(pixels("k.png"), to_uint8(stats.kernel_sheet()))
    found = cli("weights", "net.py:build", "--out", "w.json", "--json")
    assert found.json == json.loads(Path("w.json").read_text())
    assert cli("weights", "net.py:build", "--out", "w.png").status == 0
    assert pixels("w.png").shape[1] > 300


def test_a_class_is_located(cli: Callable[..., Run]) -> None:
    run = cli("cam", "net.py:build", "photo.png", "other.png", "--out", "cam.png", "--json")
    expected = cnnviz.grad_cam(OracleAdapter(), ["photo.png", "other.png"])
    assert [one["target"] for one in run.json["maps"]] == list(expected.target)
    assert [one["image"] for one in run.json["maps"]] == ["photo.png", "other.png"]
    assert run.json["layer"] == "relu:1"
    assert run.json["out"] == "cam.png"
    assert pixels("cam.png").shape[1] > 20


def test_classes_are_chosen_for_all_photos_or_for_each(cli: Callable[..., Run]) -> None:
    photos = ["photo.png", "other.png", "--json"]
    one = cli("cam", "net.py:build", *photos, "--target", "3", "--method", "cam").json
    each = cli("cam", "net.py:build", *photos, "--target", "3", "--target", "0").json
    assert [m["target"] for m in one["maps"]] == [3, 3]
    assert one["method"] == "cam"
    assert [m["target"] for m in each["maps"]] == [3, 0]


def test_maps_are_written_as_numbers(cli: Callable[..., Run]) -> None:
    run = cli("cam", "net.py:build", "photo.png", "--target", "2", "--out", "cam.npz")
    assert run.out.splitlines()[2].split()[:3] == ["photo.png", "2", "class"]
    assert "wrote cam.npz" in run.out
    with np.load("cam.npz") as found:
        expected = cnnviz.grad_cam(OracleAdapter(), "photo.png", 2)
        np.testing.assert_array_equal(found["raw"], expected.raw)


ASCENT = ["--size", "8", "--octaves", "1", "--steps", "2"]


def test_pictures_are_made(cli: Callable[..., Run]) -> None:
    made = ["ascend", "net.py:build", "class:3", "conv1:2", *ASCENT, "--out"]
    run = cli(*made, "a.png", "--seed", "7", "--jitter", "1", "--blur", "0", "--json")
    expected = cnnviz.ascend(
        OracleAdapter(),
        ["class:3", "conv1:2"],
        size=8,
        seed=7,
        octaves=1,
        steps=2,
        jitter=1,
        blur=0,
    )
    assert [p["objective"] for p in run.json["pictures"]] == ["class:3", "conv1:2"]
    assert run.json["pictures"][0]["octaves"] == [expected.octaves[-1, 0]]
    expected.save("b.png")
    np.testing.assert_array_equal(pixels("a.png"), pixels("b.png"))
    told = cli(*made, "c.jpg").out.splitlines()
    assert told[0].split()[:4] == ["objective", "at", "the", "start"]
    assert told[-1] == "wrote c.jpg"


def test_the_demo_says_where_its_page_is(
    cli: Callable[..., Run], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def write(out: Path, *, quick: bool = False) -> Path:
        asked.append((out, quick))
        return out / "index.html"

    monkeypatch.setattr("cnnviz.report.demo", write)
    assert cli("demo", "--out", "pages", "--quick").out == f"wrote {Path('pages/index.html')}\n"
    assert asked == [(Path("pages"), True)]


@pytest.mark.parametrize("kind", ["grey", "transparent", "turned"])
def test_every_kind_of_photo_is_taken(kind: str, cli: Callable[..., Run]) -> None:
    photo = Image.fromarray(pixels("photo.png"))
    exif = Image.Exif()
    if kind == "grey":
        expected = photo.convert("L")
        expected.save("kind.png")
    elif kind == "transparent":
        expected = photo
        photo.convert("RGBA").save("kind.png")
    else:
        # 6: the camera was held on its side.
        expected = photo
        exif[0x0112] = 6
        photo.rotate(90).save("kind.png", exif=exif)
    run = cli("features", "net.py:build", "kind.png", "--layer", "conv1", "--json")
    maps = cnnviz.feature_maps(OracleAdapter(), expected, "conv1")
    np.testing.assert_allclose(run.json["layers"][0]["values"], maps.profile().values)


# What can be mended

FEATURES = ["features", "net.py:build", "photo.png"]
CAM = ["cam", "net.py:build", "photo.png"]
ASCEND = ["ascend", "net.py:build", "class:1", *ASCENT]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        # Wrong usage.
        (["layers"], ["MODEL", "cnnviz layers --help"]),
        (["lyers", "demo"], ["lyers"]),
        (["layers", "net.py:build", "--nosuch"], ["--nosuch"]),
        (["ascend", "net.py:build", "class:1"], ["--out"]),
        ([*FEATURES, "--first", "0"], ["--first"]),
        ([*FEATURES, "--mark", "one"], ["--mark"]),
        # Models that are none.
        (["layers", "nosuch"], ["cannot tell", "torchvision:NAME"]),
        (["layers", "nosuch:net"], ["cannot tell"]),
        (["layers", ""], ["model spec"]),
        (["layers", "nosuch.keras"], ["there is no file 'nosuch.keras'"]),
        (["layers", "nosuch.py:build"], ["there is no file 'nosuch.py'"]),
        (["layers", "net.py"], ["module.py:function"]),
        (["layers", "net.py:biuld"], ["no function 'biuld'", "did you mean 'build'"]),
        (["layers", "net.py:not_a_function"], ["no function 'not_a_function'"]),
        (["layers", "net.py:a_dict"], ["builtins.dict is not a model"]),
        (
            ["layers", "net.py:broken"],
            ["net.py:broken() failed", "RuntimeError: no such checkpoint"],
        ),
        (["layers", "net.py:ends"], ["SystemExit: usage"]),
        (["layers", "script.py:build"], ["No module named 'no_such_module'"]),
        (["layers", "demo", "--framework", "caffe"], ["framework must be one of", "'caffe'"]),
        (["layers", "net.py:build", "--framework", "torch"], ["framework is for 'demo' alone"]),
        (["layers", "net.py:build", "--weights", "none"], ["leave --weights out"]),
        (["layers", "net.py:build", "--preprocessing", "nosuch"], ["'imagenet', 'caffe', 'tf'"]),
        (
            ["layers", "net.py:build", "--output", "aux"],
            ["returns an adapter, which takes no output"],
        ),
        ([*CAM, "--output", "1"], ["returns an adapter, which takes no output"]),
        (["layers", "net.py:build", "--size", "big"], ["224x320"]),
        (["layers", "net.py:build", "--size", "0"], ["224x320"]),
        # Layers, channels, classes.
        ([*FEATURES, "--layer", "conv3"], ["no layer 'conv3'", "'conv2'", "'conv1'"]),
        ([*FEATURES, "--layer", "conv1", "--mark", "4"], ["channel 4", "0..3"]),
        ([*FEATURES, "--layer", "conv1", "--mark", "-1"], ["channel -1", "0..3"]),
        ([*CAM, "--layer", "nosuch"], ["no layer 'nosuch'"]),
        ([*CAM, "--layer", "fc"], ["no height and width"]),
        ([*CAM, "--target", "5"], ["class 5", "0..4"]),
        ([*CAM, "--target", "-1"], ["class -1", "0..4"]),
        ([*CAM, "--target", "cat"], ["knows no names of classes"]),
        ([*CAM, "--target", "1", "--target", "2"], ["2 targets for 1 picture;"]),
        ([*CAM, "--method", "nosuch"], ["'grad_cam'"]),
        ([*ASCEND[:2], "class:9", *ASCENT], ["class 9", "0..4"]),
        ([*ASCEND[:2], "class:cat", *ASCENT], ["knows no names of classes"]),
        ([*ASCEND[:2], "conv9:1", *ASCENT], ["no layer 'conv9'", "'conv1'"]),
        ([*ASCEND[:2], "conv1:4", *ASCENT], ["0..3"]),
        ([*ASCEND[:2], "conv1", *ASCENT], ["LAYER:CHANNEL"]),
        ([*ASCEND, "--recipe", "nosuch"], ["'default'", "'octaves'"]),
        ([*ASCEND, "--steps", "0"], ["steps must be at least 1"]),
        # Photos.
        (["cam", "net.py:build", "nosuch.png"], ["there is no file 'nosuch.png'"]),
        (["cam", "net.py:build", "photo.png", "cut.png"], ["'cut.png' is damaged"]),
        (["features", "net.py:build", "text.png"], ["'text.png' is empty or not an image"]),
        (["features", "net.py:build", "folder.png"], ["is a folder"]),
        (["features", "net.py:grey", "photo.png"], ["--preprocessing"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_can_be_mended_is_told_in_one_line(
    arguments: list[str], words: list[str], cli: Callable[..., Run], folder: Path
) -> None:
    before = contents(folder)
    writes = arguments[0] in ("features", "cam", "ascend") and words != ["--out"]
    place = ["--out", "old.png"] if writes else []
    assert_refused(cli(*arguments, *place), *words)
    assert contents(folder) == before


PLACES = {
    "features": [*FEATURES, "--out"],
    "cam": [*CAM, "--out"],
    "ascend": [*ASCEND, "--out"],
    "weights": ["weights", "net.py:build", "--out"],
    "kernels": ["weights", "net.py:build", "--kernels"],
}


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("nosuch/out.png", ["there is no folder", "make it first"]),
        ("out.txt", ["cannot tell the format of 'out.txt'", ".png"]),
        ("folder.png", ["is a folder"]),
    ],
)
@pytest.mark.parametrize("command", PLACES.values(), ids=PLACES.keys())
def test_the_place_to_write_is_judged_before_the_work(
    command: list[str],
    out: str,
    words: list[str],
    cli: Callable[..., Run],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cnnviz, "load", pytest.fail)
    before = contents(folder)
    assert_refused(cli(*command, out), *words)
    assert contents(folder) == before


@pytest.mark.parametrize("command", ["ascend", "weights", "kernels"])
def test_numbers_are_written_where_there_are_some(command: str, cli: Callable[..., Run]) -> None:
    assert_refused(cli(*PLACES[command], "out.npz"), "cannot tell the format")


@pytest.mark.parametrize(
    ("out", "words"), [("nosuch/pages", "there is no folder"), ("old.png", "is a file")]
)
def test_the_folder_of_the_demo_is_judged(
    out: str, words: str, cli: Callable[..., Run], folder: Path
) -> None:
    before = contents(folder)
    assert_refused(cli("demo", "--out", out), words)
    assert contents(folder) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written_is_told(cli: Callable[..., Run], folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o500)
    assert_refused(cli(*CAM, "--out", "locked/cam.png"), "cannot be written")


def test_a_bad_photo_is_told_before_a_network_is_loaded(
    cli: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnnviz, "load", pytest.fail)
    assert_refused(cli("cam", "net.py:build", "cut.png"), "'cut.png'")


def test_a_file_that_the_system_refuses_is_named(
    cli: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied", "secret.pt")

    monkeypatch.setattr(cnnviz, "load", refuse)
    assert_refused(cli("layers", "net.py:build"), "secret.pt: Permission denied")


def test_an_error_of_ours_keeps_its_traceback(
    cli: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnnviz, "layers", lambda net: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli("layers", "net.py:build")


def test_an_interrupt_is_no_error(cli: Callable[..., Run]) -> None:
    assert cli("layers", "net.py:stopped") == (130, "", "cnnviz: interrupted\n")


def test_not_a_number_becomes_null(cli: Callable[..., Run], folder: Path) -> None:
    text = "from cnnviz.testing import OracleAdapter, small_weights\ndef build():\n"
    text += "    w = small_weights()\n    w['fc.bias'][2] = float('nan')\n"
    (folder / "nan.py").write_text(f"{text}    return OracleAdapter(w)\n")
    run = cli("features", "nan.py:build", "photo.png", "--layer", "fc", "--json")
    assert run.json["layers"][0]["values"][2] is None


# As a process


def test_help_imports_neither_a_framework_nor_matplotlib(folder: Path) -> None:
    code = f"{RUN.replace('sys.exit(main())', 'main()')}; print(*sys.modules)"
    run = in_a_process("--help", code=code)
    assert run.status == 0
    assert "Usage: cnnviz" in run.out
    loaded = set(run.out.splitlines()[-1].split())
    assert "typer" in loaded
    assert not loaded & {"torch", "tensorflow", "keras", "jax", "matplotlib", "cv2", "jinja2"}


def test_the_version_is_told(cli: Callable[..., Run]) -> None:
    assert cli("--version") == (0, f"cnnviz {cnnviz.__version__}\n", "")


@pytest.mark.parametrize("name", sorted(set(PLACES) - {"cam"}))
def test_a_place_without_a_format_is_told(name: str, cli: Callable[..., Run]) -> None:
    """All but ``cam``, which writes a folder there."""
    assert_refused(cli(*PLACES[name], "out"), "cannot tell the format")


@pytest.mark.parametrize(
    "command", ["layers", "features", "weights", "cam", "attribute", "ascend", "demo"]
)
def test_every_command_has_help(command: str, cli: Callable[..., Run]) -> None:
    run = cli(command, "-h")
    assert run.status == 0
    assert command in run.out
    assert command in cli().out


def test_exit_codes_reach_the_shell(folder: Path) -> None:
    good = in_a_process("layers", "net.py:build", "--json")
    assert (good.status, good.json[0]["name"]) == (0, "conv1")
    before = contents(folder)
    assert_refused(in_a_process(*CAM, "--target", "9", "--out", "old.png"), "0..4")
    assert contents(folder) == before


@pytest.mark.skipif(
    shutil.which("cnnviz", path=str(Path(sys.executable).parent)) is None, reason=""
)
def test_the_script_is_installed(folder: Path) -> None:
    script = Path(sys.executable).parent / "cnnviz"
    done = subprocess.run([script, "layers", "nosuch"], capture_output=True, text=True, check=False)
    assert_refused(Run(done.returncode, done.stdout, done.stderr))


@pytest.mark.parametrize(
    ("arguments", "missing", "advice"),
    [
        (["layers", "torchvision:resnet18"], ["torch"], "pip install 'cnnviz[torch]'"),
        (["layers", "timm:resnet18"], ["torch"], "pip install 'cnnviz[torch]'"),
        (["layers", "junk.keras"], ["keras"], "pip install 'cnnviz[keras]'"),
        (["layers", "keras:VGG16"], ["keras"], "pip install 'cnnviz[keras]'"),
        (["layers", "demo"], ["torch", "keras"], "'cnnviz[torch,demo]' or 'cnnviz[keras,demo]'"),
        (["layers", "demo", "--framework", "torch"], ["torch"], "pip install 'cnnviz[torch]'"),
    ],
)
def test_a_missing_extra_is_named(
    arguments: list[str], missing: list[str], advice: str, folder: Path
) -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); {RUN}"
    assert_refused(in_a_process(*arguments, code=code), "installed", advice)


def test_a_framework_that_does_not_load_is_told(folder: Path) -> None:
    text = "raise OSError('libtorch_cpu.so: cannot open shared object file')\n"
    (folder / "torch.py").write_text(text)
    assert_refused(in_a_process("layers", "torchvision:resnet18"), "cannot be imported", "libtorch")


def test_opencv_without_a_display_is_told(folder: Path) -> None:
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    (folder / "cv2.py").write_text(f"raise ImportError({text!r})\n")
    made = [*ASCEND[:3], "--recipe", "octaves", "--size", "8", "--steps", "1", "--octaves", "2"]
    before = contents(folder)
    run = in_a_process(*made, "--out", "new.png")
    assert_refused(run, "libGL.so.1", "opencv-python-headless")
    assert contents(folder) == before


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_control_c_ends_quietly(folder: Path) -> None:
    text = "import time\ndef build():\n    open('ready', 'w').close()\n    time.sleep(60)\n"
    (folder / "slow.py").write_text(text)
    begun = time.monotonic()
    # A shell hands a background process that ignores interrupts down to all that it starts.
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {RUN}"
    with subprocess.Popen(
        [sys.executable, "-c", code, "layers", "slow.py:build"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        while not (folder / "ready").exists() and time.monotonic() - begun < 60:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"cnnviz: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_may_leave_early(folder: Path) -> None:
    code = f"import sys, time; time.sleep(1); {RUN}"
    with subprocess.Popen(
        [sys.executable, "-c", code, "layers", "net.py:build"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
    assert err == b""


def test_a_terminal_gets_a_table_that_fits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["layers", "net.py:build"]) == 0
    lines = screen.getvalue().splitlines()
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in lines) <= 40
    assert any("conv1" in line for line in lines)
