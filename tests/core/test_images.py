"""Pictures in and out, against Pillow, OpenCV, numpy and closed forms."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image

from cnnviz import images
from cnnviz.errors import CnnvizError, InvalidImage, InvalidOption, MissingDependency
from cnnviz.images.arrays import as_unit
from cnnviz.images.filters import opencv

KERNELS = ["nearest", "bilinear", "bicubic", "lanczos"]
PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def scene(height: int = 67, width: int = 91) -> np.ndarray:
    """Sky, ground, a hard-edged disc and grain, of uint8: smooth parts, edges and noise."""
    y, x = np.mgrid[0:height, 0:width]
    photo = np.stack([40 + 150 * y / height, 90 + 90 * x / width, 200 - 120 * y / height], -1)
    photo[y > 0.7 * height] = (60, 120, 40)
    photo[(y - height / 3) ** 2 + (x - width / 2) ** 2 < (height / 5) ** 2] = (250, 240, 20)
    photo += np.random.default_rng(0).normal(0, 6, photo.shape)
    return np.clip(np.rint(photo), 0, 255).astype(np.uint8)


def floats(*shape: int, dtype: Any = np.float64, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(dtype)


def one_line(error: pytest.ExceptionInfo[CnnvizError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


# -- reading: arrays ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, ">f4", ">f8"])
@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 1), (5, 6, 3)])
def test_an_array_becomes_floats_of_its_own_precision(dtype: Any, shape: tuple[int, ...]) -> None:
    given = scene(5, 6)[..., : shape[-1] if len(shape) == 3 else 1].reshape(shape)
    given = given if dtype is np.uint8 else (given / 255).astype(dtype)
    before = given.copy()
    got = images.read(given)
    assert got.shape == (5, 6, 3)
    assert got.dtype == (np.float64 if np.dtype(dtype).itemsize == 8 else np.float32)
    assert got.dtype.isnative
    scaled = given.astype(got.dtype) / (255 if dtype is np.uint8 else 1)
    np.testing.assert_array_equal(got, np.broadcast_to(scaled.reshape(5, 6, -1), (5, 6, 3)))
    got[:] = 0
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_luma_is_bt601_and_white_stays_white(dtype: Any) -> None:
    given = floats(4, 5, 3, dtype=dtype)
    given[0, 0] = 1
    got = images.read(given, channels=1)
    assert got.shape == (4, 5, 1)
    assert got.dtype == dtype
    want = given.astype(np.float64) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(got[..., 0], want, atol=1e-6 if dtype is np.float32 else 1e-15)
    assert 1 - 1e-6 < got[0, 0, 0] <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_lies_on_white(channels: int) -> None:
    given = np.zeros((1, 3, 4))
    given[0, :, :3] = 0.2
    given[0, :, 3] = (0, 0.5, 1)
    got = images.read(given, channels=channels)
    want = np.repeat([[[1], [0.6], [0.2]]], channels, axis=-1)
    np.testing.assert_allclose(got, want, atol=1e-15)


def test_as_many_channels_as_are_wanted_pass_unchanged() -> None:
    given = floats(4, 5, 6)
    np.testing.assert_array_equal(images.read(given, channels=6), given)
    np.testing.assert_array_equal(images.read_batch(given[None], channels=6), given[None])
    rgba = floats(4, 5, 4)
    np.testing.assert_array_equal(images.read(rgba, channels=4), rgba)


def test_rounding_past_the_range_is_clipped_and_nothing_else_is_touched() -> None:
    given = np.array([[-1e-7, 0.25, 1 + 1e-7, 0.1]])
    got = images.read(given, channels=1)[..., 0]
    np.testing.assert_array_equal(got, [[0, 0.25, 1, 0.1]])


BAD_ARRAYS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "int64": (np.zeros((4, 4, 3), int), ("int64", "uint8")),
    "uint16": (np.zeros((4, 4, 3), np.uint16), ("uint16",)),
    "bool": (np.zeros((4, 4, 3), bool), ("bool",)),
    "complex": (np.zeros((4, 4, 3), complex), ("complex128",)),
    "object": (np.full((4, 4, 3), None), ("object",)),
    "strings": (np.full((4, 4, 3), "x"), ("<U1",)),
    "nan": (np.full((4, 4, 3), np.nan), ("NaN",)),
    "one nan": (np.where(np.arange(48).reshape(4, 4, 3) == 7, np.nan, 0.5), ("NaN",)),
    "infinity": (np.where(np.arange(48).reshape(4, 4, 3) == 7, -np.inf, 0.5), ("infinity",)),
    "0 to 255": (np.full((4, 4, 3), 200.0), ("200", "divide by 255")),
    "0 to 65535": (np.full((4, 4, 3), 60000.0), ("divide by 65535",)),
    "overshoot": (np.full((4, 4, 3), 1.01), ("1.01", "clip")),
    "negative": (np.full((4, 4, 3), -1.8), ("-1.8", "normalised")),
    "no height": (np.zeros((0, 4, 3)), ("empty", "(0, 4, 3)")),
    "no channels": (np.zeros((4, 4, 0)), ("(4, 4, 0)",)),
    "a vector": (np.zeros(4), ("(4,)", "(H, W)")),
    "a batch": (np.zeros((2, 4, 4, 3)), ("x[0]",)),
    "channels first": (np.zeros((3, 8, 9)), ("(3, 8, 9)", "np.moveaxis(x, -3, -1)")),
    "greys": (np.zeros((7, 8, 9)), ("(7, 8, 9)", "x[..., None]")),
    "two channels": (np.zeros((8, 9, 2)), ("(8, 9, 2)", "1, 3 or 4")),
    "nothing": (None, ("NoneType", "path")),
    "bytes": (b"x", ("bytes",)),
    "a list": ([np.zeros((4, 4, 3))], ("list", "batch")),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_a_wrong_array_is_refused_in_one_line(case: str) -> None:
    given, words = BAD_ARRAYS[case]
    with pytest.raises(InvalidImage) as error:
        images.read(given)
    one_line(error, "the image", *words)
    with pytest.raises(InvalidImage) as error:
        images.read_batch([np.zeros((4, 4, 3)), given])
    one_line(error, "image 1 of the list", *words)


def test_the_right_advice_for_channels_first_works() -> None:
    given = floats(3, 8, 9)
    assert images.read(np.moveaxis(given, -3, -1)).shape == (8, 9, 3)
    with pytest.raises(InvalidImage) as error:
        images.read_batch(given[None])
    one_line(error, "(1, 3, 8, 9)", "np.moveaxis(x, -3, -1)")
    assert images.read_batch(np.moveaxis(given[None], -3, -1)).shape == (1, 8, 9, 3)


@pytest.mark.parametrize("given", [np.zeros((4, 4, 3)), np.zeros((1, 4, 4, 3)), "grey.png"])
def test_a_network_of_other_channels_refuses(given: Any, tmp_path: Path) -> None:
    if isinstance(given, str):
        given = tmp_path / given
        Image.fromarray(scene()).save(given)
    with pytest.raises(InvalidImage) as error:
        images.read_batch(given, channels=6)
    one_line(error, "6 channels")


def test_anything_that_numpy_reads_is_an_array_and_what_refuses_is_explained() -> None:
    class Tensor:
        def __init__(self, error: Exception | None = None) -> None:
            self.error = error

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
            if self.error is not None:
                raise self.error
            return np.full((4, 5, 3), 0.5, np.float32)

    np.testing.assert_array_equal(images.read(Tensor()), np.full((4, 5, 3), 0.5))
    for error in (RuntimeError("requires\ngrad"), TypeError("on another device")):
        with pytest.raises(InvalidImage) as caught:
            images.read_batch(Tensor(error))
        one_line(caught, "Tensor", "detach().cpu().numpy()")


# -- reading: files -----------------------------------------------------------------------------


def paletted(transparency: int | bytes) -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 51, 51, 51])
    image.putdata([0, 1, 2])
    image.info["transparency"] = transparency
    return image


def layered(mode: str, *bands: list[int]) -> Image.Image:
    parts = [Image.fromarray(np.array([band], np.uint8)) for band in bands]
    return Image.merge(mode, parts)


R, G, W, D = (1, 0, 0), (0, 1, 0), (1, 1, 1), (0.2, 0.2, 0.2)
MODES: dict[str, tuple[str, Any, list[tuple[float, ...]]]] = {
    "RGB": ("png", lambda: layered("RGB", [255, 51], [0, 51], [0, 51]), [R, D]),
    "RGBA": (
        "png",
        lambda: layered("RGBA", [255, 51, 0], [0, 51, 0], [0, 51, 0], [255, 255, 0]),
        [R, D, W],
    ),
    "RGBA, half": ("png", lambda: layered("RGBA", [0], [0], [0], [51]), [(0.8, 0.8, 0.8)]),
    "L": ("png", lambda: layered("L", [255, 51]), [W, D]),
    "LA": ("png", lambda: layered("LA", [51, 51], [255, 0]), [D, W]),
    "1": ("png", lambda: layered("L", [255, 0]).convert("1"), [W, (0, 0, 0)]),
    "P": ("png", lambda: layered("RGB", [255, 0], [0, 255], [0, 0]).quantize(4), [R, G]),
    "P, one clear colour": ("png", lambda: paletted(1), [R, W, D]),
    "P, alphas": (
        "png",
        lambda: paletted(b"\xff\x00\x80"),
        [R, W, tuple([1 - 0.8 * 128 / 255] * 3)],
    ),
    "P in a GIF": ("gif", lambda: paletted(1), [R, W, D]),
    "I;16": ("png", lambda: Image.fromarray(np.array([[65535, 13107]], np.uint16)), [W, D]),
    "I;16 in a TIFF": (
        "tif",
        lambda: Image.fromarray(np.array([[65535, 13107]], np.uint16)),
        [W, D],
    ),
    "I": ("tif", lambda: Image.fromarray(np.array([[65535, 13107]], np.int32)), [W, D]),
    "F": ("tif", lambda: Image.fromarray(np.array([[1, 0.2]], np.float32)), [W, D]),
    "CMYK": (
        "tif",
        lambda: layered("CMYK", [0, 0], [255, 0], [255, 0], [0, 204]),
        [R, D],
    ),
}


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_a_file(mode: str, opened: bool, channels: int, tmp_path: Path) -> None:
    suffix, make, want = MODES[mode]
    path = tmp_path / f"picture.{suffix}"
    make().save(path)
    if opened:
        with Image.open(path) as image:
            got = images.read(image, channels)
    else:
        got = images.read(path, channels)
    row = np.array(want) if channels == 3 else np.array(want) @ [[0.299], [0.587], [0.114]]
    np.testing.assert_allclose(got, row[None], atol=1e-6)
    assert got.dtype == np.float32
    assert got.flags.writeable


def test_modes_are_what_they_say(tmp_path: Path) -> None:
    for mode, (suffix, make, _) in MODES.items():
        path = tmp_path / f"picture.{suffix}"
        make().save(path)
        with Image.open(path) as image:
            assert image.mode.split(";")[0] == mode.split(",")[0].split(" ")[0].split(";")[0], mode


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "RGBa", "PA"])
def test_a_pillow_image_of_a_mode_that_files_seldom_have(mode: str) -> None:
    image = layered("RGB", [255, 51, 0], [255, 51, 0], [255, 51, 0])
    if mode == "RGBa":
        image = image.convert("RGBA")
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    assert image.mode == mode
    np.testing.assert_allclose(images.read(image)[0], [W, D, (0, 0, 0)], atol=1e-6)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "L"])
def test_a_jpeg_of_any_mode(mode: str, tmp_path: Path) -> None:
    photo = Image.fromarray(cv2.GaussianBlur(scene(), (0, 0), 3)).convert(mode)
    photo.save(tmp_path / "photo.jpg", quality=100, subsampling=0)
    want = np.asarray(photo.convert("RGB")) / 255
    np.testing.assert_allclose(images.read(tmp_path / "photo.jpg"), want, atol=6 / 255)


def test_more_than_16_bits_are_refused_rather_than_clipped() -> None:
    with pytest.raises(InvalidImage) as error:
        images.read(Image.fromarray(np.array([[0, 65536]], np.int32)))
    one_line(error, "65536")
    with pytest.raises(InvalidImage) as error:
        images.read(Image.fromarray(np.array([[0, 255]], np.float32)))
    one_line(error, "divide by 255")


# What a camera stored, for the upright picture u.
STORED = {
    1: lambda u: u,
    2: np.fliplr,
    3: lambda u: np.rot90(u, 2),
    4: np.flipud,
    5: lambda u: u.swapaxes(0, 1),
    6: lambda u: np.rot90(u, 1),
    7: lambda u: np.rot90(u, 2).swapaxes(0, 1),
    8: lambda u: np.rot90(u, -1),
}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_photo_is_turned_upright(orientation: int, suffix: str, tmp_path: Path) -> None:
    upright = cv2.GaussianBlur(scene(20, 30), (0, 0), 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    stored.save(path, exif=exif, **options.get(suffix, {}))
    atol = 6 / 255 if suffix == "jpg" else 1e-6
    np.testing.assert_allclose(images.read(path), upright / 255, atol=atol)
    with Image.open(path) as image:
        np.testing.assert_allclose(images.read(image), upright / 255, atol=atol)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_photo_with_damaged_exif_is_still_a_photo(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(scene()).save(path, exif=b"Exif\x00\x00MM\x00\x2a\xff\xff\xff\xffjunk")
    with Image.open(path) as image:
        want = np.asarray(image) / np.float32(255)
    np.testing.assert_array_equal(images.read(path), want)
    broken = tmp_path / "broken.png"
    Image.fromarray(scene()).save(broken, exif=b"Exif\x00\x00not a TIFF header")
    np.testing.assert_array_equal(images.read(broken), scene() / np.float32(255))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_the_first_frame_of_an_animation(suffix: str, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    path = tmp_path / f"moving.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_allclose(images.read(path)[0, 0], R, atol=0.01)
    with Image.open(path) as image:
        assert image.n_frames == 2
        image.seek(1)
        np.testing.assert_allclose(images.read(image)[0, 0], (0, 0, 1), atol=0.01)


def encoded(suffix: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_named(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{suffix}"
    whole = encoded(suffix)
    path.write_bytes(whole)
    assert images.read(path).shape == (67, 91, 3)
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InvalidImage) as error:
        images.read(path)
    one_line(error, repr(str(path)))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_pillow_image_is_explained(suffix: str) -> None:
    whole = encoded(suffix)
    image = Image.open(io.BytesIO(whole[: len(whole) // 2]))
    with pytest.raises(InvalidImage) as error:
        images.read_batch([image])
    one_line(error, "image 0 of the list", "RGB, 91 x 67", "truncated")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
def test_a_damaged_file_gives_a_picture_or_one_line(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / f"photo.{suffix}"
    refused = []
    for _ in range(60):
        data = np.frombuffer(encoded(suffix), np.uint8).copy()
        # Half of the damage in the header, where it does most.
        places = np.r_[rng.integers(0, 64, 3), rng.integers(0, len(data), 3)]
        data[places] = rng.integers(0, 256, 6)
        path.write_bytes(data.tobytes())
        try:
            got = images.read(path)
        except InvalidImage as error:
            refused.append(str(error))
        else:
            assert got.ndim == 3
            assert got.shape[-1] == 3
            assert 0 <= got.min() <= got.max() <= 1
    assert refused
    assert all(repr(str(path)) in text and "\n" not in text for text in refused)


def test_files_that_are_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.jpg").write_text("not a picture")
    table = {
        "missing.png": ("no file",),
        "empty.png": ("empty",),
        "notes.jpg": ("not an image",),
        "notes.jpg/inside.png": ("cannot be read",),
        "nul\0.png": ("nul",),
    }
    for name, words in table.items():
        with pytest.raises(InvalidImage) as error:
            images.read(str(tmp_path / name))
        one_line(error, repr(str(tmp_path / name)), *words)
    with pytest.raises(InvalidImage) as error:
        images.read("https://example.org/cat.jpg")
    one_line(error, "download")


def test_a_folder_says_to_list_its_files(tmp_path: Path) -> None:
    images.save(tmp_path / "a.png", np.zeros((4, 5)))
    images.save(tmp_path / "b.png", np.ones((4, 5)))
    with pytest.raises(InvalidImage) as error:
        images.read_batch(tmp_path)
    one_line(error, repr(str(tmp_path)), "folder", "iterdir")
    assert images.read_batch(sorted(tmp_path.iterdir())).shape == (2, 4, 5, 3)


@pytest.mark.parametrize("pixels", [10, 6000])
def test_a_decompression_bomb_is_refused(
    pixels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.png"
    images.save(path, np.zeros((100, 100)))
    # Below half of the pixels Pillow raises an error, above it a warning, an error in tests.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    with pytest.raises(InvalidImage) as error:
        images.read(path)
    one_line(error, repr(str(path)), "too many pixels")


def test_a_file_without_permission_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(InvalidImage) as error:
        images.read(Path("photo.png"))
    one_line(error, "'photo.png' cannot be read: Permission denied")


# -- reading: batches ---------------------------------------------------------------------------


def test_every_kind_of_argument_gives_the_same_batch(tmp_path: Path) -> None:
    photo = scene()
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    want = (photo / np.float32(255))[None]
    one = [str(path), path, Image.fromarray(photo), photo, photo / np.float32(255), photo[None]]
    for given in [*one, [path], (photo,), [Image.fromarray(photo)]]:
        got = images.read_batch(given)
        np.testing.assert_array_equal(got, want)
        assert got.dtype == np.float32
    many = images.read_batch(one[:-1])
    np.testing.assert_array_equal(many, np.repeat(want, 5, axis=0))
    np.testing.assert_array_equal(images.read_batch(photo[..., 0])[..., 2], want[..., 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_right_size_is_not_touched(dtype: Any) -> None:
    given = floats(2, 6, 7, 3, dtype=dtype)
    for interpolation in KERNELS:
        got = images.read_batch(given, size=(6, 7), interpolation=interpolation)
        assert got.tobytes() == given.tobytes()
        assert got.dtype == dtype
        assert not np.shares_memory(got, given)
        assert images.read_batch(list(given), size=(6, 7)).tobytes() == given.tobytes()


def test_one_float64_makes_the_batch_float64() -> None:
    got = images.read_batch([scene(4, 5), floats(4, 5, 3, dtype=np.float32), floats(4, 5, 3)])
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got[2], floats(4, 5, 3))
    assert images.read_batch([scene(4, 5), floats(4, 5, 3, dtype=np.float32)]).dtype == np.float32


@pytest.mark.parametrize("interpolation", KERNELS)
def test_the_whole_photo_is_squashed_to_the_size(interpolation: Any) -> None:
    photos = [scene(67, 91), scene(40, 30), scene(24, 24)[..., :1]]
    got = images.read_batch(photos, size=(24, 32), interpolation=interpolation)
    assert got.shape == (3, 24, 32, 3)
    assert 0 <= got.min() <= got.max() <= 1
    for photo, one in zip(photos, got, strict=True):
        rgb = Image.fromarray(np.broadcast_to(photo, (*photo.shape[:2], 3)).copy())
        # In two steps, since Pillow 13 at times takes the height first.
        wide = rgb.resize((32, rgb.height), PILLOW[interpolation])
        want = np.asarray(wide.resize((32, 24), PILLOW[interpolation])) / 255
        assert np.abs(one - want).max() < 1.5 / 255
    alone = images.read_batch(photos[1], size=(24, 32), interpolation=interpolation)
    assert alone[0].tobytes() == got[1].tobytes()


def test_sizes_that_differ_are_named() -> None:
    with pytest.raises(InvalidImage) as error:
        images.read_batch([scene(4, 5), scene(4, 5), scene(6, 7)])
    one_line(error, "image 0 is 4 x 5", "image 2 is 6 x 7", "size")


@pytest.mark.parametrize(
    "given", [[], (), np.zeros((0, 4, 4, 3)), {}, iter([]), np.zeros((1,) * 5)]
)
def test_what_is_no_batch_is_refused(given: Any) -> None:
    with pytest.raises(InvalidImage) as error:
        images.read_batch(given)
    one_line(error)


@pytest.mark.parametrize("size", [(0, 4), (4,), (4, 4, 4), 4, (4.5, 4), "ab", (-1, 4)])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    for call in (
        lambda: images.read_batch(scene(), size=size),
        lambda: images.resize(floats(4, 4, 1), size),
    ):
        with pytest.raises(InvalidOption) as error:
            call()
        one_line(error, "(height, width)")


# -- resizing -----------------------------------------------------------------------------------


SIZES = [(24, 32), (7, 5), (134, 182), (224, 224), (67, 40), (66, 92), (1, 1), (150, 20), (20, 300)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", KERNELS)
def test_resize_is_pillow_s(interpolation: Any, size: tuple[int, int]) -> None:
    # Away from black and white, where Pillow clips 8 bits between its passes and floats not.
    photo = scene() // 2 + 64
    got = images.resize(photo / 255.0, size, interpolation)
    pillow = Image.fromarray(photo).resize(size[::-1], PILLOW[interpolation])
    assert np.abs(got - np.asarray(pillow) / 255).max() < 1.5 / 255
    # Mode F has no grey levels to round to, so there the kernels must be the same.
    for channel in range(3):
        exact = Image.fromarray((photo[..., channel] / 255).astype(np.float32))
        want = np.asarray(exact.resize(size[::-1], PILLOW[interpolation]))
        np.testing.assert_allclose(got[..., channel], want, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", KERNELS)
def test_a_constant_stays_constant(interpolation: Any, antialias: bool, dtype: Any) -> None:
    for size in ((3, 29), (50, 4), (13, 11)):
        got = images.resize(np.full((13, 11, 2), 0.3, dtype), size, interpolation, antialias)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, 0.3, rtol=4 * np.finfo(dtype).eps)


def test_enlarging_a_ramp_stays_on_its_line() -> None:
    ramp = np.arange(5.0)[None, :, None] * np.ones((3, 1, 1))
    for factor in (2, 3, 7):
        place = (np.arange(5 * factor) + 0.5) / factor - 0.5
        got = images.resize(ramp, (3, 5 * factor))
        want = np.broadcast_to(place.clip(0, 4)[None], got.shape[:2])
        np.testing.assert_allclose(got[..., 0], want, atol=1e-14)
        inside = slice(2 * factor, -2 * factor)
        cubic = images.resize(ramp, (3, 5 * factor), "bicubic")
        np.testing.assert_allclose(cubic[:, inside, 0], want[:, inside], atol=1e-14)


def test_kernels_have_their_closed_forms() -> None:
    step = np.array([0.0, 0, 0, 1, 1, 1, 1, 1])[:, None, None]
    # A triangle of radius 2: weights 1/4 3/4 3/4 1/4 of 2, at the border 3/4 3/4 1/4 of 7/4.
    np.testing.assert_allclose(
        images.resize(step[:, :, :], (4, 1))[:, 0, 0], [0, 0.5, 1, 1], atol=1e-15
    )
    edge = np.array([1.0, 0, 0, 0])[:, None, None]
    np.testing.assert_allclose(images.resize(edge, (2, 1))[:, 0, 0], [3 / 7, 0], atol=1e-15)
    # Without antialiasing the two pixels beside the centre, a half each.
    plain = images.resize(edge, (2, 1), antialias=False)
    np.testing.assert_allclose(plain[:, 0, 0], [0.5, 0], atol=1e-15)
    # Keys' cubic with a = -1/2 a quarter of a pixel off.
    pulse = np.array([0.0, 0, 0, 1, 0, 0, 0])[:, None, None]
    keys = [-0.0234375, 0.2265625, 0.8671875, -0.0703125]
    got = images.resize(pulse, (14, 1), "bicubic")[:, 0, 0]
    np.testing.assert_allclose(got[3:7], [keys[0], keys[3], keys[1], keys[2]], atol=1e-15)


@pytest.mark.parametrize("size", [(24, 32), (134, 182), (100, 300), (5, 91)])
def test_without_antialias_it_is_opencv_s_bilinear(size: tuple[int, int]) -> None:
    photo = scene() / 255.0
    want = cv2.resize(photo, size[::-1], interpolation=cv2.INTER_LINEAR)
    got = images.resize(photo, size, antialias=False)
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("channels", [1, 2, 5, 600])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_channels_and_any_batch_come_out_alike(channels: int, dtype: Any) -> None:
    batch = floats(3, 9, 8, channels, dtype=dtype) * 40 - 20
    got = images.resize(batch, (5, 12), "bicubic")
    assert got.shape == (3, 5, 12, channels)
    assert got.dtype == dtype
    for one, alone in zip(batch, got, strict=True):
        assert images.resize(one, (5, 12), "bicubic").tobytes() == alone.tobytes()
    last = images.resize(batch[..., -1:], (5, 12), "bicubic")
    assert last.tobytes() == got[..., -1:].tobytes()


def test_float64_is_kept_to_its_last_digits() -> None:
    tiny = 1 + floats(9, 9, 1) * 1e-12
    got = images.resize(tiny, (4, 4)) - 1
    want = images.resize((tiny - 1) * 1e12, (4, 4)) / 1e12
    np.testing.assert_allclose(got, want, atol=1e-15)
    assert got.std() > 1e-14


def test_the_same_size_is_a_copy() -> None:
    given = floats(4, 5, 3)
    for interpolation in KERNELS:
        got = images.resize(given, (4, 5), interpolation)
        assert got.tobytes() == given.tobytes()
        assert not np.shares_memory(got, given)


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (np.zeros((4, 4)), "x[..., None]"),
        (np.zeros((4, 4, 3), np.uint8), "uint8"),
        (np.zeros((1, 1, 4, 4, 3)), "(1, 1, 4, 4, 3)"),
        (np.zeros((4, 0, 3)), "empty"),
    ],
)
def test_what_is_no_picture_is_neither_resized_nor_blurred(given: Any, word: str) -> None:
    for call in (
        lambda: images.resize(given, (2, 2)),
        lambda: images.gaussian_blur(given, 1),
        lambda: images.gaussian_blur(given, 0),
        lambda: images.box_blur(given, 3),
        lambda: images.bilateral(given, 3, 25, 25),
    ):
        with pytest.raises(InvalidImage) as error:
            call()
        one_line(error, word)


def test_an_unknown_interpolation_is_refused() -> None:
    unknown: Any = "cubic"
    with pytest.raises(InvalidOption) as error:
        images.resize(floats(4, 4, 1), (2, 2), unknown)
    one_line(error, "bicubic", "'cubic'")


# -- blurs --------------------------------------------------------------------------------------


def blurred(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve ``(H, W, C)`` with a square kernel, borders mirrored about the edge pixel."""
    radius = len(kernel) // 2
    pad = np.pad(x, [(radius, radius)] * 2 + [(0, 0)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(pad, kernel.shape, axis=(0, 1))
    return np.einsum("hwcij,ij->hwc", windows, kernel)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 5, 700])
