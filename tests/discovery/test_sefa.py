"""SeFa against an explicit decomposition of the style weights."""

from collections.abc import Sequence

import pytest
import torch

from situ.core.direction import Direction
from situ.core.discovery import Calibration, discover
from situ.core.errors import SituError
from situ.core.region import Box, Part
from situ.discovery.sefa import SeFa
from toys import TILES, TileGenerator, TileSegmenter, mean_square
from toys_statistics import StyledTileGenerator, tiny_stylegan2

GAN = tiny_stylegan2()
TOY = StyledTileGenerator(rotate=True)
BOX = [Box(4, 4, 8, 8)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def found(method: SeFa, generator: object = GAN) -> list[Direction]:
    return method.find(generator, BOX, seeded())[0]  # pyright: ignore[reportArgumentType]


def affine(rows: Sequence[int], rgb: bool | str = False) -> torch.Tensor:
    """The stacked style weights of the steps that some rows of W+ feed, read off the network."""
    steps = [step for step in GAN.network.steps if step.row in rows]
    last = GAN.network.steps[-1]
    steps = [step for step in steps if step.kind != "rgb" or rgb is True or (rgb == "last" and step is last)]
    layers = [GAN.network.synthesis.get_submodule(step.name).affine for step in steps]
    return torch.cat([layer.weight * layer.weight_gain for layer in layers])  # pyright: ignore[reportArgumentType, reportCallIssue]


def same_up_to_sign(directions: Sequence[Direction], rows: torch.Tensor) -> None:
    cosines = (torch.stack([d.vector for d in directions]) * rows[: len(directions)]).sum(dim=1).abs()
    torch.testing.assert_close(cosines, torch.ones(len(directions)), rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("space", "rows", "to_rgb"),
    [
        ("w", range(6), "none"),
        ("w", range(6), "last"),
        ("w", range(6), "all"),
        ("w:2-4", (2, 3, 4), "none"),
        ("w:2-4", (2, 3, 4), "all"),
        ("w+:3", (3,), "none"),
        ("w+:5", (5,), "last"),
    ],
)
@pytest.mark.parametrize("normalize", [False, True])
def test_eigenvectors_are_singular_vectors_of_the_style_weights(
    space: str, rows: Sequence[int], to_rgb: str, normalize: bool
) -> None:
    A = affine(rows, {"none": False, "last": "last", "all": True}[to_rgb])
    A = A / A.norm(dim=1, keepdim=True) if normalize else A
    _, singular, right = torch.linalg.svd(A.double())
    directions = found(SeFa(space, k=5, normalize=normalize, to_rgb=to_rgb))  # pyright: ignore[reportArgumentType]
    same_up_to_sign(directions, right.float())
    values = torch.tensor([d.figures["eigenvalue"] for d in directions], dtype=torch.float64)
    torch.testing.assert_close(values, singular[:5] ** 2, rtol=1e-4, atol=0)
    assert directions[0].figures["share"] == pytest.approx(float(singular[0] ** 2 / (singular**2).sum()), rel=1e-4)


def test_free_rows_are_solved_as_one_problem_would_be() -> None:
    """The largest eigenvalues of the block diagonal matrix, whichever row they come from."""
    A = torch.block_diag(*[affine((row,)) for row in (2, 3, 4)])
    _, singular, right = torch.linalg.svd(A.double())
    directions = found(SeFa("w+:2-4", k=6))
    same_up_to_sign(directions, right.float())
    for direction in directions:
        assert sum(bool(part.abs().max() > 1e-6) for part in direction.vector.split(8)) == 1
    assert [d.figures["eigenvalue"] for d in directions] == pytest.approx((singular[:6] ** 2).tolist(), rel=1e-4)


def test_the_known_axes_are_found() -> None:
    order = TOY.gain.argsort(descending=True)
    directions = found(SeFa(k=12, to_rgb="all"), TOY)
    same_up_to_sign(directions, TOY.rotation[order])
    assert [d.figures["eigenvalue"] for d in directions] == pytest.approx((TOY.gain[order] ** 2).tolist(), rel=1e-4)


def test_the_best_of_a_region_paints_it() -> None:
    region = Part(TileSegmenter(), (TILES[2],))
    judged = Calibration(mean_square, 0.01, 4, 1.0)
    (directions,) = discover(TOY, [region], SeFa(k=12, to_rgb="all"), seeded(), judged, random=0)
    assert len(directions) == 12
    assert (TOY.truth(2) @ directions[0].vector).norm() > 0.99


def test_styles_that_are_not_affine_are_averaged_over_codes() -> None:
    """Of z: the mean of A^T A over the sampled codes, each by reverse mode."""
    codes = GAN.sample(5, GAN.spaces["z"], seeded(), 0.7)
    grams = []
    for i in range(5):
        A = torch.autograd.functional.jacobian(
            lambda z: torch.cat(
                [
                    part
                    for part, piece in zip(
                        GAN.spaces["s"].split(GAN.convert(codes[:1].with_values(z[None]), GAN.spaces["s"]).values[0]),
                        GAN.spaces["s"].slices,
                        strict=True,
                    )
                    if piece.kind == "conv"
                ]
            ),
            codes.values[i],
        )
        grams.append(A.double().T @ A.double())
    values, vectors = torch.linalg.eigh(torch.stack(grams).mean(dim=0))
    directions = found(SeFa("z", k=4, codes=5, truncation=0.7))
    same_up_to_sign(directions, vectors.T.flip(0).float())
    assert [d.figures["eigenvalue"] for d in directions] == pytest.approx(values.flip(0)[:4].tolist(), rel=1e-3)


def test_affine_styles_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[int] = []
    SeFa("w", k=2).find(GAN, BOX, seeded(), lambda done, total, message="": reports.append(done))
    assert reports == [1]
    SeFa("z", k=2, codes=3).find(GAN, BOX, seeded(), lambda done, total, message="": reports.append(done))
    assert reports == [1, 1, 2, 3]


def test_interrupted_averages_are_kept() -> None:
    def interrupt(done: int | float, total: int, message: str = "") -> None:
        if done == 2:
            raise KeyboardInterrupt

    (stopped,) = SeFa("z", k=2, codes=9).find(GAN, BOX, seeded(), interrupt)
    assert stopped[0].vector.norm() == pytest.approx(1, abs=1e-5)


def test_what_a_direction_says_of_itself() -> None:
    first, second = SeFa(k=2).find(GAN, [*BOX, Box(12, 10, 6, 10)], seeded(11))
    assert [d.name for d in first] == ["eigenvector-1", "eigenvector-2"]
    assert torch.equal(first[0].vector, second[0].vector)
    assert (first[0].seed, first[0].generator, str(first[0].subspace)) == (11, GAN.name, "w")
    assert second[0].region == "box[12,10,6,10]"
    assert first[0].found_by.startswith("SeFa(space='w', k=2")
    assert first[0].vector[first[0].vector.abs().argmax()] > 0


def test_as_coded_normalises_and_counts_the_last_rgb() -> None:
    coded = SeFa.as_coded(k=3)
    assert (coded.normalize, coded.to_rgb, coded.k) == (True, "last", 3)
    with pytest.raises(TypeError):
        SeFa.as_coded(normalise=True)


def test_spaces_without_style_weights_are_refused() -> None:
    with pytest.raises(SituError, match=r"s is the last space of stylegan2.*choose z, w, w\+"):
        found(SeFa("s", k=2))
    with pytest.raises(SituError, match="w is the last space of tiles"):
        found(SeFa("w", k=2), TileGenerator(rotate=True))
    with pytest.raises(SituError, match="z to w moves alike in all directions"):
        found(SeFa("z", k=2), TileGenerator(rotate=True))
    with pytest.raises(SituError, match='w\\+:5 feeds no style that counts: with to_rgb="all"'):
        found(SeFa("w+:5", k=2))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, r"must be positive, got \{'k': 0\}"),
        ({"codes": 0}, "codes"),
        ({"truncation": 0.0}, "truncation is a number other than 0"),
        ({"truncation": float("inf")}, "truncation"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(SituError, match=message):
        SeFa(**settings)
    with pytest.raises(SituError, match="w has 8 dimensions, too few for k=9"):
        found(SeFa(k=9))


def test_words_that_mean_nothing_are_refused(unchecked: None) -> None:
    with pytest.raises(SituError, match='to_rgb is one of none, last, all, got "some"'):
        SeFa(to_rgb="some")  # pyright: ignore[reportArgumentType]
