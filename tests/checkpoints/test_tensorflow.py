"""TensorFlow's pickles of StyleGAN and StyleGAN2: the same weights, and what is refused of other networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from situ.checkpoints.open import open_checkpoint, read_checkpoint
from situ.core.errors import ModelError
from situ.generators.stylegan2 import StyleGAN2
from wild_files import (
    PUBLISHED,
    TINY,
    drawn,
    draws_as_published,
    network,
    pickled,
    pictures_of,
    stylegan1_to_tensorflow,
    tensorflow_network,
    to_tensorflow,
    weights_of,
    write,
)


def variables(settings: Any = TINY) -> dict[str, np.ndarray]:
    return to_tensorflow(weights_of(network(settings)))


@pytest.mark.parametrize(
    "settings", [TINY, replace(TINY, resolution=32, c_dim=3), replace(TINY, z_dim=5, w_dim=7, conv_clamp=1.5)]
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_stylegan2(settings: Any, protocol: int, tmp_path: Path) -> None:
    said = {} if settings.conv_clamp is None else {"conv_clamp": settings.conv_clamp, "resample_kernel": [1, 3, 3, 1]}
    average = tensorflow_network(variables(settings), 5, **said)
    other = tensorflow_network(to_tensorflow(weights_of(network(settings, 1))), 5)
    opened = read_checkpoint(write(tmp_path / "a.pkl", pickled((other, other, average), protocol)))
    assert opened.format.name == "nvidia-tensorflow"
    assert opened.notes == ()
    expected = pictures_of(StyleGAN2(network(settings)), classes=settings.c_dim)
    torch.testing.assert_close(pictures_of(opened.generator, classes=settings.c_dim), expected, rtol=1e-4, atol=1e-4)


# The pictures are those of genforce's class (see test_stylegan1.py), whose kernels are oriented as TensorFlow's are.
@pytest.mark.parametrize("name", ["genforce1-16-c0", "genforce1-128-c3"])
def test_stylegan1(name: str, tmp_path: Path) -> None:
    average = tensorflow_network(stylegan1_to_tensorflow(drawn(PUBLISHED[name])), 3)
    path = write(tmp_path / "a", pickled((average, average, average)))
    assert draws_as_published(open_checkpoint(path), PUBLISHED[name])


@pytest.mark.parametrize(("fused", "same"), [("auto", True), (True, False), (False, False)])
def test_which_kernels_are_stored_for_a_transposed_convolution(fused: Any, same: bool, tmp_path: Path) -> None:
    case = PUBLISHED["genforce1-128-c3"]
    average = tensorflow_network(stylegan1_to_tensorflow(drawn(case)), 3, fused_scale=fused)
    assert draws_as_published(open_checkpoint(write(tmp_path / "a", pickled(average))), case) == same


def test_growing_generators_are_refused(tmp_path: Path) -> None:
    grown = {**stylegan1_to_tensorflow(drawn(PUBLISHED["genforce1-16-c0"])), "lod": np.array(1.5, np.float32)}
    with pytest.raises(ModelError, match=r"level of detail 1.5, expected 0"):
        open_checkpoint(write(tmp_path / "a", pickled(tensorflow_network(grown, 3))))


def refused() -> dict[str, tuple[Any, str]]:
    good = variables(replace(TINY, resolution=16))

    def net(changed: dict[str, np.ndarray], version: int = 4, **said: Any) -> Any:
        made = tensorflow_network(changed, version, **said)
        return (made, made, made)

    label = {"mapping/LabelConcat/weight": np.zeros((3, 8), np.float32)}
    discriminator = {"synthesis/4x4/Dense1/weight": np.zeros((3, 8), np.float32)}
    return {
        "joint normalisation": (net({**good, **label}), "normalises class and z together"),
        "discriminator": (net(discriminator), "a discriminator or a metric's"),
        "older": (net({"a": np.zeros(3, np.float32)}, 2), r"Gs \(version 2\) is neither"),
        "resnet": (net(good, architecture="resnet"), "architecture resnet"),
        "tanh": (net(good, nonlinearity="relu"), "nonlinearity relu"),
        "filter": (net(good, resample_kernel=[1, 2, 1]), "resample_kernel is not"),
        "no block": (net({k: v for k, v in good.items() if "/8x8/" not in k}), r"layers are of \[4, 16\] pixels"),
        "no noise map": (
            net({k: v for k, v in good.items() if k != "synthesis/noise2"}),
            "synthesis/noise2 is missing",
        ),
        "left over": (
            net({**good, "synthesis/16x16/Extra": np.zeros(3, np.float32)}),
            "also has synthesis/16x16/Extra",
        ),
        "shape": (net({**good, "synthesis/8x8/Conv1/weight": np.zeros((3, 3, 5), np.float32)}), "expected 4 axes"),
        "nested": (net({"mapping/a": np.zeros(3, np.float32)}), "is neither"),
        "odd settings": (net(good, resample_kernel=[[[1]]] * 9), "resample_kernel is not"),
    }


@pytest.mark.parametrize("name", refused())
def test_other_networks_are_one_clear_line(name: str, tmp_path: Path) -> None:
    content, expected = refused()[name]
    with pytest.raises(ModelError, match=expected) as error:
        open_checkpoint(write(tmp_path / "a", pickled(content)))
    assert "\n" not in str(error.value)
