"""BigGAN checkpoints: weights of a seed in the layouts of two projects, against pictures that those projects made.

The pictures in `tests/golden/biggan_pictures.npz` come from huggingface/pytorch-pretrained-BigGAN at 1e18aed and
ajbrock/BigGAN-PyTorch at 9845943, run on the very weights, latents and labels that this file draws.
"""

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from situ.checkpoints.biggan import (
    build_ajbrock_biggan,
    build_huggingface_biggan,
    huggingface_biggan_weights,
    is_ajbrock_biggan,
    is_huggingface_biggan,
    read_ajbrock_biggan,
    read_huggingface_biggan,
)
from situ.checkpoints.foreign import read_foreign
from situ.core.errors import ModelError
from situ.core.latents import Latents
from situ.generators.biggan import BigGAN

GOLDEN = Path(__file__).parents[1] / "golden" / "biggan_pictures.npz"
Content = dict[str, np.ndarray]


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int) -> Content:
    """Every tensor from one stream of random numbers: variances positive, the last norm narrow, the rest normal."""
    rng = torch.Generator().manual_seed(seed)
    made = {}
    for key in sorted(shapes):
        values = torch.randn(shapes[key], generator=rng)
        narrow = 0.2 if key.startswith(("generator.bn.", "output_layer.0.")) else 1.0
        made[key] = (0.5 + values.square() if "var" in key else narrow * values).numpy()
    return made


# --- the Hugging Face port

SMALL = {
    "output_dim": 16,
    "z_dim": 12,
    "class_embed_dim": 12,
    "channel_width": 4,
    "num_classes": 7,
    "layers": [[False, 16, 8], [True, 8, 4], [False, 4, 2], [True, 2, 1]],
    "attention_layer_position": 1,
    "eps": 1e-2,
    "n_stats": 11,
}
# the layers of the released 128 px model, narrow
NARROW = {"output_dim": 128, "z_dim": 16, "channel_width": 4, "num_classes": 5}


