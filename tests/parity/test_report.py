"""The main job in both frameworks: its numbers, its pictures and its links."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import keras
import pytest

from cnnviz.report import demo


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo(tmp_path_factory.mktemp("report") / "out", quick=True)


@pytest.fixture(scope="module")
def report(page: Path) -> dict[str, Any]:
    return json.loads((page.parent / "report.json").read_text())


def test_both_frameworks_are_there(report):
    assert list(report["frameworks"]) == ["torch", "keras"]
    assert report["missing"] == {}
    titles = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
    engine = titles[keras.backend.backend()]
    assert report["frameworks"]["keras"]["title"] == f"Keras on {engine}"
    assert report["frameworks"]["keras"]["versions"]["Keras"] == keras.__version__


def test_predictions_agree(report):
    assert max(report["differences"]["keras"]["logits"].values()) < 1e-4
    for framework in report["frameworks"].values():
        top = {photo: rows[0] for photo, rows in framework["predictions"].items()}
        assert top["coffee"]["name"] == "espresso"
        assert top["coffee"]["probability"] > 0.8
        assert top["chelsea"]["name"] in {"tabby", "tiger cat", "Egyptian cat"}


def test_grad_cam_agrees(report):
    assert max(report["differences"]["keras"]["grad_cam"].values()) < 1e-5


def test_layers_and_weights_agree(report):
    between = report["differences"]["keras"]
    assert between["weights"] == {"compared": 247, "equal": 247, "left_out": 0, "largest": 0}
    assert len(between["layers"]) == 142
    assert max(row["relative"] for row in between["layers"]) < 1e-4
    assert min(row["cosine"] for row in between["layers"]) > 0.999999
    assert max(between["feature_maps"].values()) < 1e-4


def test_both_judge_a_picture_alike(report):
    for framework in report["frameworks"].values():
        assert len(framework["ascent"]) == 2
        for made in framework["ascent"]:
            scores = made["scores"]
            assert scores["keras"] == pytest.approx(scores["torch"], rel=1e-4)
            assert scores["torch"] > 0


def test_every_link_resolves(page, report):
    text = page.read_text(encoding="utf-8")
    ids = set(re.findall(r'id="([^"]+)"', text))
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert links
    for link in links:
        if link.startswith("#"):
            assert link[1:] in ids
        else:
            assert (page.parent / link).is_file()
    assert {link for link in links if link.startswith("pictures/")} == {
        name for name in report["files"] if name.startswith("pictures/")
    }
    assert "The two networks agree" in text
