"""A segmenter of your own: a name, parts, and their probabilities at every pixel. Every method and verb takes it.

This one knows no faces: it tells what is nearly white (teeth, the whites of eyes) from the rest. A network that labels
pixels goes in the same place: see `situ.segmenters.pixels.PixelSegmenter`.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from situ import ReSeFa, Synthesis, discover, open_model, parse_part, sweep
from situ.core.images import save_sheet


class WhiteSegmenter:
    """Nearly white pixels, and the rest."""

    name = "white"
    parts = ("white", "rest")
    layers = ()  # feature layers of the generator that it looks at, besides the picture

    def segment(self, synthesis: Synthesis) -> Float[Tensor, "n 2 h w"]:
        """See `Segmenter.segment`: probabilities, differentiable."""
        darkest = synthesis.images.amin(dim=1, keepdim=True)  # of red, green and blue, in [-1, 1]
        white = (20 * (darkest - 0.4)).sigmoid()
        return torch.cat([white, 1 - white], dim=1)


if __name__ == "__main__":
    pack = replace(open_model("portraits"), segmenter=WhiteSegmenter())
    rng = torch.Generator().manual_seed(0)
    white = parse_part("white", pack.segmenter)
    search = ReSeFa(space="w+:2-9")
    ((direction,),) = discover(pack.generator, [white], search, rng, pack.calibration(latents=4), random=2)

    figures = direction.figures
    print(f"LS {figures['LS']:.2f} (random directions {figures['random_LS']:.2f})")
    print(f"region gain {direction.score:.1f} (random directions {figures['random_gain']:.1f})")

    codes = pack.generator.sample(3, pack.generator.spaces["z"], rng, truncation=0.7)
    pictures = sweep(pack.generator, direction, codes, [-2, -1, 0, 1, 2])  # (3, 5, 3, 64, 64)
    save_sheet(pictures.flatten(0, 1), "04_add_a_segmenter.png", columns=5)
