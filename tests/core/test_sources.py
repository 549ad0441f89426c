"""Sources of images: their order, what they are known by, how they are read for a network."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile
import threading
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnviz.errors import (
    ChannelOutOfRange,
    InvalidImage,
    InvalidOption,
    MissingDependency,
    UnknownPreprocessing,
)
from cnnviz.pictures import picture_batch
from cnnviz.sources import as_source, read_batches
from cnnviz.testing import OracleAdapter

NET = OracleAdapter()


def drawn(count=10, side=12, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def batches(images, net=NET, start=0, stop=None, batch=4, labels=None, **options):
    return list(read_batches(as_source(images, labels), net, start, stop, batch, **options))


def joined(found, name):
    return np.concatenate([getattr(one, name) for one in found])


def threads():
    return [one for one in threading.enumerate() if one.name.startswith("cnnviz-source")]


@pytest.fixture
def folder(tmp_path):
    """Ten pictures in two classes."""
    for number, picture in enumerate(drawn()):
        file = tmp_path / "photos" / ["dog", "cat"][number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file)
    return tmp_path / "photos"


def test_a_folder_is_sorted_and_its_subfolders_are_classes(folder):
    (folder / "cat" / "notes.txt").write_text("no picture")
    (folder / "cat" / ".hidden.png").write_text("no picture")
    source = as_source(folder)
    assert source.length == 10
    assert source.classes == ("cat", "dog")
    assert [Path(source.reference(i)).name for i in range(10)] == [
        f"{i}.png" for i in (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)
    ]
    assert [source.label(i) for i in range(10)] == [0] * 5 + [1] * 5
    found = batches(folder)
    wanted = picture_batch(NET, [drawn()[i] for i in (1, 3, 5, 7, 9, 0, 2, 4, 6, 8)])
    np.testing.assert_array_equal(joined(found, "pictures"), wanted)
    np.testing.assert_array_equal(joined(found, "labels"), [0] * 5 + [1] * 5)
    Image.fromarray(drawn()[0]).save(folder / "above.png")
    assert as_source(folder).classes is None


def test_a_link_back_upwards_ends(folder):
    (folder / "cat" / "up").symlink_to(folder)
    assert as_source(folder).length == 10


@pytest.mark.parametrize("form", ["array", "list", "pillow", "paths", "iterator", "again"])
def test_each_form_gives_the_same_pictures_and_hashes(form, tmp_path):
    pictures = drawn()
    files = []
    for number, picture in enumerate(pictures):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(picture).save(files[-1])

    class Again:
        def __iter__(self):
            return iter(zip(pictures, range(10), strict=True))

    images = {
        "array": pictures,
        "list": list(pictures),
        "pillow": [Image.fromarray(one) for one in pictures],
        "paths": files,
        "iterator": iter(pictures),
        "again": Again(),
    }[form]
    found = batches(images)
    assert [len(one.indices) for one in found] == [4, 4, 2]
    np.testing.assert_array_equal(joined(found, "pictures"), picture_batch(NET, pictures))
    np.testing.assert_array_equal(joined(found, "indices"), range(10))
    header = blake2b(b"(12, 12, 3) |u1", digest_size=8)
    wanted = []
    for picture in pictures:
        one = header.copy()
        one.update(picture.tobytes())
        wanted.append(int.from_bytes(one.digest(), "little"))
    np.testing.assert_array_equal(joined(found, "hashes"), np.array(wanted, np.uint64))
    np.testing.assert_array_equal(joined(found, "labels"), range(10) if form == "again" else -1)


def test_a_span_and_a_filled_batch():
    found = batches(drawn(), start=3, stop=9, full=True)
    np.testing.assert_array_equal(joined(found, "indices"), [3, 4, 5, 6, 7, 8, -1, -1])
    np.testing.assert_array_equal(joined(found, "good"), [True] * 6 + [False] * 2)
    assert not found[1].pictures[2:].any()
    assert not found[1].hashes[2:].any()
    assert batches(drawn(), start=10) == []


def test_a_broken_file_is_told_and_passed_over(folder):
    cut = folder / "cat" / "2.jpg"
    buffer = io.BytesIO()
    Image.fromarray(drawn(side=64)[0]).save(buffer, "jpeg")
    cut.write_bytes(buffer.getvalue()[:600])
    (folder / "cat" / "4.png").write_bytes(b"")
    found = batches(folder)
    broken = [one for each in found for one in each.broken]
    assert [one.index for one in broken] == [1, 3]
    assert [one.reference for one in broken] == [str(cut), str(folder / "cat" / "4.png")]
    assert "damaged, cut short" in broken[0].reason
    assert "empty or not an image" in broken[1].reason
    good = joined(found, "good")
    assert good.sum() == 10
    assert not joined(found, "pictures")[~good].any()
    with pytest.raises(InvalidImage, match="cut short"):
        as_source(folder).read(1)


def test_files_that_are_all_damaged_are_counted(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"no picture")
    (found,) = batches(tmp_path)
    assert len(found.broken) == 4
    assert found.pictures.shape == (4, 10, 10, 3)


def test_what_all_of_the_first_images_have_in_common_is_raised():
    with pytest.raises(InvalidImage, match=r"number 0.*channels"):
        batches([np.zeros((9, 9, 7), np.uint8)] * 4)
    floats = drawn().astype(np.float32)
    with pytest.raises(InvalidImage, match="divide by 255"):
        batches(floats)
    one = floats / 255
    one[5, 0, 0, 0] = np.nan
    found = batches(one)
    assert [each.index for batch in found for each in batch.broken] == [5]
    with pytest.raises(UnknownPreprocessing):
        read_batches(as_source(drawn()), OracleAdapter(preprocessing=None), 0, None, 4)
    assert not threads()


def test_threads_end_with_the_reader(folder):
    reading = read_batches(as_source(folder), NET, 0, None, 2)
    next(reading)
    assert threads()
    reading.close()
    assert not threads()


def test_no_more_is_read_ahead_than_asked():
    taken = []

    def stream():
        for number, picture in enumerate(drawn(40)):
            taken.append(number)
            yield picture

    reading = read_batches(as_source(stream()), NET, 0, None, 4, ahead=2)
    next(reading)
    reading.close()
    assert len(taken) <= 12
    assert not threads()


def test_an_iterator_goes_forward_only():
    source = as_source(iter(drawn()))
    assert source.length is None
    assert not source.parallel
    known = source.fingerprint()
    first = list(read_batches(source, NET, 0, 4, 4))
    second = list(read_batches(source, NET, 6, None, 4))
    np.testing.assert_array_equal(joined(first + second, "indices"), [0, 1, 2, 3, 6, 7, 8, 9])
    np.testing.assert_array_equal(second[0].pictures, picture_batch(NET, drawn()[6:]))
    with pytest.raises(InvalidOption, match="can be read once, and 10 images"):
        list(read_batches(source, NET, 0, None, 4))
    with pytest.raises(InvalidOption, match="only goes forward"):
        source.read(0)
    assert as_source(iter(drawn())).fingerprint() == known
    assert as_source(iter(drawn(seed=1))).fingerprint() != known


def test_a_stream_that_is_shuffled_each_time_is_refused():
    rng = np.random.default_rng(0)

    class Shuffled:
        def __iter__(self):
            return iter(rng.permutation(drawn()))

    source = as_source(Shuffled())
    source.fingerprint()
    with pytest.raises(InvalidOption, match="shuffle=False"):
        list(read_batches(source, NET, 0, None, 4))


def test_an_error_of_the_users_stream_comes_through():
    def stream():
        yield from drawn(5)
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        batches(stream())
    assert not threads()


def test_fingerprints_hold_where_the_folder_is_moved(folder, tmp_path):
    known = as_source(folder).fingerprint()
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    assert as_source(moved).fingerprint() == known
    files = sorted(folder.rglob("*.png"))
    assert as_source(files).fingerprint() == known
    assert as_source(files[::-1]).fingerprint() != known
    (moved / "cat" / "1.png").rename(moved / "cat" / "11.png")
    assert as_source(moved).fingerprint() != known


def test_fingerprints_of_arrays_are_by_content():
    known = as_source(drawn()).fingerprint()
    assert as_source(drawn()).fingerprint() == known
    changed = drawn()
    changed[9, 11, 11, 2] ^= 1
    assert as_source(changed).fingerprint() != known
    assert as_source(list(changed)).fingerprint() != as_source(list(drawn())).fingerprint()
    assert as_source(drawn(), range(10)).fingerprint() == known


def test_parallel_sources_are_pickled(folder):
    for images in (folder, drawn(), list(drawn()), [Image.fromarray(one) for one in drawn()]):
        source = as_source(images)
        assert source.parallel
        again = pickle.loads(pickle.dumps(source))
        assert again.fingerprint() == source.fingerprint()
        np.testing.assert_array_equal(np.asarray(again.read(3)), np.asarray(source.read(3)))


def test_labels_of_the_user():
    found = batches(drawn(), labels=["dog", "cat"] * 5)
    np.testing.assert_array_equal(joined(found, "labels"), [1, 0] * 5)
    assert as_source(drawn(), ["dog", "cat"] * 5).classes == ("cat", "dog")
    one_hot = np.eye(10)[::-1]
    np.testing.assert_array_equal(
        joined(batches(drawn(), labels=one_hot), "labels"), range(9, -1, -1)
    )
    for wrong in ([1, 2], [0.5] * 10, [-2] * 10):
        with pytest.raises(InvalidOption, match="labels must be"):
            as_source(drawn(), wrong)
    with pytest.raises(InvalidOption, match="tells no length"):
        as_source(iter(drawn()), [1] * 10)


def test_patterns(folder, monkeypatch):
    source = as_source(f"{folder}/**/*.png")
    assert source.length == 10
    assert as_source(f"{folder}/{{cat,dog}}/*.png").length == 10
    assert as_source(f"{folder}/cat/1.png").length == 1
    monkeypatch.chdir(folder)
    assert as_source("cat/*.png").reference(0) == "cat/1.png"
    with pytest.raises(InvalidImage, match="no file matches"):
        as_source("*.jpg")


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ("nowhere.png", "there is no file or folder"),
        ("https://a.org/b.png", "download it first"),
        ([], "list of images is empty"),
        (3, "not int"),
        ({"train": [1]}, r"dataset\['train'\]"),
        (np.zeros(3, np.uint8), r"is \(N, H, W, C\)"),
    ],
)
def test_what_is_no_source_is_refused(images, told):
    with pytest.raises((InvalidImage, InvalidOption), match=told):
        as_source(images)


def test_an_empty_folder_and_an_index_outside(tmp_path):
    with pytest.raises(InvalidImage, match="no pictures in the folder"):
        as_source(tmp_path)
    with pytest.raises(ChannelOutOfRange, match=r"0\.\.9"):
        as_source(drawn()).read(10)
    with pytest.raises(InvalidOption, match="batch 0"):
        read_batches(as_source(drawn()), NET, 0, None, 0)


def test_photos_of_many_kinds_go_through_the_reader(tmp_path):
    picture = Image.fromarray(drawn(side=16)[0])
    turned = picture.getexif()
    turned[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=turned)
    picture.convert("P").save(tmp_path / "b.gif")
    picture.convert("CMYK").save(tmp_path / "c.jpg")
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "d.png")
    alpha = picture.copy()
    alpha.putalpha(100)
    alpha.save(tmp_path / "e.webp", lossless=True)
    (found,) = batches(tmp_path, batch=8)
    assert found.good.all()
    assert len(set(found.hashes)) == 5
    wanted = picture_batch(NET, sorted(tmp_path.iterdir()))
    np.testing.assert_array_equal(found.pictures, wanted)


def test_images_of_other_sizes_need_one(tmp_path):
    net = OracleAdapter(preprocessing=NET.preprocessing.resized(None))
    images = [drawn(1, side)[0] for side in (12, 14, 12)]
    with pytest.raises(InvalidImage, match="12 x 12, number 1 is 14 x 14"):
        batches(images, net)
    assert batches(images, net, size=9)[0].pictures.shape == (3, 9, 9, 3)


def packed(path, samples):
    with tarfile.open(path, "w") as archive:
        for name, data in samples:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    return buffer.getvalue()


def test_archives_are_read_in_place(tmp_path):
    pictures = drawn(6)
    for shard in range(2):
        samples = []
        for number in range(shard * 3, shard * 3 + 3):
            samples.append((f"{number}.png", png(pictures[number])))
            samples.append((f"{number}.mask.png", png(pictures[0])))
            if shard:
                samples.append((f"{number}.json", json.dumps({"label": number}).encode()))
            else:
                samples.append((f"{number}.cls", str(number).encode()))
        packed(tmp_path / f"shard-{shard:04d}.tar", samples)
    source = as_source(str(tmp_path / "shard-{0000..0001}.tar"))
    assert source.length == 6
    assert source.reference(4).endswith("shard-0001.tar:4.png")
    found = batches(source)
    np.testing.assert_array_equal(joined(found, "pictures"), picture_batch(NET, pictures))
    np.testing.assert_array_equal(joined(found, "labels"), range(6))
    assert [source.label(i) for i in (5, 0)] == [5, 0]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(np.asarray(again.read(5)), pictures[5])
    known = as_source(str(tmp_path / "*.tar")).fingerprint()
    assert known == source.fingerprint()
    assert known == as_source(sorted(tmp_path.glob("*.tar"))).fingerprint()


def test_broken_archives(tmp_path):
    packed(tmp_path / "a.tar", [("1.png", png(drawn()[0])), ("2.png", b"no"), ("3.jpg", b"")])
    (found,) = batches(tmp_path / "a.tar")
    assert [one.index for one in found.broken] == [1, 2]
    assert "a.tar:2.png is empty or not an image" in found.broken[0].reason
    packed(tmp_path / "b.tar", [("1.txt", b"no")])
    with pytest.raises(InvalidImage, match="no images in archive"):
        as_source(tmp_path / "b.tar")
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(InvalidImage, match="decompressed first"):
        as_source(tmp_path / "c.tar.gz")


def idx(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_idx_files(tmp_path):
    greys = drawn()[..., 0]
    images = tmp_path / "train-images-idx3-ubyte.gz"
    images.write_bytes(gzip.compress(idx(greys)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.arange(10, dtype=np.uint8)))
    found = batches(images)
    np.testing.assert_array_equal(joined(found, "labels"), range(10))
    np.testing.assert_array_equal(joined(found, "pictures"), picture_batch(NET, greys[..., None]))
    assert [one.hashes[0] for one in batches(list(greys))] == [one.hashes[0] for one in found]
    images.write_bytes(gzip.compress(idx(greys)[:-1]))
    with pytest.raises(InvalidImage, match="cut short"):
        as_source(images)


class Rows:
    """A dataset of one's own, by number."""

    def __init__(self, fails=()):
        self.pictures, self.fails = drawn(), fails

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index in self.fails:
            raise OSError("no such file")
        return self.pictures[index], index


