"""Part transfer: give one part of a picture the style that it has in a reference picture.

Collins, Bala, Price, Süsstrunk, "Editing in style: uncovering the local semantics of GANs" (2020), sections 3.2 and
3.3. In the style space s' = s_target + q (s_reference - s_target), channel by channel, q in [0, 1], from how much each
channel belongs to the part. The paper's measure is the share of the variance of a channel that lies inside the part,

    M_c = sum A_c^2 U / sum A_c^2,   A_c the activation that s_c scales, standardised over pictures and positions.

In every layer q maximises q^T M under q^T (1 - M) <= ε, q in [0, 1], M > ρ: what the change may spend on the rest of
the picture. The optimum takes channels in the order of M until ε is spent.

Where an activation lies says little of where its style acts once styles also demodulate. So there is a second measure,
not the paper's: the share of the picture's own response, M_c = sum_{i in part} J_ic^2 / sum_i J_ic^2 with J = ∂x/∂s.
Random signs v make it cheap: E (J^T diag(m) v)_c^2 = sum_i m_i^2 J_ic^2, so a few backward passes give all channels.

This is an edit from a second picture: it has no direction, and is kept apart from the directions.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.errors import GeneratorError, LatentError, RegionError, SituError
from situ.core.generator import FeatureLayer, Generator
from situ.core.images import resize
from situ.core.latents import Latents, LatentSpace, Subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

Measure = Literal["activation", "response"]
Solution = Literal["sequential", "simultaneous"]
_BATCH = 16  # pictures in one pass; bounds memory


@dataclass(frozen=True)
class PartTransfer:
    """How channels are chosen. The paper counts ε in channels (of 512); here it is a share of the layer's channels."""

    measure: Annotated[Measure, "M from where activations lie, as in the paper, or from where the picture responds"] = (
        "activation"
    )
    rho: Annotated[float, "ρ, a channel with a smaller share inside the part is left alone"] = 0.1
    epsilon: Annotated[float, "ε, budget of a layer for the rest of the picture, as a share of its channels"] = 0.1
    epsilon_coarse: Annotated[float, "ε of coarse layers, which carry pose and outline"] = 0.01
    coarse: Annotated[int, "pixels up to which a layer is coarse"] = 8
    solution: Annotated[Solution, "sequential: best channels first; simultaneous: q in proportion to M"] = "sequential"
    weighted: Annotated[bool, "a channel counts by how far reference and target differ in it"] = False
    pictures: Annotated[int, "sampled pictures that the shares are measured on"] = 64
    truncation: Annotated[float, "of their codes"] = 0.7
    probes: Annotated[int, "backward passes per picture and side of the region (only for the response)"] = 4

    def __post_init__(self) -> None:
        shares = {"rho": self.rho, "epsilon": self.epsilon, "epsilon_coarse": self.epsilon_coarse}
        bad = {name: value for name, value in shares.items() if not 0 <= value <= 1}
        if bad:
            raise SituError(f"shares of a part transfer lie between 0 and 1, got {bad}")
        if min(self.pictures, self.probes) < 1 or self.coarse < 0 or not math.isfinite(self.truncation):
            raise SituError(
                "a part transfer needs pictures and probes to measure with and a finite truncation, "
                f"got pictures={self.pictures}, probes={self.probes}, coarse={self.coarse}, "
                f"truncation={self.truncation}"
            )
        for name, choices in {"measure": Measure, "solution": Solution}.items():
            if getattr(self, name) not in get_args(choices):
                raise SituError(f'{name} is one of {", ".join(get_args(choices))}, got "{getattr(self, name)}"')

    @classmethod
    def by_response(cls, **settings: object) -> "PartTransfer":
        """Every channel whose response lies inside the part by a fifth or more, whatever the layer: no budget."""
        chosen = cls(measure="response", rho=0.2, epsilon=1.0, epsilon_coarse=1.0, pictures=32)
        return replace(chosen, **settings)  # pyright: ignore[reportArgumentType]


def style_space(generator: Generator) -> LatentSpace:
    """The space "s" of a generator. Raises GeneratorError where there is none."""
    if "s" not in generator.spaces:
        raise GeneratorError(
            f"part transfer mixes style channels, and {generator.name} has no style space s; "
            f"its spaces are {', '.join(generator.spaces)}: edit it with directions instead"
        )
    return generator.spaces["s"]


