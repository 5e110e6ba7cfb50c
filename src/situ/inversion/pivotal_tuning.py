"""Pivotal tuning: the generator moved a little until given codes give the photos themselves.

Roich, Mokady, Bermano, Cohen-Or, "Pivotal tuning for latent-based editing of real images" (2021). Codes that an
inversion has found, the pivots w_p, stay; the weights of the synthesis move (the mapping never does) to minimise

    L_pt = perceptual(x, x_p) + λ_L2 |x - x_p|^2,   averaged over the photos,
    L_R  = the same distances between the pictures of w_r before and after tuning,
    w_r  = w_p + α (w_z - w_p) / |w_z - w_p|,        w_z a random code,

as L_pt + λ_R L_R. Two points follow the published code where the paper is silent: a code has a row for every layer and
|w_z - w_p| is over all of them, so that a row moves by α / sqrt(rows); and w_z is truncated to 0.5. Neighbours have the
noise that the generator has, where the published code has none.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from situ.core.errors import ImageError, InversionError
from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.latents import Latents
from situ.core.progress import Progress, silent
from situ.inversion.optimization import Distance, require_positive


@runtime_checkable
class Tunable(Generator, Protocol):
    """A generator around a network, of which another can be made: a StyleGAN2."""

    network: Any  # an nn.Module with `settings`, `mapping` and `synthesis`
    mapping: Any

    def with_noise(self, maps: Mapping[str, Tensor]) -> Generator: ...


G = TypeVar("G", bound=Tunable)


@dataclass(frozen=True)
class PivotalTuning:
    """The method and its settings; the paper's values are the defaults."""

    distance: Distance  # the paper's is LPIPS
    steps: Annotated[int, "updates of the weights"] = 350
    lr: Annotated[float, "learning rate of Adam"] = 3e-4
    mse: Annotated[float, "λ_L2, weight of the squared difference of pixels"] = 1.0
    perceptual: Annotated[float, "weight of the perceptual distance"] = 1.0
    locality: Annotated[float, "λ_R, weight of what codes around the pivots must keep; 0 leaves it out"] = 0.1
    alpha: Annotated[float, "how far from a pivot those codes lie, over all rows"] = 30.0
    neighbours: Annotated[int, "such codes a step, each near a pivot drawn at random"] = 1
    truncation: Annotated[float, "of the random codes that they lie towards"] = 0.5
    batch: Annotated[int, "photos in one pass; bounds memory"] = 4

    def __post_init__(self) -> None:
        positive = ("steps", "lr", "alpha", "neighbours", "batch")
        require_positive("PivotalTuning", **{name: float(getattr(self, name)) for name in positive})
        weights = (self.mse, self.perceptual, self.locality)
        if min(weights) < 0 or not math.isfinite(sum(weights)) or not self.mse + self.perceptual:
            raise InversionError(
                "PivotalTuning weighs pixels, perceptual distance and locality by numbers from 0 on, the first two not "
                f"both 0, got {weights}"
            )

    def tune(
        self,
        generator: G,
        target: Images,
        latents: Latents,
        rng: torch.Generator,
        progress: Progress = silent,
        noise: Mapping[str, Float[Tensor, "n 1 _ _"]] | None = None,
    ) -> G:
        """A new frozen generator, of a name of its own, whose pictures of the pivots are near the photos.

        The given one keeps every bit. Ctrl-C after the first update keeps the best weights so far, by L_pt. Random
        noise is held at the stored maps while the weights move.

        Args:
            target: (n, 3, R, R) in [-1, 1], the photos.
            latents: n codes of any space, the pivots.
            noise: layer -> the photos' own noise maps, where the inversion found some; they go on to be needed.

        Raises:
            InversionError: a generator that is no StyleGAN2, not one pivot a photo, or a loss that is not finite.
            ImageError: photos of another size than the generator's, or not finite.
        """
        _require_fitting(generator, target, latents)
        if latents.space.name != "s":
            with torch.no_grad():
                latents = generator.convert(latents, generator.spaces["w+"])
        work = _Tuning(self, generator, target.to(generator.device), latents.require_finite(), noise or {}, rng)
        done = 0
        try:
            for done in range(self.steps):
                loss = work.step()
                progress(done + 1, self.steps, f"loss {loss:.4f}")
            done = self.steps
            work.look()
        except KeyboardInterrupt:
            if done == 0:
                raise
        return work.tuned()


