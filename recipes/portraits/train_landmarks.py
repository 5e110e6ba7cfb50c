"""Train the pack's landmark finder: where in a photo are portraits, and where are their eyes, nose and mouth?

Renders are placed, scaled and turned on canvases of 128 pixels, as squares or cut out along their outline, over
clouds and over portraits too large to count. The map of centres learns by CenterNet's focal loss, the offsets by L1.
Faces between the sizes that count and those that do not, half covered or half outside are no lesson.

    python recipes/portraits/train_landmarks.py --minutes 8 --threads 1

Interrupt and start again at will: the run goes on from its last checkpoint (runs/landmarks).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from situ.core.images import from_bytes
from situ.packs.portraits.landmark_network import SIDE, STRIDE, LandmarkNetwork, cell_centres
from situ.packs.portraits.landmarks import PortraitLandmarks
from situ.packs.portraits.renderer import LANDMARKS, PARTS, landmarks
from training import (
    Flaws,
    Plan,
    Renders,
    fit,
    held_out,
    plan_from_arguments,
    report,
    restore,
    rounded,
    store,
    training_renders,
)  # fmt: skip

PLAN = Plan(name="landmarks", minutes=8, batch=24, rate=3e-3, pictures=4000, threads=1)
CANVAS = 128  # pixels
COUNT = (0.72, 1.4)  # zooms (portrait side / SIDE) of faces that the network finds
DO_NOT_COUNT = (0.58, 1.75)  # below the first and above the second it must not
NEAR = 5.0  # pixels: deviation of the bump round a centre


@dataclass(frozen=True)
class Canvases:
    """Pictures with portraits on them and what is known of these; k is the most that one holds."""

    images: Float[Tensor, "n 3 s s"]
    points: Float[Tensor, "n k 5 2"]  # in pixels
    zooms: Float[Tensor, "n k"]  # portrait side / SIDE
    seen: Bool[Tensor, "n k"]  # not covered by another, all points inside

    @property
    def counts(self) -> Bool[Tensor, "n k"]:
        """Faces to be found."""
        return self.seen & (self.zooms > COUNT[0]) & (self.zooms < COUNT[1])

    @property
    def unclear(self) -> Bool[Tensor, "n k"]:
        """Faces that may be found or not."""
        near = (self.zooms > DO_NOT_COUNT[0]) & (self.zooms < DO_NOT_COUNT[1])
        return near & ~self.counts


def uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    """Numbers between `low` and `high`."""
    return low + (high - low) * torch.rand(shape, generator=rng)


def placed(
    renders: Renders, n: int, rng: torch.Generator, most: int = 3, size: int = CANVAS, near: float = 0.3
) -> Canvases:
    """Draw n canvases with one to `most` portraits each.

    Args:
        near: share of them over a portrait from far too near, too large to be found on a canvas of CANVAS pixels.
    """
    images = backdrops(renders, n, rng, size, near)
    points = torch.zeros(n, most, len(LANDMARKS), 2)
    zooms, covered = torch.zeros(n, most), torch.zeros(n, most)
    there = torch.arange(most) < torch.randint(1, most + 1, [n, 1], generator=rng)
    for k in range(most):
        rows = renders.draw(n, rng)
        common = torch.rand(n, generator=rng) < 0.65
        low, high = (torch.where(common, COUNT[i], (0.35, 2.6)[i]).log() for i in (0, 1))
        zoom = (low + (high - low) * torch.rand(n, generator=rng)).exp()
        roll = (torch.randn(n, generator=rng) * math.radians(12)).clamp(-0.6, 0.6)
        centre = uniform((n, 2), 0.1 * size, 0.9 * size, rng)
        cosine, sine = torch.cos(roll), torch.sin(roll)
        turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)  # (n, 2, 2)
        truth = landmarks(renders.factors[rows], SIDE) - SIDE / 2
        points[:, k] = centre[:, None] + zoom[:, None, None] * truth @ turn.mT
        zooms[:, k] = zoom
        stack = layers(renders, rows, rng)
        # the canvas's own coordinates -> the portrait's, both in [-1, 1]
        back = turn.mT * (size / SIDE / zoom)[:, None, None]
        shift = -(back @ (2 * centre / size - 1)[:, :, None])
        grid = functional.affine_grid(torch.cat([back, shift], dim=2), [n, 1, size, size], align_corners=False)
        drawn = functional.grid_sample(stack, grid, align_corners=False)  # outside: nothing
        alpha = drawn[:, 3:] * there[:, k].float()[:, None, None, None]
        images = torch.lerp(images, drawn[:, :3] / drawn[:, 3:].clamp(min=1e-3), alpha)
        for earlier in range(k):
            where = 2 * points[:, earlier, None] / size - 1
            covered[:, earlier] += functional.grid_sample(alpha, where, align_corners=False).mean(dim=(1, 2, 3))
    inside = ((points > 0) & (points < size)).all(dim=(2, 3))
    zooms = torch.where(there, zooms, 0)
    return Canvases(images.clamp(-1, 1), points, zooms, there & inside & (covered < 0.15))


def layers(renders: Renders, rows: Tensor, rng: torch.Generator) -> Float[Tensor, "n 4 s s"]:
    """Portraits times their opacity, and the opacity: all of the square, or without its background."""
    images = from_bytes(renders.images[rows])
    person = 1 - renders.masks[rows, PARTS.index("background")][:, None].float() / 255
    whole = (torch.rand(len(rows), 1, 1, 1, generator=rng) < 0.5).float()
    alpha = torch.maximum(person, whole)
    return torch.cat([images * alpha, alpha], dim=1)


def backdrops(renders: Renders, n: int, rng: torch.Generator, size: int, share: float) -> Float[Tensor, "n 3 s s"]:
    """Clouds of any grain with hard edges now and then, a share of them over a portrait seen from far too near."""
    images = uniform((n, 3, 1, 1), -0.9, 0.9, rng).expand(-1, -1, size, size)
    for cells, mode in ((2, "bilinear"), (5, "bilinear"), (9, "nearest"), (24, "bilinear")):
        strength = uniform((n, 1, 1, 1), -0.4, 0.5, rng).clamp(min=0)
        noise = torch.randn(n, 3, cells, cells, generator=rng)
        images = images + strength * functional.interpolate(noise, (size, size), mode=mode)
    near = from_bytes(renders.images[renders.draw(n, rng)])
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = size / SIDE / uniform((n,), 4.0, 8.0, rng)
    affine[:, :, 2] = uniform((n, 2), -0.7, 0.7, rng)
    grid = functional.affine_grid(affine, [n, 1, size, size], align_corners=False)
    near = functional.grid_sample(near, grid, padding_mode="reflection", align_corners=False)
    some = (torch.rand(n, 1, 1, 1, generator=rng) < share).float()
    return torch.lerp(images, near, some * 0.9).clamp(-1, 1)


def landmark_loss(
    heat: Float[Tensor, "n r c"], offsets: Float[Tensor, "n 5 2 r c"], truth: Canvases
) -> Float[Tensor, ""]:
    """CenterNet's focal loss of the map, per face, and L1 of the points in pixels under the bump of their face."""
    _, rows, columns = heat.shape
    cells = cell_centres(rows, columns, heat.device)
    centre = truth.points.mean(dim=2)  # (n, k, 2)
    square = (cells - centre[..., None, None]).square().sum(dim=2)  # (n, k, r, c)
    bumps = torch.exp(-square / (2 * NEAR**2)) * truth.counts[..., None, None]
    target, owner = bumps.max(dim=1)
    reach = (0.3 * SIDE * truth.zooms)[..., None, None]
    ignored = ((square < reach**2) & truth.unclear[..., None, None]).any(dim=1) & (target < 0.1)
    # a face's centre is where the bump is within half a cell of its top
    at_centre = target > math.exp(-2 * (STRIDE / 2) ** 2 / (2 * NEAR**2)) - 1e-4
    hit, miss = functional.logsigmoid(heat), functional.logsigmoid(-heat)
    elsewhere = hit.exp().square() * (1 - target) ** 4 * miss * ~ignored
    focal = torch.where(at_centre, miss.exp().square() * hit, elsewhere)
    faces = truth.counts.sum().clamp(min=1)
    chosen = owner.flatten(1)[:, None, None].expand(-1, len(LANDMARKS), 2, -1)
    wanted = truth.points.permute(0, 2, 3, 1).gather(3, chosen).unflatten(3, (rows, columns)) - cells
    weight = target * (target > 0.3)
    error = (offsets - wanted).abs().mean(dim=(1, 2))
    return -focal.sum() / faces + (error * weight).sum() / weight.sum().clamp(min=1)


