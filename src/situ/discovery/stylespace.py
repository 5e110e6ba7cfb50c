"""StyleSpace: style channels whose gradient maps lie on one part of the picture.

Wu, Lischinski, Shechtman, "StyleSpace analysis: Disentangled controls for StyleGAN image generation" (2021), section 4.
For every channel c and picture, the gradient map is |dx/ds_c| of the 32 x 32 pooled picture, summed over RGB. For a
part of a positions the a largest positions of the map are kept; with o of them on the part, its score is o / a^2. The
channel belongs to the part with the best score. Its *rate* is the share of the pictures showing the part in which it
belongs to it, its *lead* the distance to the second part's rate; it is local if rate > 0.5 and lead > 0.25. The edit is
s_c += α σ_c, σ_c the channel's standard deviation, which is the unit of the directions until they are calibrated.

One Jacobian of a picture serves all channels and regions. Any subspace will do; its coordinates are the channels. What
the paper leaves open: regions need be no parts of a segmenter, so the contest is between the given regions, all parts
of their segmenters and, for a region that is no part, the rest of the picture. Two that overlap by more than half of
the smaller are the same thing twice ("eyes", "eyes+brows") and leave each other out. Channels of one rate are
ordered by o / a, and a channel that changes nothing belongs to nobody.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from situ.core.direction import Direction
from situ.core.discovery import as_directions
from situ.core.errors import RegionError, SituError
from situ.core.generator import Generator, Synthesis
from situ.core.images import resize
from situ.core.jacobian import Rows, jacobian
from situ.core.latents import Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Part, Region


@dataclass(frozen=True)
class StyleSpace:
    """The method and its settings; the paper's values are the defaults, but for the number of pictures.

    `figures` of a direction: "rate", "lead", "overlap" (mean o / a), "sigma", and "local" (1 or 0).
    """

    space: Annotated[str, "subspace whose coordinates are the channels: s:conv, s, s:9, w, z"] = "s:conv"
    k: Annotated[int, "channels per region"] = 1
    pictures: Annotated[int, "pictures that are asked; published: 1000. 16 know a rate to 0.13"] = 16
    size: Annotated[int, "pixels on a side of the gradient maps"] = 32
    area_power: Annotated[float, "p in the score o / a^p: higher prefers small parts"] = 2.0
    local_rate: Annotated[float, "a local channel has a higher rate than this"] = 0.5
    local_lead: Annotated[float, "and a greater lead than this"] = 0.25
    sigma_samples: Annotated[int, "latents that the standard deviations are taken over"] = 2000
    truncation: Annotated[float, "of the latents"] = 0.7
    max_pictures: Annotated[int, "pictures in one pass when regions are marked; bounds memory"] = 16

    def __post_init__(self) -> None:
        counts = {"k": self.k, "pictures": self.pictures, "size": self.size, "max_pictures": self.max_pictures}
        bad = {name: value for name, value in counts.items() if value < 1}
        if bad:
            raise SituError(f"StyleSpace settings must be positive, got {bad}")
        if self.sigma_samples < 2:
            raise SituError(f"a standard deviation needs at least 2 sigma_samples, got {self.sigma_samples}")
        if not math.isfinite(self.area_power):
            raise SituError(f"area_power is a number, 2 as published, got {self.area_power}")
        if not (0 <= self.local_rate <= 1 and 0 <= self.local_lead <= 1):
            raise SituError(
                f"local_rate and local_lead are shares of 0 to 1, got {self.local_rate} and {self.local_lead}"
            )
        if not math.isfinite(self.truncation) or self.truncation == 0:
            raise SituError(f"truncation is a number other than 0, where all codes are one, got {self.truncation}")

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`. Ctrl-C ranks the channels by the pictures asked so far.

        Raises:
            RegionError: a region that shows in none of the pictures.
        """
        subspace = parse_subspace(self.space, generator.spaces)
        if self.k > subspace.dim:
            raise SituError(f"{subspace} has {subspace.dim} channels, too few for k={self.k}")
        size = min(self.size, generator.resolution)
        contest = _Contest(tuple(regions), size, self.area_power)
        with torch.no_grad():
            latents = generator.sample(self.pictures, subspace.space, rng, self.truncation)
            many = generator.sample(self.sigma_samples, subspace.space, rng, self.truncation)
            sigma = subspace.coordinates(many.values).std(dim=0).cpu()
            masks = []
            for i in range(0, self.pictures, self.max_pictures):
                masks.append(contest.mark(generator.synthesize(latents[i : i + self.max_pictures], contest.layers)))
        masks = torch.cat(masks)
        _require_present(regions, masks, size)
        try:
            for i in range(self.pictures):
                found = jacobian(generator, latents[i : i + 1], subspace, Rows(size=size))
                contest.hold(found.values.detach().float().abs().sum(dim=1).flatten(1).cpu(), masks[i])
                progress(i + 1, self.pictures, "gradient maps")
        except KeyboardInterrupt:
            if not contest.held:
                raise
        return [self._best(generator, subspace, regions, r, contest, sigma, rng) for r in range(len(regions))]

    def _best(
        self,
        generator: Generator,
        subspace: Subspace,
        regions: Sequence[Region],
        r: int,
        contest: "_Contest",
        sigma: Float[Tensor, " d"],
        rng: torch.Generator,
    ) -> list[Direction]:
        """The k best channels of a region: local ones first, then by rate, then by overlap."""
        rate, lead, overlap = contest.result(r)
        local = (rate > self.local_rate) & (lead > self.local_lead)
        key = 2 * local.double() + rate + 1e-6 * overlap  # overlap decides between equal rates alone
        best = key.argsort(descending=True, stable=True)[: self.k].tolist()
        figures = [
            {
                "rate": float(rate[c]),
                "lead": float(lead[c]),
                "overlap": float(overlap[c]),
                "local": float(local[c]),
                "sigma": float(sigma[c]),
            }
            for c in best
        ]
        found = as_directions(
            self,
            generator,
            subspace,
            regions[r],
            torch.eye(subspace.dim)[best],
            seed=rng.initial_seed(),
            truncation=self.truncation,
            figures=figures,
            names=[f"{regions[r].name}-{channel_name(subspace, c)}" for c in best],
        )
        return [replace(d, unit=float(sigma[c])) if sigma[c] > 0 else d for d, c in zip(found, best, strict=True)]


