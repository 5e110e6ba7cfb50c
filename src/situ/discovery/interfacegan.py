"""InterFaceGAN: the normal of the hyperplane between codes with and without an attribute.

Shen, Gu, Tang, Zhou, "Interpreting the latent space of GANs for semantic face editing" (2020). Pictures of sampled
codes are scored by a classifier; a linear support vector machine separates the top scored codes from the bottom scored,
and its unit normal n, towards the attribute, is the direction. Conditional manipulation takes the normals of other
attributes out of it, n - Q Q^T n with Q an orthonormal basis of theirs (the paper's projection for any number of
conditions; its code allows two).

The paper takes 500,000 codes and the 10,000 at either end; 2 % of few codes would be too few, so that the defaults take
as many as there are of 1000. Only codes that the classifier gives the attribute count as with it, and only those that
it denies as without. Where sampled codes are the same in several rows, so is the normal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.classifier import AttributeClassifier, attribute_columns
from situ.core.direction import Direction
from situ.core.discovery import as_directions
from situ.core.errors import SituError
from situ.core.generator import Generator
from situ.core.latents import Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

Boundary = Literal["svm", "logistic"]
FEWEST = 4  # codes on either side, for one to be held out


@dataclass(frozen=True)
class InterFaceGAN:
    """The method and its settings. `figures` of a direction: "accuracy", that of its boundary on held-out codes (before
    conditions are taken out), "codes" on either side of it, and "kept", the length that the conditions leave of n.
    """

    classifier: AttributeClassifier
    attributes: Annotated[
        tuple[str, ...], "attributes to find; none: all that some pictures have and some have not"
    ] = ()
    conditions: Annotated[tuple[str, ...], "attributes to leave alone: their normals are taken out"] = ()
    space: Annotated[str, "subspace: w, w:4-7 (tied), z, s:conv"] = "w"
    samples: Annotated[int, "pictures that are scored"] = 1000
    chosen: Annotated[float, "share of the samples taken from either end of the scores, at most"] = 0.5
    held_out: Annotated[float, "share of the chosen that the accuracy is measured on"] = 0.3
    boundary: Annotated[Boundary, "svm: support vector machine; logistic: logistic regression"] = "svm"
    C: Annotated[float, "weight of misclassified codes against a wide margin"] = 1.0
    truncation: Annotated[float, "of the codes"] = 1.0
    max_pictures: Annotated[int, "pictures in one pass; bounds memory"] = 32

    def __post_init__(self) -> None:
        if not isinstance(self.classifier, AttributeClassifier):
            raise SituError(
                f"InterFaceGAN needs a classifier (attributes, classify), got {type(self.classifier).__name__}"
            )
        attribute_columns(self.classifier, (*self.attributes, *self.conditions))
        both = sorted(set(self.attributes) & set(self.conditions))
        if both:
            raise SituError(f"an attribute is found or left alone, not both; got {', '.join(both)} twice")
        positive = {"samples": self.samples, "C": self.C, "max_pictures": self.max_pictures}
        bad = {name: value for name, value in positive.items() if not 0 < value < math.inf}
        if bad:
            raise SituError(f"InterFaceGAN settings must be positive, got {bad}")
        if not 0 < self.chosen <= 0.5:
            raise SituError(f"chosen is a share of the samples from either end, above 0 to 0.5, got {self.chosen}")
        if not 0 < self.held_out < 1:
            raise SituError(f"held_out is a share between 0 and 1, got {self.held_out}")
        if self.boundary not in get_args(Boundary):
            raise SituError(f'boundary is one of {", ".join(get_args(Boundary))}, got "{self.boundary}"')
        if not math.isfinite(self.truncation) or self.truncation == 0:
            raise SituError(f"truncation is a number other than 0, where all codes are one, got {self.truncation}")

    @classmethod
    def as_coded(cls, classifier: AttributeClassifier, **settings: object) -> "InterFaceGAN":
        """The published numbers: 500,000 codes, 10,000 from either end."""
        return replace(cls(classifier, samples=500_000, chosen=0.02), **settings)  # pyright: ignore[reportArgumentType]

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`: a direction for each attribute, named after it, best separated first, for all regions.

        Ctrl-C separates the codes scored so far.

        Raises:
            SituError: a named attribute that (almost) all or none of the pictures have, or one that is made of the
                conditions alone.
        """
        subspace = parse_subspace(self.space, generator.spaces)
        codes, scores = self._score(generator, subspace, rng, progress)
        found = {}
        for name in (*self.conditions, *(self.attributes or self.classifier.attributes)):
            if name not in found:
                boundary = self._separate(codes, scores[:, self.classifier.attributes.index(name)], rng)
                if boundary is not None:
                    found[name] = boundary
        self._require(found, scores)
        wanted = [name for name in found if name not in self.conditions]
        taken_out = [found[name][0] for name in self.conditions]
        vectors, figures = [], []
        for name in sorted(wanted, key=lambda name: -found[name][1]["accuracy"]):
            n, figure = found[name]
            vectors.append(_without(n, taken_out))
            kept = float(vectors[-1].norm())
            if kept < 1e-3:
                raise SituError(
                    f"nothing is left of {name} without {', '.join(self.conditions)}: leave out a condition"
                )
            figures.append((name, {**figure, "kept": kept}))
        return [
            as_directions(
                self,
                generator,
                subspace,
                region,
                torch.stack(vectors),
                seed=rng.initial_seed(),
                truncation=self.truncation,
                figures=[figure for _, figure in figures],
                names=[name for name, _ in figures],
            )
            for region in regions
        ]

    def _score(
        self, generator: Generator, subspace: Subspace, rng: torch.Generator, progress: Progress
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n a"]]:
        """Codes in free coordinates, and the probabilities of every attribute of their pictures."""
        codes, scores, done = [], [], 0
        try:
            while done < self.samples:
                n = min(self.max_pictures, self.samples - done)
                with torch.no_grad():
                    latents = generator.sample(n, subspace.space, rng, self.truncation)
                    found = self.classifier.classify(generator.synthesize(latents).images)
                codes.append(subspace.coordinates(latents.values).cpu())
                scores.append(found.float().cpu())
                done += n
                progress(done, self.samples, "scores")
        except KeyboardInterrupt:
            if not scores:
                raise
        return torch.cat(codes[: len(scores)]), torch.cat(scores)

    def _separate(
        self, codes: Float[Tensor, "n d"], score: Float[Tensor, " n"], rng: torch.Generator
    ) -> tuple[Float[Tensor, " d"], dict[str, float]] | None:
        """The unit normal towards the attribute and its figures; None where too few have it or have it not."""
        order = score.sort(descending=True, stable=True).indices
        n = min(int(self.chosen * len(score)), int((score > 0.5).sum()), int((score < 0.5).sum()))
        if n < FEWEST:
            return None
        out = min(max(1, round(self.held_out * n)), n - 2)
        train, test = [], []
        for end in (order[:n], order[-n:]):
            shuffled = codes[end[torch.randperm(n, generator=rng, device=rng.device).cpu()]].double()
            train.append(shuffled[out:])
            test.append(shuffled[:out])
        model = self._model(rng)
        labels = torch.tensor([1] * (n - out) + [0] * (n - out))
        model.fit(torch.cat(train).numpy(), labels.numpy())
        right = torch.from_numpy(model.predict(torch.cat(test).numpy())) == torch.tensor([1] * out + [0] * out)
        normal = torch.tensor(model.coef_[0])  # a copy: the array may be read-only
        return (normal / normal.norm()).float(), {"accuracy": float(right.double().mean()), "codes": float(n)}

    def _model(self, rng: torch.Generator) -> Any:
        """The linear classifier of codes."""
        from sklearn.linear_model import LogisticRegression  # here, since it takes a second to import
        from sklearn.svm import SVC

        seed = int(torch.randint(2**31, [1], generator=rng, device=rng.device))
        if self.boundary == "logistic":
            return LogisticRegression(C=self.C, max_iter=10_000, random_state=seed)
        return SVC(kernel="linear", C=self.C, random_state=seed)

    def _require(self, found: dict, scores: Float[Tensor, "n a"]) -> None:
        missing = [name for name in (*self.attributes, *self.conditions) if name not in found]
        if not missing and any(name not in self.conditions for name in found):
            return
        named = missing or self.classifier.attributes
        have = (scores > 0.5).sum(dim=0).tolist()
        counts = ", ".join(f"{name} {have[self.classifier.attributes.index(name)]}" for name in named)
        raise SituError(
            f"an attribute is found between {FEWEST} pictures or more that have it and {FEWEST} that have it not; of "
            f"{len(scores)} pictures so many have it: {counts}. Draw more samples (now {self.samples}), raise chosen "
            f"(now {self.chosen}), or leave the attribute out"
        )


def _without(n: Float[Tensor, " d"], others: Sequence[Float[Tensor, " d"]]) -> Float[Tensor, " d"]:
    """What of n is orthogonal to all others."""
    if not others:
        return n
    Q = torch.linalg.qr(torch.stack(list(others), dim=1).double())[0]  # (d, conditions)
    return (n.double() - Q @ (Q.T @ n.double())).float()