@dataclass(frozen=True)
class Found:
    """What a finder made of some photos."""

    faces: int  # there
    errors: Float[Tensor, "f 5"]  # of those found: distance of every point over that of the eyes
    extra: int  # found where there is none

    def figures(self) -> dict[str, float | dict[str, float]]:
        """Share found, faces invented, and errors in distances of the eyes."""
        return {
            "faces": self.faces,
            "found": round(len(self.errors) / max(self.faces, 1), 4),
            "invented": self.extra,
            "mean_error": round(self.errors.mean().item(), 4),
            "median_error": round(self.errors.median().item(), 4),
            "worst_error": round(self.errors.mean(dim=1).max().item(), 4),
            "error_of": rounded(self.errors.mean(dim=0), list(LANDMARKS)),
        }


def judged(finder: PortraitLandmarks, truth: Canvases, smallest: float) -> Found:
    """Compare what is found with what is there.

    Args:
        smallest: side in pixels of the portraits that must be found; smaller ones and half hidden ones may be.
    """
    errors, extra, faces = [], 0, 0
    for i, image in enumerate(truth.images):
        must = truth.seen[i] & (truth.zooms[i] * SIDE >= smallest)
        may = truth.zooms[i] > 0
        faces, taken = faces + int(must.sum()), set()
        for points in finder.find(image[None]):
            eyes = (truth.points[i, :, 1] - truth.points[i, :, 0]).norm(dim=1)
            error = (truth.points[i] - points).norm(dim=2) / eyes[:, None]  # (k, 5)
            nearest = int(torch.where(may, error.mean(dim=1), math.inf).argmin())
            if not may[nearest] or error[nearest].mean() > 0.3 or nearest in taken:
                extra += 1
            elif must[nearest]:
                errors.append(error[nearest])
                taken.add(nearest)
    return Found(faces, torch.stack(errors) if errors else torch.zeros(0, len(LANDMARKS)), extra)


