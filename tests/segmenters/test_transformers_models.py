"""Models of transformers behind the segmenter contract: opened from folders, prepared as their settings say."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from situ.core.errors import ModelError
from situ.core.generator import Synthesis
from situ.core.images import to_pil
from situ.core.region import Part, Segmenter
from situ.segmenters.transformers_models import format_of, input_format, part_names, transformers_segmenter
from toys_networks import pictures

transformers = pytest.importorskip("transformers")

from toys_transformers import SETTINGS, mask2former, oneformer, segformer  # noqa: E402

MADE = Synthesis(pictures(2, 40, 40))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    builders: dict[str, Callable[[Path], Path]] = {
        "segformer": segformer,
        "mask2former": mask2former,
        "oneformer": oneformer,
    }
    return {name: build(folder / name) for name, build in builders.items()}


def prepared(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(SETTINGS[key])[:, None, None] for key in ("image_mean", "image_std"))
    larger = functional.interpolate(images, (64, 64), mode="bilinear", antialias=True, align_corners=False)
    return ((larger + 1) / 2 - mean) / std


@pytest.mark.parametrize("name", ["segformer", "mask2former", "oneformer"])
def test_every_kind_is_a_segmenter(name: str, places: dict[str, Path]) -> None:
    segmenter = transformers_segmenter(places[name])
    assert isinstance(segmenter, Segmenter)
    assert segmenter.parts == ("wall", "sky", "sky 2")
    assert segmenter.layers == ()
    assert segmenter.name == f"{name} ({name})"
    found = segmenter.segment(MADE)
    assert found.shape == (2, 3, 64, 64)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 64, 64))
    assert transformers_segmenter(places[name], size=48).segment(MADE).shape == (2, 3, 48, 48)
    x = MADE.images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(Part(segmenter, ("sky",), soft=True).mask(Synthesis(x)).sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0
    assert (segmenter.segment(Synthesis(x.flip(1))) - found).abs().max() > 1e-4


def test_semantic_models_are_read_as_published(places: dict[str, Path]) -> None:
    model = transformers.SegformerForSemanticSegmentation.from_pretrained(places["segformer"]).eval()
    with torch.no_grad():
        logits = model(pixel_values=prepared(MADE.images)).logits
    assert logits.shape[-2:] == (16, 16)
    larger = functional.interpolate(logits, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(transformers_segmenter(places["segformer"]).segment(MADE), larger.softmax(dim=1))


def test_universal_models_are_read_as_published(places: dict[str, Path]) -> None:
    model = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(places["mask2former"]).eval()
    with torch.no_grad():
        made = model(pixel_values=prepared(MADE.images))
    processor = transformers.models.mask2former.image_processing_pil_mask2former.Mask2FormerImageProcessorPil
    published = processor().post_process_semantic_segmentation(made, target_sizes=[(96, 96)] * 2)
    winners = transformers_segmenter(places["mask2former"], size=96).segment(MADE).argmax(dim=1)
    assert (winners == torch.stack(published)).float().mean() > 0.97  # it resizes twice, we once


def test_oneformer_is_told_its_task(places: dict[str, Path]) -> None:
    model = transformers.OneFormerForUniversalSegmentation.from_pretrained(places["oneformer"]).eval()
    tokens = transformers.CLIPTokenizer.from_pretrained(places["oneformer"])("the task is semantic")["input_ids"]
    task = torch.tensor([tokens + [0] * (24 - len(tokens))] * 2)
    with torch.no_grad():
        made = model(pixel_values=prepared(MADE.images), task_inputs=task)
    classes = made.class_queries_logits.softmax(dim=-1)[..., :-1]
    scores = torch.einsum("nqc,nqhw->nchw", classes, made.masks_queries_logits.sigmoid())
    larger = functional.interpolate(scores, (64, 64), mode="bilinear", align_corners=False)
    found = transformers_segmenter(places["oneformer"]).segment(MADE)
    torch.testing.assert_close(found, larger / larger.sum(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("resample", [2, 3])
def test_pictures_are_prepared_as_the_package_does(resample: int) -> None:
    """It rounds and clips to 8 bits after each of the two passes of resizing, which is the difference."""
    processor = transformers.models.segformer.image_processing_pil_segformer.SegformerImageProcessorPil
    settings = {**SETTINGS, "resample": resample, "size": {"height": 48, "width": 32}}
    picture = pictures(1, 80, 100)[0]
    expected = processor(**settings)(to_pil(picture), return_tensors="np")["pixel_values"]
    found = format_of(settings, "here").prepare(picture[None])
    torch.testing.assert_close(found, torch.from_numpy(np.asarray(expected)).float(), rtol=0, atol=2 / 255 / 0.224)
    assert found.shape == (1, 3, 48, 32)


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        ({}, (64, 64)),
        ({"size": 96}, (96, 96)),
        ({"size": {"shortest_edge": 32}}, (32, 64)),
        ({"size": {"shortest_edge": 32, "longest_edge": 48}}, (24, 48)),
        ({"size": 32, "max_size": 60}, (30, 60)),
        ({"size": {"shortest_edge": 33}, "size_divisor": 32}, (64, 96)),
        ({"do_resize": False}, (50, 100)),
    ],
)
def test_sizes_are_written_in_several_ways(change: dict[str, Any], shape: tuple[int, int]) -> None:
    fed = format_of({**SETTINGS, **change}, "here")
    assert fed.prepare(pictures(1, 50, 100)).shape[-2:] == shape


def test_ranges() -> None:
    x = torch.ones(1, 3, 8, 8)
    assert (format_of({**SETTINGS, "do_normalize": False}, "here").prepare(x) == 1).all()
    assert (format_of({**SETTINGS, "do_normalize": False, "do_rescale": False}, "here").prepare(x) == 255).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do_center_crop": True}, "cuts out the centre"),
        ({"image_mean": None}, "say nothing of image_mean"),
        ({"image_mean": [0.5]}, "1 channels"),
        ({"size": None}, "say nothing of size"),
        ({"size": {"longest_edge": 3}}, "height and width, or the shortest edge"),
        ({"resample": 0}, "filter 0"),
    ],
)
def test_other_settings_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        format_of({**SETTINGS, **change}, "here")


def test_settings_may_be_within_a_processors(places: dict[str, Path], tmp_path: Path) -> None:
    place = shutil.copytree(places["segformer"], tmp_path / "model")
    (place / "preprocessor_config.json").unlink()
    (place / "processor_config.json").write_text(json.dumps({"image_processor": SETTINGS}))
    assert input_format(place) == input_format(places["segformer"])


def test_names_can_be_asked_for() -> None:
    assert part_names({1: "a+b", 0: " wall ", 10: "", 2: "wall"}) == ("wall", "a and b", "wall 2", "label 10")


def test_the_hubs_cache_is_looked_into(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0" * 40
    model = tmp_path / "models--somebody--tiny"
    shutil.copytree(places["segformer"], model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    script = """