def test_gaussian_and_box_are_convolutions(channels: int, dtype: Any) -> None:
    batch = floats(2, 11, 14, channels, dtype=dtype)
    atol = 1e-6 if dtype is np.float32 else 1e-14
    for sigma, radius in ((0.5, 2), (1.0, 4), (2.3, 9)):
        row = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        kernel = np.outer(row, row) / row.sum() ** 2
        got = images.gaussian_blur(batch, sigma)
        assert got.dtype == dtype
        for one, picture in zip(batch, got, strict=True):
            np.testing.assert_allclose(picture, blurred(one, kernel), atol=atol)
            assert images.gaussian_blur(one, sigma).tobytes() == picture.tobytes()
    for side in (1, 3, 7):
        got = images.box_blur(batch, side)
        assert got.dtype == dtype
        for one, picture in zip(batch, got, strict=True):
            want = blurred(one, np.full((side, side), side**-2.0))
            np.testing.assert_allclose(picture, want, atol=atol)


@pytest.mark.parametrize("channels", [1, 3])
def test_bilateral_is_opencv_s(channels: int) -> None:
    photo = np.ascontiguousarray(scene()[..., :channels] / np.float32(255))
    for diameter, colour, space in ((3, 25.0, 25.0), (5, 60.0, 1.5), (9, 12.0, 4.0)):
        got = images.bilateral(photo, diameter, colour, space)
        want = cv2.bilateralFilter(photo, diameter, colour / 255, space)
        assert got.dtype == np.float32
        # OpenCV looks its weights up in a table.
        np.testing.assert_allclose(got, want.reshape(got.shape), atol=2e-4)
        assert np.abs(got - photo).max() > 0.01


