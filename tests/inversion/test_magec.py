"""MAGEC: what LinkNet learns, what the loss asks for, and what it buys."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from situ.core.errors import InversionError
from situ.core.inversion import invert
from situ.inversion.descriptors import Attributes, Descriptor, Keypoints, PartMap
from situ.inversion.magec import (
    MAGEC,
    AttributeEditor,
    Link,
    attribute_magec,
    described_samples,
    fit_editor,
    fit_link,
    load_link,
    save_link,
)
from situ.metrics.perceptual import PyramidDistance
from toys import TILES, TileGenerator, TileSegmenter, tiny_stylegan2
from toys_styles import BrightnessClassifier

TOY = TileGenerator(rotate=True)
BRIGHT = Attributes(BrightnessClassifier())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def toy_magec() -> MAGEC:
    data = described_samples(TOY, BRIGHT, seeded(), space="w", samples=800)
    link = fit_link(data, BRIGHT)
    return MAGEC(PyramidDistance(), BRIGHT, link, fit_editor(data, link), space="w", first_steps=20, second_steps=20)


def test_link_and_editor_find_the_known_directions(toy_magec: MAGEC) -> None:
    assert toy_magec.editor is not None
    for tile in range(4):
        truth = BrightnessClassifier.truth(TOY, tile)
        for rows in (toy_magec.link.weight, toy_magec.editor.steps):
            assert float(rows[tile] @ truth / rows[tile].norm()) > 0.98


def test_link_predicts_what_was_not_shown(toy_magec: MAGEC) -> None:
    test = described_samples(TOY, BRIGHT, seeded(9), space="w", samples=200)
    right = (toy_magec.link(test.values) > 0) == (test.descriptions > 0.5)
    assert right.float().mean() > 0.95


def test_edits_turn_each_attribute_over(toy_magec: MAGEC) -> None:
    assert toy_magec.editor is not None
    values = TOY.sample(5, TOY.spaces["w"], seeded(2)).values
    present = (toy_magec.link(values) > 0).float()
    edited = toy_magec.editor.edited(values, present)
    assert edited.shape == (5, 4, 12)
    before = toy_magec.link(values)
    for i in range(4):
        change = (toy_magec.link(edited[:, i]) - before)[:, i]
        assert (change.sign() == 1 - 2 * present[:, i]).all()


def test_the_loss_by_hand(unchecked: None) -> None:
    link = Link(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0.0, -1.0]))
    editor = AttributeEditor(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    made = MAGEC(PyramidDistance(), BRIGHT, link, editor, space="w")
    w, d = torch.tensor([[0.5, 1.0]]), torch.tensor([[0.9, 0.2]])
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    own = bce(torch.tensor([[1.0, 0.0]]), d)
    removed = bce(torch.tensor([[-1.0, 0.0]]), torch.tensor([[0.0, 0.2]]))  # the first is there: taken away
    added = bce(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.9, 1.0]]))  # the second is not: added

    class Codes:
        values = w

    found = made.consistency(Codes(), d)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(found, (own + (removed + added) / 2)[None])
    alone = replace(made, editor=None).consistency(Codes(), d)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(alone, own[None])


def test_codes_explain_the_photo_better_with_it(toy_magec: MAGEC) -> None:
    target = TOY.synthesize(TOY.sample(4, TOY.spaces["w"], seeded(7))).images
    d = BRIGHT.describe(target)
    with_it, without = (replace(toy_magec, magec=weight) for weight in (0.1, 0.0))
    found, plain = (invert(TOY, target, method, seeded()) for method in (with_it, without))
    assert (toy_magec.consistency(found.latents, d) < toy_magec.consistency(plain.latents, d)).all()
    assert "magec" in found.history
    assert "magec" not in plain.history, "what has no weight is not computed"


def test_mixed_codes_teach_the_rows_apart() -> None:
    gan = tiny_stylegan2()
    data = described_samples(gan, BRIGHT, seeded(), samples=64, mixing=0.5)
    rows = data.values.unflatten(1, (6, 8))
    same = (rows[:, 0] == rows[:, 5]).all(dim=1)
    assert 0.3 < same.float().mean() < 0.7
    plain = described_samples(gan, BRIGHT, seeded(), samples=16, mixing=0.0).values.unflatten(1, (6, 8))
    assert (plain == plain[:, :1]).all()


def test_a_refinement_starts_from_other_codes(toy_magec: MAGEC) -> None:
    target = TOY.synthesize(TOY.sample(2, TOY.spaces["w"], seeded(7))).images
    start = replace(toy_magec, first_steps=0, second_steps=60)
    refined = invert(TOY, target, toy_magec.refining(start, 10), seeded())
    assert refined.history["mse"].shape == (10, 2)
    torch.testing.assert_close(refined.history["mse"][0], invert(TOY, target, start, seeded()).losses["mse"])


@pytest.mark.parametrize(
    "descriptor",
    [BRIGHT, Keypoints(lambda images: images.mean(dim=(2, 3))), PartMap(TileSegmenter(), 2)],
    ids=["attributes", "keypoints", "parts"],
)
def test_any_descriptor_can_be_asked_for(descriptor: Descriptor) -> None:
    data = described_samples(TOY, descriptor, seeded(), space="w", samples=64)
    made = MAGEC(PyramidDistance(), descriptor, fit_link(data, descriptor), space="w", first_steps=2, second_steps=2)
    target = TOY.synthesize(TOY.sample(2, TOY.spaces["w"], seeded(7))).images
    assert invert(TOY, target, made, seeded()).losses["magec"].isfinite().all()


def test_part_maps_are_learnt_by_cross_entropy() -> None:
    parts = PartMap(TileSegmenter(), 2)
    d = parts.describe(torch.zeros(1, 3, 16, 16))
    assert d.shape == (1, len(TILES) * 4)
    torch.testing.assert_close(parts.loss(50 * d, d), torch.zeros(1), atol=1e-5, rtol=0)
    assert parts.loss(torch.zeros_like(d), d).item() == pytest.approx(torch.tensor(4.0).log().item())


def test_link_files(tmp_path: Path, toy_magec: MAGEC) -> None:
    save_link(toy_magec.link, toy_magec.editor, TOY.name, tmp_path / "link.safetensors")
    link, editor = load_link(tmp_path / "link.safetensors", TOY.name)
    assert torch.equal(link.weight, toy_magec.link.weight)
    assert editor is not None
    with pytest.raises(InversionError, match="it was fitted on tiles"):
        load_link(tmp_path / "link.safetensors", "another")


def test_what_does_not_fit_is_said(toy_magec: MAGEC) -> None:
    target = torch.zeros(1, 3, 16, 16)
    with pytest.raises(InversionError, match=r"the link is for codes of 12 numbers, w of .* has 8"):
        invert(tiny_stylegan2(), target, toy_magec, seeded())
    with pytest.raises(InversionError, match="takes one step or more"):
        replace(toy_magec, first_steps=0, second_steps=0)


def test_everything_is_fitted_in_one_call() -> None:
    made = attribute_magec(tiny_stylegan2(), BRIGHT, PyramidDistance(), None, seeded(), samples=32)
    assert made.link.weight.shape == (4, 48)
    assert made.editor is not None


def test_any_differentiable_editor_supervises(toy_magec: MAGEC) -> None:
    """One that shrinks codes as it turns them: the loss sees it, and its gradient goes through it."""

    class Shrinking:
        def edited(self, values: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
            plain = toy_magec.editor.edited(values, present)
            return plain * torch.tanh(values.norm(dim=1))[:, None, None]

    latents = TOY.sample(3, TOY.spaces["w"], seeded(4))
    values = latents.values.clone().requires_grad_(True)
    d = BRIGHT.describe(TOY.synthesize(TOY.sample(3, TOY.spaces["w"], seeded(5))).images)
    both = [
        replace(toy_magec, editor=editor).consistency(latents.with_values(values), d).sum()
        for editor in (toy_magec.editor, Shrinking())
    ]
    assert float(both[0].detach()) != pytest.approx(float(both[1].detach()), rel=1e-4)
    plain, own = (torch.autograd.grad(loss, values)[0] for loss in both)
    assert (plain - own).abs().max() > 1e-4


def test_as_published_has_the_papers_weight(toy_magec: MAGEC) -> None:
    published = toy_magec.as_published()
    assert (published.magec, published.perceptual, published.first_mse, published.second_mse) == (3e-4, 0.5, 1e-3, 0.5)
