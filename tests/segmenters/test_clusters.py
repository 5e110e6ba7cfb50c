"""Spherical k-means finds known clusters, and clusters are a segmenter that survives its file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from situ.core.errors import RegionError, SituError
from situ.core.region import Part, Segmenter
from situ.segmenters.clusters import (
    ClusterSegmenter,
    default_layer,
    fit_clusters,
    load_clusters,
    spherical_kmeans,
)
from situ.segmenters.linear import LinearSegmenter
from toys import TileGenerator, tiny_stylegan2
from toys_parts import HUES, HalvesGenerator, HalvesSegmenter


def bundles(
    rng: torch.Generator, sizes: tuple[int, ...] = (40, 30, 20, 10), noise: float = 0.1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors about orthogonal directions, of very different lengths; and the bundle of each."""
    prototypes = torch.linalg.qr(torch.randn(16, 16, generator=rng))[0][: len(sizes)]
    labels = torch.cat([torch.full([size], i) for i, size in enumerate(sizes)])
    vectors = prototypes[labels] + noise / 4 * torch.randn(len(labels), 16, generator=rng)
    return vectors * torch.exp(2 * torch.randn(len(labels), 1, generator=rng)), labels


def test_known_bundles_are_found_the_largest_first(rng: torch.Generator) -> None:
    vectors, labels = bundles(rng)
    found = spherical_kmeans(vectors, 4, rng)
    assert torch.equal(found.labels, labels)
    assert torch.allclose(found.centres.norm(dim=1), torch.ones(4))
    assert found.cosine > 0.98


def test_only_directions_count(rng: torch.Generator) -> None:
    vectors, _ = bundles(rng, noise=0.8)
    scaled = vectors * torch.exp(torch.randn(len(vectors), 1, generator=rng))
    a, b = (spherical_kmeans(v, 4, torch.Generator().manual_seed(1)) for v in (vectors, scaled))
    assert torch.equal(a.labels, b.labels)
    torch.testing.assert_close(a.centres, b.centres)


def test_the_optimum_is_a_fixed_point(rng: torch.Generator) -> None:
    """Every vector is with its nearest centre, and every centre points to the sum of its unit vectors."""
    vectors = torch.randn(300, 5, generator=rng)
    found = spherical_kmeans(vectors, 6, rng)
    unit = functional.normalize(vectors, dim=1)
    assert torch.equal((unit @ found.centres.T).argmax(dim=1), found.labels)
    sums = torch.stack([unit[found.labels == k].sum(dim=0) for k in range(6)])
    torch.testing.assert_close(functional.normalize(sums, dim=1), found.centres, atol=1e-5, rtol=0)
    assert found.cosine == pytest.approx(float((unit * found.centres[found.labels]).sum(dim=1).mean()), abs=1e-5)


def test_more_restarts_are_never_worse(rng: torch.Generator) -> None:
    vectors = torch.randn(200, 4, generator=rng)
    scores = [spherical_kmeans(vectors, 8, torch.Generator().manual_seed(3), restarts=n).cosine for n in (1, 3, 9)]
    assert scores == sorted(scores)


def test_more_clusters_than_directions_stay_finite(rng: torch.Generator) -> None:
    vectors = torch.eye(3).repeat(4, 1)
    found = spherical_kmeans(vectors, 6, rng)
    assert found.centres.isfinite().all()
    assert found.cosine == pytest.approx(1)


def test_zero_vectors_do_no_harm(rng: torch.Generator) -> None:
    vectors, labels = bundles(rng)
    found = spherical_kmeans(torch.cat([vectors, torch.zeros(5, 16)]), 4, rng)
    assert torch.equal(found.labels[: len(labels)], labels)


def test_an_interrupt_keeps_the_best_run(rng: torch.Generator) -> None:
    def stop(done: int | float, total: int, message: str = "") -> None:
        raise KeyboardInterrupt

    vectors, labels = bundles(rng)
    assert spherical_kmeans(vectors, 4, rng, progress=stop).centres.shape == (4, 16)
    assert len(labels)


@pytest.mark.parametrize("k", [0, -1, 101])
def test_impossible_numbers_of_clusters_are_refused(k: int, rng: torch.Generator) -> None:
    with pytest.raises(SituError, match=f"from 1 to as many clusters, got k={k}"):
        spherical_kmeans(torch.randn(100, 3, generator=rng), k, rng)


def test_the_halves_are_found(rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    found = fit_clusters(generator, "hue", 2, rng=rng, pictures=5)
    assert isinstance(found, Segmenter)
    assert found.layers == ("hue",)
    assert found.parts == ("cluster-1", "cluster-2")
    cosines = functional.normalize(HUES, dim=1) @ found.centres.T
    assert cosines.max(dim=1).values.min() > 0.9999
    made = generator.synthesize(generator.sample(3, generator.spaces["z"], rng), ["hue"])
    probabilities = found.segment(made)
    assert probabilities.shape == (3, 2, 16, 16), "at the picture's size"
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3, 16, 16))
    truth = HalvesSegmenter().segment(made)
    for part in found.parts:
        mask = Part(found, (part,)).mask(made)
        assert max(float((mask == truth[:, i : i + 1]).float().mean()) for i in range(2)) == 1