def test_bilateral_has_its_closed_form() -> None:
    given = np.full((5, 5, 2), 0.5)
    given[2, 2] = (0.6, 0.3)
    got = images.bilateral(given[None], 3, 25, 25)[0]
    # Four neighbours at distance 1, whose colours differ by 0.1 + 0.2.
    weight = np.exp(-0.5 * ((0.3 * 255 / 25) ** 2 + 1 / 25**2))
    centre = (np.array([0.6, 0.3]) + 4 * weight * 0.5) / (1 + 4 * weight)
    np.testing.assert_allclose(got[2, 2], centre, atol=1e-15)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got[0, 0], 0.5, atol=1e-15)


def test_bilateral_keeps_edges_that_a_gaussian_blurs() -> None:
    step = np.zeros((9, 10, 3))
    step[:, 5:] = 1
    assert np.abs(images.bilateral(step, 5, 25, 25) - step).max() < 1e-9
    assert np.abs(images.gaussian_blur(step, 1) - step).max() > 0.3


def test_blurs_never_give_the_argument_back() -> None:
    given = floats(6, 6, 3)
    before = given.copy()
    for got in (
        images.gaussian_blur(given, 0),
        images.gaussian_blur(given, 0.5),
        images.box_blur(given, 1),
        images.bilateral(given, 3, 25, 25),
    ):
        got += 1
        np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(images.gaussian_blur(given, 0), given)


