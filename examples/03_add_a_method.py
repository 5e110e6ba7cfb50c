"""A method of your own: a frozen dataclass with `find`. What comes back is calibrated and judged like any other's.

This one needs no derivative: pictures are regressed on their codes, and the direction is the one along which the
regression changes the region most for the least change of the rest, F n = λ (B + τ tr(B) I) n as in ReSeFa.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from scipy.linalg import eigh

from situ import Direction, Generator, Region, SituError, discover, open_model, parse_part, parse_subspace, sweep
from situ.core.discovery import as_directions
from situ.core.images import resize, save_sheet
from situ.core.progress import Progress, silent


@dataclass(frozen=True)
class RegressedDirections:
    """The method and its settings. `Annotated` words become the help of command-line options."""

    space: Annotated[str, "subspace: w, w:4-7 (tied)"] = "w"
    pictures: Annotated[int, "pictures that are regressed on their codes"] = 200
    size: Annotated[int, "pixels on a side at which change is counted"] = 32
    tau: Annotated[float, "how much the change of the rest is lifted"] = 1e-3

    def __post_init__(self) -> None:
        if min(self.pictures, self.size) < 1 or self.tau <= 0:
            raise SituError(f"pictures, size and tau must be positive, got {self}")

    def find(
        self, generator: Generator, regions: Sequence[Region], rng: torch.Generator, progress: Progress = silent
    ) -> list[list[Direction]]:
        """See `Discovery.find`: one list of directions for each region, best first."""
        subspace = parse_subspace(self.space, generator.spaces)
        latents = generator.sample(self.pictures, subspace.space, rng)
        rows: list[torch.Tensor] = []
        masks: list[list[torch.Tensor]] = []
        layers = [name for region in regions for name in region.layers]
        with torch.no_grad():
            for i in range(0, self.pictures, 20):
                seen = generator.synthesize(latents[i : i + 20], layers)
                rows.append(resize(seen.images, self.size).flatten(1))
                masks.append([resize(region.mask(seen), self.size).mean(dim=0) for region in regions])
                progress(min(i + 20, self.pictures), self.pictures)
        codes, pixels = subspace.coordinates(latents.values), torch.cat(rows)
        slopes = torch.linalg.lstsq(codes - codes.mean(dim=0), pixels - pixels.mean(dim=0)).solution  # (d, 3 * size²)
        found = []
        for r, region in enumerate(regions):
            inside = torch.stack([each[r] for each in masks]).mean(dim=0).flatten().repeat(3)
            F = (slopes * inside) @ slopes.T
            B = (slopes * (1 - inside)) @ slopes.T
            lifted = B + self.tau * B.trace() * torch.eye(len(B))
            values, vectors = eigh(F.double().numpy(), lifted.double().numpy())
            best = torch.from_numpy(vectors[:, -1:].T.copy()).float()
            seed, figures = rng.initial_seed(), [{"eigenvalue": float(values[-1])}]
            found.append(as_directions(self, generator, subspace, region, best, seed=seed, figures=figures))
        return found


if __name__ == "__main__":
    pack = open_model("portraits")
    rng = torch.Generator().manual_seed(0)
    hair = parse_part("hair", pack.segmenter)
    ((direction,),) = discover(
        pack.generator, [hair], RegressedDirections(), rng, pack.calibration(latents=4), random=2
    )

    figures = direction.figures
    print(f"LS {figures['LS']:.2f} (random directions {figures['random_LS']:.2f})")
    print(f"region gain {direction.score:.1f} (random directions {figures['random_gain']:.1f})")

    codes = pack.generator.sample(3, pack.generator.spaces["z"], rng, truncation=0.7)
    pictures = sweep(pack.generator, direction, codes, [-2, -1, 0, 1, 2])  # (3, 5, 3, 64, 64)
    save_sheet(pictures.flatten(0, 1), "03_add_a_method.png", columns=5)
