"""LELSD: directions whose change of every feature layer falls inside a segmentation mask.

Pajouheshgar, Zhang, Süsstrunk, "Optimizing latent space directions for GAN-based local image editing" (2022).
Maximises J(u_1..u_K) = sum_k LS(u_k) + c R(u_1..u_K) (eq. 3) with Adam, where LS is eq. 2 and R = -1/2 ||Corr - I||_F.

LS is the mean over layers, not the sum, so that it is in [0, 1]; c scales with it. By default all directions are
updated on shared samples where the paper takes turns (`alternate`). The paper's schedule (random start, 200 steps of
1e-3) is far from the optimum; by default the search starts from the optimum of the score to first order
(`first_order.py`) and takes 30 natural-gradient steps, which are smooth where single batches are noisy
(`natural_gradient.py`). `as_published()` is the paper's. What makes a step fast changes no result: x, its features and
masks are computed without a graph and shared by all regions and directions, steps below the first edited layer are not
repeated for x', and only u gets gradients. To edit the background, search on `Rest(region)`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.direction import Direction
from situ.core.discovery import Discovery, as_directions, spread
from situ.core.errors import SituError
from situ.core.generator import IMAGE, Generator, Synthesis
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.core.localization import Aggregation, FeatureDistance, aggregate, localization_scores
from situ.core.progress import Progress, silent
from situ.core.ranks import ranks, same_everywhere, summed
from situ.core.region import Region
from situ.discovery.first_order import Expansion, FirstOrder, diversity, scored_layers
from situ.discovery.natural_gradient import NaturalGradient

AlphaUnit = Literal["raw", "spread"]
OptimizerName = Literal["natural", "adam"]
CHECK_EVERY = 10  # steps between two looks at held-out latents
HELD_OUT = 16  # latents that they look at


@dataclass(frozen=True)
class LELSD:
    """The method and its settings; the paper's values are those of `as_published()`."""

    space: Annotated[str, "subspace: w, w+, w+:4-7, w:4-7 (tied), s, s:conv, s:9, z"] = "w+"
    k: Annotated[int, "directions per region"] = 1
    correlation: Annotated[float, "c, weight of R (only matters for k > 1)"] = 1.0
    samples: Annotated[int, "latents per direction"] = 120
    batch: Annotated[int, "latents per step"] = 4
    optimizer: Annotated[OptimizerName, "natural: steps evened by the Gram matrix of the total change"] = "natural"
    lr: Annotated[float, "learning rate; of natural, the length of the first step beside |u| = 1"] = 0.15
    halve_every: Annotated[int, "steps after which lr has halved"] = 8
    alpha: Annotated[tuple[float, float], "|α| is uniform in this range, its sign random"] = (0.5, 3.0)
    alpha_unit: Annotated[AlphaUnit, "spread: α in root-mean-square distances of latents from their mean"] = "raw"
    alpha_per_sample: Annotated[bool, "one α per sample, not one per batch"] = True
    unit_norm: Annotated[bool, "u is kept at norm 1"] = True
    aggregation: Annotated[Aggregation, "how the masks of x and x' become one"] = "average"
    distance: Annotated[FeatureDistance, "between features"] = "l2"
    layer_weights: Annotated[
        Mapping[str, float], "feature layer -> weight in LS, 1 if not named; image, the picture itself, 0 if not named"
    ] = field(default_factory=dict)
    truncation: Annotated[float, "of the latents that are searched"] = 0.7
    alternate: Annotated[bool, "a step updates one u_k only (k times as many steps), as published"] = False
    absolute_correlation: Annotated[bool, "R is minus the mean |Corr - I|, as coded"] = False
    average: Annotated[bool, "answer with the mean of the later half of the steps, not with the last"] = False
    patience: Annotated[int, "stop after so many checks (every 10 steps) without a better held-out LS; 0 never"] = 0
    start_pictures: Annotated[int, "pictures that start and metric are computed on"] = 2
    max_pictures: Annotated[int, "edited pictures in one pass; bounds memory"] = 16  # on a CPU 16 are fastest
    start: Discovery | Literal["first_order", "random"] = "first_order"  # or any method, ReSeFa say

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
        words = {
            "aggregation": Aggregation,
            "distance": FeatureDistance,
            "alpha_unit": AlphaUnit,
            "optimizer": OptimizerName,
        }
        for name, choices in words.items():
            if getattr(self, name) not in get_args(choices):
                raise SituError(f'{name} is one of {", ".join(get_args(choices))}, got "{getattr(self, name)}"')
        if not math.isfinite(self.truncation):
            raise SituError(f"truncation is a number, 0 the mean picture and 1 full variety, got {self.truncation}")
        if not 0 <= self.alpha[0] <= self.alpha[1] or self.alpha[1] == 0:
            raise SituError(f"alpha is a range (least, most) of |α| with most > 0, got {self.alpha}")

    @classmethod
    def as_published(cls, **settings: object) -> "LELSD":
        """The paper: a random start, 200 steps of 4 latents, learning rate 1e-3 halved every 50, the last step."""
        published = cls(samples=800, optimizer="adam", lr=1e-3, halve_every=50, start="random")
        return replace(published, **settings)  # pyright: ignore[reportArgumentType]

    @classmethod
    def as_coded(cls, **settings: object) -> "LELSD":
        """The published notebook: U(-1, 1) strengths, one a batch, u of free length; mean |Corr - I|; alternating."""
        coded = cls.as_published(
            correlation=5.0,
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
        search = _Search(self, generator, tuple(regions), rng, progress)
        if search.expansion and not search.expansion.complete:
            return search.directions()  # Ctrl-C in the start: what the pictures so far give
        done = 0
        try:
            for done in range(1, self.steps + 1):
                scores = search.step(done - 1)
                progress(done, self.steps, f"LS {scores.mean():.3f}")
                if self.patience and done % CHECK_EVERY == 0 and search.has_stalled():
                    break
        except KeyboardInterrupt:
            if done <= 1:
                raise
        return search.directions()


class _Search:
    """The state of one optimisation: U (regions, k, free coordinates)."""

    def __init__(
        self,
        method: LELSD,
        generator: Generator,
        regions: tuple[Region, ...],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> None:
        self.method, self.generator, self.regions, self.rng = method, generator, regions, rng
        self.seed = rng.initial_seed()
        processes = ranks()[1]
        if processes > method.batch:
            raise SituError(f"{processes} processes cannot share the {method.batch} latents of a step: raise --batch")
        self.subspace: Subspace = parse_subspace(method.space, generator.spaces)
        if method.k > self.subspace.dim:
            raise SituError(f"{self.subspace} has {self.subspace.dim} dimensions, too few for k={method.k} directions")
        self.weights = scored_layers(generator, self.subspace, method.layer_weights)
        self.names = [name for name in self.weights if name != IMAGE]
        first = generator.first_step(self.subspace)
        self.asked = list({*self.names, *(name for region in regions for name in region.layers)})
        # x' goes on from where x first changes, or from the first features that a mask is made of
        steps = [layer.step for layer in generator.layers if layer.name in self.asked]
        self.first = min([first, *steps])
        self.length = self._length()
        self.expansion = self._expansion(progress)
        u = same_everywhere(self._start(progress).to(generator.device))
        # one parameter per k: those without a gradient stay where they are when steps alternate
        self.u = [rows.clone().requires_grad_() for rows in u]  # k times (regions, free coordinates)
        self.optimizer, self.schedule = self._optimizer()
        self.history: list[list[Tensor]] = [[] for _ in self.u]  # LS (regions,) of every update of each u_k
        self.path: list[list[Tensor]] = [[] for _ in self.u]  # unit vectors (regions, d) after every update
        self.held_out: Latents | None = None
        self.best_held_out, self.checks_since = -math.inf, 0

    def _expansion(self, progress: Progress) -> Expansion | None:
        """The score to second order, where start or optimiser want it."""
        method = self.method
        if method.start != "first_order" and method.optimizer != "natural":
            return None
        wanted = self.regions if method.start == "first_order" else ()
        first_order = FirstOrder(pictures=method.start_pictures, truncation=method.truncation)
        return first_order.expand(self.generator, self.subspace, wanted, self.weights, self.rng, progress)

    def _optimizer(self) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        method = self.method
        every = method.halve_every * (method.k if method.alternate else 1)  # in updates of each direction
        if method.optimizer == "adam":
            adam = torch.optim.Adam(self.u, lr=method.lr)
            return adam, torch.optim.lr_scheduler.StepLR(adam, every, gamma=0.5)
        metric = self.expansion.inverse_metric() if self.expansion else None
        natural = NaturalGradient(self.u, method.lr, metric)
        return natural, torch.optim.lr_scheduler.LambdaLR(natural, lambda step: 1 / (1 + step / every))

    def _start(self, progress: Progress) -> Float[Tensor, "k r d"]:
        """Where the search starts: random unit vectors, or what another method finds for the same regions."""
        method, shape = self.method, (self.method.k, len(self.regions), self.subspace.dim)
        u = torch.randn(shape, generator=self.rng, device=self.rng.device).to(self.generator.device)
        u = u / u.norm(dim=-1, keepdim=True)
        if method.start == "random":
            return u
        if method.start == "first_order":
            assert self.expansion is not None
            return self.expansion.maximise(method.k, method.correlation)[0].transpose(0, 1).contiguous()
        for r, directions in enumerate(method.start.find(self.generator, self.regions, self.rng, progress)):
            for k, direction in enumerate(directions[: method.k]):
                u[k, r] = self._brought_here(direction)  # where it finds fewer than k, the rest stay random
        return u

    def _brought_here(self, direction: Direction) -> Float[Tensor, " d"]:
        """Another method's direction in this search's subspace, as far as it reaches."""
        if direction.subspace.space != self.subspace.space:
            direction = direction.on_layers(self.subspace.chosen, self.generator.spaces)
        if direction.subspace.space != self.subspace.space:
            raise SituError(f"a start in {direction.subspace} cannot be brought to {self.subspace}: give it that space")
        u = self.subspace.restrict(direction.subspace.lift(direction.vector)).to(self.generator.device)
        if not u.any():
            raise SituError(f"a start in {direction.subspace} moves nothing in {self.subspace}: give it that space")
        return u / u.norm()

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
        """One update; returns LS of the directions that were updated. Several processes share its samples."""
        method, (rank, processes) = self.method, ranks()
        own = slice(rank, None, processes)
        latents = self._sample(method.batch)[own]
        n = len(latents)
        with torch.no_grad():
            before = self.generator.synthesize(latents, self.asked, keep=self.first)
            masks = [region.mask(before).detach() for region in self.regions]
        active = [index % method.k] if method.alternate else list(range(method.k))
        pairs = [(r, k) for r in range(len(self.regions)) for k in active]
        alphas = self._alphas(len(pairs), method.batch)[:, own]
        per_pass = max(1, method.max_pictures // max(n, 1))
        self.optimizer.zero_grad(set_to_none=True)
        scores = torch.zeros(len(self.regions), method.k)
        for i in range(0, len(pairs), per_pass):
            chunk = pairs[i : i + per_pass]
            found = self._scores(latents, before, masks, chunk, alphas[i : i + per_pass]) * (n / method.batch)
            (-found.sum()).backward()
            for (r, k), score in zip(chunk, found.detach().cpu(), strict=True):
                scores[r, k] = score
        summed(scores)
        for k in active:
            summed(self.u[k].grad)  # pyright: ignore[reportArgumentType]
        if method.k > 1 and method.correlation:
            (-method.correlation * self._diversity(active)).backward()
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            for u in self.u:
                norm = u.norm(dim=-1, keepdim=True)
                # a direction of norm 0 has no correlation with anything
                u.mul_(1 / norm if method.unit_norm else norm.clamp(min=1e-6) / norm.clamp(min=1e-12))
        if not all(u.isfinite().all() for u in self.u):
            raise SituError(f"the optimisation diverged at step {index + 1} (NaN): lower lr, now {method.lr}")
        for k in active:
            self.history[k].append(scores[:, k])
            u = self.u[k].detach()
            self.path[k].append(u / u.norm(dim=-1, keepdim=True))
        return scores[:, active]

    def _scores(
        self,
        latents: Latents,
        before: Synthesis,
        masks: Sequence[Tensor],
        pairs: Sequence[tuple[int, int]],
        alphas: Float[Tensor, "m n"],
        of: Sequence[Tensor] | Tensor | None = None,
    ) -> Float[Tensor, " m"]:
        """LS of the directions of `pairs`, averaged over the samples, differentiable in u.

        Args:
            of: (regions, dim) for each k; the search's own by default.
        """
        n, m = len(latents), len(pairs)
        of = self.u if of is None else of
        u = torch.stack([of[k][r] for r, k in pairs])  # (m, dim)
        if self.method.unit_norm:
            u = u / u.norm(dim=-1, keepdim=True)
        moves = self.subspace.lift(u)[:, None] * alphas[:, :, None]  # (m, n, d)
        tiled = latents.repeat(m)
        edited = tiled.with_values(tiled.values + moves.reshape(m * n, -1))
        state = before.state.repeat(m) if before.state else None
        after = self.generator.synthesize(edited, self.asked, resume=state)
        masks_after = {r: self.regions[r].mask(after) for r in {r for r, _ in pairs}}
        s_edited = torch.cat([masks_after[r][j * n : (j + 1) * n] for j, (r, _) in enumerate(pairs)])
        s = aggregate(torch.cat([masks[r] for r, _ in pairs]), s_edited, self.method.aggregation)
        scores = localization_scores(self._features(before), self._features(after), s, self.method.distance)
        weights = scores.new_tensor(list(self.weights.values()))
        return (weights @ scores).reshape(m, n).mean(dim=1) / weights.sum()

    def _features(self, synthesis: Synthesis) -> dict[str, Tensor]:
        """The activations that count, in the order of the weights."""
        return {name: synthesis.images if name == IMAGE else synthesis.features[name] for name in self.weights}

    def _diversity(self, active: Sequence[int]) -> Tensor:
        """R of every region, summed; only the active directions get gradients from it."""
        u = torch.stack([u if k in active else u.detach() for k, u in enumerate(self.u)], dim=1)  # (r, k, dim)
        return (-_mean_cosines(u, self.subspace) if self.method.absolute_correlation else diversity(u)).sum()

    def found(self) -> Float[Tensor, "k r d"]:
        """The unit vectors so far: the last, or the mean of the later half of the steps."""
        rows = []
        for u, path in zip(self.u, self.path, strict=True):
            later = path[len(path) // 2 :] if self.method.average else []
            rows.append(torch.stack(later).mean(dim=0) if later else u.detach())
        u = torch.stack(rows)
        return u / u.norm(dim=-1, keepdim=True)

    def has_stalled(self) -> bool:
        """Whether LS on held-out latents has not risen for `patience` checks."""
        if self.held_out is None:
            self.held_out = self._sample(HELD_OUT)
        u, rows = self.found(), []
        pairs = [(r, k) for r in range(len(self.regions)) for k in range(self.method.k)]
        size = self.length * sum(self.method.alpha) / 2
        signs = torch.arange(self.method.batch, device=u.device) % 2 * 2.0 - 1
        with torch.no_grad():
            for i in range(0, HELD_OUT, self.method.batch):
                some = self.held_out[i : i + self.method.batch]
                before = self.generator.synthesize(some, self.asked, keep=self.first)
                masks = [region.mask(before) for region in self.regions]
                rows += [
                    self._scores(some, before, masks, [pair], (size * signs[: len(some)])[None], u) for pair in pairs
                ]
        score = float(same_everywhere(torch.cat(rows).mean()))
        self.checks_since = 0 if score > self.best_held_out else self.checks_since + 1
        self.best_held_out = max(score, self.best_held_out)
        return self.checks_since >= self.method.patience

    def directions(self) -> list[list[Direction]]:
        """What has been found so far, best first by LS over the last tenth of each direction's updates."""
        ls = torch.stack(
            [
                torch.stack(rows[-max(1, len(rows) // 10) :]).mean(dim=0) if rows else torch.zeros(len(self.regions))
                for rows in self.history
            ],
            dim=1,
        )  # (r, k)
        u = self.found().transpose(0, 1).cpu()  # (r, k, d)
        found = []
        for r, region in enumerate(self.regions):
            order = ls[r].argsort(descending=True).tolist()
            figures = [{"search_LS": float(ls[r, k]), "steps": float(len(self.history[k]))} for k in order]
            found.append(
                as_directions(
                    self.method,
                    self.generator,
                    self.subspace,
                    region,
                    u[r, order],
                    seed=self.seed,
                    truncation=self.method.truncation,
                    figures=figures,
                )
            )
        return found


def _mean_cosines(u: Float[Tensor, "r k d"], subspace: Subspace) -> Float[Tensor, " r"]:
    """mean |cosines - I| of each region's directions, layer by layer and averaged: the published code's Corr."""
    sizes = [subspace.dim] if subspace.tied else [subspace.space.slices[i].size for i in subspace.chosen]
    means = []
    for rows in u.split(sizes, dim=-1):
        normed = rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        means.append((normed @ normed.mT - torch.eye(u.shape[1], device=u.device)).abs().mean(dim=(1, 2)))
    return torch.stack(means).mean(dim=0)
