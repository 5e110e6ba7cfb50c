"""The networks of BigGAN against definitions: statistics of a truncation, norms, attention, blocks, settings."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch.nn import functional

from situ.core.errors import GeneratorError
from situ.generators.biggan_deep_network import BigGANDeepNetwork, BigGANDeepSettings
from situ.generators.biggan_network import (
    BigGANNetwork,
    BigGANSettings,
    BlockStack,
    BlockStackSettings,
    ConditionalNorm,
    OutputNorm,
    SelfAttention,
)

HIERARCHICAL = BigGANSettings(
    z_dim=9,
    classes=4,
    embedding_dim=3,
    channels=(12, 8, 8),
    ups=(True, True),
    attention=(1,),
)
DEEP = BigGANDeepSettings(
    z_dim=6,
    classes=4,
    embedding_dim=5,
    channels=(16, 8, 8, 4),
    ups=(False, True, True),
    attention=(1,),
    norm_eps=1e-4,
    output_norm_eps=1e-4,
    statistics=51,
)


def randomized(network: BlockStack, seed: int = 0) -> BlockStack:
    """The same network with every number drawn, and as wide a range of activations as released ones have."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in sorted(network.state_dict().items()):
            tensor.copy_(
                torch.randn(tensor.shape, generator=rng) / max(1, tensor[0].numel() if tensor.ndim else 1) ** 0.5
            )
            if key.endswith("variances"):
                tensor.square_().add_(0.5)
    return network


def table_norm(statistics: int) -> ConditionalNorm:
    """A norm whose means are the numbers of their rows, and whose variances grow with them."""
    norm = ConditionalNorm(2, 3, replace(DEEP, statistics=statistics, norm_eps=0.25))
    rows = torch.arange(float(statistics))
    norm.means.copy_(rows[:, None].expand(-1, 3))
    norm.variances.copy_((1 + rows)[:, None].expand(-1, 3))
    return norm


@pytest.mark.parametrize(
    ("truncation", "mean"),
    [
        (0.4, 20.0),
        (1.0, 50.0),
        (0.43, 21.5),
        (0.425, 21.75),  # a quarter of the way from 21 to 22: the weights are swapped
        (0.58, 28.0),  # 0.58 / 0.02 is a bit less than 29 in double precision
        (0.14, 8.0),  # and 0.14 / 0.02 a bit more than 7
        (0.94, 46.0),  # 0.94 / 0.02 is a bit less than 47, and 0.94 * 50 is not
    ],
)
def test_statistics_of_a_truncation(truncation: float, mean: float) -> None:
    norm = table_norm(51)
    torch.nn.init.zeros_(norm.gain.weight)
    torch.nn.init.zeros_(norm.offset.weight)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(norm(x, torch.zeros(2, 2), truncation), (x - mean) / (1 + mean + 0.25) ** 0.5)


def test_the_last_norm_has_its_own_constant() -> None:
    norm = OutputNorm(3, replace(DEEP, statistics=1, norm_eps=7.0, output_norm_eps=3.0))
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(norm(x, 1.0), x / 2)


def test_one_set_of_statistics_serves_all_truncations() -> None:
    norm, x, condition = table_norm(1), torch.randn(2, 3, 4, 4), torch.randn(2, 2)
    torch.testing.assert_close(norm(x, condition, 0.3), norm(x, condition, 1.0))


def test_gains_are_one_plus_linear() -> None:
    norm, x, condition = table_norm(1), torch.randn(2, 3, 4, 4), torch.randn(2, 2)
    gain, offset = 1 + condition @ norm.gain.weight.T, condition @ norm.offset.weight.T
    expected = x / 1.25**0.5 * gain[:, :, None, None] + offset[:, :, None, None]
    torch.testing.assert_close(norm(x, condition, 1.0), expected)


