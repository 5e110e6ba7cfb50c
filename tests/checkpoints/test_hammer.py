"""genforce and Hammer: pictures of the published classes of StyleGAN2 and StyleGAN3; the dialect is asserted."""

from pathlib import Path
from typing import Any

import pytest
import torch

from situ.checkpoints.open import open_checkpoint, read_checkpoint
from situ.core.errors import ModelError
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan3 import StyleGAN3
from wild_files import PUBLISHED, drawn, draws_as_published, torch_file, write


def hammer(name: str, **more: Any) -> dict[str, Any]:
    case = PUBLISHED[name]
    weights = {**drawn(case), **more.pop("weights", {})}
    return {
        "models": {"generator_smooth": weights, "discriminator": {"a": torch.zeros(2)}},
        "model_kwargs_init": {"generator_smooth": {**case["kwargs"], **more}},
    }


# Of the same weights, by StyleGAN2Generator and StyleGAN2ADAGenerator of github.com/genforce/genforce at 197feee, with
# trunc_psi=0.7 on all layers.
@pytest.mark.parametrize("name", ["genforce2-c0", "genforce2-ada-c3"])
@pytest.mark.parametrize("container", ["generator_smooth", "models", "bare"])
def test_published_pictures_of_genforce(name: str, container: str, tmp_path: Path) -> None:
    weights = drawn(PUBLISHED[name])
    content = {
        "generator_smooth": {"generator_smooth": weights, "generator": {k: v + 1 for k, v in weights.items()}},
        "models": {"models": {"generator_smooth": weights}, "running_metadata": {"iter": 1}},
        "bare": weights,
    }[container]
    opened = read_checkpoint(write(tmp_path / "a.pth", torch_file(content)))
    assert opened.format.name == "genforce"
    assert opened.notes == ()
    assert draws_as_published(opened.generator, PUBLISHED[name])


# Likewise by StyleGAN2Generator and StyleGAN3Generator of github.com/bytedance/Hammer at 4758892.
@pytest.mark.parametrize("name", ["hammer-2-c0", "hammer-2-clamp-c3", "hammer-3t-c0", "hammer-3r-c3"])
def test_published_pictures_of_hammer(name: str, tmp_path: Path) -> None:
    opened = read_checkpoint(write(tmp_path / "a.pth", torch_file(hammer(name))))
    assert opened.format.name == ("hammer" if "-2" in name else "hammer-stylegan3")
    assert isinstance(opened.generator, StyleGAN2 if "-2" in name else StyleGAN3)
    assert opened.notes == ()
    assert draws_as_published(opened.generator, PUBLISHED[name])


def test_without_settings(tmp_path: Path) -> None:
    opened = read_checkpoint(write(tmp_path / "a.pth", torch_file(drawn(PUBLISHED["hammer-2-c0"]))))
    assert draws_as_published(opened.generator, PUBLISHED["hammer-2-c0"])
    assert opened.notes == ("the file does not say whether activations are clamped: they are not",)
    # the resolution of a StyleGAN3 is told by its filters, or is not told
    opened = read_checkpoint(write(tmp_path / "a.pth", torch_file(drawn(PUBLISHED["hammer-3t-c0"]))))
    assert draws_as_published(opened.generator, PUBLISHED["hammer-3t-c0"])


def test_the_dialects_are_not_taken_for_each_other(tmp_path: Path) -> None:
    weights = drawn(PUBLISHED["genforce2-c0"])
    mixed = {key.replace(".filter.kernel", ".filter"): value for key, value in weights.items()}
    for content in (mixed, {**weights, "w_avg": weights["truncation.w_avg"]}):
        with pytest.raises(ModelError, match="partly genforce's and partly Hammer's"):
            open_checkpoint(write(tmp_path / "a.pth", torch_file(content)))
    # nothing but the filters' names tells them apart, and read as the other the pictures are wrong
    renamed = {key.removeprefix("truncation."): value for key, value in mixed.items()}
    renamed = {key: value[0, 0] if key.endswith(".filter") else value for key, value in renamed.items()}
    opened = open_checkpoint(write(tmp_path / "a.pth", torch_file(renamed)))
    assert not draws_as_published(opened, PUBLISHED["genforce2-c0"])


JOINT = {"mapping.label_weight": torch.zeros(3, 8)}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"generator_smooth": {**drawn(PUBLISHED["genforce2-c0"]), **JOINT}}, "normalises class and z together"),
        (hammer("hammer-2-clamp-c3", normalize_embedding_latent=True), "normalises class and z together"),
        (hammer("hammer-3r-c3", normalize_embedding_latent=True), "normalises class and z together"),
        (hammer("hammer-2-c0", final_tanh=True), "final_tanh True"),
        (hammer("hammer-2-c0", architecture="resnet"), "architecture resnet"),
        (hammer("hammer-2-c0", mapping_lr_mul=1.0), "mapping_lr_mul 1.0"),
        (hammer("hammer-3t-c0", resolution=64), "do not agree|lacks"),
        (hammer("hammer-3t-c0", weights={"w_avg": torch.zeros(9)}), "mapping.w_avg"),
        (hammer("hammer-2-c0", weights={"synthesis.residual1.weight": torch.zeros(9)}), "synthesis.residual1.weight"),
    ],
)
def test_what_is_not_supported_is_one_clear_line(content: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=expected) as error:
        open_checkpoint(write(tmp_path / "a.pth", torch_file(content)))
    assert "\n" not in str(error.value)
