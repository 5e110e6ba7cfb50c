"""LELSD: directions whose change of every feature layer falls inside a segmentation mask.

Pajouheshgar, Zhang, Süsstrunk, "Optimizing latent space directions for GAN-based local image editing" (2022).
Maximises J(u_1..u_K) = sum_k LS(u_k) + c R(u_1..u_K) (eq. 3) with Adam, where LS is eq. 2 and R = -1/2 ||Corr - I||_F.

Deviations, each a field: the mean over layers instead of the sum (so that LS is in [0, 1]; c scales with it), one
strength per sample, all directions updated on shared samples (`alternate=False`). What makes it fast changes no result:
x, its features and masks are computed without a graph and shared by all regions and directions, steps below the first
edited layer are not repeated for x', and only u gets gradients.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.direction import Direction
from situ.core.discovery import spread
from situ.core.errors import SituError
from situ.core.generator import Generator, Synthesis, SynthesisState, features_from
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.core.localization import Aggregation, FeatureDistance, aggregate, localization_scores
from situ.core.progress import Progress, silent
from situ.core.region import Region

IMAGE = "image"


@dataclass(frozen=True)
class LELSD:
    """The method and its settings; the paper's values are the defaults."""

    space: str = "w+"  # as parse_subspace reads it: "w", "w+:4-7", "w:4-7" (tied), "s:conv", "z"
    k: int = 1  # directions per region
    correlation: float = 1.0  # c, weight of R (only matters for k > 1)
    samples: int = 800  # latents per direction
    batch: int = 4  # latents per step
    lr: float = 1e-3
    halve_every: int = 50  # steps between halvings of lr
    alpha: tuple[float, float] = (0.5, 3.0)  # |α| is uniform in this range, its sign random
    alpha_unit: Literal["raw", "spread"] = "raw"  # "spread": α in root-mean-square distances of latents from their mean
    alpha_per_sample: bool = True  # False: one α per batch
    unit_norm: bool = True  # u is kept at norm 1
    aggregation: Aggregation = "average"
    distance: FeatureDistance = "l2"
    mode: Literal["foreground", "background"] = "foreground"  # background: the change outside the region counts
    # feature layer -> weight in LS, 1 if not named; "image" is the picture itself, 0 (the paper) if not named
    layer_weights: Mapping[str, float] = field(default_factory=dict)
    truncation: float = 0.7
    alternate: bool = False  # True: a step updates one u_k only (k times as many steps), as published
    absolute_correlation: bool = False  # True: R = -mean |Corr - I|, as coded
    max_pictures: int = 64  # edited pictures in one pass; bounds memory

    def __post_init__(self) -> None:
        positive = {
            "k": self.k,
            "samples": self.samples,
            "batch": self.batch,
            "lr": self.lr,
            "halve_every": self.halve_every,
        }
        bad = {name: value for name, value in positive.items() if not value > 0}
        if bad:
            raise SituError(f"LELSD settings must be positive, got {bad}")
        if not 0 <= self.alpha[0] <= self.alpha[1] or self.alpha[1] == 0:
            raise SituError(f"alpha is a range (least, most) of |α| with most > 0, got {self.alpha}")

    @classmethod
    def as_coded(cls, **settings: object) -> "LELSD":
        """The published notebook: U(-1, 1) strengths, one a batch, u of free length; mean |Corr - I|; alternating."""
        coded = cls(
            alpha=(0.0, 1.0),
            alpha_per_sample=False,
            unit_norm=False,
            alternate=True,
            absolute_correlation=True,
        )
        return replace(coded, **settings)  # pyright: ignore[reportArgumentType]

    @property
    def steps(self) -> int:
        """Optimisation steps in all."""
        return math.ceil(self.samples / self.batch) * (self.k if self.alternate else 1)

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`. All regions share x, its features and its masks."""
        search = _Search(self, generator, tuple(regions), rng)
        done = 0
        try:
            for done in range(1, self.steps + 1):
                scores = search.step(done - 1)
                progress(done, self.steps, f"LS {scores.mean():.3f}")
        except KeyboardInterrupt:
            if done <= 1:
                raise
        return search.directions()


class _Search:
    """The state of one optimisation: U (regions, k, free coordinates)."""

    def __init__(self, method: LELSD, generator: Generator, regions: tuple[Region, ...], rng: torch.Generator) -> None:
        self.method, self.generator, self.regions, self.rng = method, generator, regions, rng
        self.seed = rng.initial_seed()
        self.subspace: Subspace = parse_subspace(method.space, generator.spaces)
        self.first = generator.first_step(self.subspace)
        layers = features_from(generator, self.first)
        unknown = set(method.layer_weights) - {layer.name for layer in generator.layers} - {IMAGE}
        if unknown:
            names = ", ".join(layer.name for layer in generator.layers)
            raise SituError(f"layer weights name feature layers ({names}) or image, got {', '.join(sorted(unknown))}")
        self.names = [layer.name for layer in layers if method.layer_weights.get(layer.name, 1.0) != 0]
        self.weights = {name: method.layer_weights.get(name, 1.0) for name in self.names}
        if method.layer_weights.get(IMAGE, 0.0) != 0:
            self.weights[IMAGE] = method.layer_weights[IMAGE]
        if not self.weights:
            raise SituError(f"no feature layer that {self.subspace} can change has a weight: nothing to optimise")
        self.length = self._length()
        u = torch.randn(len(regions), method.k, self.subspace.dim, generator=rng, device=rng.device).to(
            generator.device
        )
        self.u = (u / u.norm(dim=-1, keepdim=True)).requires_grad_()
        self.optimizer = torch.optim.Adam([self.u], lr=method.lr)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, method.halve_every, gamma=0.5)
        self.history: list[Tensor] = []  # LS (regions, k) of every step

    def _length(self) -> float:
        if self.method.alpha_unit == "raw":
            return 1.0
        return float(spread(self._sample(256), self.subspace))

    def _sample(self, n: int) -> Latents:
        with torch.no_grad():
            return self.generator.sample(n, self.subspace.space, self.rng, self.method.truncation)

    def _alphas(self, rows: int, n: int) -> Float[Tensor, "rows n"]:
        """One strength per direction and sample, in raw units."""
        shape = [rows, n if self.method.alpha_per_sample else 1]
        low, high = self.method.alpha
        size = low + (high - low) * torch.rand(shape, generator=self.rng, device=self.rng.device)
        sign = torch.randint(2, shape, generator=self.rng, device=self.rng.device) * 2 - 1
        return (size * sign * self.length).expand(rows, n).to(self.generator.device)

    def step(self, index: int) -> Float[Tensor, "r k"]:
        """One update; returns LS of every direction that was updated (0 for the others)."""
        method, n = self.method, self.method.batch
        latents = self._sample(n)
        with torch.no_grad():
            before = self.generator.synthesize(latents, self.names, keep=self.first)
            masks = [region.mask(before).detach() for region in self.regions]
        active = [index % method.k] if method.alternate else list(range(method.k))
        pairs = [(r, k) for r in range(len(self.regions)) for k in active]
        alphas = self._alphas(len(pairs), n)
        per_pass = max(1, method.max_pictures // n)
        self.optimizer.zero_grad(set_to_none=True)
        scores = torch.zeros(self.u.shape[:2])
        for i in range(0, len(pairs), per_pass):
            chunk = pairs[i : i + per_pass]
            found = self._scores(latents, before, masks, chunk, alphas[i : i + per_pass])
            (-found.sum()).backward()
            for (r, k), score in zip(chunk, found.detach().cpu(), strict=True):
                scores[r, k] = score
        if method.k > 1 and method.correlation:
            (-method.correlation * self._diversity(active)).backward()
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            norm = self.u.norm(dim=-1, keepdim=True)
            # a direction of norm 0 has no correlation with anything
            self.u.mul_(1 / norm if method.unit_norm else norm.clamp(min=1e-6) / norm.clamp(min=1e-12))
        if not self.u.isfinite().all():
            raise SituError(f"the optimisation diverged at step {index + 1} (NaN): lower lr, now {method.lr}")
        self.history.append(scores)
        return scores

    def _scores(
        self,
        latents: Latents,
        before: Synthesis,
        masks: Sequence[Tensor],
        pairs: Sequence[tuple[int, int]],
        alphas: Float[Tensor, "m n"],
    ) -> Float[Tensor, " m"]:
        """LS of the directions of `pairs`, averaged over the samples, differentiable in u."""
        n, m = len(latents), len(pairs)
        u = torch.stack([self.u[r, k] for r, k in pairs])  # (m, dim)
        if self.method.unit_norm:
            u = u / u.norm(dim=-1, keepdim=True)
        moves = self.subspace.lift(u)[:, None] * alphas[:, :, None]  # (m, n, d)
        tiled = latents.repeat(m)
        edited = tiled.with_values(tiled.values + moves.reshape(m * n, -1))
        state = SynthesisState(before.state.step, before.state.tensors) if before.state else None
        after = self.generator.synthesize(edited, self.names, resume=state.repeat(m) if state else None)
        features, edited_features = self._features(before), self._features(after)
        rows = []
        for j, (r, _) in enumerate(pairs):
            part = slice(j * n, (j + 1) * n)
            s_edited = self.regions[r].mask(after)[part]
            s = aggregate(masks[r], s_edited, self.method.aggregation)
            s = 1 - s if self.method.mode == "background" else s
            own = {name: r[part] for name, r in edited_features.items()}
            scores = localization_scores(features, own, s, self.method.distance)  # (l, n)
            weights = scores.new_tensor(list(self.weights.values()))
            rows.append((weights @ scores).mean() / weights.sum())
        return torch.stack(rows)

    def _features(self, synthesis: Synthesis) -> dict[str, Tensor]:
        """The activations that count, in the order of the weights."""
        return {name: synthesis.images if name == IMAGE else synthesis.features[name] for name in self.weights}

    def _diversity(self, active: Sequence[int]) -> Tensor:
        """R of every region, summed; only the active directions get gradients from it."""
        mask = torch.zeros(self.u.shape[1], 1, device=self.u.device)
        mask[list(active)] = 1
        u = self.u * mask + self.u.detach() * (1 - mask)  # (r, k, dim)
        centred = u - u.mean(dim=-1, keepdim=True)
        normed = centred / centred.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        off = normed @ normed.mT - torch.eye(u.shape[1], device=u.device)
        if self.method.absolute_correlation:
            return -off.abs().mean(dim=(1, 2)).sum()
        return -0.5 * (off.square().sum(dim=(1, 2)) + 1e-12).sqrt().sum()

    def directions(self) -> list[list[Direction]]:
        """What has been found so far, by LS over the last tenth of the steps."""
        recent = torch.stack(self.history[-max(1, len(self.history) // 10) :])
        ls = recent.sum(dim=0) / (recent != 0).sum(dim=0).clamp(min=1)  # (r, k)
        u = (self.u / self.u.norm(dim=-1, keepdim=True)).detach().cpu()
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self.method).items())
        found = []
        for r, region in enumerate(self.regions):
            order = ls[r].argsort(descending=True).tolist()
            found.append(
                [
                    Direction(
                        vector=u[r, k],
                        subspace=self.subspace,
                        generator=self.generator.name,
                        region=region.name,
                        found_by=f"LELSD({settings})",
                        figures={"search_LS": float(ls[r, k]), "steps": float(len(self.history))},
                        name=region.name if self.method.k == 1 else f"{region.name}-{rank + 1}",
                        seed=self.seed,
                        truncation=self.method.truncation,
                    )
                    for rank, k in enumerate(order)
                ]
            )
        return found
