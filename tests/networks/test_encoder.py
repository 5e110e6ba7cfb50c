"""The encoders of e4e and pSp agree with their published implementation, and are told apart from other files.

Numbers: omertov/encoder4editing at 99ea505 for a generator of 256 pixels, layers a sixteenth as wide (squeeze and
excitation does not squeeze), weights drawn from a seed.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from situ.core.errors import ModelError
from situ.networks.encoder import Encoder4Editing, encoder_from_state_dict
from toys_networks import NARROW, golden, pictures, require_golden, seeded, shapes_of

WIDTHS = [width for width, count in zip(NARROW, (3, 4, 14, 3), strict=True) for _ in range(count)]
TENSORS = seeded(shapes_of(lambda: Encoder4Editing(14, 32, 4, WIDTHS, WIDTHS)), gain=1.0)


def small(rows: int = 4, w_dim: int = 8, side: int = 16, **settings: Any) -> Encoder4Editing:
    """For pictures of 16 pixels: three blocks of other widths each, heads of one to three convolutions."""
    widths = [4, 6, 8]
    shapes = shapes_of(lambda: Encoder4Editing(rows, w_dim, 4, widths, [2, 2, 2], halvings=side.bit_length() - 4))
    return encoder_from_state_dict(seeded(shapes, gain=1.0), **settings)


@pytest.mark.parametrize("kind", ["e4e", "psp"])
def test_it_is_the_published(kind: str) -> None:
    network = encoder_from_state_dict(TENSORS, shared=kind == "e4e")
    assert network.input.size == (256, 256)
    require_golden(network(pictures(1, 256, 256, 7)), golden("encoder")[kind])


def test_cars_are_wide() -> None:
    """A square generator of wide pictures draws bars above and below, which the encoder does not see."""
    network = encoder_from_state_dict(TENSORS, portrait=3 / 4)
    assert network.input.size == (192, 256)
    wide = pictures(1, 192, 256, 8)
    require_golden(network(with_bars(wide)), golden("encoder")["e4e_cars"])
    tiny = small(portrait=3 / 4)
    torch.testing.assert_close(tiny(with_bars(wide)), tiny(wide))


def with_bars(wide: Tensor) -> Tensor:
    bar = (wide.shape[-1] - wide.shape[-2]) // 2
    return torch.nn.functional.pad(wide, (0, 0, bar, bar), value=-1.0)


@pytest.mark.parametrize(("rows", "entries", "parameters"), [(18, 621, 267_103_872), (14, 565, None)])
def test_the_full_sizes_are_the_published(rows: int, entries: int, parameters: int | None) -> None:
    shapes = shapes_of(lambda: Encoder4Editing(rows))
    assert len(shapes) == entries
    if parameters is not None:
        with torch.device("meta"):
            assert round(sum(p.numel() for p in Encoder4Editing(rows).parameters()), -5) == round(parameters, -5)


def test_every_number_of_the_file_arrives() -> None:
    network = encoder_from_state_dict({key: v.half() for key, v in TENSORS.items() if "num_batches" not in key})
    held = network.state_dict()
    for key, value in TENSORS.items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(held[key], value.half().float(), rtol=0, atol=0)
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("mean_rows", [1, 4])
def test_the_mean_is_added(mean_rows: int, rng: torch.Generator) -> None:
    mean = torch.randn(mean_rows, 8, generator=rng)
    x = pictures(2, 16, 16)
    torch.testing.assert_close(small(latent_avg=mean)(x), small()(x) + mean)


def test_rows_share_the_first_vector_in_e4e_alone() -> None:
    x = pictures(2, 16, 16)
    own, shared = small(shared=False)(x), small(shared=True)(x)
    torch.testing.assert_close(shared[:, 0], own[:, 0])
    torch.testing.assert_close(shared[:, 1:], own[:, 1:] + own[:, :1])


@pytest.mark.parametrize("rows", [2, 10])
def test_rows_read_their_own_levels(rows: int) -> None:
    """What the finest level adds is felt from the eighth row on, the middle's from the fourth."""
    x = pictures(1, 16, 16)
    network = small(rows, shared=False)
    before = network(x)
    network.latlayer2.weight.zero_()
    assert (network(x) - before).abs().amax(dim=(0, 2)).gt(0).tolist() == [row >= 7 for row in range(rows)]
    network.latlayer1.weight.zero_()
    assert (network(x) - before).abs().amax(dim=(0, 2)).gt(0).tolist() == [row >= 3 for row in range(rows)]


def test_pictures_of_any_size_are_felt() -> None:
    network = small()
    x = pictures(1, 40, 40).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).square().sum(), x)
    assert gradient.isfinite().all()
    assert (gradient.abs().amax(dim=(0, 2, 3)) > 0).all()
    large = pictures(1, 16, 16).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert network(large).shape == (1, 4, 8)


def test_a_row_of_a_batch_is_on_its_own() -> None:
    x = pictures(3, 16, 16)
    torch.testing.assert_close(small()(x)[1:2], small()(x[1:2]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"styles.3.linear.bias": None}, r"missing are styles\.3\.linear\.bias"),
        ({"somebody.else": torch.zeros(1)}, r"unknown are somebody\.else"),
        ({"latlayer1.weight": torch.zeros(3, 3, 1, 1)}, r"latlayer1\.weight of shape"),
        ({"styles.0.linear.weight": torch.zeros(3_000_000, 1)}, "of the wrong shape"),
        ({"styles.0.convs.0.weight": None}, "unknown are"),
        ({"input_layer.0.weight": None}, "expected another file"),
        ({"body.0.res_layer.1.weight": torch.zeros(0)}, "expected another file"),
    ],
)
def test_another_file_is_refused(change: dict[str, Tensor | None], message: str) -> None:
    tensors = {key: value for key, value in {**TENSORS, **change}.items() if value is not None}
    with pytest.raises(ModelError, match=message):
        encoder_from_state_dict(tensors)


def test_a_trunk_without_a_pyramid_is_refused() -> None:
    shapes = {key: value for key, value in TENSORS.items() if not key.startswith("body.") or key.startswith("body.0.")}
    with pytest.raises(ModelError, match="three widths"):
        encoder_from_state_dict(shapes)


@pytest.mark.usefixtures("unchecked")
def test_a_mean_of_another_size_is_refused() -> None:
    with pytest.raises(ModelError, match="14 x 32"):
        encoder_from_state_dict(TENSORS, torch.zeros(3, 32))
