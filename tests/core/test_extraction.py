"""Features of the oracle in files: the numbers, the bytes, and runs that end before their end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import cnnviz
from cnnviz import Extraction, extract
from cnnviz.errors import InvalidImage, InvalidOption, MissingDependency, UnknownLayer
from cnnviz.extraction import extraction_trial
from cnnviz.extraction.rows import RowFiles
from cnnviz.features import feature_maps
from cnnviz.plan import Shard
from cnnviz.testing import OracleAdapter, small_pictures

LAYERS = ("conv1", "relu:0", "gap", "fc")
SUFFIXES = (".npz", ".zarr", ".parquet")
COUNT = 70
OPTIONS: dict[str, Any] = {"layers": LAYERS, "batch": 4, "labels": [i % 3 for i in range(COUNT)]}


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float64]:
    return small_pictures(COUNT)


@pytest.fixture(scope="module")
def maps(pictures: NDArray[np.float64]) -> Any:
    return feature_maps(OracleAdapter(), pictures, LAYERS).maps


def contents(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    found = sorted(one for one in path.rglob("*") if one.is_file())
    return {str(one.relative_to(path)): one.read_bytes() for one in found}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_features_are_those_of_a_forward(pictures, maps, tmp_path, suffix):
    found = extract(OracleAdapter(), pictures, out=tmp_path / f"f{suffix}", **OPTIONS)
    assert tuple(found) == LAYERS
    assert found.count == COUNT
    for name in LAYERS:
        assert found.layers[name].shape == found[name].shape == maps[name].shape
        assert found.layers[name].dtype == found[name].dtype == np.float64
        # In batches of another size the last bits may be others.
        assert np.asarray(found[name][:]) == pytest.approx(maps[name], rel=1e-12, abs=1e-14)
    assert np.array_equal(found.index, np.arange(COUNT))
    assert np.array_equal(found.labels, np.arange(COUNT) % 3)
    assert found.classes == ("0", "1", "2")
    assert found.references[7] == f"number 7 of array of {COUNT} images"
    assert [path.name for path in tmp_path.iterdir()] == [f"f{suffix}"]
    again = Extraction.open(tmp_path / f"f{suffix}")
    assert again.to_json() == found.to_json()
    assert str(again) == str(found)
    assert "conv1   70 x 8 x 8 x 4  float64" in str(found)
    with pytest.raises(UnknownLayer):
        found["conv9"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_read_where_they_are_looked_at(pictures, tmp_path, suffix):
    found = extract(OracleAdapter(), pictures, out=tmp_path / f"f{suffix}", **OPTIONS)
    column = found["conv1"]
    whole = np.asarray(column[:])
    assert isinstance(column, np.memmap) == (suffix == ".npz")
    assert np.array_equal(column[5], whole[5])
    assert np.array_equal(column[60:], whole[60:])
    assert np.array_equal(column[3:9, ..., 1], whole[3:9, ..., 1])


def test_other_libraries_read_the_files(pictures, maps, tmp_path):
    import zarr
    from pyarrow import parquet

    for suffix in SUFFIXES:
        extract(OracleAdapter(), pictures, out=tmp_path / f"f{suffix}", **OPTIONS)
    with np.load(tmp_path / "f.npz") as file:
        assert set(file.files) == {
            *LAYERS, "index", "label", "reference", "classes", "broken", "about"
        }  # fmt: skip
        assert file["relu:0"] == pytest.approx(maps["relu:0"])
        assert file["broken"].shape == (0, 3)
        assert list(file["label"][:4]) == [0, 1, 2, 0]
    group = zarr.open_group(str(tmp_path / "f.zarr"), mode="r")
    # No file system has trouble with the name.
    assert group["relu%3A0"].attrs["layer"] == "relu:0"
    assert group["relu%3A0"][:] == pytest.approx(maps["relu:0"])
    assert str(group["reference"][3]).startswith("number 3 ")
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table.num_rows == COUNT
    assert table.column("gap")[8].as_py() == pytest.approx(list(maps["gap"][8]))
    assert json.loads(table.schema.field("conv1").metadata[b"shape"]) == [8, 8, 4]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_do_not_depend_on_shards_or_processes(pictures, tmp_path, suffix):
    written = []
    for name, shards in (("serial", 1), ("serial", 3), ("serial", 8), ("processes", 3)):
        out = tmp_path / f"{name}{shards}{suffix}"
        extract(OracleAdapter(), pictures, out=out, executor=name, shards=shards, **OPTIONS)
        written.append(contents(out))
    assert written[0]
    assert all(one == written[0] for one in written)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ray_writes_the_same_bytes(pictures, tmp_path, suffix):
    one, many = (tmp_path / f"{name}{suffix}" for name in ("serial", "ray"))
    extract(OracleAdapter(), pictures, out=one, **OPTIONS)
    with cnnviz.executor.ray(2) as place:
        extract(OracleAdapter(), pictures, out=many, executor=place, shards=5, **OPTIONS)
    assert contents(one) == contents(many)


def test_blocks_and_chunks_are_cut_anew(pictures, tmp_path, monkeypatch):
    """Rows that end in the middle of a shard, a chunk and a group of rows."""
    monkeypatch.setattr("cnnviz.extraction.npz._BLOCK", 5000)
    monkeypatch.setattr("cnnviz.extraction.zarr_store._CHUNK", 9 * 2048)
    monkeypatch.setattr("cnnviz.extraction.zarr_store._TEXTS", 11)
    monkeypatch.setattr("cnnviz.extraction.parquet._GROUP", 13 * 4500)
    for suffix in SUFFIXES:
        one, many = (
            extract(OracleAdapter(), pictures, out=tmp_path / f"{n}{suffix}", shards=n, **OPTIONS)
            for n in (1, 6)
        )
        assert contents(one.path) == contents(many.path)
        for name in LAYERS:
            wanted = extract(
                OracleAdapter(), pictures, out=tmp_path / "x.npz", overwrite=True, **OPTIONS
            )[name]
            assert np.array_equal(np.asarray(many[name][:]), wanted)
            if suffix == ".parquet":
                picked = np.array([69, 0, 14, 14, 33])
                assert np.array_equal(many[name][picked], wanted[picked])
                assert np.array_equal(np.asarray(many[name]), wanted)
        assert many.references == one.references
    assert len(list((tmp_path / "6.zarr" / "conv1" / "c").iterdir())) == 8


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooling_is_over_space(pictures, maps, tmp_path, pool):
    found = extract(OracleAdapter(), pictures, LAYERS, tmp_path / "f.npz", pool=pool)
    for name in LAYERS:
        wanted = maps[name]
        if wanted.ndim == 4:
            wanted = getattr(wanted, pool)(axis=(1, 2))
        assert found[name].shape == wanted.shape
        assert found[name] == pytest.approx(wanted, rel=1e-12)


def test_float16_is_told_where_it_does_not_reach(pictures, maps, tmp_path):
    class Large(OracleAdapter):
        def forward(self, x, *, taps):
            found = super().forward(x, taps=taps)
            return {name: values * 3e4 for name, values in found.items()}

    small = extract(OracleAdapter(), pictures, LAYERS, tmp_path / "small.npz", dtype="float16")
    assert small.infinite == 0
    assert small["gap"].dtype == np.float16
    assert np.array_equal(small["gap"], maps["gap"].astype(np.float16))
    large = extract(Large(), pictures, "conv1", tmp_path / "large.npz", dtype="float16")
    # Half a step above its largest number, float16 rounds to infinity.
    wanted = int((np.abs(maps["conv1"] * 3e4) >= 65520).sum())
    assert large.infinite == wanted == np.isinf(large["conv1"]).sum() > 0
    assert f"{wanted:,} numbers are too large" in str(large)


def photos(folder: Path) -> Path:
    for i, picture in enumerate(small_pictures(12, 10)):
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture * 255).astype(np.uint8)).save(place / f"{i:02d} é.png")
    return folder


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_broken_images_have_no_row_and_are_listed(tmp_path, suffix):
    folder = photos(tmp_path / "photos")
    whole = extract(OracleAdapter(), folder, "fc", tmp_path / "whole.npz")
    files = sorted(folder.rglob("*.png"))
    files[2].write_bytes(b"not a picture")
    files[9].write_bytes(files[9].read_bytes()[:100])
    # In shards of two images one has no image at all.
    files[3].write_bytes(b"")
    out = tmp_path / f"f{suffix}"
    found = extract(OracleAdapter(), folder, "fc", out, batch=2, shards=6)
    kept = [0, 1, 4, 5, 6, 7, 8, 10, 11]
    assert list(found.index) == kept
    assert [number for number, _, _ in found.broken] == [2, 3, 9]
    assert [Path(text).name for _, text, _ in found.broken] == [files[i].name for i in (2, 3, 9)]
    assert np.asarray(found["fc"][:]) == pytest.approx(whole["fc"][kept])
    assert list(found.labels) == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert found.classes == ("a", "b")
    assert [Path(text).name for text in found.references] == [files[i].name for i in kept]
    assert "3 could not be read; the first is" in str(found)
    if suffix == ".npz":
        with np.load(out) as file:
            assert [int(row[0]) for row in file["broken"]] == [2, 3, 9]
            assert all(row[2] for row in file["broken"])


def test_nothing_to_write_leaves_nothing(tmp_path):
    folder = photos(tmp_path / "photos")
    for path in folder.rglob("*.png"):
        path.write_bytes(b"none is left")
    with pytest.raises(InvalidImage, match="no image of folder"):
        extract(OracleAdapter(), folder, "fc", tmp_path / "f.npz", batch=2)
    with pytest.raises(UnknownLayer):
        extract(OracleAdapter(), folder, "nothing", tmp_path / "f.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_streams_without_a_length(pictures, tmp_path):
    options: Any = {"layers": LAYERS, "batch": 4}
    found = extract(OracleAdapter(), iter(pictures), out=tmp_path / "s.npz", **options)
    wanted = extract(OracleAdapter(), pictures, out=tmp_path / "a.npz", **options)
    for name in LAYERS:
        assert np.array_equal(found[name], wanted[name])
    assert found.labels is None
    with np.load(found.path) as file:
        assert "label" not in file.files


def test_a_layer_that_is_called_as_a_column_is(pictures, maps, tmp_path):
    class Named(OracleAdapter):
        def layer(self, name):
            return replace(super().layer("fc"), name="index") if name == "index" else name

        def forward(self, x, *, taps):
            return {"index": super().forward(x, taps=["fc"])["fc"]}

    for suffix in SUFFIXES:
        found = extract(Named(), pictures, "index", tmp_path / f"f{suffix}", batch=4)
        assert np.asarray(found["index"][:]) == pytest.approx(maps["fc"])
        assert found.layers["index"].column == "layer:index"
        assert np.array_equal(found.index, np.arange(COUNT))


# Targets that are there


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_replaced_only_if_that_is_asked_for(pictures, tmp_path, suffix):
    out = tmp_path / f"f{suffix}"
    extract(OracleAdapter(), pictures, "fc", out)
    before = contents(out)
    with pytest.raises(InvalidOption, match="overwrite=True"):
        extract(OracleAdapter(), pictures, "gap", out)
    with pytest.raises(InvalidOption, match=r"other layers\)"):
        extract(OracleAdapter(), pictures, "gap", out, resume=True)
    assert contents(out) == before
    # What is whole is opened; nothing runs.
    assert tuple(extract(Stops(0), pictures, "fc", out, resume=True)) == ("fc",)
    assert contents(out) == before
    assert tuple(extract(OracleAdapter(), pictures, "gap", out, overwrite=True)) == ("gap",)
    assert [path.name for path in tmp_path.iterdir()] == [f"f{suffix}"]


def test_what_is_the_users_stays(pictures, tmp_path):
    mine = tmp_path / "mine.zarr"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "other.npz").write_bytes(b"PK of another kind")
    for name, words in (
        ("mine.zarr", "a folder of other things"),
        ("folder.npz", "is a folder"),
    ):
        with pytest.raises(InvalidOption, match=words):
            extract(OracleAdapter(), pictures, "fc", tmp_path / name, overwrite=True)
    with pytest.raises(InvalidOption, match="holds something else"):
        extract(OracleAdapter(), pictures, "fc", tmp_path / "other.npz", resume=True)
    assert contents(mine) == {"thesis.txt": b"years of work"}
    with pytest.raises(InvalidOption, match="holds no features"):
        Extraction.open(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"out": "f.csv"}, "end it in .npz, .zarr or .parquet"),
        ({"out": "no/folder/f.npz"}, "there is no folder"),
        ({"pool": "median"}, "pool is 'mean', 'max' or None, not 'median'"),
        ({"dtype": "int8"}, "dtype is 'float16', 'float32', 'float64' or None"),
        ({"batch": 0}, "batch is a whole number above zero"),
        ({"shards": True}, "shards is a whole number above zero"),
        ({"layers": ()}, "layers are names"),
        ({"executor": "threads"}, "executor is one of"),
    ],
)
def test_what_cannot_be_meant(pictures, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidOption, match=words):
        extract(OracleAdapter(), pictures, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "package"), [("zarr", "zarr"), ("parquet", "pyarrow")])
def test_what_is_not_installed_is_told(pictures, tmp_path, monkeypatch, suffix, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=rf"pip install 'cnnviz\[{suffix}\]'"):
        extract(Stops(0), pictures, "fc", tmp_path / f"f.{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_it_is_full(pictures, tmp_path, monkeypatch):
    needed = 2 * COUNT * 8 * (8 * 8 * 4 + 5)

    def has(free: int) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    has(needed // 2)
    with pytest.raises(InvalidOption, match=r"take 146\.2 kB, and as much again .* 146\.2 kB free"):
        extract(OracleAdapter(), pictures, ("conv1", "fc"), tmp_path / "f.npz", batch=4)
    assert list(tmp_path.iterdir()) == []
    has(needed)
    extract(OracleAdapter(), pictures, ("conv1", "fc"), tmp_path / "f.npz", batch=4, shards=5)


def test_memory_does_not_grow_with_the_images(tmp_path, monkeypatch):
    """Peak memory for four times as many images, all of which a small part of them outweighs."""
    # A bar that shows after two seconds would be counted otherwise.
    import rich.console
    import rich.progress  # noqa: F401

    for name in ("npz._BLOCK", "zarr_store._CHUNK", "parquet._GROUP"):
        monkeypatch.setattr(f"cnnviz.extraction.{name}", 2**16)

    monkeypatch.setattr("cnnviz.extraction.zarr_store._TEXTS", 256)

    def peak(count: int, suffix: str) -> int:
        # One after another, so that they take none themselves.
        images = (np.full((10, 10, 3), i % 7 / 7) for i in range(count))
        out = tmp_path / f"{count}{suffix}"
        tracemalloc.start()
        found = extract(OracleAdapter(), images, "conv1", out, batch=4)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.layers["conv1"].shape == (count, 8, 8, 4)
        return most

    for suffix in SUFFIXES:
        # What is imported and kept is no part of it.
        peak(8, suffix)
        few, many = peak(500, suffix), peak(2000, suffix)
        # The features of 1500 images more are 3 MB.
        assert many - few < 5e5, suffix


# Runs that end before their end


class Stops(OracleAdapter):
    """Fails at a call of its forward."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    def forward(self, x, *, taps):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().forward(x, taps=taps)