def test_a_blur_wider_than_the_picture_mirrors_again() -> None:
    thin = floats(1, 3, 2)
    for got in (
        images.box_blur(thin, 9),
        images.gaussian_blur(thin, 3),
        images.bilateral(thin, 9, 25, 5),
    ):
        assert got.shape == thin.shape
        assert (got >= thin.min(axis=(0, 1)) - 1e-12).all()
        assert (got <= thin.max(axis=(0, 1)) + 1e-12).all()
    np.testing.assert_allclose(
        images.box_blur(thin, 9), blurred(thin, np.full((9, 9), 1 / 81)), atol=1e-14
    )


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("gaussian_blur", (-1.0,)),
        ("gaussian_blur", (float("nan"),)),
        ("gaussian_blur", (float("inf"),)),
        ("box_blur", (2,)),
        ("box_blur", (0,)),
        ("box_blur", (2.5,)),
        ("bilateral", (4, 25, 25)),
        ("bilateral", (1, 25, 25)),
        ("bilateral", (3, 0, 25)),
        ("bilateral", (3, 25, -1)),
        ("bilateral", (3, float("nan"), 25)),
    ],
)
def test_a_wrong_setting_of_a_blur_is_refused(name: str, args: tuple[Any, ...]) -> None:
    with pytest.raises(InvalidOption) as error:
        getattr(images, name)(floats(5, 5, 3), *args)
    one_line(error, "must be")


