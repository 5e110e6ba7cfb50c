"""Local editing in a network that is no convolution at all: flat pictures in [0, 1], and a style function z -> w.

The network is untrained. Its four quarters are painted by four heads from different coordinates of w, and W is mixed
by a rotation, so that no single coordinate is local, but some directions are.
"""

import torch
from torch import nn

from situ import LELSD, Box, Calibration, discover, sweep
from situ.core.images import save_sheet
from situ.generators.any_module import AnyModule
from situ.metrics.perceptual import PyramidDistance

torch.manual_seed(0)


class Heads(nn.Module):
    """w (n, 32) -> flat pictures (n, 3 * 16 * 16), sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(32, 32, bias=False)
        nn.init.orthogonal_(self.mix.weight)
        self.quarters = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 3 * 8 * 8)) for _ in range(4)
        )

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        parts = self.mix(w).chunk(4, dim=1)
        a, b, c, d = (head(part).reshape(-1, 3, 8, 8) for head, part in zip(self.quarters, parts, strict=True))
        picture = torch.cat([torch.cat([a, b], dim=3), torch.cat([c, d], dim=3)], dim=2)
        return torch.sigmoid(4 * picture).flatten(1)


mapping = nn.Sequential(nn.Linear(32, 64), nn.LeakyReLU(0.2), nn.Linear(64, 32))
generator = AnyModule(Heads(), z_dim=32, style=mapping, output_range=(0, 1))  # 16 px is found from the 768 numbers
print(generator.name, {name: space.dim for name, space in generator.spaces.items()})

rng = torch.Generator().manual_seed(0)
region = Box(row=4, column=12, height=8, width=8)  # the upper right quarter
search = LELSD(space="w", samples=480, batch=8, lr=0.1, halve_every=20)
judged = Calibration(PyramidDistance().between, unit_distance=0.01, latents=16)
((direction,),) = discover(generator, [region], search, rng, judged)

figures = direction.figures
print(f"LS {figures['LS']:.2f} (random directions {figures['random_LS']:.2f})")
print(f"region gain {direction.score:.1f} (random directions {figures['random_gain']:.1f})")

codes = generator.sample(4, generator.spaces["z"], rng, truncation=0.7)
pictures = sweep(generator, direction, codes, [-2, -1, 0, 1, 2])  # (4, 5, 3, 16, 16)
save_sheet(pictures.flatten(0, 1), "02_any_module_mlp.png", columns=5)
