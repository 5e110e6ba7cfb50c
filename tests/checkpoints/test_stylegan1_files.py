"""StyleGAN1 in its five layouts: the pictures of the published classes, and every trap of the layouts."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from situ.checkpoints.open import open_checkpoint, read_checkpoint
from situ.core.errors import ModelError
from situ.generators.stylegan1 import StyleGAN1
from wild_files import PUBLISHED, drawn, draws_as_published, torch_file, write

NO_MAPS = "the file has no maps of noise: they are drawn from a seed"


def content_of(name: str, **more: Tensor) -> Any:
    weights = {**drawn(PUBLISHED[name]), **more}
    if name.startswith("genforce"):
        return {"generator_smooth": weights}
    if name.startswith("hammer"):
        said = {"generator_smooth": PUBLISHED[name]["kwargs"]}
        return {"models": {"generator_smooth": weights}, "model_kwargs_init": said}
    return weights


# Of the same weights, with a truncation of 0.7 on all layers: StyleGANGenerator of github.com/genforce/genforce at
# 197feee and of github.com/bytedance/Hammer at 4758892, StyleGANGeneratorModel of github.com/genforce/interfacegan at
# 8da3fc0, StyleGAN of github.com/IVRL/LELSD (models/stylegan1) at c10f4e9, without noise and with 1e-8 in its instance
# norms instead of 1e-5. The last two have their tables of channels narrowed.
NAMES = [
    *("genforce1-16-c0", "genforce1-128-c3", "hammer-1-c0", "hammer-1-128-c3"),
    *("interfacegan-16", "interfacegan-128", "lelsd-16", "lelsd-128"),
]


@pytest.mark.parametrize("name", NAMES)
def test_published_pictures(name: str, tmp_path: Path) -> None:
    opened = read_checkpoint(
        write(tmp_path / "a.pt", torch_file(content_of(name))),
    )
    generator = opened.generator
    assert isinstance(generator, StyleGAN1)
    assert opened.format.name == "stylegan1"
    if name.startswith("lelsd"):
        generator = open_checkpoint(tmp_path / "a.pt", noise="none")
    assert opened.notes == ((NO_MAPS,) if name.startswith("lelsd") else ())
    assert draws_as_published(generator, PUBLISHED[name])


def lernapparat(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """LELSD's names to lernapparat's, which has styles in the blocks and no mean of W."""
    made = {}
    for key, value in weights.items():
        for row in ("0", "1"):
            if key.startswith("g_style.style_layers.") and f"_{row}." in key:
                side = key.removeprefix("g_style.style_layers.").partition("_")[0]
                key = f"g_synthesis.blocks.{side}.epi{int(row) + 1}.style_mod.{key.rpartition(f'_{row}.')[2]}"
        if not key.startswith("truncation"):
            made[key] = value
    return made


def test_lernapparat_is_the_same_but_for_the_mean(tmp_path: Path) -> None:
    first = lernapparat(drawn(PUBLISHED["lelsd-16"]))
    opened = read_checkpoint(write(tmp_path / "a.pt", torch_file(first)))
    assert opened.notes == (NO_MAPS, "the mean of W is taken over 10,000 seeded codes")
    second = open_checkpoint(write(tmp_path / "b.pt", torch_file(drawn(PUBLISHED["lelsd-16"]))))
    ours, theirs = (generator.network.state_dict() for generator in (opened.generator, second))  # pyright: ignore
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if key != "mapping.w_avg")
    assert not torch.allclose(ours["mapping.w_avg"], theirs["mapping.w_avg"])


def test_a_mean_of_zeros_is_none(tmp_path: Path) -> None:
    more = {"truncation.avg_latent": torch.zeros(8)}
    opened = read_checkpoint(write(tmp_path / "a.pt", torch_file(content_of("lelsd-16", **more))))
    assert "the file's mean of W is zero" in opened.notes
    assert "the mean of W is taken over 10,000 seeded codes" in opened.notes
    generator: Any = opened.generator
    codes = generator.sample(20_000, generator.spaces["w"], torch.Generator().manual_seed(5)).values
    difference = (codes.mean(dim=0) - generator.network.mapping.w_avg).abs()
    assert (difference < 6 * codes.std(dim=0) / 100).all()


def test_kernels_that_double_the_size_are_turned_from_128_pixels_on(tmp_path: Path) -> None:
    weights = drawn(PUBLISHED["genforce1-128-c3"])
    network: Any = open_checkpoint(write(tmp_path / "a.pt", torch_file(weights))).network  # pyright: ignore
    for row in range(1, 12):
        stored, found = weights[f"synthesis.layer{row}.weight"], network.layers[row].weight
        assert torch.equal(found, stored.flip(2, 3) if row == 10 else stored), row


def test_fused_kernels_of_interfacegan_are_in_the_layout_of_tensorflow() -> None:
    shapes = PUBLISHED["interfacegan-128"]["shapes"]
    assert shapes["synthesis.layer10.weight"][:2] == [3, 3]
    assert shapes["synthesis.layer9.conv.weight"][2:] == [3, 3]


def test_linear_gan_names_its_layers_otherwise(tmp_path: Path) -> None:
    renamed = {
        key.replace(".linear.weight", ".fc.weight").replace(".first_layer", ".const"): value
        for key, value in drawn(PUBLISHED["interfacegan-16"]).items()
    }
    assert draws_as_published(
        open_checkpoint(write(tmp_path / "a.pt", torch_file(renamed))), PUBLISHED["interfacegan-16"]
    )


def test_hammers_strengths_have_four_axes() -> None:
    assert len(PUBLISHED["hammer-1-c0"]["shapes"]["synthesis.layer0.noise_strength"]) == 4


REFUSED: list[tuple[Any, str]] = [
    (content_of("genforce1-16-c0", **{"synthesis.lod": torch.tensor(2.0)}), "level of detail 2, expected 0"),
    (content_of("hammer-1-c0", **{"synthesis.lod": torch.tensor(0.5)}), "level of detail 0.5, expected 0"),
    (content_of("interfacegan-16", **{"synthesis.lod": torch.tensor(1.0)}), "level of detail 1, expected 0"),
    (content_of("genforce1-16-c0", **{"synthesis.layer3.bias": torch.zeros(7)}), "synthesis.layer3.bias"),
    (content_of("genforce1-16-c0", **{"synthesis.layer4.bias": torch.zeros(7)}), "channels at 4, 8"),
    (content_of("genforce1-16-c0", **{"synthesis.layer3.weight": torch.zeros(6, 6, 3)}), "expected 4 axes"),
    (content_of("lelsd-16", **{"g_synthesis.extra.weight": torch.zeros(6)}), "also has g_synthesis.extra.weight"),
    (content_of("lelsd-16", **{"g_synthesis.torgb.bias": torch.full([3], torch.inf)}), "NaN or infinity"),
    (
        {k: v for k, v in content_of("lelsd-16").items() if "8x8.epi2" not in k},
        "g_synthesis.blocks.8x8.epi2.top_epi.noise.weight is missing",
    ),
]


@pytest.mark.parametrize(("content", "expected"), REFUSED)
def test_what_cannot_be_run_is_one_clear_line(content: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=expected) as error:
        open_checkpoint(write(tmp_path / "a", torch_file(content)))
    assert "\n" not in str(error.value)
