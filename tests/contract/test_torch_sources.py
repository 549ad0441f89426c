"""Datasets of PyTorch and torchvision as sources: files and arrays at once where they can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision.transforms import Compose, Normalize, ToTensor

from cnnviz.errors import InvalidImage, InvalidOption
from cnnviz.pictures import picture_batch
from cnnviz.sources import as_source, read_batches
from cnnviz.testing import OracleAdapter

NET = OracleAdapter()
PICTURES = np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3), np.uint8)


class Own(Dataset):
    def __init__(self, transform=None, keys=False):
        self.transform, self.keys = transform, keys

    def __len__(self):
        return 10

    def __getitem__(self, index):
        picture = Image.fromarray(PICTURES[index])
        picture = self.transform(picture) if self.transform else picture
        return {"image": picture, "label": index} if self.keys else (picture, torch.tensor(index))


class Stream(IterableDataset):
    def __iter__(self):
        return iter((picture, index) for index, picture in enumerate(PICTURES))


def read(images):
    found = list(read_batches(as_source(images), NET, 0, None, 4))
    return (
        np.concatenate([one.pictures for one in found]),
        np.concatenate([one.labels for one in found]),
    )


@pytest.fixture
def folder(tmp_path):
    for number, picture in enumerate(PICTURES):
        file = tmp_path / ["cat", "dog"][number // 5] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(file)
    return tmp_path


@pytest.mark.parametrize(
    "images",
    [
        Own(),
        Own(ToTensor()),
        Own(ToTensor(), keys=True),
        DataLoader(Own(ToTensor()), batch_size=3),
        DataLoader(Stream(), batch_size=3),
        Stream(),
        TensorDataset(torch.from_numpy(PICTURES).permute(0, 3, 1, 2), torch.arange(10)),
    ],
)
def test_each_kind_of_dataset_gives_the_same_pictures(images):
    pictures, labels = read(images)
    np.testing.assert_allclose(pictures, picture_batch(NET, PICTURES), atol=1e-6)
    np.testing.assert_array_equal(labels, range(10))


def test_a_normalised_tensor_is_refused():
    made = Compose([ToTensor(), Normalize([0.5] * 3, [0.2] * 3)])
    with pytest.raises(InvalidImage, match="leave that out of the dataset"):
        read(Own(made))


def test_a_loader_that_shuffles_is_refused():
    with pytest.raises(InvalidOption, match=r"RandomSampler.*loader\.dataset"):
        as_source(DataLoader(Own(), shuffle=True))


def test_an_image_folder_is_its_files(folder):
    dataset = torchvision.datasets.ImageFolder(str(folder))
    source = as_source(dataset)
    assert source.classes == ("cat", "dog")
    assert source.fingerprint() == as_source(folder).fingerprint()
    assert source.reference(7).endswith("7.png")
    some = as_source(Subset(dataset, [7, 2]))
    assert [some.label(0), some.label(1)] == [1, 0]
    np.testing.assert_array_equal(np.asarray(some.read(0)), PICTURES[7])
    changed = as_source(torchvision.datasets.ImageFolder(str(folder), transform=ToTensor()))
    assert changed.classes == ("cat", "dog")
    np.testing.assert_array_equal(read(changed)[1], [0] * 5 + [1] * 5)


def cifar(transform=None):
    made = torchvision.datasets.CIFAR10.__new__(torchvision.datasets.CIFAR10)
    made.data, made.targets, made.classes = PICTURES, list(range(10)), [str(i) for i in range(10)]
    made.transform, made.target_transform, made.transforms = transform, None, None
    return made


def test_the_array_of_a_torchvision_dataset_is_read_in_slices():
    source = as_source(cifar())
    assert source.name == "torch dataset CIFAR10"
    np.testing.assert_array_equal(source.block(2, 4), PICTURES[2:4])
    np.testing.assert_array_equal(read(source)[1], range(10))
    made = as_source(cifar(ToTensor()))
    assert made.block(2, 4) is None
    assert made.label(4) == 4
    np.testing.assert_allclose(read(made)[0], read(source)[0], atol=1e-6)
    assert as_source(Subset(cifar(ToTensor()), [5, 1])).label(0) == 5


def test_tensors_have_their_channels_moved():
    tensor = torch.from_numpy(PICTURES).permute(0, 3, 1, 2)
    np.testing.assert_array_equal(read(tensor)[0], picture_batch(NET, PICTURES))
    np.testing.assert_array_equal(read(list(tensor))[0], picture_batch(NET, PICTURES))
