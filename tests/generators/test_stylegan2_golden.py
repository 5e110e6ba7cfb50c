"""StyleGAN2: pictures that the published code gives of the same weights, with classes and with a clamp that cuts."""

import pytest
import torch

from drawn_weights import agree, draw_weights, golden_cases
from situ.core.latents import Latents
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings

CASES = golden_cases("stylegan2_pictures")


# By Generator of github.com/NVlabs/stylegan2-ada-pytorch (training/networks.py) at d72cc7d, with truncation_psi=0.7,
# noise_mode="const" and force_fp32=True.
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_published_pictures(case: dict) -> None:
    settings = StyleGAN2Settings(**case["settings"])
    network = StyleGAN2Network(settings)
    draw_weights(network, case["seed"])
    made = StyleGAN2(network)
    z = torch.randn(2, settings.z_dim, generator=torch.Generator().manual_seed(100 + case["seed"]))
    labels = torch.eye(3)[[2, 0]] if settings.c_dim else None
    assert agree(made.synthesize(Latents(z, made.spaces["z"], labels, truncation=0.7)).images, case)