def huggingface_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    z, width, stats = 2 * config["z_dim"], config["channel_width"], config["n_stats"]
    shapes: dict[str, tuple[int, ...]] = {"embeddings.weight": (config["z_dim"], config["num_classes"])}

    def spectral(key: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{key}.weight_orig"] = shape
        shapes[f"{key}.weight_u"], shapes[f"{key}.weight_v"] = (shape[0],), (int(np.prod(shape[1:])),)
        if bias:
            shapes[f"{key}.bias"] = (shape[0],)

    spectral("generator.gen_z", 256 * width, z)
    index = 0
    for i, (_, inputs, outputs) in enumerate(config["layers"]):
        if i == config["attention_layer_position"]:
            there, c = f"generator.layers.{index}", width * inputs
            shapes[f"{there}.gamma"] = (1,)
            for part, out, into in (("theta", c // 8, c), ("phi", c // 8, c), ("g", c // 2, c), ("o_conv", c, c // 2)):
                spectral(f"{there}.snconv1x1_{part}", out, into, 1, 1, bias=False)
            index += 1
        middle = width * inputs // 4
        sizes = [(width * inputs, middle, 1), (middle, middle, 3), (middle, middle, 3), (middle, width * outputs, 1)]
        for j, (into, out, side) in enumerate(sizes):
            norm = f"generator.layers.{index}.bn_{j}"
            shapes[f"{norm}.running_means"] = shapes[f"{norm}.running_vars"] = (stats, into)
            spectral(f"{norm}.scale", into, z, bias=False)
            spectral(f"{norm}.offset", into, z, bias=False)
            spectral(f"generator.layers.{index}.conv_{j}", out, into, side, side)
        index += 1
    shapes["generator.bn.running_means"] = shapes["generator.bn.running_vars"] = (stats, width)
    shapes["generator.bn.weight"] = shapes["generator.bn.bias"] = (width,)
    spectral("generator.conv_to_rgb", width, width, 3, 3)
    return shapes


def huggingface_content(config: Mapping[str, Any], seed: int = 0) -> Content:
    content = drawn(huggingface_shapes(config), seed)
    for key in [key.removesuffix("_u") for key in content if key.endswith("_u")]:
        # vectors as training leaves them: near the first singular ones, not at them
        matrix = torch.from_numpy(content[f"{key}_orig"]).flatten(1)
        u = torch.from_numpy(content[f"{key}_u"])
        for _ in range(2):
            v = functional.normalize(matrix.T @ u, dim=0)
            u = functional.normalize(matrix @ v, dim=0)
        content[f"{key}_u"], content[f"{key}_v"] = u.numpy(), v.numpy()
    return content


def huggingface_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    layers = [[0, 16, 16], [1, 16, 16], [0, 16, 16], [1, 16, 8], [0, 8, 8]]
    layers += [[1, 8, 4], [0, 4, 4], [1, 4, 2], [0, 2, 2], [1, 2, 1]]
    return {"layers": layers, "attention_layer_position": 8, "eps": 1e-4, "n_stats": 51, **config}


# --- ajbrock's

SHARED, CLASSES = 6, 5
AJBROCK = {
    # name: resolution, channels, BigGAN-deep, attention at this size, how the model differs from the plain one
    "hierarchical-32": (32, 4, False, 16, {"hier"}),
    "flat-64": (64, 4, False, 32, set()),
    "converted-128": (128, 4, False, 64, {"hier", "converted"}),
    "unshared-32": (32, 4, False, 0, {"unshared"}),
    "unnormalised-32": (32, 4, False, 0, {"hier", "unnormalised"}),
    "mybn-32": (32, 4, False, 16, {"hier", "mybn"}),
    "deep-32": (32, 4, True, 16, {"hier"}),
    "deep-64": (64, 4, True, 32, {"hier"}),
}
MULTIPLES = {32: [4, 4, 4, 4], 64: [16, 16, 8, 4, 2], 128: [16, 16, 8, 4, 2, 1]}
CHUNK = 3


def ajbrock_z(name: str) -> int:
    resolution, _, deep, _, traits = AJBROCK[name]
    return CHUNK * len(MULTIPLES[resolution]) if "hier" in traits and not deep else CHUNK


def ajbrock_shapes(name: str) -> dict[str, tuple[int, ...]]:
    resolution, width, deep, attention, traits = AJBROCK[name]
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(key: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{key}.weight"] = shape
        if bias:
            shapes[f"{key}.bias"] = (shape[0],)
        if "unnormalised" not in traits:
            shapes[f"{key}.u0"] = (1, shape[0])
            if "converted" not in traits:
                shapes[f"{key}.sv0"] = (1,)

    def norm(key: str, channels: int) -> None:
        inner = f"{key}.bn" if "mybn" in traits else key
        shapes[f"{inner}.stored_mean"] = shapes[f"{inner}.stored_var"] = (channels,)
        if "mybn" in traits:
            shapes[f"{inner}.accumulation_counter"] = (1,)

    def conditional(key: str, channels: int) -> None:
        norm(key, channels)
        for part in ("gain", "bias"):
            if "unshared" in traits:
                shapes[f"{key}.{part}.weight"] = (CLASSES, channels)
            else:
                layer(f"{key}.{part}", channels, SHARED + (CHUNK if "hier" in traits else 0), bias=False)

    multiples = [width * m for m in MULTIPLES[resolution]]
    if "unshared" not in traits:
        shapes["shared.weight"] = (CLASSES, SHARED)
    layer("linear", 16 * multiples[0], CHUNK + (SHARED if deep else 0))
    index = 0
    for stage, (inputs, outputs) in enumerate(pairwise(multiples)):
        for block in range(2 if deep else 1):
            there = f"blocks.{index}.0"
            if deep:
                out = inputs if block == 0 else outputs
                middle = inputs // 4
                sizes = [(inputs, middle, 1), (middle, middle, 3), (middle, middle, 3), (middle, out, 1)]
            else:
                sizes = [(inputs, outputs, 3), (outputs, outputs, 3)]
                layer(f"{there}.conv_sc", outputs, inputs, 1, 1)
            for j, (into, out, side) in enumerate(sizes, 1):
                layer(f"{there}.conv{j}", out, into, side, side)
                conditional(f"{there}.bn{j}", into)
            index += 1
        if 8 << stage == attention:
            there = f"blocks.{index - 1}.1"
            shapes[f"{there}.gamma"] = ()
            sizes = [("theta", outputs // 8, outputs), ("phi", outputs // 8, outputs)]
            sizes += [("g", outputs // 2, outputs), ("o", outputs, outputs // 2)]
            for part, out, into in sizes:
                layer(f"{there}.{part}", out, into, 1, 1, bias=False)
    norm("output_layer.0", multiples[-1])
    shapes["output_layer.0.gain"] = shapes["output_layer.0.bias"] = (multiples[-1],)
    layer("output_layer.2", 3, multiples[-1], 3, 3)
    return shapes


def ajbrock_content(name: str, seed: int = 0) -> Content:
    content = drawn(ajbrock_shapes(name), seed)
    if "unnormalised" in AJBROCK[name][4]:
        for key, value in content.items():
            if key.endswith("weight"):
                content[key] = value / np.float32(np.sqrt(value[0].size))
    return content


# --- latents and pictures


def inputs(z_dim: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    z = torch.randn(2, z_dim, generator=torch.Generator().manual_seed(9))
    return 0.7 * z, functional.one_hot(torch.tensor([1, 3]), classes).float()


def picture(made: BigGAN, truncation: float = 1.0) -> torch.Tensor:
    z, labels = inputs(made.settings.z_dim, made.settings.classes)
    return made.synthesize(Latents(z, made.spaces["z"], labels, truncation)).images


def thinned(pictures: torch.Tensor) -> torch.Tensor:
    """Some pixels of pictures, 3 x 5 x 5 of each."""
    step = max(1, pictures.shape[-1] // 5)
    return pictures[:, :, step // 2 :: step, step // 2 :: step][:, :, :5, :5]


TRUNCATIONS = (0.14, 0.4, 0.43, 0.58, 1.0)
HUGGINGFACE = {"small": huggingface_defaults(SMALL), "narrow": huggingface_defaults(NARROW)}


@pytest.fixture(scope="module")
def golden() -> Mapping[str, np.ndarray]:
    return dict(np.load(GOLDEN))


@pytest.mark.parametrize("name", HUGGINGFACE)
def test_huggingface_pictures_agree_with_the_published_ones(name: str, golden: Mapping[str, np.ndarray]) -> None:
    config = HUGGINGFACE[name]
    made = build_huggingface_biggan(huggingface_content(config), config)
    assert made.resolution == config["output_dim"]
    for truncation in TRUNCATIONS:
        expected = torch.from_numpy(golden[f"{name}-{truncation}"])
        torch.testing.assert_close(thinned(picture(made, truncation)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", AJBROCK)
def test_ajbrock_pictures_agree_with_the_published_ones(name: str, golden: Mapping[str, np.ndarray]) -> None:
    made = build_ajbrock_biggan(ajbrock_content(name))
    assert made.resolution == AJBROCK[name][0]
    assert made.name.startswith("biggan-deep-" if AJBROCK[name][2] else f"biggan-{made.resolution}px")
    torch.testing.assert_close(thinned(picture(made)), torch.from_numpy(golden[name]), rtol=1e-4, atol=1e-4)


def test_cross_replica_norms_are_those_of_training() -> None:
    """Their published evaluation adds the gain instead of multiplying by it; training multiplies."""
    plain = ajbrock_content("hierarchical-32")
    renamed = {key.replace(".stored_mean", ".bn.running_mean"): value for key, value in plain.items()}
    renamed = {key.replace(".stored_var", ".bn.running_var"): value for key, value in renamed.items()}
    renamed["output_layer.0.bn.num_batches_tracked"] = np.array(3)
    torch.testing.assert_close(picture(build_ajbrock_biggan(renamed)), picture(build_ajbrock_biggan(plain)))


def test_constants_that_no_file_tells() -> None:
    content = ajbrock_content("hierarchical-32")
    converted = {key: value for key, value in content.items() if not key.endswith("sv0")}
    assert build_ajbrock_biggan(content).settings.norm_eps == 1e-5
    assert build_ajbrock_biggan(converted).settings.norm_eps == 1e-4
    given = build_ajbrock_biggan(content, norm_eps=0.3)
    assert given.settings.output_norm_eps == 1e-5
    assert (picture(given) - picture(build_ajbrock_biggan(content))).abs().max() > 1e-2
    assert not torch.equal(picture(build_ajbrock_biggan(content, spectral_eps=1e3)), picture(given))


def test_singular_values_after_the_first_are_left_out() -> None:
    content = ajbrock_content("hierarchical-32")
    more = {**content, "linear.u1": content["linear.u0"], "linear.sv1": content["linear.sv0"]}
    assert build_ajbrock_biggan(more).name == build_ajbrock_biggan(content).name


def test_without_the_second_vector_it_is_the_step_from_the_first() -> None:
    content = huggingface_content(HUGGINGFACE["small"])
    key = "generator.layers.0.conv_0.weight"
    matrix, u = (torch.from_numpy(content[f"{key}_{part}"]) for part in ("orig", "u"))
    content[f"{key}_v"] = functional.normalize(u @ matrix.flatten(1), dim=0).numpy()
    expected = picture(build_huggingface_biggan(content, HUGGINGFACE["small"]))
    del content[f"{key}_v"]
    torch.testing.assert_close(picture(build_huggingface_biggan(content, HUGGINGFACE["small"])), expected)


def test_formats_are_told_apart() -> None:
    huggingface, ajbrock = huggingface_content(HUGGINGFACE["small"]), ajbrock_content("deep-32")
    assert is_huggingface_biggan(huggingface)
    assert is_ajbrock_biggan(ajbrock)
    assert not is_ajbrock_biggan(huggingface)
    assert not is_huggingface_biggan(ajbrock)
    for other in (None, [], "text", {}, {"state_dict": ajbrock}, dict.fromkeys(ajbrock, 1)):
        assert not is_ajbrock_biggan(other)
        assert not is_huggingface_biggan(other)


@pytest.mark.parametrize(
    ("weights", "config"),
    [
        ("pytorch_model.bin", "config.json"),
        ("biggan-deep-16-pytorch_model.bin", "biggan-deep-16-config.json"),
        ("renamed.pt", "config.json"),
    ],
)
def test_the_config_is_found_beside_the_weights(weights: str, config: str, tmp_path: Path) -> None:
    content = huggingface_content(HUGGINGFACE["small"])
    path = tmp_path / weights
    torch.save({key: torch.from_numpy(value) for key, value in content.items()}, path)
    found = read_foreign(path).content
    assert is_huggingface_biggan(found)
    with pytest.raises(ModelError, match=f"put .*{config}.* beside it"):
        read_huggingface_biggan(found, path)
    (tmp_path / config).write_text(json.dumps(HUGGINGFACE["small"]))
    made = read_huggingface_biggan(found, path, names=list("abcdefg"))
    assert made.names[3] == "d"
    torch.testing.assert_close(picture(made), picture(build_huggingface_biggan(content, HUGGINGFACE["small"])))
    assert huggingface_biggan_weights(tmp_path) == (path if weights == "pytorch_model.bin" else None)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"layers": 3}', '{"layers": [[1, 2]]}', '{"eps": "small"}'])
def test_configs_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config|settings"):
        read_huggingface_biggan(huggingface_content(HUGGINGFACE["small"]), tmp_path / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("z_dim", 13),
        ("num_classes", 1000),
        ("n_stats", 51),
        ("channel_width", 8),
        ("output_dim", 32),
        ("attention_layer_position", 2),
        ("attention_layer_position", 9),
        ("layers", [[False, 16, 8], [True, 8, 4], [True, 4, 1]]),
    ],
)
def test_a_config_of_another_model_is_refused(key: str, value: object) -> None:
    config = {**HUGGINGFACE["small"], key: value}
    with pytest.raises(ModelError, match=rf"not of one model: .*{key}.* is {value if key != 'layers' else 3}, the"):
        build_huggingface_biggan(huggingface_content(HUGGINGFACE["small"]), config)


def test_wrong_channels_in_a_config_are_refused() -> None:
    config = {**HUGGINGFACE["small"], "layers": [[False, 16, 8], [True, 8, 8], [False, 8, 2], [True, 2, 1]]}
    with pytest.raises(ModelError, match=r"of a wrong shape: .*block1\.conv4\.weight is \(32, 8, 1, 1\), got \(16, 8"):
        build_huggingface_biggan(huggingface_content(HUGGINGFACE["small"]), config)


Change = Callable[[Content], object]


def without(key: str) -> Change:
    return lambda content: content.pop(key)


def instead(key: str, *shape: int) -> Change:
    return lambda content: content.update({key: np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("generator.layers.4.conv_2.bias"), r"has the tensor generator\.layers\.4\.conv_2\.bias"),
        (without("generator.bn.running_means"), "incomplete"),
        (instead("generator.layers.0.conv_1.bias", 3), r"block0\.conv2\.bias is \(16,\), got \(3,\)"),
        (instead("generator.layers.0.conv_1.weight_u", 3), "make no BigGAN"),
        (instead("generator.layers.0.conv_1.weight_orig", 0, 0, 0, 0), "make no BigGAN|spectral norm"),
        (instead("generator.gen_z.weight_orig", 1024, 24), ""),
        (instead("generator.layers.9.conv_1.bias", 3), "follow each other"),
        (instead("generator.surprise", 3), r"has no tensor generator\.surprise"),
    ],
)
def test_damaged_huggingface_files_are_refused(change: Change, message: str) -> None:
    content = huggingface_content(HUGGINGFACE["small"])
    change(content)
    if not message:
        build_huggingface_biggan(content, HUGGINGFACE["small"])
        return
    with pytest.raises(ModelError, match=message):
        build_huggingface_biggan(content, HUGGINGFACE["small"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("blocks.1.0.bn2.bias.weight"), r"has the tensor blocks\.1\.0\.bn2\.bias\.weight"),
        (without("blocks.1.0.bn2.stored_mean"), "only generators with batch normalisation"),
        (without("shared.weight"), ""),
        (instead("shared.weight", 5, 7), "takes 9 numbers, expected 7 of the class, and 3 more"),
        (instead("blocks.1.0.conv2.weight", 3, 3, 3, 3), "make no BigGAN of .*fewer go in before block 2"),
        (instead("linear.weight", 100, 3), "channels of a square"),
        (instead("blocks.0.0.conv1.weight", 16), "4 axes"),
        (instead("blocks.1.1.theta.bias", 2), r"no tensor blocks\.1\.1\.theta\.bias"),
        (lambda content: content["blocks.0.0.conv1.weight"].fill(0), "spectral norm of .* is 0"),
        (lambda content: content["blocks.0.0.conv1.weight"].fill(np.nan), "spectral norm of .* is nan"),
    ],
)
def test_damaged_ajbrock_files_are_refused(change: Change, message: str) -> None:
    content = ajbrock_content("hierarchical-32")
    change(content)
    with pytest.raises(ModelError, match=f"weights.pth: .*{message}"):
        read_ajbrock_biggan(content, Path("weights.pth"))


def test_blocks_that_make_no_stages_are_refused() -> None:
    with pytest.raises(ModelError, match="6 blocks do not make stages of 4"):
        build_ajbrock_biggan(ajbrock_content("deep-32"), blocks_per_stage=4)
    assert build_ajbrock_biggan(ajbrock_content("deep-32"), blocks_per_stage=3).resolution == 16


def test_layers_that_do_not_follow_each_other_are_refused() -> None:
    config = {**HUGGINGFACE["small"], "layers": [[False, 16, 8], [True, 16, 4], [False, 4, 2], [True, 2, 1]]}
    with pytest.raises(ModelError, match="takes the channels that the one before it gives"):
        build_huggingface_biggan(huggingface_content(HUGGINGFACE["small"]), config)