def test_the_same_seed_gives_the_same_clusters_from_few_vectors_too() -> None:
    generator = tiny_stylegan2()
    a, b = (
        fit_clusters(generator, "b8.conv1", 3, rng=torch.Generator().manual_seed(4), pictures=20, most=100)
        for _ in range(2)
    )
    assert torch.equal(a.centres, b.centres)


def test_soft_parts_can_be_followed_by_gradients(rng: torch.Generator) -> None:
    generator = tiny_stylegan2()
    found = fit_clusters(generator, "b8.conv1", 3, rng=rng, pictures=8)
    latents = generator.sample(2, generator.spaces["w"], rng)
    values = latents.values.clone().requires_grad_()
    made = generator.synthesize(latents.with_values(values), found.layers)
    Part(found, ("cluster-2",), soft=True).mask(made).sum().backward()
    assert values.grad is not None
    assert values.grad.abs().sum() > 0


def test_names_and_joined_parts(rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    found = fit_clusters(generator, "base", 3, rng=rng, pictures=2)
    named = found.renamed({"cluster-1": "mouth", "cluster-3": "mouth"})
    assert named.parts == ("mouth", "cluster-2")
    assert found.parts == ("cluster-1", "cluster-2", "cluster-3"), "the old one stays"
    made = generator.synthesize(generator.sample(2, generator.spaces["z"], rng), ["base"])
    before, after = found.segment(made), named.segment(made)
    torch.testing.assert_close(after[:, 0], before[:, 0] + before[:, 2])
    torch.testing.assert_close(after[:, 1], before[:, 1])
    assert named.renamed({"mouth": "lips"}).clusters == ("lips", "cluster-2", "lips")
    with pytest.raises(RegionError, match="clusters are cluster-1, cluster-2, cluster-3; got nose"):
        found.renamed({"nose": "mouth"})
    with pytest.raises(RegionError, match='a word without "\\+"'):
        found.renamed({"cluster-1": "a+b"})


def test_files(tmp_path: Path, rng: torch.Generator) -> None:
    generator = HalvesGenerator()
    found = fit_clusters(generator, "hue", 2, rng=rng, pictures=2).renamed({"cluster-1": "left"})
    found.save(tmp_path / "c.safetensors")
    again = load_clusters(tmp_path / "c.safetensors", generator)
    assert (again.generator, again.layer, again.parts, again.temperature) == ("halves", "hue", found.parts, 0.05)
    torch.testing.assert_close(again.centres, found.centres)
    other = tiny_stylegan2()
    with pytest.raises(RegionError, match=rf"made on halves, this model is {other.name}: make it again"):
        load_clusters(tmp_path / "c.safetensors", other)
    ClusterSegmenter(other.name, "b8.conv1", torch.eye(5), ["a", "b", "c", "d", "e"]).save(tmp_path / "d.safetensors")
    with pytest.raises(RegionError, match=r"does not fit b8\.conv1 of"):
        load_clusters(tmp_path / "d.safetensors", other)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match=r"no clusters file at .*as `situ clusters` writes it"):
        load_clusters(tmp_path / "none.safetensors")
    LinearSegmenter("halves", ("a", "b"), {"hue": torch.zeros(2, 3)}, torch.zeros(2), 16).save(
        tmp_path / "l.safetensors"
    )
    with pytest.raises(RegionError, match=r"holds something else \(situ-linear-1\)"):
        load_clusters(tmp_path / "l.safetensors")
    save_file({"centres": torch.eye(2)}, tmp_path / "x.safetensors")
    with pytest.raises(RegionError, match="holds something else"):
        load_clusters(tmp_path / "x.safetensors")
    header = '{"format": "situ-clusters-1", "generator": "g", "layer": "l", "parts": ["a"], "temperature": 0.1}'
    save_file({"centres": torch.eye(2)}, tmp_path / "y.safetensors", {"situ": header})
    with pytest.raises(RegionError, match="2 clusters need as many names"):
        load_clusters(tmp_path / "y.safetensors")


@pytest.mark.parametrize(
    ("layer", "k", "pictures", "message"),
    [
        ("nose", 2, 4, r'feature layers of this generator are hue, base; got "nose"'),
        ("hue", 1, 4, "from 2 to 64 clusters can be made of 4 pictures at hue, got k=1"),
        ("hue", 65, 4, "from 2 to 64 clusters"),
        ("hue", 2, 0, "from 2 to 0 clusters"),
    ],
)
def test_bad_settings(layer: str, k: int, pictures: int, message: str, rng: torch.Generator) -> None:
    with pytest.raises(RegionError, match=message):
        fit_clusters(HalvesGenerator(), layer, k, rng=rng, pictures=pictures)


def test_the_default_layer_is_a_quarter_of_the_picture() -> None:
    assert default_layer(tiny_stylegan2(resolution=32)) == "b8.conv1"
    assert default_layer(TileGenerator(False)) == "paint", "the only one there is"
