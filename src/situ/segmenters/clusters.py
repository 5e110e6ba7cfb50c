"""Parts without labels: clusters of a generator's activation vectors.

Collins, Bala, Price, Süsstrunk, "Editing in style: uncovering the local semantics of GANs" (2020), section 3.1:
spherical k-means on the vectors a_i of one feature layer at all positions of some pictures. With unit vectors it
maximises sum_i max_k <a_i, c_k> over unit centres c_k, alternating the assignment of each vector to its nearest centre
and c_k = sum_{i in k} a_i / ||sum_{i in k} a_i||. Each position of another picture belongs to its nearest centre.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from situ.core.containers import Container
from situ.core.errors import RegionError, SituError
from situ.core.generator import Generator, Synthesis
from situ.core.progress import Progress, silent
from situ.segmenters.shared import BATCH, LARGEST, require_fit, require_names

CLUSTERS_FILE = Container("situ-clusters-1", "clusters file", " as `situ clusters` writes it", RegionError)


class ClusterSegmenter:
    """Clusters behind the segmenter contract: the part of a pixel is the centre that its activation points to."""

    def __init__(
        self,
        generator: str,
        layer: str,
        centres: Float[Tensor, "k c"],
        parts: Sequence[str],
        temperature: float = 0.05,
    ) -> None:
        """
        Args:
            generator: name of the generator whose features are clustered.
            centres: vectors of the layer; only their directions count.
            parts: one name for each centre; centres of one name are one part.
            temperature: probabilities are softmax(cosine / temperature).

        Raises:
            RegionError: names, centres or temperature that make no segmenter.
        """
        if len(parts) != len(centres) or not len(centres) or not all(parts):
            raise RegionError(f"{len(centres)} clusters need as many names, got {', '.join(parts) or 'none'}")
        if not centres.isfinite().all() or not temperature > 0 or not math.isfinite(temperature):
            raise RegionError(f"clusters need finite centres and a positive temperature, got {temperature}")
        require_names(parts)
        self.generator, self.layer, self.temperature = generator, layer, temperature
        self.centres = functional.normalize(centres, dim=1)
        self.clusters = tuple(parts)  # of every centre
        self.parts = tuple(dict.fromkeys(parts))
        self.layers = (layer,)
        self.name = f"clusters of {layer}"

    def segment(self, synthesis: Synthesis) -> Float[Tensor, "n p h w"]:
        """See `Segmenter.segment`. At the picture's size up to LARGEST: cosines are smooth, so they are enlarged."""
        a = functional.normalize(synthesis.features[self.layer].float(), dim=1)
        cosine = torch.einsum("nchw,kc->nkhw", a, self.centres.to(a))
        size = max(min(synthesis.images.shape[-1], LARGEST), a.shape[-1])
        if size != a.shape[-1]:
            cosine = functional.interpolate(cosine, (size, size), mode="bilinear", align_corners=False)
        probabilities = (cosine / self.temperature).softmax(dim=1)
        if len(self.parts) == len(self.clusters):
            return probabilities
        owner = torch.tensor([self.parts.index(name) for name in self.clusters], device=a.device)
        joined = probabilities.new_zeros(len(a), len(self.parts), size, size)
        return joined.index_add(1, owner, probabilities)

    def renamed(self, names: Mapping[str, str]) -> "ClusterSegmenter":
        """The same clusters under other names; clusters that get one name become one part.

        Raises:
            RegionError: there is no cluster of that name.
        """
        unknown = [name for name in names if name not in self.parts]
        if unknown:
            raise RegionError(f"clusters are {', '.join(self.parts)}; got {', '.join(unknown)}")
        parts = [names.get(name, name) for name in self.clusters]
        return ClusterSegmenter(self.generator, self.layer, self.centres, parts, self.temperature)

    def save(self, path: Path | str) -> None:
        """Write it as safetensors, whole or not at all. Raises FileError where the place cannot be written."""
        header = {
            "generator": self.generator,
            "layer": self.layer,
            "parts": list(self.clusters),
            "temperature": self.temperature,
        }
        CLUSTERS_FILE.write(path, header, {"centres": self.centres})


def load_clusters(path: Path | str, generator: Generator | None = None) -> ClusterSegmenter:
    """Read a clusters file.

    Args:
        generator: the one that it must belong to; None takes any.

    Raises:
        RegionError: missing, foreign or damaged file, or another generator's.
    """

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ClusterSegmenter:
        return ClusterSegmenter(
            str(header["generator"]),
            str(header["layer"]),
            tensors["centres"].float(),
            [str(part) for part in header["parts"]],
            float(header["temperature"]),
        )

    segmenter = CLUSTERS_FILE.read(path, build)
    if generator is not None:
        require_fit(path, segmenter.generator, {segmenter.layer: segmenter.centres.shape[1]}, generator)
    return segmenter


@dataclass(frozen=True)
class SphericalKMeans:
    """What `spherical_kmeans` found."""

    centres: Float[Tensor, "k c"]  # unit vectors, the largest cluster first
    labels: Int[Tensor, " n"]
    cosine: float  # mean cosine between vectors and their centres: what was maximised


