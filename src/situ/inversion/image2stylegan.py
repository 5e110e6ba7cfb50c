"""Image2StyleGAN++: codes first, then the noise maps that paint what codes cannot.

Abdal, Qin, Wonka, "Image2StyleGAN++: How to edit the embedded images?" (2020), as the baseline of MAGEC has it: pixels
and a perceptual distance (MAGEC eq. 1), 1000 steps on W+ from the mean code, then 1000 on the noise maps alone. Both at
once are unstable, which is why one follows the other. The paper's perceptual distance is in VGG-16 features. MAGEC
gives no weights or learning rates for it: those here are ours, of pixels and maps that vary by about 1.

A map is one more slice of a latent (`WithNoise`), so that the second half is an optimisation like the first. On
weights that make no use of noise there is no second half.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.errors import InversionError
from situ.core.generator import Generator, Synthesis, SynthesisState
from situ.core.images import Images
from situ.core.inversion import Inversion, Inverter, load_inversion
from situ.core.latents import Latents, LatentSpace, Slice, Subspace
from situ.core.progress import Progress, silent
from situ.inversion.optimization import (
    Distance,
    Phase,
    Schedule,
    described,
    image_terms,
    optimize,
    require_positive,
    work_key,
)


@runtime_checkable
class NoisyGenerator(Generator, Protocol):
    """A generator that can be given noise maps of one's own: a StyleGAN2."""

    noise: str  # "const" where the stored maps are used
    network: Any

    def noise_layers(self) -> dict[str, int]: ...
    def with_noise(self, maps: Mapping[str, Float[Tensor, "n 1 _ _"]]) -> Generator: ...


class WithNoise:
    """A generator with one more space, "noisy": the rows of W+, then a noise map for every layer that uses noise."""

    def __init__(self, generator: NoisyGenerator) -> None:
        self.inner, self.sizes = generator, generator.noise_layers()
        self.name, self.resolution, self.layers = generator.name, generator.resolution, generator.layers
        self.rows = generator.spaces["w+"]
        rows = tuple(replace(s, kind="codes") for s in self.rows.slices)
        maps = tuple(Slice(f"{name}.noise", side**2, "noise") for name, side in self.sizes.items())
        self.space = LatentSpace("noisy", rows + maps)
        self.spaces: Mapping[str, LatentSpace] = {**generator.spaces, "noisy": self.space}

    @property
    def device(self) -> torch.device:
        return self.inner.device

    def stored(self) -> Float[Tensor, " m"]:
        """The maps that the generator has, flat; zeros where it runs without noise."""
        maps = [self.inner.network.synthesis.get_buffer(f"{name}.noise_const").flatten() for name in self.sizes]
        return torch.cat(maps) if self.inner.noise != "none" else torch.zeros_like(torch.cat(maps))

    def maps(self, latents: Latents) -> dict[str, Float[Tensor, "n 1 _ _"]]:
        """Layer -> its maps, of codes of the space "noisy"."""
        parts = self.space.split(latents.values)[len(self.rows.slices) :]
        return {
            name: part.unflatten(1, (1, side, side))
            for (name, side), part in zip(self.sizes.items(), parts, strict=True)
        }

    def codes(self, latents: Latents) -> Latents:
        """The codes of W+ alone."""
        return replace(latents, values=latents.values[:, : self.rows.dim], space=self.rows)

    def sample(
        self,
        n: int,
        space: LatentSpace,
        rng: torch.Generator,
        truncation: float = 1.0,
        labels: Float[Tensor, "n c"] | None = None,
    ) -> Latents:
        """See `Generator.sample`; codes of "noisy" have the stored maps."""
        inner = self.rows if space == self.space else space
        return self.convert(self.inner.sample(n, inner, rng, truncation, labels), space)

    def convert(self, latents: Latents, space: LatentSpace) -> Latents:
        """See `Generator.convert`; "noisy" is reached from all that leads to W+."""
        if space != self.space:
            return self.inner.convert(latents, space)
        if latents.space == self.space:
            return latents
        codes = self.inner.convert(latents, self.rows)
        maps = self.stored().to(codes.values).expand(len(codes), -1)
        return Latents(torch.cat([codes.values, maps], dim=1), self.space, codes.labels)

    def first_step(self, subspace: Subspace) -> int:
        """See `Generator.first_step`."""
        return 0 if subspace.space == self.space else self.inner.first_step(subspace)

    def synthesize(
        self,
        latents: Latents,
        features: Sequence[str] = (),
        *,
        images: bool = True,
        keep: int | None = None,
        resume: SynthesisState | None = None,
    ) -> Synthesis:
        """See `Generator.synthesize`."""
        generator: Generator = self.inner
        if latents.space == self.space:
            generator, latents = self.inner.with_noise(self.maps(latents)), self.codes(latents)
        return generator.synthesize(latents, features, images=images, keep=keep, resume=resume)


@dataclass(frozen=True)
class _Found:
    """Codes that are there already, as an inverter."""

    inversion: Inversion

    def invert(
        self, generator: Generator, target: Images, rng: torch.Generator, progress: Progress = silent
    ) -> Inversion:
        """What was found before."""
        return self.inversion


