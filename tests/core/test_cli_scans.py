"""``exemplars`` and ``extract``: what they say, write and refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shell import RUN, Run, assert_refused, contents, in_a_process, run_here

import cnnviz
from cnnviz.images import to_uint8
from cnnviz.testing import OracleAdapter, small_pictures

MODULE = """
import time
from cnnviz.testing import OracleAdapter

def build():
    return OracleAdapter()

class Slow(OracleAdapter):
    def forward(self, x, *, taps):
        time.sleep(0.2)
        return super().forward(x, taps=taps)

def slow():
    return Slow()

def never():
    raise RuntimeError("the network was opened")
"""
COUNT = 12


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(MODULE)
    for i, picture in enumerate(small_pictures(COUNT, 12)):
        place = tmp_path / "photos" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(to_uint8(picture)).save(place / f"{i:02d}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(folder: Path, capfd) -> Callable[..., Run]:
    return lambda *arguments: run_here(capfd, *arguments)


# Extract


def test_features_are_those_of_the_library(cli, folder):
    run = cli("extract", "net.py:build", "photos", "--layers", "conv1,gap", "--pool", "mean")
    assert (run.status, run.err) == (0, "")
    assert run.out.splitlines()[2:] == [
        "conv1  12 x 4  float64",
        "gap    12 x 6  float64",
        "oracle (numpy): 12 images in features.npz",
        "wrote features.npz",
    ]
    cnnviz.extract(OracleAdapter(), "photos", ("conv1", "gap"), "other.npz", pool="mean")
    with np.load("features.npz") as found, np.load("other.npz") as wanted:
        assert set(found.files) == set(wanted.files)
        for name in ("conv1", "gap", "index", "label", "reference"):
            assert np.array_equal(found[name], wanted[name])


@pytest.mark.parametrize("place", [("--workers", "2"), ("--executor", "serial", "--shards", "3")])
def test_every_executor_writes_the_same(cli, folder, place):
    some = ("extract", "net.py:build", "photos", "--layers", "all", "--dtype", "float16")
    assert cli(*some, "--batch", "2", "--out", "one.npz").status == 0
    run = cli(*some, "--batch", "2", "--out", "many.npz", *place, "--json")
    assert (run.status, run.err) == (0, "")
    assert run.json["count"] == COUNT
    assert run.json["layers"]["fc"] == {"column": "fc", "shape": [12, 5], "dtype": "float16"}
    assert Path("one.npz").read_bytes() == Path("many.npz").read_bytes()


@pytest.mark.parametrize("command", ["extract", "exemplars"])
def test_a_dry_run_tells_and_writes_nothing(cli, folder, command):
    before = contents(folder)
    run = cli(command, "net.py:build", "photos", "--layers", "conv1", "--dry-run", "--json")
    assert (run.status, run.err) == (0, "")
    assert contents(folder) == before
    assert run.json["images"] == COUNT
    assert run.json["layers"] == {"conv1": [8, 8, 4]}
    assert 0 < run.json["seconds"] < 60
    if command == "extract":
        assert run.json["bytes"] == COUNT * 8 * 8 * 4 * 8
    else:
        found = cnnviz.find_exemplars(OracleAdapter(), "photos", "conv1", out="ex")
        parts = [Path("ex/scan.npz"), *Path("ex/layers").iterdir()]
        held = 0
        for path in parts:
            with np.load(path) as file:
                held += sum(file[name].nbytes for name in file.files)
        assert run.json["bytes"] == held
        assert found.seen == COUNT
    lines = cli(command, "net.py:build", "photos", "--layers", "conv1", "--dry-run").out
    assert "12 images in batches of 64" in lines
    assert "before any compression" in lines


def test_a_file_is_replaced_only_if_asked(cli, folder):
    some = ("extract", "net.py:build", "photos", "--layers", "fc")
    assert cli(*some).status == 0
    before = Path("features.npz").read_bytes()
    refused = cli("extract", "net.py:never", "photos", "--layers", "fc")
    assert_refused(refused, "'features.npz' is there already", "--overwrite")
    assert_refused(cli(*some, "--pool", "max", "--resume"), "other pool")
    assert Path("features.npz").read_bytes() == before
    assert cli(*some, "--resume").status == 0
    assert cli(*some, "--pool", "max", "--overwrite").status == 0
    assert Path("features.npz").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["extract", "net.py:never", "photos", "--out", "f.csv"], ".npz, .zarr or .parquet"),
        (["extract", "net.py:never", "photos", "--pool", "median"], "--pool is mean or max"),
        (["extract", "net.py:never", "nowhere"], "there is no file or folder 'nowhere'"),
        (["extract", "net.py:never", "photos", "net.py"], "'photos' is a folder"),
        (["extract", "net.py:never", "net.py", "nowhere.png"], "there is no file 'nowhere.png'"),
        (["extract", "net.py:never", "photos", "--executor", "gpu"], "serial, processes, ray"),
        (["extract", "net.py:build", "photos", "--dtype", "int8"], "dtype is"),
        (["extract", "net.py:build", "photos", "--layers", "conv9"], "no layer 'conv9'"),
        (["extract", "net.py:build", "photos", "--layers", ","], "layers are names"),
        (["exemplars", "net.py:never", "photos", "--resume"], "--out"),
        (["exemplars", "net.py:never", "photos", "--channels", "3-1"], "0-15 or 3,7"),
        (["exemplars", "net.py:never", "photos", "--sheet", "s.txt"], ".png"),
        (
            ["exemplars", "net.py:never", "photos", "--executor", "serial", "--workers", "2"],
            "--workers is for",
        ),
        (["exemplars", "net.py:build", "photos", "--layer", "conv9"], "no layer 'conv9'"),
        (
            ["exemplars", "net.py:build", "photos", "--layers", "fc", "--channels", "5"],
            "channel of fc 5 is out of range",
        ),
    ],
)
def test_what_is_refused(cli, folder, arguments, words):
    before = contents(folder)
    assert_refused(cli(*arguments), words)
    assert contents(folder) == before


def test_what_a_worker_cannot_do_is_one_line(folder):
    (folder / "bad.py").write_text(
        "from cnnviz.testing import OracleAdapter\n"
        "class Bad(OracleAdapter):\n"
        "    def weights(self, layer=None):\n"
        "        import os\n"
        "        found = super().weights(layer)\n"
        "        own = os.getpid() == int(open('pid').read())\n"
        "        return found if own else {}\n"
        "def build():\n"
        "    import os\n"
        "    open('pid', 'w').write(str(os.getpid()))\n"
        "    return Bad()\n"
    )
    run = in_a_process("extract", "bad.py:build", "photos", "--layers", "fc", "--workers", "2")
    assert_refused(run, "came out with other weights")
    assert not Path("features.npz").exists()


@pytest.mark.parametrize("place", ["serial", "processes"])
def test_ctrl_c_says_how_to_go_on(folder, place):
    arguments = ["extract", "net.py:slow", "photos", "--layers", "conv1", "--batch", "1"]
    arguments += ["--executor", place, "--shards", "6"]
    done = Path(".features.npz.work/shards/00000/about.json")
    # What runs in the background of a shell is begun deaf to it.
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {RUN}"
    started = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As a terminal does it, the workers are interrupted as well.
        start_new_session=True,
    )
    with started:
        for _ in range(600):
            if done.exists() or started.poll() is not None:
                break
            time.sleep(0.05)
        os.killpg(started.pid, signal.SIGINT)
        out, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert out == ""
    assert err == "cnnviz: interrupted; the same command with --resume goes on with it\n"
    assert not Path("features.npz").exists()
    assert in_a_process(*arguments, "--resume").status == 0
    net = OracleAdapter()
    wanted = cnnviz.extract(net, "photos", "conv1", "wanted.npz", batch=1)
    assert np.array_equal(cnnviz.Extraction.open("features.npz")["conv1"], wanted["conv1"])
    assert not Path(".features.npz.work").exists()


# Exemplars


def test_exemplars_are_those_of_the_library(cli, folder):
    run = cli("exemplars", "net.py:build", "photos", "--layers", "conv1,fc", "--k", "3", "--json")
    assert (run.status, run.err) == (0, "")
    wanted = cnnviz.find_exemplars(OracleAdapter(), "photos", ("conv1", "fc"), 3)
    assert run.json == json.loads(json.dumps(wanted.to_json())) | {"out": None, "sheet": None}
    assert run.json["classes"] == ["a", "b"]


def test_a_table_and_a_sheet_of_patches(cli, folder):
    some = ("exemplars", "net.py:build", "photos", "--layers", "all", "--k", "4")
    run = cli(*some, "--sheet", "s.png", "--layer", "conv1", "--channels", "0,2-3")
    assert (run.status, run.err) == (0, "")
    found = cnnviz.find_exemplars(OracleAdapter(), "photos", "all", 4)
    lines = run.out.splitlines()
    assert lines[0].split() == ["channel", "of", "conv1", "largest", "in"]
    for line, channel in zip(lines[2:5], (0, 2, 3), strict=True):
        best = found["conv1"].top(channel)[0]
        assert line.split() == [str(channel), f"{best.value:.4g}", found.references[best.image]]
    assert lines[-1] == "wrote s.png"
    with Image.open("s.png") as sheet:
        wanted = found["conv1"].pictures.sheet([0, 2, 3])
        assert np.array_equal(np.asarray(sheet), to_uint8(wanted))


def test_exemplars_in_a_folder_are_gone_on_with(cli, folder):
    some = ("exemplars", "net.py:build", "photos", "--layers", "fc", "--out", "found")
    assert cli(*some, "--shards", "3", "--batch", "2").status == 0
    before = contents(folder / "found")
    assert "exemplars.json" in before
    assert cli(*some, "--batch", "2", "--resume").status == 0
    assert contents(folder / "found") == before
    assert_refused(cli(*some, "--batch", "2", "--k", "2"), "another run", "other keep")


def test_help_imports_nothing_heavy(folder):
    code = f"{RUN.replace('sys.exit(main())', 'main()')}; print(*sys.modules)"
    for command in ("extract", "exemplars"):
        run = in_a_process(command, "--help", code=code)
        assert run.status == 0
        loaded = set(run.out.splitlines()[-1].split())
        assert "typer" in loaded
        heavy = {"torch", "tensorflow", "keras", "cv2", "matplotlib", "zarr", "pyarrow", "ray"}
        assert not loaded & heavy