def test_a_missing_libgl_says_what_to_install(tmp_path: Path) -> None:
    reason = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({reason!r})\n")
    script = """
import sys
import numpy as np
from cnnviz import images
from cnnviz.errors import MissingDependency
assert not {"cv2", "torch", "keras", "tensorflow", "jax"} & set(sys.modules)
x = images.read_batch(np.zeros((8, 8, 3)), size=(4, 4))
images.bilateral(images.overlay(x, np.zeros((4, 4))), 3, 25, 25)
for blur in (images.gaussian_blur, images.box_blur):
    try:
        blur(x, 3)
    except MissingDependency as error:
        print(error)
"""
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path), str(Path.cwd())])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "libGL.so.1" in line
        assert "pip uninstall -y opencv-python;" in line
        assert "opencv-python-headless" in line


def test_a_missing_opencv_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opencv() is cv2
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependency) as error:
        images.gaussian_blur(floats(4, 4, 3), 1)
    one_line(error, "opencv-python-headless")
    assert isinstance(error.value, ImportError)


# -- drawing ------------------------------------------------------------------------------------


def test_colours_are_matplotlib_s() -> None:
    values = floats(4, 5)
    values[0, :2] = (0, 1)
    want = matplotlib.colormaps["viridis"](values)[..., :3]
    np.testing.assert_array_equal(images.colormap(values), want)
    assert images.colormap(values.astype(np.float32), "jet").dtype == np.float32
    np.testing.assert_allclose(
        images.colormap(np.array([0.0, 1]), "jet"), [[0, 0, 0.5], [0.5, 0, 0]]
    )
    assert images.colormap(np.array(0.5)).shape == (3,)