@pytest.mark.parametrize("at", [0, 5, 9, 16])
def test_an_interrupted_run_goes_on_to_the_same_bytes(pictures, tmp_path, at):
    whole = extract(OracleAdapter(), pictures, out=tmp_path / "whole.npz", **OPTIONS)
    out = tmp_path / "f.npz"
    with pytest.raises(KeyboardInterrupt):
        extract(Stops(at), pictures, out=out, shards=5, **OPTIONS)
    assert not out.exists()
    with pytest.raises(InvalidOption, match=r"resume=True .* or remove it to begin anew"):
        extract(OracleAdapter(), pictures, out=out, **OPTIONS)
    with pytest.raises(InvalidOption, match=r"another run \(other pool\)"):
        extract(OracleAdapter(), pictures, out=out, pool="max", resume=True, **OPTIONS)
    # Of 18 batches those that were written are not run again.
    net = Stops(18 - at // 4 * 4 + 3)
    extract(net, pictures, out=out, resume=True, **OPTIONS)
    assert contents(out) == contents(whole.path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.npz", "whole.npz"]


def test_a_damaged_part_is_made_again(pictures, tmp_path):
    whole = extract(OracleAdapter(), pictures, out=tmp_path / "whole.npz", **OPTIONS)
    out = tmp_path / "f.npz"
    with pytest.raises(KeyboardInterrupt):
        extract(Stops(13), pictures, out=out, shards=5, **OPTIONS)
    folder = tmp_path / ".f.npz.work" / "shards"
    assert sorted(path.name for path in folder.iterdir()) == ["00000", "00001", "00002"]
    data = bytearray((folder / "00000" / "0").read_bytes())
    data[100] ^= 1
    (folder / "00000" / "0").write_bytes(data)
    (folder / "00001" / "index").write_bytes(b"short")
    (folder / ".0123456789abcdef.tmp").mkdir()
    extract(OracleAdapter(), pictures, out=out, resume=True, **OPTIONS)
    assert contents(out) == contents(whole.path)


def test_parts_of_another_run_are_none_of_this(tmp_path):
    shard = Shard(0, 0, 4)
    rows = RowFiles(tmp_path, "one").writer(shard)
    rows.add_images(np.arange(4), np.full(4, -1), list("abcd"))
    rows.finish({"mark": "one"})
    assert RowFiles(tmp_path, "one").done(shard)
    assert not RowFiles(tmp_path, "two").done(shard)
    # Who is late leaves what is there.
    late = RowFiles(tmp_path, "one")
    first, second = late.writer(shard), late.writer(shard)
    for one in (first, second):
        one.add_images(np.arange(4), np.full(4, -1), list("abcd"))
        one.finish({"mark": "one"})
    assert [path.name for path in tmp_path.iterdir()] == ["00000"]


VICTIM = """
import os, signal, sys
from pathlib import Path

out, moment = sys.argv[1], int(sys.argv[2])
left = moment

def deadly(name, owner):
    real = getattr(owner, name)
    def called(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    setattr(owner, name, called)

for owner, name in ((os, "fsync"), (os, "replace"), (Path, "rename"), (Path, "replace")):
    deadly(name, owner)

from cnnviz import extract
from cnnviz.testing import OracleAdapter, small_pictures

labels = [i % 3 for i in range(70)]
extract(OracleAdapter(), small_pictures(70), ("conv1", "relu:0", "gap", "fc"), out, batch=4,
        labels=labels, shards=3, resume=True)
print(moment - left)
"""


def killed(out: Path, moment: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", VICTIM, str(out), str(moment)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_killed_where_it_writes_and_gone_on_with(pictures, tmp_path, suffix):
    whole = tmp_path / f"whole{suffix}"
    done = killed(whole, 0)
    assert done.returncode == 0, done.stderr
    moments = int(done.stdout)
    wanted = contents(whole)
    out = tmp_path / f"f{suffix}"
    # The first, the last ones, and one between.
    for moment in (1, moments // 2, moments - 2, moments):
        assert killed(out, moment).returncode == -signal.SIGKILL
        assert not out.exists() or contents(out) == wanted
        extract(OracleAdapter(), pictures, out=out, resume=True, **OPTIONS)
        assert contents(out) == wanted, moment
        assert sorted(one.name for one in tmp_path.iterdir()) == sorted([out.name, whole.name])
        shutil.rmtree(out) if out.is_dir() else out.unlink()


def test_archives_are_the_same_on_any_day(pictures, tmp_path):
    found = extract(OracleAdapter(), pictures, out=tmp_path / "f.npz", **OPTIONS)
    with zipfile.ZipFile(found.path) as archive:
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o644}


def test_large_members_have_offsets_of_eight_bytes(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10_000)
    found = extract(OracleAdapter(), pictures, out=tmp_path / "f.npz", **OPTIONS)
    monkeypatch.undo()
    with np.load(found.path) as file:
        for name in LAYERS:
            assert np.array_equal(found[name], file[name])


def test_a_trial_tells_what_a_run_writes(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = extraction_trial(OracleAdapter(), pictures, LAYERS, pool="mean", dtype="float16")
    assert list(tmp_path.iterdir()) == []
    found = extract(OracleAdapter(), pictures, LAYERS, pool="mean", dtype="float16")
    assert told.bytes == sum(found[name].nbytes for name in LAYERS)
    assert told.images == COUNT
    assert told.layers == {name: found[name].shape[1:] for name in LAYERS}
    assert 0 < told.seconds < 60
    assert f"{told.bytes / 1000:.1f} kB" in str(told)


def test_it_is_of_the_public_names():
    assert {"extract", "Extraction"} <= set(cnnviz.__all__)