def test_a_dataset_by_number():
    source = as_source(Rows())
    assert source.parallel
    assert source.threads == 1
    assert source.label(7) == 7
    found = batches(source)
    np.testing.assert_array_equal(joined(found, "labels"), range(10))
    np.testing.assert_array_equal(joined(found, "pictures"), picture_batch(NET, drawn()))
    assert source.fingerprint() == as_source(Rows()).fingerprint()
    broken = [one for batch in batches(Rows(fails=(2,))) for one in batch.broken]
    assert [(one.index, one.reason) for one in broken] == [
        (2, "the dataset raises OSError: no such file")
    ]


def test_a_dataset_that_gives_other_images_each_time_has_no_fingerprint():
    class Noisy(Rows):
        def __getitem__(self, index):
            rng = np.random.default_rng()
            return rng.integers(0, 256, (12, 12, 3), np.uint8), index

    source = as_source(Noisy())
    with pytest.raises(InvalidOption, match="random transforms"):
        source.fingerprint()
    assert not source.parallel


def ClassLabel(names):
    return type("ClassLabel", (), {"names": names})()


class Table:
    """What a split of a Hugging Face dataset shows."""

    features = {"n": None, "photo": type("Image", (), {})(), "kind": ClassLabel(["cat", "dog"])}  # noqa: RUF012

    def __len__(self):
        return 10

    def __getitem__(self, key):
        if key == "kind":
            return [i % 2 for i in range(10)]
        return {"n": 3, "photo": Image.fromarray(drawn()[key]), "kind": key % 2}


def test_a_table_with_an_image_column():
    source = as_source(Table())
    assert source.classes == ("cat", "dog")
    assert source.label(3) == 1
    found = batches(source)
    np.testing.assert_array_equal(joined(found, "labels"), [0, 1] * 5)
    np.testing.assert_array_equal(joined(found, "pictures"), picture_batch(NET, drawn()))


def test_a_saved_table_needs_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    for name in ("dataset_info.json", "state.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(MissingDependency, match="pip install datasets"):
        as_source(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "dataset_dict.json").write_text("{}")
    with pytest.raises(InvalidOption, match="splits train; name one"):
        as_source(tmp_path)


def test_one_slice_a_batch_is_read_of_an_array():
    class Counted(type(as_source(drawn()))):
        reads = 0

        def read(self, index):
            Counted.reads += 1
            return super().read(index)

    source = Counted(drawn(), "array")
    assert len(list(read_batches(source, NET, 0, None, 4))) == 3
    assert Counted.reads == 0