def test_attention_is_a_mean_of_values_weighted_by_keys() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(16), torch.randn(2, 16, 4, 6)
    torch.nn.init.constant_(layer.gamma, 0.7)
    with torch.no_grad():
        keys, values = (functional.max_pool2d(conv(x), 2) for conv in (layer.phi, layer.g))
        expected = x.clone()
        for n in range(2):
            for row in range(4):
                for column in range(6):
                    query = layer.theta(x)[n, :, row, column]
                    weights = torch.einsum("c,chw->hw", query, keys[n]).flatten().softmax(0).reshape(2, 3)
                    mixed = torch.einsum("hw,chw->c", weights, values[n])
                    expected[n, :, row, column] += 0.7 * layer.o.weight[:, :, 0, 0] @ mixed
        torch.testing.assert_close(layer(x), expected)


def test_the_shortcut_of_biggan_is_upsampled_first() -> None:
    network = randomized(BigGANNetwork(HIERARCHICAL))
    block = network.get_submodule("block0")
    for conv in (block.conv1, block.conv2):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    x = torch.randn(2, 12, 4, 4)
    expected = block.shortcut(functional.interpolate(x, scale_factor=2))
    torch.testing.assert_close(block(x, torch.randn(2, 6), 1.0), expected)


@pytest.mark.parametrize("settings", [HIERARCHICAL, DEEP, replace(HIERARCHICAL, hierarchical=False)])
def test_settings_and_weights_survive_json(settings: BlockStackSettings) -> None:
    again = type(settings)(**json.loads(json.dumps(asdict(settings))))
    assert again == settings
    kind = BigGANDeepNetwork if isinstance(settings, BigGANDeepSettings) else BigGANNetwork
    made, read = randomized(kind(settings)), kind(again)
    read.load_state_dict(made.state_dict())
    assert read.steps == made.steps


def test_steps_have_their_sizes() -> None:
    deep = BigGANDeepNetwork(DEEP).steps
    assert [step.name for step in deep] == ["linear", "block0", "attention1", "block1", "block2", "output"]
    assert [step.resolution for step in deep] == [4, 4, 4, 8, 16, 16]
    assert [step.channels for step in deep] == [16, 8, 8, 8, 4, 3]
    assert [step.part for step in deep] == [0, 1, None, 2, 3, None]
    assert BigGANNetwork(HIERARCHICAL).steps[2].part is None
    flat = BigGANNetwork(replace(HIERARCHICAL, hierarchical=False, attention=(2,))).steps
    assert [step.part for step in flat] == [0, None, None, None, None]
    assert [step.name for step in flat] == ["linear", "block0", "block1", "attention2", "output"]


def test_released_sizes() -> None:
    """Parameters of the 128 px models, less what only training and hidden channels need."""
    channels = [128 * multiple for multiple in (16, 16, 16, 16, 8, 8, 4, 4, 2, 2, 1)]
    with torch.device("meta"):
        deep = BigGANDeepNetwork(BigGANDeepSettings(128, 1000, 128, channels, [False, True] * 5, (8,), statistics=51))
    hidden = 125 * (128 * 9 + 1)  # the published last convolution gives 128 channels, of which 3 are shown
    assert sum(p.numel() for p in deep.parameters()) == 50_388_609 - hidden
    assert deep.steps[-1].resolution == 128


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": (12,), "ups": ()}, "some blocks"),
        ({"channels": (12, 8)}, "after each"),
        ({"classes": 0}, "positive"),
        ({"statistics": 0}, "positive"),
        ({"attention": (3,)}, "before blocks 0 to 2"),
        ({"attention": (1, 1)}, "once each"),
        ({"z_dim": 10}, "3 chunks"),
        ({"channels": (12, 4, 8)}, "at least 8 channels"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(GeneratorError, match=message):
        replace(HIERARCHICAL, **changes)


def test_bottlenecks_drop_channels() -> None:
    with pytest.raises(GeneratorError, match="drops channels"):
        replace(DEEP, channels=(8, 8, 16, 8))
