"""What a published network expects of a picture: its size, range, normalisation and order of channels."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)  # red, green, blue, of pictures in [0, 1]
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputFormat:
    """How pictures in [-1, 1], RGB, become the input of a network: resized, in its range and order, normalised."""

    size: int | tuple[int, int] | None = None  # pixels, or height and width; None takes pictures as they come
    fit: Literal["square", "shorter side", "longer side"] = "square"  # what `size` is the length of
    antialias: bool = True  # as Pillow resizes; False as OpenCV does
    longest: int | None = None  # pixels that the longer side may have, where the shorter is given
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    divisor: int = 1  # sides are rounded up to whole multiples
    mean: Triple = (0.5, 0.5, 0.5)  # in the network's range and order of channels
    std: Triple = (0.5, 0.5, 0.5)
    white: float = 1.0  # of the network's range; black is 0
    channels: Literal["RGB", "BGR"] = "RGB"

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing."""
        if self.size is None:
            sides = (height, width)
        elif isinstance(self.size, tuple):
            sides = self.size
        elif self.fit == "square":
            sides = (self.size, self.size)
        elif self.fit == "shorter side":  # the other side rounded down, as published
            side, size = min(height, width), self.size
            if self.longest is not None:
                size = min(size, round(self.longest * side / max(height, width)))
            sides = (max(size * height // side, 1), max(size * width // side, 1))
        else:
            side = max(height, width)
            sides = (max(round(self.size * height / side), 1), max(round(self.size * width / side), 1))
        return (-(-sides[0] // self.divisor) * self.divisor, -(-sides[1] // self.divisor) * self.divisor)

    def resize(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h2 w2"]:
        """Pictures at the network's size; differentiable."""
        size = self.target(images.shape[-2], images.shape[-1])
        if size == tuple(images.shape[-2:]):
            return images
        resized = functional.interpolate(
            images, size, mode=self.interpolation, antialias=self.antialias, align_corners=False
        )
        # bicubic weights overshoot; 8-bit pictures, which the networks learnt from, clip that
        return resized.clamp(-1, 1) if self.interpolation == "bicubic" else resized

    def normalise(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [-1, 1], RGB -> the network's range, order and normalisation."""
        x = (images + 1) * (self.white / 2)
        if self.channels == "BGR":
            x = x.flip(1)
        return (x - x.new_tensor(self.mean)[:, None, None]) / x.new_tensor(self.std)[:, None, None]

    def prepare(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h2 w2"]:
        """Resized and normalised."""
        return self.normalise(self.resize(images))


IMAGENET = InputFormat(mean=IMAGENET_MEAN, std=IMAGENET_STD)