def spherical_kmeans(
    vectors: Float[Tensor, "n c"],
    k: int,
    rng: torch.Generator,
    restarts: int = 4,
    iterations: int = 100,
    progress: Progress = silent,
) -> SphericalKMeans:
    """The best of several runs of spherical k-means, each from a k-means++ start.

    Args:
        iterations: most of one run; it ends when no vector changes its cluster.

    Raises:
        SituError: k or restarts that make no sense for so many vectors.
    """
    if not 1 <= k <= len(vectors) or restarts < 1 or iterations < 1:
        raise SituError(f"{len(vectors)} vectors make from 1 to as many clusters, got k={k}, restarts={restarts}")
    a = functional.normalize(vectors.float(), dim=1)
    best: SphericalKMeans | None = None
    try:
        for run in range(restarts):
            found = _lloyd(a, _plus_plus(a, k, rng), iterations)
            if best is None or found.cosine > best.cosine:
                best = found
            progress(run + 1, restarts, f"cosine {best.cosine:.4f}")
    except KeyboardInterrupt:
        if best is None:
            raise
    assert best is not None
    order = best.labels.bincount(minlength=k).argsort(descending=True, stable=True)
    return SphericalKMeans(best.centres[order], order.argsort()[best.labels], best.cosine)


def _plus_plus(a: Float[Tensor, "n c"], k: int, rng: torch.Generator) -> Float[Tensor, "k c"]:
    """Starting centres, each drawn with probability proportional to 1 - the cosine to the nearest one so far."""

    def draw(weights: Tensor) -> int:
        return int(torch.multinomial(weights.to(rng.device), 1, generator=rng))

    chosen = [draw(torch.ones(len(a)))]
    away = 1 - a @ a[chosen[0]]
    for _ in range(1, k):
        weights = away.clamp(min=0)
        # vectors that all lie on the centres leave nothing to choose by
        chosen.append(draw(weights if weights.sum() > 1e-6 else torch.ones(len(a))))
        away = torch.minimum(away, 1 - a @ a[chosen[-1]])
    return a[chosen]


def _lloyd(a: Float[Tensor, "n c"], centres: Float[Tensor, "k c"], iterations: int) -> SphericalKMeans:
    """Alternate assignments and centres; a cluster that lost all its vectors restarts at the worst placed one."""
    labels = torch.full([len(a)], -1, device=a.device)
    for _ in range(iterations):
        cosine, now = (a @ centres.T).max(dim=1)
        if torch.equal(now, labels):
            break
        labels = now.clone()
        empty = (labels.bincount(minlength=len(centres)) == 0).nonzero().flatten().tolist()
        for k, worst in zip(empty, cosine.argsort()[: len(empty)].tolist(), strict=True):
            labels[worst] = k
        sums = torch.zeros_like(centres).index_add(0, labels, a)
        centres = functional.normalize(sums, dim=1)
    cosine, labels = (a @ centres.T).max(dim=1)
    return SphericalKMeans(centres, labels, float(cosine.mean()))


def default_layer(generator: Generator) -> str:
    """The last feature layer of at most 32 pixels and a quarter of the picture.

    The paper's choices are of 16 and 32 pixels at 1024; nearer to the picture clusters tell colours, not parts.
    """
    most = min(32, generator.resolution // 4)
    fitting = [layer for layer in generator.layers if layer.resolution <= most]
    return (fitting or list(generator.layers))[-1].name


def fit_clusters(
    generator: Generator,
    layer: str | None = None,
    k: int = 8,
    *,
    rng: torch.Generator,
    pictures: int = 64,
    truncation: float = 0.7,
    restarts: int = 4,
    most: int = 16384,
    progress: Progress = silent,
) -> ClusterSegmenter:
    """Cluster a layer's activation vectors over sampled pictures: parts "cluster-1" (the largest) to "cluster-k".

    Args:
        layer: a feature layer of the generator; see `default_layer`.
        pictures: how many are sampled.
        truncation: of their codes.
        most: vectors that are clustered, drawn evenly from all positions of all pictures; bounds memory.

    Raises:
        RegionError: an unknown layer, or a k that is no number of clusters.
    """
    layer = layer or default_layer(generator)
    sizes = {each.name: each.resolution**2 for each in generator.layers}
    if layer not in sizes:
        raise RegionError(f'feature layers of this generator are {", ".join(sizes)}; got "{layer}"')
    if pictures < 1 or most < 1 or not 2 <= k <= min(pictures * sizes[layer], most):
        available = min(max(pictures, 0) * sizes[layer], most)
        raise RegionError(f"from 2 to {available} clusters can be made of {pictures} pictures at {layer}, got k={k}")
    latents = generator.sample(pictures, generator.spaces["z"], rng, truncation)
    each = min(sizes[layer], math.ceil(most / pictures))
    rows = []
    for i in range(0, pictures, BATCH):
        with torch.no_grad():
            some = generator.synthesize(latents[i : i + BATCH], [layer], images=False).features[layer].float()
        vectors = some.flatten(2).mT  # (n, positions, channels)
        if each < sizes[layer]:
            draws = torch.rand(vectors.shape[:2], generator=rng, device=rng.device).to(vectors.device)
            places = draws.argsort(dim=1)[:, :each]
            vectors = vectors.gather(1, places[:, :, None].expand(-1, -1, vectors.shape[2]))
        rows.append(vectors.flatten(0, 1))
    found = spherical_kmeans(torch.cat(rows), k, rng, restarts, progress=progress)
    return ClusterSegmenter(generator.name, layer, found.centres, [f"cluster-{i + 1}" for i in range(k)])