@pytest.mark.parametrize(
    "values", [np.array([[0, 255]], np.uint8), np.array([0, 1]), [1.5], [-0.1], [np.nan], []]
)
def test_only_floats_in_the_unit_interval_are_coloured(values: Any) -> None:
    with pytest.raises(InvalidImage) as error:
        images.colormap(np.asarray(values))
    one_line(error)
    with pytest.raises(InvalidImage) as error:
        images.overlay(
            np.zeros((1, 2, 3)), np.resize(values, (1, 2)) if len(values) else np.zeros(0)
        )
    one_line(error)


def test_an_unknown_colour_map_is_refused() -> None:
    with pytest.raises(InvalidOption) as error:
        images.colormap(np.zeros(3), "heat")
    one_line(error, "'heat'", "viridis")


def test_an_overlay_is_three_parts_heat_and_seven_photo() -> None:
    photo, heat = floats(4, 5, 3), floats(4, 5, seed=2)
    heat[1, 2], heat[3, 3] = 1, 0
    got = images.overlay(photo, heat)
    jet = matplotlib.colormaps["jet"]
    np.testing.assert_allclose(got, 0.3 * jet(heat)[..., :3] + 0.7 * photo, atol=1e-15)
    # Hottest is the far end of jet, dark red, and coldest dark blue.
    np.testing.assert_allclose(got[1, 2] - 0.7 * photo[1, 2], [0.15, 0, 0], atol=1e-15)
    np.testing.assert_allclose(got[3, 3] - 0.7 * photo[3, 3], [0, 0, 0.15], atol=1e-15)
    np.testing.assert_allclose(images.overlay(photo, heat, alpha=0), photo, atol=1e-15)
    np.testing.assert_allclose(
        images.overlay(photo, heat, 1, "magma"), images.colormap(heat, "magma"), atol=1e-15
    )


def test_a_dim_photo_stays_dim() -> None:
    got = images.overlay(np.full((3, 4, 3), 0.1), np.zeros((3, 4)))
    np.testing.assert_allclose(got, np.broadcast_to([0.07, 0.07, 0.22], (3, 4, 3)), atol=1e-15)


def test_an_overlay_of_any_photo_and_any_number(tmp_path: Path) -> None:
    photo, heat = scene(6, 7), floats(6, 7, dtype=np.float32)
    want = images.overlay(photo, heat)
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    for image in (path, str(path), Image.fromarray(photo), photo / np.float32(255)):
        np.testing.assert_array_equal(images.overlay(image, heat), want)
    grey = images.overlay(photo[..., 0], heat)
    np.testing.assert_array_equal(grey, images.overlay(np.repeat(photo[..., :1], 3, -1), heat))
    heats, photos = np.stack([heat, 1 - heat]), np.stack([photo, photo[::-1]])
    for image, heated in ((photo, heats), (photos, heats), (photos, heat), (photos[:1], heats)):
        if len(np.shape(image)) == 4 and len(image) == 1:
            with pytest.raises(InvalidImage) as error:
                images.overlay(image, heated)
            one_line(error, "2 heat maps for 1 photos")
            continue
        got = images.overlay(image, heated)
        assert got.shape == (2, 6, 7, 3)
        np.testing.assert_array_equal(got[0], want)
    np.testing.assert_array_equal(
        images.overlay(photos, heats)[1], images.overlay(photos[1], heats[1])
    )


def test_an_overlay_refuses_what_does_not_fit() -> None:
    with pytest.raises(InvalidImage) as size:
        images.overlay(scene(6, 7), np.zeros((7, 6)))
    one_line(size, "7 x 6", "6 x 7")
    with pytest.raises(InvalidImage) as shape:
        images.overlay(scene(6, 7), np.zeros((1, 6, 7, 1)))
    one_line(shape, "(1, 6, 7, 1)")
    for alpha in (-0.1, 1.1, float("nan"), 77):
        with pytest.raises(InvalidOption) as error:
            images.overlay(scene(6, 7), np.zeros((6, 7)), alpha)
        one_line(error, "alpha")


