"""GANalyze: a direction learned so that a step along it moves an assessor's score by as much.

Goetschalckx, Andonian, Oliva, Isola, "GANalyze: Toward visual definitions of cognitive image properties" (2019).
Minimises over theta E[(A(G(z + α theta)) - (A(G(z)) + α))^2] (eq. 1-3) with Adam, α ~ U(-range, range) drawn for every
sample. The assessor A is a classifier's score of one attribute; several attributes share z, its picture and α.

A classifier's probabilities saturate: where A is 0 or 1 it has no gradient, and A + α cannot be reached.
`score="logit"` works on the log odds instead, which still tell sure from surer; α is then counted in those. The
pictures that turn most rule their squares, so that it wants a smaller learning rate and more samples.

The objective says nothing of what else a step changes, so that directions which the score does not see stay wherever
the optimiser puts them. Adam's second moment of each coordinate puts theta outside the span of the gradients (on tiles
whose directions are mixed by a rotation it ends at a cosine of 0.8 to the truth), so that by default all coordinates
share one, which keeps it inside (1.00); and theta starts at 0, not at random, where the first gradient is that of the
score itself. The defaults are few samples at a large learning rate; the published run (`as_coded`) draws 400,000 at
2e-4. It also brings z + α theta back to the length of z (`keep_length`; its code by the norm of the whole batch, here
each code by its own), which a direction that is applied to other codes cannot do: off by default.

Only theta gets gradients, and the steps below the first edited layer are computed once for both pictures.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.classifier import AttributeClassifier, attribute_columns
from situ.core.direction import Direction
from situ.core.discovery import as_directions
from situ.core.errors import SituError
from situ.core.generator import Generator, Synthesis
from situ.core.images import Images
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

Score = Literal["probability", "logit"]
CERTAIN = 1e-6  # log odds are taken of probabilities no nearer to 0 and 1 than this


@dataclass(frozen=True)
class GANalyze:
    """The method and its settings. `figures` of a direction: "length" of theta, the raw strength that moves the score
    by 1; "slope", the change of the score per wanted change over the last tenth of the steps (1 is perfect); "loss"
    over the same, and "steps".
    """

    classifier: AttributeClassifier
    attributes: Annotated[tuple[str, ...], "attributes to move; none: all of the classifier"] = ()
    space: Annotated[str, "subspace: z, w, w:4-7 (tied), w+:4-7, s:conv"] = "w"
    score: Annotated[Score, "probability: as published; logit: its log odds, which do not saturate"] = "probability"
    alpha: Annotated[float, "wanted changes of the score are uniform between - and + this"] = 0.5
    samples: Annotated[int, "codes in all"] = 800
    batch: Annotated[int, "codes per step"] = 4
    lr: Annotated[float, "learning rate"] = 1e-2
    start: Annotated[float, "standard deviation of the first theta's coordinates; 1 as coded"] = 0.0
    per_coordinate: Annotated[bool, "Adam scales each coordinate by itself, as published, not theta as a whole"] = False
    keep_length: Annotated[bool, "edited codes are brought back to their length, as coded"] = False
    truncation: Annotated[float, "of the codes"] = 1.0
    max_pictures: Annotated[int, "edited pictures in one pass; bounds memory"] = 16

    def __post_init__(self) -> None:
        if not isinstance(self.classifier, AttributeClassifier):
            raise SituError(f"GANalyze needs a classifier (attributes, classify), got {type(self.classifier).__name__}")
        attribute_columns(self.classifier, self.attributes)
        if len(set(self.attributes)) < len(self.attributes):
            raise SituError(f"an attribute is named once, got {', '.join(self.attributes)}")
        names = ("alpha", "samples", "batch", "lr", "max_pictures")
        bad = {name: getattr(self, name) for name in names if not 0 < getattr(self, name) < math.inf}
        if bad:
            raise SituError(f"GANalyze settings must be positive, got {bad}")
        if self.score not in get_args(Score):
            raise SituError(f'score is one of {", ".join(get_args(Score))}, got "{self.score}"')
        if not 0 <= self.start < math.inf:
            raise SituError(f"start is a standard deviation from 0, got {self.start}")
        if not math.isfinite(self.truncation):
            raise SituError(f"truncation is a number, 0 the mean picture and 1 full variety, got {self.truncation}")

    @classmethod
    def as_coded(cls, classifier: AttributeClassifier, **settings: object) -> "GANalyze":
        """The published run: z, 400,000 samples in batches of 4 at 2e-4, a random start, codes of constant length."""
        settings = {"space": "z", "samples": 400_000, "lr": 2e-4, **settings}
        coded = cls(classifier, start=1.0, per_coordinate=True, keep_length=True)
        return replace(coded, **settings)  # pyright: ignore[reportArgumentType]

    @property
    def steps(self) -> int:
        """Optimisation steps in all."""
        return math.ceil(self.samples / self.batch)

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`: a direction for each attribute, named after it, smallest loss first, for all regions.

        Raises:
            SituError: the optimisation diverged, or a score that never moved.
        """
        search = _Search(self, generator, rng)
        done = 0
        try:
            for done in range(1, self.steps + 1):
                loss = search.step()
                progress(done, self.steps, f"loss {loss.mean():.4f}")
        except KeyboardInterrupt:
            if done <= 1:
                raise
        vectors, figures, names = search.found()
        return [
            as_directions(
                self,
                generator,
                search.subspace,
                region,
                vectors,
                seed=rng.initial_seed(),
                truncation=self.truncation,
                figures=figures,
                names=names,
            )
            for region in regions
        ]