from situ.segmenters.transformers_models import transformers_segmenter
print(transformers_segmenter("somebody/tiny").parts)
"""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "('wall', 'sky', 'sky 2')" in done.stdout, done.stderr


def test_what_is_not_there_is_told(tmp_path: Path, places: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"cannot be opened.*nothing is fetched"):
        transformers_segmenter(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="cannot be opened"):
        transformers_segmenter(tmp_path / "empty")
    without = shutil.copytree(places["segformer"], tmp_path / "unsettled")
    (without / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="cannot be opened"):
        transformers_segmenter(without)


def test_pickled_weights_are_not_read(tmp_path: Path, places: dict[str, Path]) -> None:
    place = shutil.copytree(places["segformer"], tmp_path / "pickled")
    (place / "model.safetensors").unlink()
    torch.save({}, place / "pytorch_model.bin")
    with pytest.raises(ModelError, match="other kinds of weights are not read"):
        transformers_segmenter(place)


def test_weights_of_another_model_are_refused(tmp_path: Path, places: dict[str, Path]) -> None:
    place = shutil.copytree(places["segformer"], tmp_path / "mixed")
    shutil.copy(places["mask2former"] / "model.safetensors", place)
    with pytest.raises(ModelError, match="are missing"):
        transformers_segmenter(place)


def test_other_kinds_of_models_are_refused(tmp_path: Path, places: dict[str, Path]) -> None:
    place = shutil.copytree(places["segformer"], tmp_path / "classifier")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "architectures": ["SegformerForImageClassification"]}))
    with pytest.raises(ModelError, match="expected a model for semantic or universal"):
        transformers_segmenter(place)


def test_the_package_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"pip install 'situ\[transformers\]'"):
        transformers_segmenter(tmp_path)
