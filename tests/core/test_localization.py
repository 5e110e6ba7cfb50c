"""The localisation score against numbers worked out by hand (LELSD, equation 2)."""

import pytest
import torch

from situ.core.errors import SituError
from situ.core.localization import aggregate, feature_change, localization_scores


def picture(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)[None, None]


def test_aggregation() -> None:
    s, s_edited = picture([0.0, 0.0, 1.0, 1.0, 0.5]), picture([0.0, 1.0, 0.0, 1.0, 0.5])
    assert aggregate(s, s_edited).flatten().tolist() == [0, 0.5, 0.5, 1, 0.5]
    assert aggregate(s, s_edited, "union").flatten().tolist() == [0, 1, 1, 1, 0.75]
    assert aggregate(s, s_edited, "intersection").flatten().tolist() == [0, 0, 0, 1, 0.25]


def test_distances_of_features() -> None:
    r = torch.tensor([[3.0, 4.0], [1.0, 0.0]]).T[None, :, None, :]  # two positions: (3, 4) and (1, 0)
    r_edited = torch.tensor([[0.0, 4.0], [0.0, 2.0]]).T[None, :, None, :]  # (0, 4) and (0, 2)
    assert feature_change(r, r_edited, "l2").tolist() == [[[9, 5]]]
    assert feature_change(r, r_edited, "l1").flatten().tolist() == [3, 3]
    torch.testing.assert_close(feature_change(r, r_edited, "cosine").flatten(), torch.tensor([1 - 0.8, 1.0]))


@pytest.mark.parametrize(("distance", "expected"), [("l2", 9 / 14), ("l1", 3 / 6), ("cosine", 0.2 / 1.2)])
def test_the_score_is_the_share_of_change_inside(distance: str, expected: float) -> None:
    r = torch.tensor([[3.0, 4.0], [1.0, 0.0]]).T[None, :, None, :]
    r_edited = torch.tensor([[0.0, 4.0], [0.0, 2.0]]).T[None, :, None, :]
    scores = localization_scores({"a": r}, {"a": r_edited}, picture([1.0, 0.0]), distance)
    torch.testing.assert_close(scores, torch.tensor([[expected]]))


def test_the_mask_is_averaged_to_each_layer() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, :2] = 1
    mask[..., 0, 2] = 1  # a quarter of the top right
    change = picture([1.0, 2.0], [3.0, 4.0]).sqrt()
    small = localization_scores({"a": change}, {"a": torch.zeros(1, 1, 2, 2)}, mask)
    torch.testing.assert_close(small, torch.tensor([[(1 * 1 + 0.25 * 2) / 10]]))
    one = localization_scores({"a": torch.ones(1, 3, 1, 1)}, {"a": torch.zeros(1, 3, 1, 1)}, mask)
    torch.testing.assert_close(one, torch.tensor([[5 / 16]]))


def test_rows_are_layers_and_columns_samples() -> None:
    features = {"a": torch.zeros(2, 1, 1, 2), "b": torch.zeros(2, 3, 1, 4)}
    edited = {"a": torch.tensor([[[[1.0, 1.0]]], [[[1.0, 2.0]]]]), "b": torch.ones(2, 3, 1, 4)}
    mask = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]]])
    scores = localization_scores(features, edited, mask)
    torch.testing.assert_close(scores, torch.tensor([[0.5, 4 / 5], [0.5, 0.5]]))


@pytest.mark.parametrize("distance", ["l2", "l1", "cosine"])
def test_several_edits_of_the_same_samples(distance: str, rng: torch.Generator) -> None:
    """Rows a b a b a b: as if the features of x had been repeated."""
    features = {"a": torch.randn(2, 3, 4, 4, generator=rng), "b": torch.randn(2, 5, 2, 2, generator=rng)}
    edited = {name: torch.randn(6, *r.shape[1:], generator=rng) for name, r in features.items()}
    mask = torch.rand(6, 1, 4, 4, generator=rng)
    scores = localization_scores(features, edited, mask, distance)
    assert scores.shape == (2, 6)
    repeated = {name: r.repeat(3, 1, 1, 1) for name, r in features.items()}
    torch.testing.assert_close(scores, localization_scores(repeated, edited, mask, distance))


def test_leading_dimensions_of_features_broadcast(rng: torch.Generator) -> None:
    r, r_edited = torch.randn(2, 3, 4, 5, generator=rng), torch.randn(6, 2, 3, 4, 5, generator=rng)
    change = feature_change(r, r_edited)
    assert change.shape == (6, 2, 4, 5)
    torch.testing.assert_close(change[3], feature_change(r, r_edited[3]))


def test_no_change_scores_zero() -> None:
    same = torch.ones(1, 2, 3, 3)
    assert localization_scores({"a": same}, {"a": same}, torch.ones(1, 1, 3, 3)).tolist() == [[0.0]]


def test_unknown_names_are_refused(unchecked: None) -> None:
    one = torch.ones(1, 1, 1, 1)
    with pytest.raises(SituError, match='"average", "union" or "intersection", got "sum"'):
        aggregate(one, one, "sum")
    with pytest.raises(SituError, match='"l2", "l1" or "cosine", got "l3"'):
        feature_change(one, one, "l3")