@dataclass(frozen=True)
class Image2StyleGAN:
    """The method and its settings. What it finds has noise maps, and its pictures are
    `generator.with_noise(found.noise).synthesize(found.latents)`."""

    distance: Distance  # the paper's is in VGG-16 features
    steps: Annotated[int, "on the codes"] = 1000
    noise_steps: Annotated[int, "on the noise maps, after them; 0 leaves the maps as they are"] = 1000
    lr: Annotated[float, "learning rate of the codes"] = 0.01
    noise_lr: Annotated[float, "learning rate of the maps"] = 0.05
    mse: Annotated[float, "weight of the squared difference of pixels"] = 1.0
    perceptual: Annotated[float, "weight of the perceptual distance"] = 1.0
    batch: Annotated[int, "photos in one pass; bounds memory"] = 16
    start: Inverter | None = None  # whose codes to begin with; None: the mean code
    under_way: Path | None = None  # a file that a killed run goes on from; another beside it holds the finished codes

    def __post_init__(self) -> None:
        positive = {"steps": self.steps, "lr": self.lr, "noise_lr": self.noise_lr, "batch": self.batch}
        require_positive("Image2StyleGAN", **positive)
        if self.noise_steps < 0 or min(self.mse, self.perceptual) < 0 or not self.mse + self.perceptual > 0:
            raise InversionError(
                "Image2StyleGAN takes noise steps from 0 on and weights from 0 on, not both 0, got "
                f"{self.noise_steps} steps, {self.mse} and {self.perceptual}"
            )

    def invert(
        self, generator: Generator, target: Images, rng: torch.Generator, progress: Progress = silent
    ) -> Inversion:
        """See `Inverter.invert`. Ctrl-C on the way to the codes leaves the maps as they are. Random noise is held at
        the stored maps.

        Raises:
            InversionError: noise steps are asked of a generator that takes no noise maps.
        """
        if not self.noise_steps:
            return self._half(generator, target, "w+", self.start, self.steps, self.lr, self.under_way, rng, progress)
        if not isinstance(generator, NoisyGenerator):
            raise InversionError(f"{generator.name} takes no noise maps: set noise_steps to 0 for the codes alone")
        if not generator.noise_layers():
            return replace(self, noise_steps=0).invert(generator, target, rng, progress)
        noisy, whole = WithNoise(generator), self.steps + self.noise_steps

        def first(done: int | float, total: int, message: str = "") -> None:
            progress(done, total // self.steps * whole, message)

        def second(done: int | float, total: int, message: str = "") -> None:
            batches = total // self.noise_steps
            progress(batches * self.steps + done, batches * whole, f"noise, {message}")

        found = self._codes(noisy, target, rng, first)
        if found.complete:
            codes, steps, lr = found, self.noise_steps, self.noise_lr
            found = self._half(noisy, target, "noisy:noise", _Found(codes), steps, lr, self.under_way, rng, second)
            found = replace(found, history=_joined(codes.history, found.history))
            if found.complete and self.under_way is not None:
                _beside(self.under_way).unlink(missing_ok=True)
        return replace(found, latents=noisy.codes(found.latents), noise=noisy.maps(found.latents))

    def _codes(self, noisy: WithNoise, target: Images, rng: torch.Generator, progress: Progress) -> Inversion:
        """The first half, or what a killed run had of it."""
        if self.under_way is None:
            return self._half(noisy, target, "noisy:codes", self.start, self.steps, self.lr, None, rng, progress)
        path, key = _beside(self.under_way), work_key(noisy, target, described(self))
        if path.exists():
            kept = load_inversion(path, noisy.name)
            if kept.found_by != key:
                raise InversionError(
                    f"{path} belongs to other photos, settings or weights: remove it, or name another file"
                )
            values = kept.latents.values.to(noisy.device)
            return replace(kept, latents=kept.latents.with_values(values))
        found = self._half(noisy, target, "noisy:codes", self.start, self.steps, self.lr, self.under_way, rng, progress)
        if found.complete:
            replace(found, found_by=key).save(path)
        return found

    def _half(
        self,
        generator: Generator,
        target: Images,
        space: str,
        start: Inverter | None,
        steps: int,
        lr: float,
        under_way: Path | None,
        rng: torch.Generator,
        progress: Progress,
    ) -> Inversion:
        return optimize(
            generator,
            target,
            space=space,
            terms=lambda some: image_terms(some, self.distance, None),
            phases=[Phase(steps, {"mse": self.mse, "perceptual": self.perceptual})],
            schedule=Schedule(lr, decay=1.0),
            start=start,
            batch=self.batch,
            under_way=under_way,
            found_by=described(self),
            rng=rng,
            progress=progress,
        )


def _beside(under_way: Path) -> Path:
    """Where the codes of a finished first half are kept until the second is done."""
    return under_way.with_name(f"{under_way.stem}-codes{under_way.suffix}")


def _joined(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "steps n"]]:
    return {name: torch.cat([rows.to(second[name]), second[name]]) for name, rows in first.items() if name in second}