class _Search:
    """The state of one optimisation: theta (attributes, free coordinates)."""

    def __init__(self, method: GANalyze, generator: Generator, rng: torch.Generator) -> None:
        self.method, self.generator, self.rng = method, generator, rng
        self.subspace: Subspace = parse_subspace(method.space, generator.spaces)
        self.columns = attribute_columns(method.classifier, method.attributes)
        # codes brought back to their length move in every slice
        self.first = 0 if method.keep_length else generator.first_step(self.subspace)
        start = method.start * torch.randn(self.subspace.dim, generator=rng, device=rng.device)
        theta = start.expand(len(self.columns), -1).clone()  # the same for all, so that none depends on its company
        self.theta = theta.to(generator.device).requires_grad_()
        self.moments = torch.zeros_like(self.theta.detach()), torch.zeros_like(self.theta.detach())
        self.history: list[tuple[Tensor, Tensor, Tensor]] = []  # of every step: loss, sums of change * α and of α^2

    def step(self) -> Float[Tensor, " a"]:
        """One update of every theta; returns their losses."""
        method, n = self.method, self.method.batch
        with torch.no_grad():
            latents = self.generator.sample(n, self.subspace.space, self.rng, method.truncation)
            before = self.generator.synthesize(latents, keep=self.first)
            scores = self._scores(before.images)[:, self.columns].T  # (a, n)
        uniform = torch.rand(n, generator=self.rng, device=self.rng.device)
        alphas = (method.alpha * (2 * uniform - 1)).to(scores).expand_as(scores)
        per_pass = max(1, method.max_pictures // n)
        self.theta.grad = None
        changes = []
        for rows in torch.arange(len(self.columns)).split(per_pass):
            after = self._edited_scores(latents, before, rows.tolist(), alphas[rows])
            (after - scores[rows] - alphas[rows]).square().mean(dim=1).sum().backward()
            changes.append(after.detach() - scores[rows])
        self._adam()
        if not self.theta.isfinite().all():
            raise SituError(
                f"the optimisation diverged at step {len(self.history) + 1} (NaN): lower lr, now {method.lr}"
            )
        change = torch.cat(changes)  # (a, n)
        loss = (change - alphas).square().mean(dim=1).cpu()
        self.history.append((loss, (change * alphas).sum(dim=1).cpu(), alphas.square().sum(dim=1).cpu()))
        return loss

    def _adam(self) -> None:
        """Adam's update (its own β and ε), with one second moment for all coordinates of a theta unless asked for more.

        A second moment of every coordinate bends the step out of the span of the gradients, and what moves along there
        is nothing to the score: it is never taken back.
        """
        gradient = self.theta.grad
        assert gradient is not None
        squares = gradient.square()
        if not self.method.per_coordinate:
            squares = squares.mean(dim=1, keepdim=True)
        t = len(self.history) + 1
        first, second = self.moments
        first.lerp_(gradient, 1 - 0.9)
        second.lerp_(squares.expand_as(second), 1 - 0.999)
        with torch.no_grad():
            mean, scale = first / (1 - 0.9**t), (second / (1 - 0.999**t)).sqrt()
            self.theta -= self.method.lr * mean / (scale + 1e-8)

    def _scores(self, images: Images) -> Float[Tensor, "n a"]:
        """A: what the classifier says of every attribute."""
        p = self.method.classifier.classify(images).float()
        return p.clamp(CERTAIN, 1 - CERTAIN).logit() if self.method.score == "logit" else p

    def _edited_scores(
        self, latents: Latents, before: Synthesis, rows: Sequence[int], alphas: Float[Tensor, "m n"]
    ) -> Float[Tensor, "m n"]:
        """A(G(z + α theta)) of some attributes, each along its own theta; differentiable in theta."""
        n, m = len(latents), len(rows)
        moves = self.subspace.lift(self.theta[rows])[:, None] * alphas[:, :, None]  # (m, n, d)
        tiled = latents.repeat(m)
        values = tiled.values + moves.reshape(m * n, -1)
        if self.method.keep_length:
            values = values * (tiled.values.norm(dim=1, keepdim=True) / values.norm(dim=1, keepdim=True))
        state = before.state.repeat(m) if before.state else None
        after = self._scores(self.generator.synthesize(tiled.with_values(values), resume=state).images)
        return torch.stack([after[j * n : (j + 1) * n, self.columns[row]] for j, row in enumerate(rows)])

    def found(self) -> tuple[Float[Tensor, "a d"], list[dict[str, float]], list[str]]:
        """theta so far, smallest loss first, with figures over the last tenth of the steps, and names."""
        last = self.history[-max(1, len(self.history) // 10) :]
        loss, product, square = (torch.stack(column).mean(dim=0) for column in zip(*last, strict=True))
        slope = product / square  # of the least squares line through 0
        theta = self.theta.detach().cpu()
        length = theta.norm(dim=1)
        names = [self.method.classifier.attributes[column] for column in self.columns]
        still = [name for name, moved in zip(names, length.tolist(), strict=True) if not moved]
        if still:
            raise SituError(
                f"the score of {', '.join(still)} never moved in {self.subspace}: its pictures are all beyond doubt; "
                'try score="logit" or another subspace'
            )
        order = loss.argsort().tolist()
        figures = [
            {
                "length": float(length[i]),
                "slope": float(slope[i]),
                "loss": float(loss[i]),
                "steps": float(len(self.history)),
            }
            for i in order
        ]
        return theta[order], figures, [names[i] for i in order]
