"""Local editing in your own DCGAN: wrap the network, brush or box a region, search, look.

The network here is untrained, with the locality that a trained one has by itself: each latent coordinate paints
around one place. Put yours in its stead:

    network = DCGAN()
    network.load_state_dict(torch.load("mine.pt", weights_only=True))
"""

import torch
from torch import nn

from situ import LELSD, Box, Calibration, discover, sweep
from situ.core.images import save_sheet
from situ.generators.any_module import AnyModule
from situ.metrics.perceptual import PyramidDistance

torch.manual_seed(0)


class DCGAN(nn.Module):
    """z (n, 64, 1, 1) -> pictures (n, 3, 32, 32) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.ConvTranspose2d(64, 32, 8, bias=False)
        self.grow = nn.Sequential(
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
        )
        self.paint = nn.ConvTranspose2d(16, 3, 4, 2, 1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.paint(self.grow(self.start(z))))


def localised(network: DCGAN) -> DCGAN:
    """Coordinate 8 r + c paints around row r and column c of the first 8 x 8 places."""
    place = torch.arange(8.0)
    near = torch.exp(-((place[:, None] - place[None, :]) ** 2))  # (8 centres, 8 places)
    bumps = torch.einsum("ry,cx->rcyx", near, near).reshape(64, 1, 8, 8)
    with torch.no_grad():
        network.start.weight.mul_(20 * bumps)
        network.paint.weight.mul_(12)
    return network


# z (n, 64, 1, 1), the feature layers and the size of the pictures are found by a dry run
generator = AnyModule(localised(DCGAN()), z_dim=64)
print(generator.name, [f"{layer.name} {layer.resolution} px" for layer in generator.layers])

rng = torch.Generator().manual_seed(0)
region = Box(row=10, column=10, height=12, width=12)
search = LELSD(space="z", samples=480, batch=8, lr=0.1, halve_every=20, layer_weights={"image": 1.0})
judged = Calibration(PyramidDistance().between, unit_distance=0.03, latents=16)
((direction,),) = discover(generator, [region], search, rng, judged)

figures = direction.figures
print(f"LS {figures['LS']:.2f} (random directions {figures['random_LS']:.2f})")
print(f"region gain {direction.score:.1f} (random directions {figures['random_gain']:.1f})")

codes = generator.sample(4, generator.spaces["z"], rng, truncation=0.7)
pictures = sweep(generator, direction, codes, [-2, -1, 0, 1, 2])  # (4, 5, 3, 32, 32)
save_sheet(pictures.flatten(0, 1), "01_any_module_dcgan.png", columns=5)
