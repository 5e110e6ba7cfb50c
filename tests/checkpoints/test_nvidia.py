"""NVIDIA's pickles: the pictures of the published classes, every size, and what is refused of other modules."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from situ.checkpoints.open import open_checkpoint, read_checkpoint
from situ.core.errors import ModelError
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan3 import StyleGAN3
from situ.generators.stylegan3_network import StyleGAN3Network, StyleGAN3Settings
from wild_files import (
    DISCRIMINATOR,
    FIR,
    GOLDEN,
    PUBLISHED,
    TINY,
    draw_weights,
    draws_as_published,
    network,
    nvidia_attributes,
    nvidia_module,
    nvidia_weights,
    pickled,
    pictures_of,
    snapshot,
    torch_file,
    weights_of,
    write,
)

SMALL3 = StyleGAN3Settings(resolution=16, z_dim=8, w_dim=8, channel_base=64, channel_max=8, num_layers=5)


# Written by the persistent classes of github.com/NVlabs/stylegan2-ada-pytorch at d72cc7d (with classes, a clamp and a
# discriminator) and of github.com/NVlabs/stylegan3 at c233a91, which also drew the pictures; their source is left out.
@pytest.mark.parametrize(
    ("file", "case"),
    [("checkpoints_nvidia_8px.pkl", "nvidia-ada"), ("checkpoints_nvidia_stylegan3_16px.pkl", "nvidia-stylegan3")],
)
def test_published_pickles(file: str, case: str) -> None:
    data = (GOLDEN / file).read_bytes()
    assert b"import" not in data
    opened = read_checkpoint(GOLDEN / file)
    assert opened.format.name == "nvidia"
    assert opened.notes == ()
    assert draws_as_published(opened.generator, PUBLISHED[case])


@pytest.mark.parametrize(
    "settings",
    [
        TINY,
        replace(TINY, resolution=4),
        replace(TINY, resolution=32, c_dim=3, conv_clamp=1.5),
        replace(TINY, z_dim=5, w_dim=7, mapping_layers=1, c_dim=1),
        replace(TINY, resolution=16, channel_base=100, channel_max=11),
        replace(TINY, resolution=32, widths=(6, 3, 7, 4)),
        replace(TINY, resolution=16, widths=(3, 6, 6)),
    ],
)
def test_every_size_comes_back(settings: Any, tmp_path: Path) -> None:
    made = network(settings)
    found = open_checkpoint(write(tmp_path / "a", snapshot(made, protocol=4 if settings.c_dim else 2)))
    expected = StyleGAN2(made)
    assert isinstance(found, StyleGAN2)
    assert found.name == expected.name
    assert found.settings.conv_clamp == settings.conv_clamp
    pictures = [pictures_of(generator, classes=settings.c_dim) for generator in (found, expected)]
    torch.testing.assert_close(*pictures, rtol=0, atol=0)


def test_a_rule_for_channels_is_found_where_there_is_one(tmp_path: Path) -> None:
    made = network(replace(TINY, resolution=32, channel_base=128, channel_max=6))
    settings: Any = open_checkpoint(write(tmp_path / "a", snapshot(made))).settings  # pyright: ignore
    assert (settings.channel_base, settings.channel_max, settings.widths) == (128, 6, ())


def test_the_averaged_weights_are_taken(tmp_path: Path) -> None:
    other = nvidia_module(nvidia_weights(network(seed=1)), nvidia_attributes())
    opened = read_checkpoint(write(tmp_path / "a", snapshot(network(), G=other, D=nvidia_module(DISCRIMINATOR))))
    assert opened.generator.name == StyleGAN2(network()).name
    opened = read_checkpoint(write(tmp_path / "a", snapshot(network(), "G", G_ema=None)))
    assert opened.generator.name == StyleGAN2(network()).name
    assert 'those of the last training step are taken ("G")' in opened.notes[0]


def test_other_containers(tmp_path: Path) -> None:
    module = nvidia_module(nvidia_weights(network()), nvidia_attributes())
    files = {
        "a module alone": pickled(module),
        "torch": torch_file({"G_ema": module}),
        "a state dict": torch_file(weights_of(network())),
        "a state dict, old": torch_file({"G_ema": nvidia_weights(network())}, legacy=True),
        "DataParallel": torch_file({f"module.{key}": value for key, value in weights_of(network()).items()}),
        "half": torch_file({key: value.half() for key, value in weights_of(network()).items()}),
    }
    for name, data in files.items():
        opened = read_checkpoint(write(tmp_path / "a.bin", data))
        difference = (pictures_of(opened.generator) - pictures_of(StyleGAN2(network()))).abs().max().item()
        assert difference < (1 if name == "half" else 1e-6), name
        assert bool(opened.notes) == (opened.format.name == "nvidia-state-dict")


def test_strides_are_honoured(tmp_path: Path) -> None:
    weights = {
        key: value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
        for key, value in nvidia_weights(network()).items()
    }
    data = pickled({"G_ema": nvidia_module(weights, nvidia_attributes())})
    assert open_checkpoint(write(tmp_path / "a", data)).name == StyleGAN2(network()).name


def test_another_learning_rate_of_the_mapping_is_worked_in(tmp_path: Path) -> None:
    made = network()
    weights = nvidia_weights(made)
    for key in weights:
        if key.startswith("mapping.fc"):
            weights[key] = weights[key] / 100  # a learning rate multiplier of 1
    attributes = {**nvidia_attributes(), **{f".fc{i}": {"activation": "lrelu", "bias_gain": 1.0} for i in range(2)}}
    found = open_checkpoint(write(tmp_path / "a", pickled({"G_ema": nvidia_module(weights, attributes)})))
    torch.testing.assert_close(pictures_of(found), pictures_of(StyleGAN2(made)), rtol=1e-4, atol=1e-4)


def test_no_noise(tmp_path: Path) -> None:
    made = network()
    weights = {key: value for key, value in nvidia_weights(made).items() if ".noise_" not in key}
    opened = read_checkpoint(write(tmp_path / "a", pickled({"G_ema": nvidia_module(weights, nvidia_attributes())})))
    assert opened.notes == ("the generator has no noise",)
    torch.testing.assert_close(pictures_of(opened.generator), pictures_of(StyleGAN2(made, noise="none")))


def changed(weights: dict[str, Any], **more: Any) -> dict[str, Any]:
    for key, value in more.items():
        full = next(k for k in weights if k.replace(".", "_").endswith(key))
        weights[full] = value(weights[full])
    return weights


W, A = nvidia_weights(network(replace(TINY, resolution=16))), nvidia_attributes()
REFUSED: dict[str, tuple[Any, str]] = {
    "discriminator": ({"D": nvidia_module(DISCRIMINATOR), "G_ema": None}, "discriminator"),
    "discriminator as G_ema": ({"G_ema": nvidia_module(DISCRIMINATOR)}, "discriminator"),
    "other network": ({"G_ema": nvidia_module({"a.weight": torch.zeros(2)}, name="Critic")}, "Critic of another kind"),
    "resnet": ({"G_ema": nvidia_module({**W, "synthesis.b8.skip.weight": torch.zeros(3, 6, 1, 1)}, A)}, "resnet"),
    "architecture says so": (
        {"G_ema": nvidia_module(W, {**A, ".b8": {"architecture": "resnet"}})},
        '"resnet"; only "skip"',
    ),
    "orig": (
        {"G_ema": nvidia_module({k: v for k, v in W.items() if ".torgb" not in k or ".b16." in k}, A)},
        '"orig"; only',
    ),
    "other activation": ({"G_ema": nvidia_module(W, {**A, ".conv1": {"activation": "relu"}})}, "activation is relu"),
    "other gain": ({"G_ema": nvidia_module(W, {**A, ".conv1": {"act_gain": 1.0}})}, "act_gain is 1.0"),
    "clamped differently": (
        {"G_ema": nvidia_module(W, {**A, ".torgb": {"conv_clamp": 256}})},
        "clamped differently",
    ),
    "other filter": (
        {"G_ema": nvidia_module(changed(dict(W), conv1_resample_filter=lambda f: f.flip(0) * FIR), A)},
        r"not the filter \[1,3,3,1\]",
    ),
    "four channels": (
        {"G_ema": nvidia_module(changed(dict(W), b16_torgb_weight=lambda w: torch.cat([w, w])), A)},
        r"draws 6 channels, expected 3 \(RGB\)",
    ),
    "missing rows": (
        {"G_ema": nvidia_module(changed(dict(W), b8_conv0_weight=lambda w: w[:-1]), A)},
        "do not agree with each other in size: synthesis.b8.conv0.weight",
    ),
    "missing tensor": (
        {"G_ema": nvidia_module({k: v for k, v in W.items() if k != "synthesis.b8.conv1.bias"}, A)},
        "lacks synthesis.b8.conv1.bias",
    ),
    "missing block": (
        {"G_ema": nvidia_module({k: v for k, v in W.items() if ".b8." not in k}, A)},
        r"blocks of \[4, 16\] pixels",
    ),
    "no mapping": ({"G_ema": nvidia_module({k: v for k, v in W.items() if "mapping" not in k}, A)}, "no mapping"),
    "some noise": (
        {"G_ema": nvidia_module({k: v for k, v in W.items() if not k.endswith("b8.conv0.noise_strength")}, A)},
        "only some layers",
    ),
    "NaN": (
        {"G_ema": nvidia_module(changed(dict(W), b8_conv1_bias=lambda b: b * torch.nan), A)},
        "synthesis.b8.conv1.bias holds NaN or infinity",
    ),
    "integers": (
        {"G_ema": nvidia_module(changed(dict(W), b8_conv1_noise_const=lambda b: b.long()), A)},
        "expected floating point",
    ),
    "left over": ({"G_ema": nvidia_module({**W, "synthesis.b8.attention.weight": torch.zeros(2)}, A)}, "also has"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_such_generator_is_one_clear_line(name: str, tmp_path: Path) -> None:
    content, expected = REFUSED[name]
    with pytest.raises(ModelError, match=expected) as error:
        open_checkpoint(write(tmp_path / "file.pkl", pickled(content)))
    assert "\n" not in str(error.value)
    assert str(tmp_path / "file.pkl") in str(error.value)


# --- StyleGAN3


def stylegan3(settings: StyleGAN3Settings = SMALL3) -> StyleGAN3Network:
    made = StyleGAN3Network(settings)
    draw_weights(made, 0)
    return made


def attributes3(settings: StyleGAN3Settings, **more: Any) -> dict[str, dict[str, Any]]:
    layers = {
        f".{layer.name}": {
            "in_cutoff": np.float64(layer.in_cutoff),
            "out_cutoff": np.float64(layer.cutoff),
            "up_factor": layer.up,
            "down_factor": layer.down,
            "conv_clamp": settings.conv_clamp,
            **more,
        }
        for layer in settings.plan()
    }
    said = {key: getattr(settings, key) for key in ("num_critical", "margin_size", "output_scale")}
    kwargs = {key: getattr(settings, key) for key in ("first_cutoff", "first_stopband", "last_stopband_rel")}
    return {**layers, ".synthesis": {**said, "_init_kwargs": kwargs}}


@pytest.mark.parametrize(
    "settings",
    [
        SMALL3,
        replace(SMALL3, resolution=32, c_dim=3, channel_base=77, conv_clamp=None),
        replace(SMALL3, margin_size=4, num_critical=1, output_scale=0.5, first_cutoff=1.5, last_stopband_rel=1.5),
        replace(SMALL3, conv_kernel=1, use_radial_filters=True, mapping_layers=1),
    ],
)
def test_stylegan3_of_every_kind_comes_back(settings: StyleGAN3Settings, tmp_path: Path) -> None:
    made = stylegan3(settings)
    data = pickled({"G_ema": nvidia_module(weights_of(made), attributes3(settings))})
    found, expected = open_checkpoint(write(tmp_path / "a", data)), StyleGAN3(made)
    assert isinstance(found, StyleGAN3)
    assert found.name == expected.name
    pictures = [pictures_of(generator, classes=settings.c_dim) for generator in (found, expected)]
    torch.testing.assert_close(*pictures, rtol=0, atol=0)


def test_a_state_dict_of_stylegan3(tmp_path: Path) -> None:
    opened = read_checkpoint(write(tmp_path / "a", torch_file({"G_ema": weights_of(stylegan3())})))
    assert opened.generator.name == StyleGAN3(stylegan3()).name
    assert opened.notes == ("a state dict does not say how it was built: the published settings are taken",)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"in_cutoff": 3.0}, "in_cutoff of L0_36_8 is 3"),
        ({"up_factor": 4}, "up_factor of L"),
        ({"in_cutoff": np.nan}, "in_cutoff of"),
    ],
)
def test_layers_built_otherwise_are_refused(more: dict[str, Any], expected: str, tmp_path: Path) -> None:
    data = pickled({"G_ema": nvidia_module(weights_of(stylegan3()), attributes3(SMALL3, **more))})
    with pytest.raises(ModelError, match=expected):
        open_checkpoint(write(tmp_path / "a", data))


def test_a_stylegan3_that_misses_a_layer(tmp_path: Path) -> None:
    weights = {key: value for key, value in weights_of(stylegan3()).items() if ".L2_" not in key}
    with pytest.raises(ModelError, match=r"layers \[0, 1, 3, 4, 5\]"):
        open_checkpoint(write(tmp_path / "a", torch_file(weights)))
