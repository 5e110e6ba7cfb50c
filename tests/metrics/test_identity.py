"""Identity similarity, by hand."""

import pytest
import torch

from situ.core.measurement import EditedImages, Metric
from situ.metrics.identity import IdentitySimilarity


def test_it_is_the_cosine_of_each_pair() -> None:
    metric = IdentitySimilarity(lambda images: images.mean(dim=(2, 3)))
    before = torch.tensor([[1.0, 0, 0], [3, 4, 0], [1, 1, 1]])[:, :, None, None].expand(-1, -1, 2, 2)
    after = torch.tensor([[5.0, 0, 0], [4, 3, 0], [-1, -1, -1]])[:, :, None, None].expand(-1, -1, 2, 2)
    similarity = metric(EditedImages(before, after, torch.ones(3, 1, 2, 2)))
    assert similarity.tolist() == pytest.approx([1, 24 / 25, -1])
    assert isinstance(metric, Metric)
    assert metric.better == "higher"
