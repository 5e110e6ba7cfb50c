"""StyleFlow: attributes edited along a conditional continuous normalising flow of the codes.

Abdal, Zhu, Mitra, Wonka, "StyleFlow: Attribute-conditioned exploration of StyleGAN-generated images using conditional
continuous normalizing flows" (2021). A flow φ with dx/dt = f(x, t; a) carries codes x = x(0) to z = x(1), a standard
normal whatever the attributes a are, and is trained by maximum likelihood,

    log p(x | a) = log N(z) + integral of tr(df/dx) dt,

its trace estimated by Hutchinson's rule. An edit inverts at the old attributes and pushes forward at new ones:
z = φ(x; a), x' = φ^-1(z; a'), which is not linear: `FittedStyleFlow.edit`. What `find` returns is its linear summary,
for every attribute the mean of x'(1) - x'(0) over sampled codes, and how much of the edits that explains.

Where published code has moving batch normalisation around the flow, the codes are whitened here, a linear flow;
attributes are brought to mean 0 and deviation 1. The defaults are small, for a minute on a processor; published are
10,000 codes, batches of 5, 3 epochs, five layers of 512, lr 1e-3, tolerance 1e-5. Published edits replace some rows of
W+ alone, chosen by hand for each attribute: a subspace like "w:4-7" does that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from situ.core.classifier import AttributeClassifier, attribute_columns
from situ.core.direction import Direction
from situ.core.discovery import as_directions
from situ.core.errors import SituError
from situ.core.generator import Generator
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

NEGLIGIBLE = 1e-6  # of the largest variance of the codes: rounding, no variation
CLIP = 10.0  # most norm of a gradient
EDIT_TOLERANCE = 1e-5  # of the integration when codes are edited: there and back again is the identity


@dataclass(frozen=True)
class StyleFlow:
    """The method and its settings. `find` returns one direction per attribute, for every region the same.

    `figures` of a direction: "explained" (share of the squared length of the edits that their mean explains), "change"
    (mean change of the attribute's probability by the true edit from 0 to 1), "others" (mean absolute change of the
    other attributes) and "log_likelihood" (of the last codes trained on, per dimension, less that of a normal
    distribution). The unit is the length of the mean edit from 0 to 1, until it is calibrated.
    """

    classifier: AttributeClassifier
    attributes: Annotated[tuple[str, ...], "that directions are wanted for; none: all of the classifier"] = ()
    space: Annotated[str, "subspace of the codes: w, w:4-7 (tied), z"] = "w"
    samples: Annotated[int, "codes that the flow is trained on; published: 10000"] = 2000
    steps: Annotated[int, "training steps; published: 6000"] = 300
    batch: Annotated[int, "codes per step; published: 5"] = 64
    lr: Annotated[float, "learning rate of Adam at first, a cosine down to 0; published: 1e-3 throughout"] = 3e-3
    hidden: Annotated[tuple[int, ...], "widths of the network's layers; published: five of 512"] = (256, 256)
    tolerance: Annotated[float, "of the integration while training, absolute and relative; published: 1e-5"] = 1e-2
    edits: Annotated[int, "codes that a direction is the mean edit of"] = 32
    truncation: Annotated[float, "of the codes"] = 1.0
    max_pictures: Annotated[int, "pictures in one pass; bounds memory"] = 32

    def __post_init__(self) -> None:
        positive = {
            "steps": self.steps,
            "batch": self.batch,
            "lr": self.lr,
            "tolerance": self.tolerance,
            "edits": self.edits,
            "max_pictures": self.max_pictures,
        }
        bad = {name: value for name, value in positive.items() if not 0 < value < math.inf}
        if bad:
            raise SituError(f"StyleFlow settings must be positive, got {bad}")
        if self.samples < 2:
            raise SituError(f"a flow is trained on at least 2 samples, got {self.samples}")
        if not self.hidden or min(self.hidden) < 1:
            raise SituError(f"hidden is the widths of one layer or more, got {self.hidden}")
        if not math.isfinite(self.truncation) or self.truncation == 0:
            raise SituError(f"truncation is a number other than 0, where all codes are one, got {self.truncation}")
        attribute_columns(self.classifier, self.attributes)

    def fit(self, generator: Generator, rng: torch.Generator, progress: Progress = silent) -> "FittedStyleFlow":
        """Train the flow on sampled codes and what the classifier reads off their pictures.

        Ctrl-C while it trains stops there. All of the classifier's attributes are conditions, so that an edit holds
        those that it does not name.

        Raises:
            SituError: zuko is not installed, an attribute never varies, or the training diverges.
        """
        subspace = parse_subspace(self.space, generator.spaces)
        with torch.no_grad():
            latents = generator.sample(self.samples, subspace.space, rng, self.truncation)
        read = _classify(self, generator, latents, _within(progress, 0, self.samples + self.steps))
        codes = subspace.coordinates(latents.values).float()
        centre, variance = codes.mean(dim=0), torch.cov(codes.double().T).reshape(subspace.dim, subspace.dim)
        values, vectors = torch.linalg.eigh(variance)
        kept = values > NEGLIGIBLE * values[-1].clamp(min=1e-30)
        if not kept.any():
            raise SituError(f"the codes of {subspace} are all one: give a truncation other than {self.truncation}")
        scale = values[kept].sqrt()
        fitted = FittedStyleFlow(
            method=self,
            generator=generator,
            subspace=subspace,
            flow=_new_flow(int(kept.sum()), read.shape[1], self, rng, generator.device),
            centre=centre,
            whiten=(vectors[:, kept] / scale).float(),
            unwhiten=(vectors[:, kept] * scale).T.float(),
            attribute_mean=read.mean(dim=0),
            attribute_scale=self._scales(read),
        )
        history = _train(fitted, (codes - centre) @ fitted.whiten, fitted.standardised(read), rng, progress)
        return replace(fitted, history=history)

    def _scales(self, read: Float[Tensor, "n a"]) -> Float[Tensor, " a"]:
        """Standard deviations of the attributes. One that never varies teaches nothing, and must not be asked for."""
        scales = read.std(dim=0)
        fixed = [i for i in range(len(scales)) if not scales[i] > 1e-4]
        asked = attribute_columns(self.classifier, self.attributes)
        bad = [self.classifier.attributes[i] for i in fixed if i in asked]
        if bad:
            raise SituError(
                f"{', '.join(bad)} never varies over {len(read)} pictures: take more samples or a higher truncation, "
                "or name other attributes"
            )
        return scales.clamp(min=1e-4)

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`: the linear summary of every attribute's edit, greatest change of it first."""
        wanted = [self.classifier.attributes[i] for i in attribute_columns(self.classifier, self.attributes)]
        fitting = self.samples + self.steps
        total = fitting + len(wanted)
        fitted = self.fit(generator, rng, _within(progress, 0, total))
        with torch.no_grad():
            latents = generator.sample(self.edits, fitted.subspace.space, rng, self.truncation)
        rows: list[_Summary] = []
        try:
            old = fitted.classify(latents)
            for attribute in wanted:
                rows.append(fitted.summary(latents, old, attribute))
                progress(fitting + len(rows), total, f"edits of {attribute}")
        except KeyboardInterrupt:
            if not rows:
                raise
        rows.sort(key=lambda row: -row.figures["change"])
        means = torch.stack([row.mean for row in rows])
        found = []
        for region in regions:
            directions = as_directions(
                self,
                generator,
                fitted.subspace,
                region,
                means,
                seed=rng.initial_seed(),
                truncation=self.truncation,
                figures=[row.figures for row in rows],
                names=[row.attribute for row in rows],
            )
            found.append([replace(d, unit=float(row.mean.norm())) for d, row in zip(directions, rows, strict=True)])
        return found