def portraits_alone(renders: Renders) -> Canvases:
    """Every portrait a photo of its own."""
    n = len(renders.images)
    points, all_of_them = landmarks(renders.factors, SIDE)[:, None], torch.ones(n, 1)
    return Canvases(from_bytes(renders.images), points, all_of_them, all_of_them.bool())


def main() -> None:
    plan = plan_from_arguments(__doc__, PLAN)
    renders, flaws = training_renders(plan), Flaws(share=0.5, warp=0)

    def loss_of(network: LandmarkNetwork, rng: torch.Generator) -> Tensor:
        truth = placed(renders, plan.batch, rng)
        heat, offsets = network(flaws.spoil(truth.images, rng))
        return landmark_loss(heat, offsets, truth)

    path = store(fit(LandmarkNetwork(), loss_of, plan), plan.name, {"points": LANDMARKS})
    network, test = restore(LandmarkNetwork(), path), held_out(200, plan.renders)
    finder, rng = PortraitLandmarks(network), torch.Generator().manual_seed(0)
    photos = placed(test, 60, rng, most=4, size=384, near=0.0)  # there, those too near would be faces
    crossed = Canvases(flaws.spoil(photos.images, rng), photos.points, photos.zooms, photos.seen)
    figures = {
        "unit": "distance between the eyes",
        "portraits_alone_64px": judged(finder, portraits_alone(test), SIDE).figures(),
        "photos_384px": judged(finder, photos, 32).figures(),
        "photos_384px_with_flaws": judged(finder, crossed, 32).figures(),
    }
    report(figures, plan.name)


if __name__ == "__main__":
    main()