def scaled_layers(generator: Generator) -> tuple[FeatureLayer | None, ...]:
    """For every slice of the style space the feature layer whose channels it scales.

    A style scales what enters its step (modulated convolutions: the feature layer before), or, where it is a scale and
    a bias for each channel, what leaves it (adaptive instance normalisation). None where that is no feature layer, as
    for the constant input.
    """
    space = style_space(generator)
    found: list[FeatureLayer | None] = []
    for i, part in enumerate(space.slices):
        step = generator.first_step(Subspace(space, (i,)))
        own = next((layer for layer in generator.layers if layer.step == step), None)
        before = max(
            (layer for layer in generator.layers if layer.step < step), key=lambda each: each.step, default=None
        )
        if own is not None and part.size == 2 * own.channels:
            found.append(own)
        else:
            found.append(before if before is not None and before.channels == part.size else None)
    return tuple(found)


def channel_shares(
    generator: Generator,
    region: Region,
    rng: torch.Generator,
    settings: PartTransfer | None = None,
    progress: Progress = silent,
) -> Float[Tensor, " d"]:
    """M: how far each style channel belongs to a region, in [0, 1], over sampled pictures.

    By activation, channels that scale no feature layer and biases have 0.

    Raises:
        GeneratorError: no style space. RegionError: the region is in none of the pictures.
    """
    settings = settings or PartTransfer()
    space = style_space(generator)
    latents = generator.sample(settings.pictures, generator.spaces["z"], rng, settings.truncation)
    meter = _Activation(generator) if settings.measure == "activation" else _Response(generator, settings.probes, rng)
    inside = 0.0
    for i in range(0, len(latents), _BATCH):
        inside += meter.add(region, generator.convert(latents[i : i + _BATCH], space))
        progress(min(i + _BATCH, len(latents)), len(latents), region.name)
    if not inside:
        raise RegionError(f"{region.name} is in none of {len(latents)} sampled pictures: choose another region")
    return meter.shares()


class _Activation:
    """The paper's M, from sums over batches."""

    def __init__(self, generator: Generator) -> None:
        self.generator, self.layers = generator, scaled_layers(generator)
        self.names = list(dict.fromkeys(layer.name for layer in self.layers if layer is not None))
        self.sums: dict[str, Tensor] = {}

    def add(self, region: Region, latents: Latents) -> float:
        """Take some pictures in; returns how much of the region they show."""
        with torch.no_grad():
            made = self.generator.synthesize(latents, list(dict.fromkeys([*self.names, *region.layers])))
            mask = region.mask(made)
            for name in self.names:
                a = made.features[name].double()
                u = resize(mask, (a.shape[-2], a.shape[-1])).double()
                terms = torch.stack([torch.ones_like(a), a, a.square()])
                # sums of 1, A and A^2 everywhere, and of the same inside: (6, channels)
                both = torch.cat([terms.sum(dim=(1, 3, 4)), (terms * u).sum(dim=(1, 3, 4))])
                self.sums[name] = self.sums[name] + both if name in self.sums else both
        return float(mask.sum())

    def shares(self) -> Float[Tensor, " d"]:
        slices = style_space(self.generator).slices
        rows = [
            torch.zeros(part.size) if layer is None else _shares(self.sums[layer.name], part.size)
            for layer, part in zip(self.layers, slices, strict=True)
        ]
        return torch.cat(rows)


def _shares(sums: Float[Tensor, "6 c"], size: int) -> Float[Tensor, " size"]:
    """sum (A - mean)^2 U / sum (A - mean)^2 of each channel; biases, the rest of a slice, get 0."""
    n, a, squares, n_in, a_in, squares_in = sums
    mean = a / n
    variance = squares - n * mean.square()
    share = (squares_in - 2 * mean * a_in + mean.square() * n_in) / variance.clamp(min=1e-12)
    # a channel that never changes belongs to no part
    share = torch.where(variance > 1e-9 * squares.clamp(min=1e-12), share.clamp(0, 1), 0.0).float().cpu()
    return torch.cat([share, share.new_zeros(size - len(share))])


class _Response:
    """The share of the squared change of the picture, by random probes from both sides of the region."""

    def __init__(self, generator: Generator, probes: int, rng: torch.Generator) -> None:
        self.generator, self.probes, self.rng = generator, probes, rng
        self.inside: Tensor | float = 0.0
        self.outside: Tensor | float = 0.0

    def add(self, region: Region, latents: Latents) -> float:
        """Take some pictures in; returns how much of the region they show."""
        values = latents.values.detach().clone().requires_grad_()
        made = self.generator.synthesize(latents.with_values(values), list(region.layers))
        x = made.images
        mask = resize(region.mask(made).detach(), (x.shape[-2], x.shape[-1])).clamp(0, 1)
        for _ in range(self.probes):
            v = torch.randint(2, x.shape, generator=self.rng, device=self.rng.device).to(x) * 2 - 1
            squares = [
                torch.autograd.grad((x * v * weight.sqrt()).sum(), values, retain_graph=True)[0].square().sum(dim=0)
                for weight in (mask, 1 - mask)
            ]
            self.inside, self.outside = self.inside + squares[0], self.outside + squares[1]
        return float(mask.sum())

    def shares(self) -> Float[Tensor, " d"]:
        inside, outside = torch.as_tensor(self.inside).cpu(), torch.as_tensor(self.outside).cpu()
        # a channel that changes nothing belongs to no part
        return inside / (inside + outside).clamp(min=1e-12 * float((inside + outside).max()) + 1e-30)


