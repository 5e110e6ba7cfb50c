"""CLIPSeg behind the segmenter contract: parts are the words given."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from situ.core.errors import ModelError, RegionError
from situ.core.generator import Synthesis
from situ.core.region import Part, Segmenter
from situ.segmenters.words import ELSEWHERE, words_segmenter
from toys_networks import pictures

transformers = pytest.importorskip("transformers")

from toys_transformers import clipseg, segformer  # noqa: E402

MADE = Synthesis(pictures(2, 40, 40))
WORDS = ("the wheels", "sky")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clipseg(tmp_path_factory.mktemp("clipseg"))


def published(place: Path, word: str) -> Tensor:
    """The model's own forward pass."""
    model = transformers.CLIPSegForImageSegmentation.from_pretrained(place).eval()
    told = transformers.CLIPTokenizer.from_pretrained(place)([word] * 2, return_tensors="pt")
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    x = functional.interpolate(MADE.images, (64, 64), mode="bilinear", antialias=True, align_corners=False)
    with torch.no_grad():
        return model(pixel_values=((x + 1) / 2 - mean) / std, **told, interpolate_pos_encoding=True).logits


def test_words_are_parts(place: Path) -> None:
    segmenter = words_segmenter(place, WORDS)
    assert isinstance(segmenter, Segmenter)
    assert segmenter.parts == (*WORDS, ELSEWHERE)
    found = segmenter.segment(MADE)
    assert found.shape == (2, 3, 64, 64)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 64, 64))
    assert words_segmenter(place, WORDS, size=32).segment(MADE).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("word", WORDS)
def test_one_word_is_the_published_probability(word: str, place: Path) -> None:
    found = words_segmenter(place, (word,)).segment(MADE)
    expected = published(place, word)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found[:, 0], expected.sigmoid(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, 1], 1 - expected.sigmoid(), rtol=1e-4, atol=1e-5)


def test_words_compete(place: Path) -> None:
    logits = torch.stack([published(place, word) for word in WORDS], dim=1)
    expected = torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1).softmax(dim=1)
    torch.testing.assert_close(words_segmenter(place, WORDS).segment(MADE), expected, rtol=1e-4, atol=1e-5)


def test_the_picture_is_felt(place: Path) -> None:
    """The package's own forward pass would cut the derivative."""
    x = MADE.images.clone().requires_grad_()
    mask = Part(words_segmenter(place, WORDS), ("sky",), soft=True).mask(Synthesis(x))
    (gradient,) = torch.autograd.grad(mask.sum(), x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("words", [(), ("sky", "sky"), (ELSEWHERE,), ("sky", ELSEWHERE)])
def test_words_that_are_no_parts_are_refused(words: tuple[str, ...], place: Path) -> None:
    with pytest.raises(RegionError, match="one or more different words"):
        words_segmenter(place, words)


def test_a_plus_joins_parts_and_is_no_word(place: Path) -> None:
    with pytest.raises(RegionError, match=r"a\+b"):
        words_segmenter(place, ("a+b",))


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected a CLIPSeg"):
        words_segmenter(segformer(tmp_path / "segformer"), WORDS)
    with pytest.raises(ModelError, match="nothing is fetched"):
        words_segmenter(tmp_path / "nowhere", WORDS)


def test_the_package_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"pip install 'situ\[transformers\]'"):
        words_segmenter(tmp_path, WORDS)
