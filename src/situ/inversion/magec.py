"""MAGEC: inversion that asks of a latent that it explains what the photo shows, and that edits do what they say.

Grechka, Goudou, Cord, "MAGECally invert images for realistic editing" (2021), eq. 2-3. Besides the losses of pictures,
a linear layer LinkNet predicts the photo's description d = F(x) from the latent w, and from the latent after every edit
e_i the description with attribute i turned over:

    L_MAGEC = L_F(LinkNet(w), d) + mean_i L_F(LinkNet(e_i(w)), d_{e_i})

LinkNet is linear, and so is the paper's editor (InterFaceGAN's normals, added or removed): an edit then adds a constant
to LinkNet's answer, and the second term asks that the logits be where one step turns the attribute over, close to the
boundary and not deep on one side. It costs next to nothing beside the picture. Any differentiable `Editor` will do.

LinkNet learns from generated pictures. Their codes have the same vector in every row of W+, which says nothing of
single rows; with `mixing` some have another vector from a random row on, so that it learns which rows show what.

The paper does not say whether L_F is a sum or a mean over a description's numbers, and whether edits are summed; both
are means here. With means the published weight, 3e-4, leaves L_MAGEC less than 1 % of the gradient, and nothing that
the paper claims for it is seen. A hundred times that, which sums over 18 attributes and as many edits come near, is the
default: on 100 held-out renders it gives better reconstructions, edits that change more of what they are asked to and
come nearer to the true renders, as the paper says; that edit-consistency scores fall could not be shown
(docs/inversion.md). Ten times more again is too much. `as_published` has the paper's number.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from situ.core.containers import Container
from situ.core.errors import InversionError
from situ.core.generator import Generator
from situ.core.images import Images
from situ.core.inversion import Inversion, Inverter
from situ.core.latents import Latents
from situ.core.progress import Progress, silent
from situ.inversion.descriptors import Attributes, Descriptor
from situ.inversion.optimization import (
    Distance,
    Phase,
    Schedule,
    Term,
    described,
    image_terms,
    optimize,
    require_positive,
)

LINK_FILE = Container("situ-link-1", "link file", " as `save_link` writes it", InversionError)
RIDGE = 1e-3  # of LinkNet's weights, for the directions in which codes hardly vary
ITERATIONS = 60  # of L-BFGS


@dataclass(frozen=True)
class Link:
    """LinkNet: the description that codes of a space predict, A w + b."""

    weight: Float[Tensor, "d l"]
    bias: Float[Tensor, " d"]

    def __call__(self, values: Float[Tensor, "n l"]) -> Float[Tensor, "n d"]:
        return values @ self.weight.mT + self.bias


@runtime_checkable
class Editor(Protocol):
    """Any differentiable way to turn attributes over, one at a time."""

    def edited(self, values: Float[Tensor, "n l"], present: Float[Tensor, "n a"]) -> Float[Tensor, "n a l"]:
        """Codes after every edit, each on its own: attribute removed where present (probability above 1/2), else
        added."""
        ...


@dataclass(frozen=True)
class AttributeEditor:
    """Adds or removes an attribute: a step along its direction, towards the side where it is not."""

    steps: Float[Tensor, "a l"]  # of the space's codes, adding the attribute

    def edited(self, values: Float[Tensor, "n l"], present: Float[Tensor, "n a"]) -> Float[Tensor, "n a l"]:
        """See `Editor.edited`."""
        signs = 1 - 2 * (present > 0.5).to(values)
        return values[:, None] + signs[:, :, None] * self.steps

    def turned(self, latents: Latents, attribute: int, present: Bool[Tensor, " n"], strength: float = 1.0) -> Latents:
        """Codes after one edit: the attribute (its number) removed where present, else added; by -1, the way back."""
        signs = 1 - 2 * present.to(latents.values)
        return latents.with_values(latents.values + strength * signs[:, None] * self.steps[attribute])


@dataclass(frozen=True)
class LinkData:
    """Codes and descriptions that LinkNet and the editor are fitted on."""

    values: Float[Tensor, "n l"]
    descriptions: Float[Tensor, "n d"]


def described_samples(
    generator: Generator,
    descriptor: Descriptor,
    rng: torch.Generator,
    *,
    space: str = "w+",
    samples: int = 2000,
    mixing: float = 0.5,
    truncation: float = 1.0,
    batch: int = 32,
    progress: Progress = silent,
) -> LinkData:
    """Generated pictures, described. Ctrl-C goes on with those that are done.

    Args:
        mixing: share of the pictures whose codes have another vector from a random row on; 0 as published.
    """
    wanted = generator.spaces[space]
    codes, descriptions = [], []
    try:
        with torch.no_grad():
            while sum(map(len, codes)) < samples:
                n = min(batch, samples - sum(map(len, codes)))
                some = _mixed(generator, wanted.name, n, mixing, truncation, rng)
                images = generator.synthesize(some).images.clamp(-1, 1)
                codes.append(some.values)
                descriptions.append(descriptor.describe(images))
                progress(sum(map(len, codes)), samples, "describing")
    except KeyboardInterrupt:
        if not descriptions:
            raise
    done = min(len(codes), len(descriptions))
    return LinkData(torch.cat(codes[:done]), torch.cat(descriptions[:done]))


def _mixed(generator: Generator, space: str, n: int, mixing: float, truncation: float, rng: torch.Generator) -> Latents:
    wanted = generator.spaces[space]
    one, other = (generator.sample(n, wanted, rng, truncation) for _ in range(2))
    if len(wanted.slices) == 1 or mixing <= 0:
        return one
    sizes = [s.size for s in wanted.slices]
    row = torch.randint(1, len(sizes), [n, 1], generator=rng, device=rng.device).to(one.values.device)
    mixes = (torch.rand(n, 1, generator=rng, device=rng.device) < mixing).to(one.values.device)
    rows = torch.arange(len(sizes), device=row.device).repeat_interleave(torch.tensor(sizes, device=row.device))
    return one.with_values(torch.where(mixes & (rows >= row), other.values, one.values))


def fit_link(data: LinkData, descriptor: Descriptor) -> Link:
    """LinkNet of described samples, with F's own loss: convex, so that the answer is the answer."""
    mean, scale = data.values.mean(dim=0), data.values.std(dim=0).clamp(min=1e-6)
    x = (data.values - mean) / scale
    weight = torch.zeros(data.descriptions.shape[1], x.shape[1], device=x.device, requires_grad=True)
    bias = torch.zeros(len(weight), device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (
            descriptor.loss(x @ weight.mT + bias, data.descriptions).mean() + RIDGE * weight.square().sum(dim=1).mean()
        )
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    weight, bias = weight.detach() / scale, bias.detach()
    return Link(weight, bias - weight @ mean)


def fit_editor(data: LinkData, link: Link, step: float = 1.0) -> AttributeEditor:
    """Steps that add each attribute, from the same samples: to first order the most likely codes on the other side.

    InterFaceGAN steps along the normal n of a linear classifier, LinkNet's row here. Where codes vary unequally, that
    leaves the places where codes are, and changes little: n weighs most what varies least. The step C n, with C the
    covariance of the codes, moves the same way on n and stays among the codes.

    Args:
        step: how far an edit goes, in deviations of the codes along the normal.
    """
    centred = data.values - data.values.mean(dim=0)
    along = centred @ link.weight.mT  # (n, a)
    steps = along.mT @ centred / len(centred)  # C n
    return AttributeEditor(step * steps / along.std(dim=0)[:, None].clamp(min=1e-12))


@dataclass(frozen=True)
class MAGEC:
    """The method and its settings; the paper's are the defaults, but for the weight of its own term."""

    distance: Distance
    descriptor: Descriptor
    link: Link
    editor: Editor | None = None  # for descriptors of attributes: the edit-consistency term
    embed: Callable[[Images], Float[Tensor, "n e"]] | None = None
    space: Annotated[str, "of the codes; that of the link"] = "w+"
    first_steps: Annotated[int, "steps of the first phase, with hardly any weight on pixels"] = 100
    second_steps: Annotated[int, "steps of the second phase, with pixels"] = 100
    lr: Annotated[float, "learning rate of Adam"] = 0.07
    decay: Annotated[float, "of the learning rate, every decay_every steps"] = 0.8
    decay_every: Annotated[int, "steps after which the learning rate has decayed once"] = 25
    magec: Annotated[float, "weight of L_MAGEC, a mean over attributes and edits; published: 3e-4"] = 0.03
    perceptual: Annotated[float, "weight of the perceptual distance"] = 0.5
    first_mse: Annotated[float, "weight of the squared difference of pixels, at first"] = 1e-3
    second_mse: Annotated[float, "and later"] = 0.5
    identity: Annotated[float, "weight of identity, 1 - cosine"] = 3e-4
    batch: Annotated[int, "photos in one pass; bounds memory"] = 16
    start: Inverter | None = None  # whose codes to begin with; None: the mean code
    under_way: Path | None = None  # a file that a killed run goes on from

    def __post_init__(self) -> None:
        require_positive("MAGEC", lr=self.lr, decay_every=self.decay_every, batch=self.batch)
        if min(self.first_steps, self.second_steps) < 0 or not self.first_steps + self.second_steps:
            raise InversionError(f"MAGEC takes one step or more, got {self.first_steps} and {self.second_steps}")

    def as_published(self) -> "MAGEC":
        """The paper's numbers throughout."""
        return replace(self, magec=3e-4)

    def refining(self, start: Inverter, steps: int = 40) -> "MAGEC":
        """The settings for codes that are nearly right: the second phase alone, for fewer steps."""
        return replace(self, start=start, first_steps=0, second_steps=steps)

    def invert(
        self, generator: Generator, target: Images, rng: torch.Generator, progress: Progress = silent
    ) -> Inversion:
        """See `Inverter.invert`."""
        width = generator.spaces[self.space].dim if self.space in generator.spaces else -1
        if self.link.weight.shape[1] != width:
            raise InversionError(
                f"the link is for codes of {self.link.weight.shape[1]} numbers, {self.space} of {generator.name} has "
                f"{width}: fit it on this generator"
            )
        common = {"magec": self.magec, "perceptual": self.perceptual, "identity": self.identity}
        phases = [
            Phase(self.first_steps, {**common, "mse": self.first_mse}),
            Phase(self.second_steps, {**common, "mse": self.second_mse}),
        ]
        return optimize(
            generator,
            target,
            space=self.space,
            terms=self._terms,
            phases=[phase for phase in phases if phase.steps],
            schedule=Schedule(self.lr, self.decay, self.decay_every),
            start=self.start,
            batch=self.batch,
            under_way=self.under_way,
            found_by=described(self),
            rng=rng,
            progress=progress,
        )

    def _terms(self, target: Images) -> dict[str, Term]:
        with torch.no_grad():
            d = self.descriptor.describe(target)
        return {
            **image_terms(target, self.distance, self.embed),
            "magec": lambda images, latents: self.consistency(latents, d),
        }

    def consistency(self, latents: Latents, d: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """L_MAGEC (eq. 2), without the edit term where there is no editor."""
        loss = self.descriptor.loss(self.link(latents.values), d)
        if self.editor is None:
            return loss
        edited = self.editor.edited(latents.values, d)  # (n, a, l)
        wanted = d[:, None].repeat(1, edited.shape[1], 1)
        turned = (d <= 0.5).to(d)  # what attribute i is to be after edit i
        wanted.diagonal(dim1=1, dim2=2).copy_(turned)
        each = self.descriptor.loss(self.link(edited.flatten(0, 1)), wanted.flatten(0, 1))
        return loss + each.unflatten(0, edited.shape[:2]).mean(dim=1)


def save_link(link: Link, editor: AttributeEditor | None, generator: str, path: Path | str) -> None:
    """Write LinkNet and editor, whole or not at all."""
    tensors = {"weight": link.weight, "bias": link.bias}
    if editor is not None:
        tensors["steps"] = editor.steps
    LINK_FILE.write(path, {"generator": generator}, tensors)


def load_link(
    path: Path | str, generator: str, device: torch.device | str = "cpu"
) -> tuple[Link, AttributeEditor | None]:
    """Read them. Raises InversionError where they are missing, something else, damaged, or of another generator."""

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Link, AttributeEditor | None]:
        if header["generator"] != generator:
            raise ValueError(f"it was fitted on {header['generator']}, this model is {generator}")
        steps = tensors.get("steps")
        link = Link(tensors["weight"].to(device), tensors["bias"].to(device))
        return link, None if steps is None else AttributeEditor(steps.to(device))

    return LINK_FILE.read(path, build)


def attribute_magec(
    generator: Generator,
    attributes: Attributes,
    distance: Distance,
    embed: Callable[[Images], Float[Tensor, "n e"]] | None,
    rng: torch.Generator,
    samples: int = 2000,
    progress: Progress = silent,
) -> MAGEC:
    """MAGEC with LinkNet and editor fitted on this generator: what a model needs once."""
    data = described_samples(generator, attributes, rng, samples=samples, progress=progress)
    link = fit_link(data, attributes)
    return MAGEC(distance, attributes, link, fit_editor(data, link), embed)
