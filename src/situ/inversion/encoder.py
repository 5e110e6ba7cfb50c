"""Inversion in one pass of an encoder, and the start of every other one."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.errors import InversionError
from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.inversion import Inversion
from situ.core.latents import Latents
from situ.core.progress import Progress, silent


@runtime_checkable
class ImageEncoder(Protocol):
    """A frozen network: pictures in [-1, 1], of any size -> codes of W+."""

    def __call__(self, images: Images) -> Float[Tensor, "n rows d"]: ...


@dataclass(frozen=True)
class EncoderInversion:
    """The codes that an encoder reads off the pictures."""

    encoder: ImageEncoder
    batch: int = 32  # pictures in one pass; bounds memory

    def invert(
        self, generator: Generator, target: Images, rng: torch.Generator, progress: Progress = silent
    ) -> Inversion:
        """See `Inverter.invert`. The loss is the mean squared difference of pixels, "mse".

        Raises:
            InversionError: an encoder for another generator, by the number of rows or their width.
        """
        space = generator.spaces.get("w+")
        codes, losses = [], []
        with torch.no_grad():
            for some in target.split(self.batch):
                found = self.encoder(some)
                if space is None or found.flatten(1).shape[1] != space.dim:
                    expected = f"{len(space.slices)} x {space.slices[0].size}" if space else "none"
                    raise InversionError(
                        f"the encoder gives codes of {found.shape[1]} x {found.shape[2]}, W+ of {generator.name} has "
                        f"{expected}: take the encoder that was trained with this generator"
                    )
                codes.append(found.flatten(1))
                images = generator.synthesize(Latents(codes[-1], space)).images
                losses.append((images - some).square().mean(dim=(1, 2, 3)))
                progress(sum(map(len, codes)), len(target))
        assert space is not None
        return Inversion(Latents(torch.cat(codes), space), generator.name, "encoder", {"mse": torch.cat(losses)})
