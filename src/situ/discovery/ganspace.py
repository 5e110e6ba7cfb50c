"""GANSpace: principal components of sampled codes, or of a layer's activations regressed back to the codes.

Härkönen, Hertzmann, Lehtinen, Paris, "GANSpace: Discovering interpretable GAN controls" (2020), section 3. For StyleGAN
the directions are the principal components of codes w = M(z). Where codes are isotropic (BigGAN's z) the activations
y_j of a layer are decomposed instead, x_j = V^T (y_j - mean), and the directions are the columns of the U that
minimises sum_j ||U x_j - (z_j - mean)||^2. A range of layers ("w:4-7") is part of the subspace.

The paper samples 10^6 codes; 10,000 give standard deviations within a per cent. Its code regresses on fresh samples and
does not centre the codes; here both passes see the same ones, centred. Codes of W+ and S are images of W, so that they
vary in no more directions than W does; on rows that are not tied every component is the same in all of them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.direction import Direction
from situ.core.discovery import as_directions
from situ.core.errors import SituError
from situ.core.generator import Generator
from situ.core.latents import Latents, Subspace, parse_subspace
from situ.core.progress import Progress, silent
from situ.core.region import Region

NUMBERS = 2**25  # most numbers decomposed in one piece; more go through the incremental decomposition
BLOCK = 2000  # most rows of a block of that one
NEGLIGIBLE = 1e-5  # of the largest standard deviation: rounding, no variation


@dataclass(frozen=True)
class GANSpace:
    """The method and its settings. `figures` has each direction's "sigma", the standard deviation of codes along it:
    GANSpace counts strengths in these. Of a layer, "explained" is the component's share of the activations' variance.
    """

    space: Annotated[str, "subspace: w, w:4-7 (tied), z, s:conv, s:9"] = "w"
    k: Annotated[int, "components"] = 10
    layer: Annotated[str | None, "feature layer to decompose, as for BigGAN; none: the codes themselves"] = None
    samples: Annotated[int, "codes drawn"] = 10_000
    truncation: Annotated[float, "of the codes"] = 1.0
    max_pictures: Annotated[int, "pictures in one pass, where activations are decomposed; bounds memory"] = 32

    def __post_init__(self) -> None:
        counts = {"k": self.k, "samples": self.samples, "max_pictures": self.max_pictures}
        bad = {name: value for name, value in counts.items() if value < 1}
        if bad:
            raise SituError(f"GANSpace settings must be positive, got {bad}")
        if self.samples <= self.k:
            raise SituError(f"{self.k} components need more than {self.k} samples, got {self.samples}")
        if not math.isfinite(self.truncation) or self.truncation == 0:
            raise SituError(f"truncation is a number other than 0, where all codes are one, got {self.truncation}")

    def find(
        self,
        generator: Generator,
        regions: Sequence[Region],
        rng: torch.Generator,
        progress: Progress = silent,
    ) -> list[list[Direction]]:
        """See `Discovery.find`: the same components for every region, by the variance they explain.

        Ctrl-C decomposes the blocks of codes drawn so far.

        Raises:
            SituError: more components than directions in which the codes vary, or a layer that they do not reach.
        """
        subspace = parse_subspace(self.space, generator.spaces)
        if self.layer is not None:
            _require_layer(generator, self.layer, subspace)
        vectors, figures = _Components(self, generator, subspace, rng, progress).fit()
        return [
            as_directions(
                self,
                generator,
                subspace,
                region,
                vectors,
                seed=rng.initial_seed(),
                truncation=self.truncation,
                figures=figures,
                names=[f"component-{i + 1}" for i in range(self.k)],
            )
            for region in regions
        ]


def _require_layer(generator: Generator, name: str, subspace: Subspace) -> None:
    steps = {layer.name: layer.step for layer in generator.layers}
    if name not in steps:
        raise SituError(f'feature layers of {generator.name} are {", ".join(steps)}; got "{name}"')
    if steps[name] < generator.first_step(subspace):
        raise SituError(f"{subspace} does not reach the layer {name}: choose a later one or a wider subspace")


class _Components:
    """One decomposition: passes over the same codes, block by block."""

    def __init__(
        self, method: GANSpace, generator: Generator, subspace: Subspace, rng: torch.Generator, progress: Progress
    ) -> None:
        self.method, self.generator, self.subspace, self.rng, self.progress = method, generator, subspace, rng, progress
        self.start = rng.get_state()
        self.width = subspace.dim if method.layer is None else self._data(self._sample(1)).shape[1]
        at_most = max(3 * method.k, min(BLOCK, NUMBERS // self.width))
        count = math.ceil(method.samples / at_most) if method.samples * self.width > NUMBERS else 1
        self.sizes = [method.samples // count + (i < method.samples % count) for i in range(count)]
        self.passes = 0

    def _sample(self, n: int) -> Latents:
        with torch.no_grad():
            return self.generator.sample(n, self.subspace.space, self.rng, self.method.truncation)

    def _codes(self, latents: Latents) -> Float[Tensor, "n d"]:
        """Free coordinates; tied slices of a sampled code are all the same, and their mean is one of them."""
        return self.subspace.coordinates(latents.values).cpu()

    def _data(self, latents: Latents) -> Float[Tensor, "n f"]:
        """What is decomposed."""
        if self.method.layer is None:
            return self._codes(latents)
        rows = []
        for i in range(0, len(latents), self.method.max_pictures):
            some = latents[i : i + self.method.max_pictures]
            with torch.no_grad():
                found = self.generator.synthesize(some, [self.method.layer], images=False)
            rows.append(found.features[self.method.layer].float().flatten(1).cpu())
        return torch.cat(rows)

    def _blocks(self, what: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Codes and what is decomposed of them; every pass draws the same codes."""
        self.rng.set_state(self.start)
        total = self.method.samples * (1 if self.method.layer is None else 2)
        for i, size in enumerate(self.sizes):
            latents = self._sample(size)
            yield self._codes(latents), self._data(latents)
            self.progress(self.passes * self.method.samples + sum(self.sizes[: i + 1]), total, what)
        self.passes += 1

    def fit(self) -> tuple[Float[Tensor, "k d"], list[dict[str, float]]]:
        """The directions in free coordinates, and their figures."""
        from sklearn.decomposition import PCA, IncrementalPCA  # here, since it takes a second to import

        k = self.method.k
        estimator: Any
        if len(self.sizes) == 1:
            estimator = PCA(
                min(k, self.width),
                random_state=int(torch.randint(2**31, [1], generator=self.rng, device=self.rng.device)),
            )
            fit = estimator.fit
        else:
            estimator = IncrementalPCA(min(self.width, 3 * k))  # more than k, since what is cut off is lost
            fit = estimator.partial_fit
        done = 0
        try:
            for _, data in self._blocks("components"):
                fit(data.double().numpy())  # in single precision what does not vary would seem to
                done += len(data)
        except KeyboardInterrupt:
            if not done:
                raise
        sigma = torch.tensor(estimator.explained_variance_).sqrt()
        rank = int((sigma > NEGLIGIBLE * sigma[0]).sum())
        if k > rank:
            what = f"codes of {self.subspace}" if self.method.layer is None else f"the layer {self.method.layer}"
            raise SituError(f"{what} vary in {rank} directions, too few for k={k} components: ask for fewer")
        vectors = torch.tensor(estimator.components_[:k])
        if self.method.layer is not None:
            vectors, sigma = self._regress(estimator)
        shares = estimator.explained_variance_ratio_
        figures = [{"sigma": float(sigma[i]), "explained": float(shares[i]), "samples": float(done)} for i in range(k)]
        return vectors.float(), figures

    def _regress(self, estimator: Any) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
        """U^T, and the standard deviation of codes along its rows."""
        codes, scores = [], []
        try:
            for some, data in self._blocks("regression"):
                projected = estimator.transform(data.double().numpy())[:, : self.method.k]
                codes.append(some.double())
                scores.append(torch.from_numpy(projected))
        except KeyboardInterrupt:
            if not codes:
                raise
        z, x = torch.cat(codes), torch.cat(scores)
        u = torch.linalg.lstsq(x - x.mean(dim=0), z).solution  # (k, d)
        length = u.norm(dim=1)
        return u, (z @ (u / length[:, None]).T).std(dim=0)