@dataclass(frozen=True, eq=False)
class _Summary:
    """The edits of an attribute from 0 to 1."""

    attribute: str
    mean: Float[Tensor, " d"]  # in free coordinates
    figures: dict[str, float]


@dataclass(frozen=True, eq=False)
class FittedStyleFlow:
    """A trained flow with the generator and the classifier that it belongs to."""

    method: StyleFlow
    generator: Generator
    subspace: Subspace
    flow: Any  # zuko's conditional normalising flow, of whitened codes given standardised attributes
    centre: Float[Tensor, " d"]  # mean of the codes
    whiten: Float[Tensor, "d r"]
    unwhiten: Float[Tensor, "r d"]
    attribute_mean: Float[Tensor, " a"]
    attribute_scale: Float[Tensor, " a"]
    history: tuple[float, ...] = ()  # log likelihood per dimension of every batch, less that of a normal distribution

    def classify(self, latents: Latents) -> Float[Tensor, "n a"]:
        """What the classifier reads off the pictures of latents."""
        return _classify(self.method, self.generator, latents, silent)

    def standardised(self, attributes: Float[Tensor, "n a"]) -> Float[Tensor, "n a"]:
        """Attributes as the flow knows them."""
        return (attributes - self.attribute_mean) / self.attribute_scale

    def transport(
        self, codes: Float[Tensor, "n d"], old: Float[Tensor, "n a"], new: Float[Tensor, "n a"]
    ) -> Float[Tensor, "n d"]:
        """Codes (free coordinates) with these attributes, carried to the new ones."""
        with torch.no_grad():
            x = (codes.float() - self.centre) @ self.whiten
            z = self.flow.transform(self.standardised(old))(x)
            moved = self.flow.transform(self.standardised(new)).inv(z)
            return codes + (moved - x) @ self.unwhiten

    def edit(self, latents: Latents, attribute: str, target: float) -> Latents:
        """Latents with an attribute brought to a probability, all others meant to stay.

        Codes with rows of their own (W+, for a flow of all of W) have each row carried, as published.

        Args:
            target: probability of 0 to 1; a number beyond goes on in the same way.

        Raises:
            SituError: an unknown attribute, no finite target, or codes that do not lead to the flow's space.
        """
        (column,) = attribute_columns(self.method.classifier, (attribute,))
        if not math.isfinite(target):
            raise SituError(f"the target of {attribute} is a probability, 0 to 1, got {target}")
        space = self.subspace.space
        if latents.space.name == f"{space.name}+" and len(space.slices) == 1:
            count = len(latents.space.slices)
            rows = latents.values.reshape(len(latents) * count, space.dim)
            old = self.classify(latents).repeat_interleave(count, dim=0)
            moved = self.transport(rows, old, _with(old, column, target))
            return latents.with_values(moved.reshape(latents.values.shape).to(latents.values))
        latents = self.generator.convert(latents, self.subspace.space)
        old = self.classify(latents)
        codes = self.subspace.coordinates(latents.values)
        return self._at(latents, self.transport(codes, old, _with(old, column, target)) - codes)

    def summary(self, latents: Latents, old: Float[Tensor, "n a"], attribute: str) -> _Summary:
        """The mean edit of an attribute from 0 to 1, over latents whose attributes are known, and its figures."""
        (column,) = attribute_columns(self.method.classifier, (attribute,))
        codes = self.subspace.coordinates(latents.values)
        low, high = (self.transport(codes, old, _with(old, column, target)) for target in (0.0, 1.0))
        mean = (high - low).mean(dim=0)
        changes = self.classify(self._at(latents, high - codes)) - self.classify(self._at(latents, low - codes))
        others = torch.cat([changes[:, :column], changes[:, column + 1 :]], dim=1)
        last = self.history[-max(1, len(self.history) // 10) :]
        figures = {
            "explained": float(mean.square().sum() / (high - low).square().sum(dim=1).mean().clamp(min=1e-30)),
            "change": float(changes[:, column].mean()),
            "others": float(others.abs().mean()) if others.shape[1] else 0.0,
            "log_likelihood": sum(last) / max(1, len(last)),
        }
        return _Summary(attribute, mean, figures)

    def _at(self, latents: Latents, move: Float[Tensor, "n d"]) -> Latents:
        return latents.with_values(latents.values + self.subspace.lift(move).to(latents.values))


def _with(attributes: Float[Tensor, "n a"], column: int, target: float) -> Float[Tensor, "n a"]:
    changed = attributes.clone()
    changed[:, column] = target
    return changed


def _classify(method: StyleFlow, generator: Generator, latents: Latents, progress: Progress) -> Float[Tensor, "n a"]:
    """Probabilities of all attributes, a bounded number of pictures at a time."""
    rows = []
    with torch.no_grad():
        for i in range(0, len(latents), method.max_pictures):
            some = generator.synthesize(latents[i : i + method.max_pictures])
            rows.append(method.classifier.classify(some.images))
            progress(min(i + method.max_pictures, len(latents)), len(latents), "reading attributes")
    return torch.cat(rows)


def _new_flow(features: int, context: int, method: StyleFlow, rng: torch.Generator, device: torch.device) -> nn.Module:
    """A flow that is nearly the identity, its weights drawn from rng."""
    try:
        from zuko.flows.continuous import CNF
    except ImportError:
        raise SituError("StyleFlow needs zuko, which is not installed: pip install 'situ[flow]'") from None
    with _seeded(rng, device):
        flow = CNF(features, context, hidden_features=method.hidden, activation=nn.Tanh, exact=False)
    with torch.no_grad():  # codes are nearly normal already
        for parameter in list(flow.parameters())[-2:]:
            parameter.mul_(0.01)
    return flow.to(device)


def _within(progress: Progress, start: int, of: int) -> Progress:
    """Progress as a part of a longer job."""

    def report(done: int | float, total: int, message: str = "") -> None:
        progress(start + done, of, message)

    return report


class _seeded:
    """Torch's own random numbers, which zuko and layers draw from, seeded from rng and given back as they were."""

    def __init__(self, rng: torch.Generator, device: torch.device) -> None:
        self.seed = int(torch.randint(2**31, [1], generator=rng, device=rng.device))
        self.fork = torch.random.fork_rng([device] if device.type == "cuda" else [])

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)


def _train(
    fitted: FittedStyleFlow,
    x: Float[Tensor, "n r"],
    attributes: Float[Tensor, "n a"],
    rng: torch.Generator,
    progress: Progress,
) -> tuple[float, ...]:
    """Maximise the likelihood of whitened codes given their attributes; returns its course."""
    method, flow = fitted.method, fitted.flow
    transform = flow.transform
    transform.atol = transform.rtol = method.tolerance
    optimizer = torch.optim.Adam(flow.parameters(), lr=method.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, method.steps)
    normal = torch.distributions.Normal(0.0, 1.0)
    history: list[float] = []
    try:
        with _seeded(rng, x.device):
            for step in range(1, method.steps + 1):
                chosen = torch.randint(len(x), [method.batch], generator=rng, device=rng.device).to(x.device)
                some = x[chosen]
                likelihood = flow(attributes[chosen]).log_prob(some)
                optimizer.zero_grad(set_to_none=True)
                (-likelihood.mean()).backward()
                norm = nn.utils.clip_grad_norm_(flow.parameters(), CLIP)
                if not (likelihood.isfinite().all() and norm.isfinite()):
                    raise SituError(f"the training diverged at step {step} (NaN): lower lr, now {method.lr}")
                optimizer.step()
                schedule.step()
                gained = (likelihood.detach() - normal.log_prob(some).sum(dim=1)).mean() / x.shape[1]
                history.append(float(gained))
                progress(len(x) + step, len(x) + method.steps, f"log likelihood {history[-1]:+.3f} over a normal one")
    except KeyboardInterrupt:
        if not history:
            raise
    flow.requires_grad_(False).eval()
    transform.atol = transform.rtol = EDIT_TOLERANCE
    return tuple(history)