def test_a_sheet_has_margins_between_and_around() -> None:
    tiles = floats(5, 2, 3, 3)
    sheet = images.grid(tiles, columns=3, margin=1, background=0.25)
    assert sheet.shape == (2 * 3 + 1, 3 * 4 + 1, 3)
    want = np.full(sheet.shape, 0.25)
    for i, (top, left) in enumerate([(1, 1), (1, 5), (1, 9), (4, 1), (4, 5)]):
        want[top : top + 2, left : left + 3] = tiles[i]
    np.testing.assert_array_equal(sheet, want)
    np.testing.assert_array_equal(images.grid(list(tiles), 3, 1, 0.25), sheet)


def test_a_sheet_of_64_is_8_by_8_with_margins_of_5() -> None:
    sheet = images.grid(np.zeros((64, 64, 64, 3), np.float32))
    assert sheet.shape == (8 * 69 + 5, 8 * 69 + 5, 3)
    assert sheet.dtype == np.float32
    assert sheet[:5].min() == sheet[-5:].min() == sheet[:, :5].min() == sheet[:, 69:74].min() == 1
    assert sheet[5:69, 5:69].max() == 0


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (5, 3), (9, 3), (12, 4)])
def test_a_sheet_is_about_square_by_default(count: int, columns: int) -> None:
    sheet = images.grid(np.zeros((count, 4, 4, 1)), margin=0)
    assert sheet.shape == (4 * -(-count // columns), 4 * columns, 1)


def test_a_sheet_of_greys_is_rgb_and_takes_a_coloured_background() -> None:
    greys = floats(3, 4, 5)
    sheet = images.grid(greys, columns=2, margin=2, background=(1, 0, 0.5))
    assert sheet.shape == (2 * 6 + 2, 2 * 7 + 2, 3)
    np.testing.assert_array_equal(sheet[2:6, 9:14], np.repeat(greys[1][..., None], 3, -1))
    np.testing.assert_array_equal(sheet[8:12, 9:14], np.broadcast_to([1, 0, 0.5], (4, 5, 3)))
    uint8 = images.grid(scene(4, 5)[None], margin=0)
    np.testing.assert_array_equal(uint8, scene(4, 5) / np.float32(255))


@pytest.mark.parametrize(
    ("given", "options", "error", "word"),
    [
        ([], {}, InvalidImage, "no pictures"),
        (np.zeros((0, 4, 4, 3)), {}, InvalidImage, "empty"),
        (np.zeros((4, 4)), {}, InvalidImage, "(4, 4)"),
        ([np.zeros((4, 4, 3)), np.zeros((4, 5, 3))], {}, InvalidImage, "(4, 5, 3)"),
        (np.full((2, 4, 4), 3.0), {}, InvalidImage, "[0, 1]"),
        (np.zeros((2, 4, 4), int), {}, InvalidImage, "int64"),
        (np.zeros((2, 4, 4)), {"columns": 0}, InvalidOption, "columns"),
        (np.zeros((2, 4, 4)), {"columns": 1.5}, InvalidOption, "columns"),
        (np.zeros((2, 4, 4)), {"margin": -1}, InvalidOption, "margin"),
        (np.zeros((2, 4, 4)), {"background": 255}, InvalidOption, "background"),
        (np.zeros((2, 4, 4)), {"background": "white"}, InvalidOption, "background"),
        (np.zeros((2, 4, 4)), {"background": (1, 0)}, InvalidOption, "background"),
        (np.zeros((2, 4, 4)), {"background": float("nan")}, InvalidOption, "background"),
    ],
)
def test_a_sheet_refuses_what_does_not_fit(given: Any, options: Any, error: Any, word: str) -> None:
    with pytest.raises(error) as caught:
        images.grid(given, **options)
    one_line(caught, word)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_map_is_stretched_by_itself(dtype: Any) -> None:
    maps = (floats(2, 4, 5, 3, dtype=dtype) * 7 - 3) * np.array([1, 1e-3, 1e4], dtype)
    maps[1, ..., 2] = 6
    before = maps.copy()
    got = images.normalise(maps)
    np.testing.assert_array_equal(maps, before)
    assert got.dtype == dtype
    for n in range(2):
        for c in range(3):
            one = maps[n, ..., c].astype(np.float64)
            if n == 1 and c == 2:
                assert (got[n, ..., c] == 0).all()
                continue
            want = (one - one.min()) / (one.max() - one.min())
            np.testing.assert_allclose(got[n, ..., c], want, atol=4 * np.finfo(dtype).eps)
            assert got[n, ..., c].min() == 0
            assert got[n, ..., c].max() == 1
    np.testing.assert_array_equal(images.normalise(maps[..., 0]), got[..., 0])
    np.testing.assert_array_equal(images.normalise(maps[0, ..., 0]), got[0, ..., 0])


def test_zero_stays_in_the_middle() -> None:
    got = images.normalise(np.array([[[-4.0, 0, 2]], [[0, 0, 0]]]), "zero")
    np.testing.assert_array_equal(got, [[[0, 0.5, 0.75]], [[0.5, 0.5, 0.5]]])


@pytest.mark.parametrize("value", [0.0, 3.7, -1e300, 5e-324])
def test_a_constant_map_is_zero(value: float) -> None:
    assert (images.normalise(np.full((3, 4), value)) == 0).all()


@pytest.mark.parametrize("low_high", [(-1.7e308, 1.7e308), (0, 5e-324), (1e300, 1.7e308)])
def test_extreme_maps_are_stretched_without_a_warning(low_high: tuple[float, float]) -> None:
    low, high = low_high
    np.testing.assert_array_equal(images.normalise(np.array([[low, high]])), [[0, 1]])


def test_normalise_refuses_what_it_cannot_show() -> None:
    for given, word in (
        (np.array([[0, np.nan]]), "NaN"),
        (np.array([[0, np.inf]]), "infinity"),
        (np.zeros(4), "(4,)"),
        (np.zeros((0, 4)), "(0, 4)"),
        (np.zeros((4, 4), int), "int64"),
    ):
        with pytest.raises(InvalidImage) as error:
            images.normalise(given)
        one_line(error, word)
    how: Any = "max"
    with pytest.raises(InvalidOption) as option:
        images.normalise(np.zeros((2, 2)), how)
    one_line(option, "'max'")


# -- writing ------------------------------------------------------------------------------------


def test_every_grey_level_survives_and_the_rest_is_rounded() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for given in (levels, levels / 255.0, levels / np.float32(255)):
        got = images.to_uint8(given)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, levels)
        assert not np.shares_memory(got, given)
    halves = (np.arange(255) + np.array([[0.49], [0.51]])) / 255
    np.testing.assert_array_equal(images.to_uint8(halves), [np.arange(255), np.arange(1, 256)])
    np.testing.assert_array_equal(images.to_uint8(np.array([-1e-8, 1 + 1e-8])), [0, 255])


@pytest.mark.parametrize(
    "bad", [np.array([1.2]), np.array([-0.2]), np.array([np.nan]), np.array([3]), np.zeros(0)]
)
def test_what_is_no_picture_has_no_8_bits(bad: np.ndarray) -> None:
    with pytest.raises(InvalidImage) as error:
        images.to_uint8(bad)
    one_line(error)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".jpeg", ".webp"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_saved_picture_is_read_again(
    suffix: str, shape: tuple[int, ...], dtype: Any, tmp_path: Path
) -> None:
    smooth = cv2.GaussianBlur(scene(20, 30), (0, 0), 4)
    picture = np.dstack([smooth, np.full((20, 30), 255, np.uint8)])
    picture = picture[..., 0] if len(shape) == 2 else picture[..., : shape[-1]]
    given = picture if dtype is np.uint8 else (picture / 255).astype(dtype)
    path = tmp_path / f"picture{suffix}"
    if shape[-1] == 4 and "jp" in suffix:
        with pytest.raises(InvalidImage) as error:
            images.save(path, given)
        one_line(error, "JPEG", "(20, 30, 4)")
        assert not list(tmp_path.iterdir())
        return
    assert images.save(str(path), given) == path
    with Image.open(path) as image:
        kinds = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
        assert image.format == kinds[suffix.lower()]
    got = images.to_uint8(images.read(path)).astype(int)
    want = picture.reshape(20, 30, -1)[..., :3] + np.zeros(3, int)
    assert np.abs(got - want).max() <= (0 if suffix.lower() == ".png" else 8)
    assert list(tmp_path.iterdir()) == [path]


def test_thin_lines_keep_their_colour_in_a_jpeg(tmp_path: Path) -> None:
    lines = np.zeros((16, 16, 3))
    lines[:, ::2, 0] = lines[:, 1::2, 2] = 1
    got = images.read(images.save(tmp_path / "lines.jpg", lines))
    assert np.abs(got - lines).max() < 0.1


def test_texts_of_a_png_are_kept_and_its_bytes_do_not_vary(tmp_path: Path) -> None:
    texts = {"Title": "conv 3, channel 7", "Unicode": "é 层 →", "cnnviz:seed": "0"}
    images.save(tmp_path / "a.png", scene(), metadata=texts)
    with Image.open(tmp_path / "a.png") as image:
        assert {key: str(value) for key, value in image.text.items()} == texts
    assert (tmp_path / "a.png").read_bytes() == images.png_bytes(scene() / 255, texts)
    assert images.png_bytes(scene()) != images.png_bytes(scene(), texts)


@pytest.mark.parametrize(
    ("name", "metadata", "word"),
    [
        ("a.gif", None, ".webp"),
        ("a", None, "end it in .png"),
        ("missing/a.png", None, "make it first"),
        ("a.jpg", {"k": "v"}, "metadata"),
        ("a.png", {"": "v"}, "1 to 79"),
        ("a.png", {"k" * 80: "v"}, "1 to 79"),
        ("a.png", {"层": "v"}, "Latin-1"),
        ("a.png", {"k\n": "v"}, "printable"),
        ("a.png", {"k": 3}, "int"),
        ("folder.png", None, "cannot write"),
        ("n" * 300 + ".png", None, "cannot write"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    name: str, metadata: Any, word: str, tmp_path: Path
) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InvalidOption) as error:
        images.save(tmp_path / name, scene(), metadata=metadata)
    one_line(error, word)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


def test_a_picture_too_large_for_its_format_is_refused(tmp_path: Path) -> None:
    for suffix, side in (("webp", 16384), ("jpg", 65536)):
        with pytest.raises(InvalidImage) as error:
            images.save(tmp_path / f"a.{suffix}", np.zeros((1, side), np.uint8))
        one_line(error, str(side))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bad", [np.full((4, 4), 2.0), np.zeros((4, 4, 2)), np.zeros((2, 4, 4, 3))])
def test_a_picture_that_is_none_spares_the_file_that_was_there(bad: Any, tmp_path: Path) -> None:
    path = images.save(tmp_path / "a.png", scene())
    before = path.read_bytes()
    with pytest.raises(InvalidImage) as error:
        images.save(path, bad)
    one_line(error)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("when", ["write", "replace"])
def test_a_failure_while_writing_spares_the_file_that_was_there(
    failure: BaseException, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = images.save(tmp_path / "a.png", scene())
    before = path.read_bytes()
    opened: list[Path] = []

    def fail(self: Path, *_: Any) -> Any:
        opened.append(self)
        if when == "write":
            # What a full disk leaves: a file that is not whole.
            os.close(os.open(self, os.O_CREAT))
        raise failure

    monkeypatch.setattr(Path, {"write": "open", "replace": "replace"}[when], fail)
    expected = InvalidOption if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as error:
        images.save(path, np.zeros((4, 4)))
    if expected is InvalidOption:
        one_line(error, repr(str(path)), "No space left on device")
    monkeypatch.undo()
    assert opened[0].parent == tmp_path
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
def test_a_new_file_has_the_modes_of_any_other_and_a_link_stays_one(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    path = images.save(tmp_path / "a.png", scene())
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    link = tmp_path / "link.png"
    link.symlink_to(path)
    images.save(link, np.zeros((4, 5)))
    assert link.is_symlink()
    assert images.read(path).shape == (4, 5, 3)


def test_public_names_are_all_there() -> None:
    for name in images.__all__:
        assert hasattr(images, name)
    assert as_unit(np.array([0.5]), "x").dtype == np.float64