def channel_name(subspace: Subspace, c: int) -> str:
    """What a free coordinate is called: its layer and its place there ("b16.conv0:37"), or the tied subspace's."""
    if not 0 <= c < subspace.dim:
        raise SituError(f"channels of {subspace} run from 0 to {subspace.dim - 1}, got {c}")
    if subspace.tied:
        return f"{subspace}:{c}"
    for i in subspace.chosen:
        piece = subspace.space.slices[i]
        if c < piece.size:
            return f"{piece.name}:{c}"
        c -= piece.size
    raise AssertionError("the slices of a subspace add up to its dimension")


def _require_present(regions: Sequence[Region], masks: Bool[Tensor, "n q p"], size: int) -> None:
    shown = masks.any(dim=2).any(dim=0)
    absent = [region.name for r, region in enumerate(regions) if not shown[r]]
    if absent:
        raise RegionError(
            f"none of {len(masks)} pictures shows {', '.join(absent)} at {size} x {size} pixels: "
            "take more pictures, another seed or a larger size"
        )


class _Contest:
    """Counts to which of the competing regions every channel belongs.

    The competitors: the R given regions first, then the parts of their segmenters, then the rests of the regions that
    are no parts, which only those compete with.
    """

    def __init__(self, regions: tuple[Region, ...], size: int, area_power: float) -> None:
        self.regions, self.size, self.area_power = regions, size, area_power
        self.segmenters = list(dict.fromkeys(r.segmenter for r in regions if isinstance(r, Part)))
        self.layers = list(dict.fromkeys(name for region in regions for name in region.layers))
        self.alone = [i for i, region in enumerate(regions) if not isinstance(region, Part)]
        shared = len(regions) + sum(len(s.parts) for s in self.segmenters)
        self.rivals = torch.zeros(len(regions), shared + len(self.alone), dtype=torch.bool)
        self.rivals[:, :shared] = True
        for j, i in enumerate(self.alone):
            self.rivals[i, shared + j] = True
        self.rivals[:, : len(regions)].fill_diagonal_(False)
        self.held = 0

    def mark(self, synthesis: Synthesis) -> Bool[Tensor, "n q p"]:
        """Which of the p positions belong to each competitor; a segmenter's parts share none."""
        winners = {}
        for segmenter in self.segmenters:
            parts = [Part(segmenter, (label,)).mask(synthesis) for label in segmenter.parts]
            pooled = resize(torch.cat(parts, dim=1), self.size).argmax(dim=1, keepdim=True)
            winners[segmenter] = pooled == torch.arange(len(parts), device=pooled.device)[:, None, None]
        given = []
        for region in self.regions:
            if isinstance(region, Part):
                labels = [region.segmenter.parts.index(label) for label in region.labels]
                given.append(winners[region.segmenter][:, labels].any(dim=1, keepdim=True))
            else:
                given.append(resize(region.mask(synthesis), self.size) > 0.5)
        rests = [~given[i] for i in self.alone]
        return torch.cat([*given, *winners.values(), *rests], dim=1).flatten(2).cpu()

    def hold(self, maps: Float[Tensor, "d p"], masks: Bool[Tensor, "q p"]) -> None:
        """Count one picture."""
        if not self.held:
            shape = (len(self.regions), len(maps), len(masks))
            self.wins = torch.zeros(shape, dtype=torch.long)
            self.shown = torch.zeros(len(self.regions), len(masks), dtype=torch.long)
            self.shares = torch.zeros(shape[:2], dtype=torch.double)
        area = masks.sum(dim=1)  # (q,)
        order = maps.argsort(dim=1, descending=True, stable=True)
        place = torch.empty_like(order).scatter_(1, order, torch.arange(maps.shape[1]).expand_as(order))
        place[maps <= 0] = maps.shape[1]  # positions that do not change are never kept
        on = torch.stack([(place[:, mask] < a).sum(dim=1) for mask, a in zip(masks, area, strict=True)], dim=1)
        score = (on / area.clamp(min=1).double() ** self.area_power).masked_fill(area == 0, -math.inf)
        common = (masks[: len(self.regions), None] & masks).sum(dim=2)  # (r, q)
        same = common * 2 > torch.minimum(area[: len(self.regions), None], area)
        for r in range(len(self.regions)):
            competes = self.rivals[r] & ~same[r] & (area > 0)
            competes[r] = area[r] > 0
            best, winner = score.masked_fill(~competes, -math.inf).max(dim=1)
            channels = (best > 0).nonzero().flatten()
            self.wins[r, channels, winner[channels]] += 1
            self.shown[r] += competes
            self.shares[r] += on[:, r] / area[r].clamp(min=1)
        self.held += 1

    def result(self, r: int) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Rate, lead and mean overlap of every channel."""
        rates = self.wins[r].double() / self.shown[r].clamp(min=1)  # (d, q)
        others = rates.clone()
        others[:, r] = 0
        return rates[:, r], rates[:, r] - others.max(dim=1).values, self.shares[r] / self.shown[r, r].clamp(min=1)
