"""Parts from a few painted label maps: a linear classifier of a generator's features.

Xu, Zheng, "Linear semantics in generative adversarial networks" (2021): the logits of a picture are the sum of
1 x 1 convolutions of all feature layers, each enlarged bilinearly to one size: S = sum_l up(W_l r_l) + b.

The map is applied at each layer's own size and the few logits are enlarged, which is the same thing. Where the paper
trains with Adam, this is solved as what it is: multinomial logistic regression (convex) with weight decay on features
scaled to unit variance, by L-BFGS, so that the same labels give the same head whatever the starting point.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from situ.core.containers import Container
from situ.core.errors import RegionError, SituError
from situ.core.generator import FeatureLayer, Generator, Synthesis
from situ.core.images import resize
from situ.core.latents import Latents
from situ.core.progress import Progress, silent
from situ.segmenters.shared import LARGEST, require_fit, require_names

LINEAR_FILE = Container("situ-linear-1", "linear head", " as `situ train-segmenter` writes it", RegionError)

UNLABELLED = -1  # in label maps: nobody said what this pixel is


class LinearSegmenter:
    """A linear head behind the segmenter contract."""

    name = "linear head"

    def __init__(
        self,
        generator: str,
        parts: Sequence[str],
        weights: Mapping[str, Float[Tensor, "p _c"]],
        bias: Float[Tensor, " p"],
        size: int,
    ) -> None:
        """
        Args:
            generator: name of the generator whose features it reads.
            weights: one matrix for each feature layer, (parts, channels).
            bias: one number per part.
            size: pixels on a side of what it answers.

        Raises:
            RegionError: names, weights or size that make no segmenter.
        """
        shapes = [tuple(w.shape[:1]) for w in weights.values()]
        if (
            len(parts) < 2
            or len(set(parts)) < len(parts)
            or not shapes
            or {*shapes, tuple(bias.shape)} != {(len(parts),)}
        ):
            got = ", ".join(parts) or "none"
            raise RegionError(f"a linear head has weights for each of two or more parts of different names, got {got}")
        if size < 1 or not all(w.isfinite().all() for w in (*weights.values(), bias)):
            raise RegionError("a linear head has finite weights and a size in pixels: train it again")
        require_names(parts)
        self.generator, self.parts, self.size = generator, tuple(parts), size
        self.weights, self.bias = dict(weights), bias
        self.layers = tuple(weights)

    def segment(self, synthesis: Synthesis) -> Float[Tensor, "n p h w"]:
        """See `Segmenter.segment`."""
        logits: Tensor | None = None
        for name, weight in self.weights.items():
            r = synthesis.features[name].float()
            small = torch.einsum("nchw,pc->nphw", r, weight.to(r))
            layer = _at_size(small, self.size)
            logits = layer if logits is None else logits + layer
        assert logits is not None
        return (logits + self.bias.to(logits)[:, None, None]).softmax(dim=1)

    def save(self, path: Path | str) -> None:
        """Write it as safetensors, whole or not at all. Raises FileError where the place cannot be written."""
        header = {
            "generator": self.generator,
            "parts": list(self.parts),
            "layers": list(self.layers),
            "size": self.size,
        }
        LINEAR_FILE.write(path, header, {"bias": self.bias, **self.weights})


def _at_size(maps: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n c s s"]:
    """Enlarge bilinearly; layers larger than wanted are averaged."""
    if maps.shape[-1] >= size:
        return resize(maps, size)
    return functional.interpolate(maps, (size, size), mode="bilinear", align_corners=False)


def load_linear(path: Path | str, generator: Generator | None = None) -> LinearSegmenter:
    """Read a linear head.

    Args:
        generator: the one that it must belong to; None takes any.

    Raises:
        RegionError: missing, foreign or damaged file, or another generator's.
    """

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LinearSegmenter:
        weights = {str(name): tensors[name].float() for name in header["layers"]}
        parts = [str(part) for part in header["parts"]]
        return LinearSegmenter(str(header["generator"]), parts, weights, tensors["bias"].float(), int(header["size"]))

    segmenter = LINEAR_FILE.read(path, build)
    if generator is not None:
        channels = {name: weight.shape[1] for name, weight in segmenter.weights.items()}
        require_fit(path, segmenter.generator, channels, generator)
    return segmenter


@dataclass(frozen=True)
class LinearFit:
    """How a head is fitted."""

    weight_decay: Annotated[float, "of weights on features of unit variance; the loss is a mean over pixels"] = 3e-4
    pixels: Annotated[int, "most labelled pixels that are learnt from; bounds memory"] = 32768
    steps: Annotated[int, "most L-BFGS iterations"] = 100

    def __post_init__(self) -> None:
        bad = {name: value for name, value in vars(self).items() if not value > 0 or not math.isfinite(value)}
        if bad:
            raise SituError(f"settings of a linear head must be positive numbers, got {bad}")


def fit_linear(
    generator: Generator,
    latents: Latents,
    labels: Int[Tensor, "n h w"],
    parts: Sequence[str],
    *,
    rng: torch.Generator,
    fit: LinearFit | None = None,
    layers: Sequence[str] | None = None,
    progress: Progress = silent,
) -> LinearSegmenter:
    """Learn parts from label maps of some pictures.

    Args:
        latents: the codes of the pictures.
        labels: index into `parts` at every pixel, UNLABELLED where nobody said; at any size.
        rng: draws the pixels where there are more than `fit.pixels`.
        layers: feature layers that may be looked at; all by default.

    Raises:
        RegionError: labels that teach nothing (a part without a pixel, fewer than two parts), or that do not fit.
    """
    fit = fit or LinearFit()
    known = {layer.name: layer for layer in generator.layers}
    chosen = list(known) if layers is None else list(dict.fromkeys(layers))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise RegionError(
            f"feature layers of this generator are {', '.join(known)}; got {', '.join(unknown) or 'none'}"
        )
    if labels.shape[0] != len(latents):
        raise RegionError(f"{len(latents)} pictures need as many label maps, got {labels.shape[0]}")
    if labels.max() >= len(parts) or labels.min() < UNLABELLED:
        raise RegionError(
            f"labels run from {UNLABELLED} (unlabelled) to {len(parts) - 1}, got up to {int(labels.max())}"
        )
    size = min(generator.resolution, LARGEST)
    maps = functional.interpolate(labels[:, None].float(), (size, size), mode="nearest-exact")[:, 0].long()
    counts = maps[maps != UNLABELLED].bincount(minlength=len(parts)).tolist()
    missing = [part for part, count in zip(parts, counts, strict=True) if not count]
    if len(parts) < 2 or missing:
        got = f"no pixel of {', '.join(missing)}" if missing else f"only {', '.join(parts) or 'none'}"
        raise RegionError(f"a head tells two or more painted parts apart, got {got}: paint more")
    picture, place = _drawn_pixels(maps.flatten(1), fit.pixels, rng)
    x = _gather(generator, latents, [known[name] for name in chosen], size, picture, place)
    y = maps.flatten(1)[picture, place].to(x.device)
    mean, deviation = x.mean(dim=0), x.std(dim=0, correction=0).clamp(min=1e-6)
    w, b = _regress((x - mean) / deviation, y, len(parts), fit, progress)
    w = w / deviation  # on the features as they are
    bias = b - w @ mean
    channels = [known[name].channels for name in chosen]
    weights = {name: part.cpu().contiguous() for name, part in zip(chosen, w.split(channels, dim=1), strict=True)}
    return LinearSegmenter(generator.name, parts, weights, bias.cpu(), size)


def _drawn_pixels(maps: Int[Tensor, "n m"], most: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """(picture, place) of the labelled pixels; an even draw where there are more than `most`."""
    picture, place = (maps != UNLABELLED).nonzero(as_tuple=True)
    if len(picture) > most:
        drawn = torch.randperm(len(picture), generator=rng, device=rng.device)[:most].to(picture.device).sort().values
        picture, place = picture[drawn], place[drawn]
    return picture, place


def _gather(
    generator: Generator, latents: Latents, layers: Sequence[FeatureLayer], size: int, picture: Tensor, place: Tensor
) -> Float[Tensor, "m c"]:
    """The stacked features at some pixels, picture by picture: never more than one picture's layer is enlarged."""
    rows = []
    for i in range(len(latents)):
        mine = place[picture == i]
        if not len(mine):
            continue
        with torch.no_grad():
            features = generator.synthesize(latents[i : i + 1], [layer.name for layer in layers]).features
        found = [
            _at_size(features[each.name].float(), size)[0].flatten(1)[:, mine.to(generator.device)] for each in layers
        ]
        rows.append(torch.cat(found).T)
    return torch.cat(rows)


def _regress(
    x: Float[Tensor, "m c"], y: Int[Tensor, " m"], parts: int, fit: LinearFit, progress: Progress
) -> tuple[Float[Tensor, "p c"], Float[Tensor, " p"]]:
    """Minimise mean cross-entropy + weight_decay / 2 |w|^2."""
    w = x.new_zeros(parts, x.shape[1], requires_grad=True)
    b = x.new_zeros(parts, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=1, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(x @ w.T + b, y) + fit.weight_decay / 2 * w.square().sum()
        value.backward()
        return value

    try:
        before = math.inf
        for step in range(1, fit.steps + 1):
            now = float(optimizer.step(loss).detach())  # pyright: ignore[reportArgumentType]
            progress(step, fit.steps, f"loss {now:.4f}")
            if step > 10 and before - now < 1e-6 * abs(before):
                break
            before = now
    except KeyboardInterrupt:
        pass  # what is learnt so far is a head already
    return w.detach(), b.detach()