def _require_fitting(generator: Tunable, target: Images, latents: Latents) -> None:
    if not isinstance(generator, Tunable) or not isinstance(generator.network, nn.Module):
        raise InversionError(
            f"pivotal tuning moves the weights of a StyleGAN2, {generator.name} is none: invert without it"
        )
    size = generator.resolution
    if target.shape[-2:] != (size, size) or not target.isfinite().all():
        raise ImageError(
            f"{generator.name} is tuned to pictures of {size} x {size} finite numbers, got {tuple(target.shape)}: "
            "align or crop the photo to a square and resize it"
        )
    if not len(target) or len(target) != len(latents):
        raise InversionError(f"each photo has one code to tune around, got {len(target)} photos, {len(latents)} codes")


class _Tuning:
    """The state of one tuning: a copy of the generator whose synthesis learns."""

    def __init__(
        self,
        method: PivotalTuning,
        generator: Tunable,
        target: Images,
        latents: Latents,
        noise: Mapping[str, Tensor],
        rng: torch.Generator,
    ) -> None:
        self.method, self.original, self.rng = method, generator, rng
        network = generator.network
        with torch.random.fork_rng(devices=[]):  # what the new network is filled with is replaced at once
            self.network = type(network)(network.settings)
        self.network.load_state_dict(network.state_dict())
        self.network.to(generator.device).eval().requires_grad_(False)
        self.network.synthesis.requires_grad_(True)
        self.learning = self._around(self.network)
        self.still = self._around(network)
        self.weights = list(self.network.synthesis.parameters())
        self.optimizer = torch.optim.Adam(self.weights, lr=method.lr)
        self.latents = latents
        parts = [slice(i, i + method.batch) for i in range(0, len(target), method.batch)]
        self.photos = [
            (target[p], latents[p], {name: maps[p] for name, maps in noise.items()}, method.distance.against(target[p]))
            for p in parts
        ]
        self.best: Sequence[Tensor] = []
        self.best_loss = math.inf

    def _around(self, network: Any) -> Any:
        """The generator with another network's weights, and the stored noise where it would draw its own."""
        made: Any = copy.copy(self.original).with_noise({})
        made.network, made.mapping = network, network.mapping
        made.noise = "const" if made.noise == "random" else made.noise
        return made

    def _apart(self, images: Images, target: Images, perceptual: Tensor) -> Float[Tensor, " n"]:
        mse = (images - target).square().mean(dim=(1, 2, 3))
        return self.method.mse * mse + self.method.perceptual * perceptual

    def look(self, learn: bool = False) -> float:
        """L_pt of the weights as they are, kept if they are the best; with `learn`, its gradient is added."""
        total, count = 0.0, len(self.latents)
        for target, latents, noise, far in self.photos:
            with torch.set_grad_enabled(learn):
                images = self.learning.with_noise(noise).synthesize(latents).images
                loss = self._apart(images, target, far(images)).sum() / count
            if learn:
                loss.backward()
            total += float(loss.detach())
        if not math.isfinite(total):
            raise InversionError(f"the loss of the tuning is {total}: lower lr, now {self.method.lr}")
        if total < self.best_loss:
            self.best, self.best_loss = [weight.detach().clone() for weight in self.weights], total
        return total

    def step(self) -> float:
        """One update of the weights; returns L_pt before it."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.look(learn=True)
        if self.method.locality:
            self._keep_neighbours()
        self.optimizer.step()
        return loss

    def _keep_neighbours(self) -> None:
        """Add the gradient of λ_R L_R at new neighbours w_r."""
        method, n = self.method, self.method.neighbours
        with torch.no_grad():
            row = torch.randint(len(self.latents), [n], generator=self.rng, device=self.rng.device)
            row = row.to(self.latents.values.device)
            labels = None if self.latents.labels is None else self.latents.labels[row]
            pivots = self.latents.values[row]
            away = self.still.sample(n, self.latents.space, self.rng, method.truncation, labels).values - pivots
            away = away / away.norm(dim=1, keepdim=True).clamp(min=1e-12)
            around = Latents(pivots + method.alpha * away, self.latents.space, labels)
        for i in range(0, n, method.batch):
            some = around[i : i + method.batch]
            with torch.no_grad():
                before = self.still.synthesize(some).images
            with torch.enable_grad():
                after = self.learning.synthesize(some).images
                apart = self._apart(after, before, method.distance.against(before)(after))
                (method.locality * apart.sum() / n).backward()

    def tuned(self) -> Any:
        """The generator with the best weights, frozen."""
        with torch.no_grad():
            for weight, best in zip(self.weights, self.best, strict=True):
                weight.copy_(best).grad = None
        wrap: Any = type(self.original)
        frozen = wrap(self.network)  # freezes and names it
        made: Any = copy.copy(self.original)
        made.network, made.mapping, made.name = frozen.network, frozen.mapping, frozen.name
        return made
