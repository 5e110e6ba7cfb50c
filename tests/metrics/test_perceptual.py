"""Distances between pictures, by hand."""

import pytest
import torch

from situ.core.measurement import EditedImages, Metric
from situ.metrics.perceptual import FeatureDistance, PyramidDistance


def test_features_are_normalised_along_channels() -> None:
    """Layer one: (1, 0, 0) against (0, 5, 0) everywhere: 2. Layer two (its mean over positions): half 4, half 0."""

    def features(images: torch.Tensor) -> list[torch.Tensor]:
        return [images, images[:, :1]]

    a, b = torch.zeros(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    a[:, 0], b[:, 1] = 1.0, 5.0
    b[:, 0, 0, 0] = -0.0  # no red: a change from a unit vector to nothing
    measure = FeatureDistance("toy", features)
    # layer one 2 at both positions; layer two 1 at both, from 1 to 0
    assert measure.between(a, b).tolist() == pytest.approx([1.5], rel=1e-4)
    b = -a
    assert measure.between(a, b).tolist() == pytest.approx([4.0], rel=1e-4)
    assert measure.between(a, a).tolist() == [0]


def test_features_ignore_brightness_but_see_each_picture_apart() -> None:
    measure = FeatureDistance("toy", lambda images: [images])
    a = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.1
    b = a.clone()
    b[0] *= 3
    b[1] = -b[1]
    assert measure.between(a, b).tolist() == pytest.approx([0, 4], abs=1e-5)


def test_the_pyramid_averages_three_resolutions() -> None:
    a, b = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    b[:, :, :, 0::2], b[:, :, :, 1::2] = 0.5, -0.5  # gone at half the resolution
    b[:, :, :4, :4] = 0.4
    # three quarters of 0.25 and one of 0.16; then one quarter of 0.16, twice
    expected = (0.75 * 0.25 + 0.25 * 0.16 + 2 * 0.25 * 0.16) / 3
    assert PyramidDistance().between(torch.cat([a, a]), torch.cat([b, a])).tolist() == pytest.approx([expected, 0])


@pytest.mark.parametrize("metric", [PyramidDistance(), FeatureDistance("toy", lambda images: [images])])
def test_as_metrics_they_compare_before_and_after(metric: PyramidDistance | FeatureDistance) -> None:
    rng = torch.Generator().manual_seed(0)
    before, after = torch.rand(2, 3, 8, 8, generator=rng), torch.rand(2, 3, 8, 8, generator=rng).requires_grad_()
    distance = metric(EditedImages(before, after, torch.ones(2, 1, 8, 8)))
    assert isinstance(metric, Metric)
    assert torch.equal(distance, metric.between(before, after))
    distance.sum().backward()
    assert after.grad is not None
    assert after.grad.isfinite().all()
    assert (after.grad != 0).any()


def test_the_pyramid_of_the_smallest_pictures_a_generator_can_make() -> None:
    assert PyramidDistance().between(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)).tolist() == [1]


def test_summaries_are_of_each_picture_alone_and_of_a_fixed_width() -> None:
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for measure, width in (
        (FeatureDistance("toy", lambda images: [images, images[:, :1]]), 8),
        (PyramidDistance(), 192),
    ):
        rows = measure.summary(images)
        assert rows.shape == (3, width)
        torch.testing.assert_close(measure.summary(images[1:2]), rows[1:2])
    assert FeatureDistance("toy", lambda images: [images]).summary(images)[0, 0] == pytest.approx(
        float(images[0, 0].mean())
    )
