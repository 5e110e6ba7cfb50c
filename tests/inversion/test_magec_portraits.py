"""MAGEC on the bundled portraits: a held-out render, which the generator never made, is come nearer to.

Whether editability gains is a question of many photos (`situ bench magec-table2`), not of a test.
"""

from collections.abc import Iterator

import pytest
import torch

from situ.core.inversion import invert
from situ.inversion.encoder import EncoderInversion
from situ.packs.inverters import magec_of
from situ.packs.library import open_model
from situ.packs.portraits.renderer import render, sample_factors


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a few small pictures mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_few_steps_improve_on_the_encoder_for_every_photo() -> None:
    pack = open_model("portraits")
    assert pack.encoder is not None
    target = render(sample_factors(2, torch.Generator().manual_seed(5_000_401)), 64).images.clamp(-1, 1)
    start = EncoderInversion(pack.encoder)
    encoded, refined = (
        invert(pack.generator, target, method, torch.Generator().manual_seed(0))
        for method in (start, magec_of(pack).refining(start, 12))
    )
    assert (refined.losses["mse"] < 0.8 * encoded.losses["mse"]).all(), (refined.losses["mse"], encoded.losses["mse"])
    assert (refined.losses["perceptual"] < 0.8 * refined.history["perceptual"][0]).all()
    assert refined.history["magec"].shape == (12, 2)
