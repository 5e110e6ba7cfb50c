"""Inception's features are the published ones, for every way of resizing.

Numbers: mseitzer/pytorch-fid at b9c1811, with a sixteenth of the channels and weights drawn from a seed.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from situ.core.errors import ModelError
from situ.networks.inception import inception_from_state_dict
from toys_networks import golden, narrow_inception, pictures, require_golden

INCEPTION = inception_from_state_dict(narrow_inception())


def test_it_is_the_published() -> None:
    expected = golden("inception")
    x = pictures(2, 64, 64, 12)
    require_golden(INCEPTION.features(x), expected["features"])
    require_golden(INCEPTION.features(pictures(1, 320, 300, 13)), expected["wide"])
    require_golden(INCEPTION.features(x.flip(1)), expected["swapped"])


def test_the_first_tensorflow_is_off_by_half_a_pixel() -> None:
    """A ramp stays a ramp that starts in the corner, where the others start half a pixel inside."""
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    x = INCEPTION.prepare(ramp, "tensorflow")[0, 0, 7]
    pixels = x * 128 + 128
    place = (torch.arange(299) * (64 / 299)).clamp(max=63)
    torch.testing.assert_close(pixels, place * 255 / 63, rtol=1e-4, atol=1e-3)
    assert (INCEPTION.prepare(ramp, "pytorch-fid")[0, 0, 7] - x).abs().max() > 0.01


def test_clean_is_pillows_bicubic() -> None:
    x = pictures(1, 400, 350, 14)
    pixels = ((x[0] + 1) * 127.5).numpy()
    planes = [Image.fromarray(plane).resize((299, 299), Image.Resampling.BICUBIC) for plane in pixels]
    expected = torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).clip(0, 255)
    torch.testing.assert_close(INCEPTION.prepare(x, "clean")[0], (expected - 128) / 128, rtol=0, atol=1e-4)


def test_torchmetrics_filters() -> None:
    stripes = (torch.arange(598) % 2 * 2.0 - 1).expand(1, 3, 598, 598)
    grey = INCEPTION.prepare(stripes, "torchmetrics")[..., 1:-1]
    torch.testing.assert_close(grey, torch.full_like(grey, -0.5 / 128), rtol=0, atol=0.02)
    torch.testing.assert_close(
        INCEPTION.prepare(torch.ones(1, 3, 299, 299), "torchmetrics"), torch.full((1, 3, 299, 299), 127 / 128)
    )


def test_other_words_are_refused(unchecked: None) -> None:
    with pytest.raises(ModelError, match='"bicubic"'):
        INCEPTION.prepare(pictures(1, 64, 64), "bicubic")  # pyright: ignore


def test_logits_have_no_bias() -> None:
    assert torch.equal(INCEPTION.logits(torch.zeros(1, 128)), torch.zeros(1, 63))