def channel_weights(
    shares: Float[Tensor, " c"],
    budget: float,
    rho: float,
    solution: Solution = "sequential",
    importance: Float[Tensor, "n c"] | None = None,
) -> Float[Tensor, "n c"]:
    """q of one layer: maximises q^T (v M) under q^T (v (1 - M)) <= budget sum(v) and 0 <= q <= 1, where M > ρ.

    "sequential" is the exact optimum: gain per cost grows with M alone, so channels are filled in that order, the last
    one in part. "simultaneous" is q = min(1, λ M) with the largest λ that the budget allows.

    Args:
        shares: M.
        budget: ε as a share of all channels.
        importance: v, one row per picture; 1 by default.
    """
    v = torch.ones(1, len(shares)) if importance is None else importance.float().cpu()
    cost = v * (1 - shares) * (shares > rho)
    most = budget * v.sum(dim=1, keepdim=True)
    if solution == "simultaneous":
        low, high = torch.zeros(len(v), 1), torch.full([len(v), 1], 1 / max(rho, 1e-6))
        for _ in range(50):  # what is spent grows with λ
            middle = (low + high) / 2
            fits = ((middle * shares).clamp(max=1) * cost).sum(dim=1, keepdim=True) <= most
            low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
        return (low * shares).clamp(max=1) * (shares > rho)
    order = shares.argsort(descending=True, stable=True)
    sorted_cost = cost[:, order]
    left = most - (sorted_cost.cumsum(dim=1) - sorted_cost)  # before each channel
    q = torch.where(sorted_cost > 0, left / sorted_cost.clamp(min=1e-12), (left >= 0).float()).clamp(0, 1)
    return q[:, order.argsort()] * (shares > rho)


def transfer_part(
    generator: Generator,
    region: Region,
    target: Latents,
    reference: Latents,
    rng: torch.Generator,
    settings: PartTransfer | None = None,
    *,
    strength: float = 1.0,
    shares: Float[Tensor, " d"] | None = None,
    progress: Progress = silent,
) -> Latents:
    """Codes of the style space that show the targets with a part of the references.

    Args:
        target: the pictures to edit.
        reference: as many, or one for all.
        rng: samples the pictures that `shares` are measured on.
        strength: 1 takes the reference's style of the chosen channels, 0 none of it.
        shares: M of `channel_shares`, where it is known already.

    Raises:
        GeneratorError: no style space. LatentError: codes that do not fit. RegionError: no channel can be chosen.
    """
    settings = settings or PartTransfer()
    space = style_space(generator)
    if len(reference) not in (1, len(target)):
        raise LatentError(f"{len(target)} pictures need one reference or as many, got {len(reference)}")
    if not math.isfinite(strength):
        raise SituError(f"the strength of a part transfer must be a finite number, got {strength}")
    s, s_reference = generator.convert(target, space), generator.convert(reference, space)
    difference = s_reference.values - s.values
    if shares is None:
        shares = channel_shares(generator, region, rng, settings, progress)
    m, moves = space.split(shares), space.split(difference.detach())
    rows = []
    for i, layer in enumerate(scaled_layers(generator)):
        resolution = 0 if layer is None else layer.resolution
        # by activation, ε counts the channels of the layer and leaves their biases alone
        channels = len(m[i]) if layer is None or settings.measure == "response" else layer.channels
        budget = settings.epsilon_coarse if resolution <= settings.coarse else settings.epsilon
        importance = moves[i][:, :channels].square() if settings.weighted else None
        q = channel_weights(m[i][:channels], budget, settings.rho, settings.solution, importance)
        rows.append(torch.cat([q, q.new_zeros(len(q), len(m[i]) - channels)], dim=1))
    n = max(len(row) for row in rows)
    q = torch.cat([row.expand(n, -1) for row in rows], dim=1).to(difference)
    if not q.any():
        raise RegionError(
            f"no style channel belongs to {region.name} enough to be taken over: "
            f"lower rho ({settings.rho}) or raise epsilon ({settings.epsilon})"
        )
    return s.with_values(s.values + strength * q * difference)
