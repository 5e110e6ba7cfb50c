"""Walking along directions: grids of pictures at several strengths; layers below the first edited one run once."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.direction import Direction, Edit, PerceptualDistance, require_generator, solve_distance
from situ.core.errors import DirectionError
from situ.core.generator import Generator
from situ.core.latents import Latents


def synthesize_edits(
    generator: Generator, latents: Latents, edits: Sequence[Edit], force: bool = False, batch: int = 32
) -> Float[Tensor, "n e 3 h w"]:
    """The pictures of every latent under every edit (an empty edit gives the unedited picture).

    Args:
        batch: pictures in one pass; bounds memory.
    """
    directions = [direction for edit in edits for direction, _ in edit.terms]
    for direction in directions:
        require_generator(direction, generator, force)
    first = min((generator.first_step(direction.subspace) for direction in directions), default=0)
    rows = []
    with torch.no_grad():
        for i in range(len(latents)):
            one = latents[i : i + 1]
            before = generator.synthesize(one, images=False, keep=first)
            codes = [edit.apply(generator, one, force=force) for edit in edits]
            pictures: list[Tensor | None] = [None] * len(edits)
            for space in {code.space.name for code in codes}:
                chosen = [j for j, code in enumerate(codes) if code.space.name == space]
                for start in range(0, len(chosen), batch):
                    part = chosen[start : start + batch]
                    moved = codes[part[0]].repeat(len(part)).with_values(torch.cat([codes[j].values for j in part]))
                    state = before.state.repeat(len(part)) if before.state else None
                    for j, picture in zip(part, generator.synthesize(moved, resume=state).images, strict=True):
                        pictures[j] = picture
            rows.append(torch.stack([picture for picture in pictures if picture is not None]))
            if not rows[-1].isfinite().all():
                raise DirectionError("the edited picture leaves what numbers can hold: lower the strength")
    return torch.stack(rows)


def sweep(
    generator: Generator,
    direction: Direction,
    latents: Latents,
    strengths: Sequence[float],
    force: bool = False,
) -> Float[Tensor, "n s 3 h w"]:
    """Rows of pictures along one direction."""
    return synthesize_edits(generator, latents, [Edit(((direction, s),)) for s in strengths], force)


def sweep_distances(
    generator: Generator,
    direction: Direction,
    latents: Latents,
    distances: Sequence[float],
    distance: PerceptualDistance,
    force: bool = False,
) -> tuple[Float[Tensor, "n s 3 h w"], Float[Tensor, "n s"], list[list[bool]]]:
    """Rows of pictures at equal perceptual distances (LELSD section 4.2); the sign of a distance is the side of 0.

    Returns:
        pictures, the raw α of each, and whether its distance was reached.
    """
    require_generator(direction, generator, force)
    base = generator.convert(latents, direction.subspace.space)
    move = direction.subspace.lift(direction.vector.to(base.values))
    pictures, alphas, reached = [], [], []
    with torch.no_grad():
        for d in distances:
            if d == 0:
                alpha, met = torch.zeros(len(base)), [True] * len(base)
            else:
                solution = solve_distance(
                    generator, direction, latents, abs(d), distance, 1 if d > 0 else -1, force=force
                )
                alpha, met = solution.alpha, list(solution.reached)
            moved = base.with_values(base.values + alpha[:, None].to(base.values) * move)
            pictures.append(generator.synthesize(moved).images)
            alphas.append(alpha)
            reached.append(met)
    return (
        torch.stack(pictures, dim=1),
        torch.stack(alphas, dim=1),
        [list(row) for row in zip(*reached, strict=True)],
    )


def palette(
    generator: Generator,
    across: Direction,
    down: Direction,
    latents: Latents,
    strengths: Sequence[float],
    force: bool = False,
    scales: tuple[float, float] = (1.0, 1.0),
) -> Float[Tensor, "s s 3 h w"]:
    """One picture under all combinations of two directions (LELSD figure 3): rows follow `down`, columns `across`.

    Args:
        scales: strength of a step of 1, across and down.
    """
    edits = [Edit(((down, a * scales[1]), (across, b * scales[0]))) for a in strengths for b in strengths]
    pictures = synthesize_edits(generator, latents[0:1], edits, force)[0]
    return pictures.reshape(len(strengths), len(strengths), *pictures.shape[1:])
