"""Weights that are numbers of a seed, for comparison with pictures that a published implementation gave of the same."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn


def draw_weights(network: nn.Module, seed: int) -> None:
    """Fill every parameter and buffer but the filters, in alphabetical order of their names."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in sorted(network.state_dict().items()):
            if key.endswith(("filter", "transform")):
                continue
            drawn = torch.randn(tensor.shape, generator=rng)
            if key.startswith("mapping.fc"):
                drawn = drawn * 100  # they act with a hundredth of their value
            elif key.endswith("magnitude_ema"):
                drawn = drawn.square() + 0.5
            tensor.copy_(drawn)


def golden_cases(name: str) -> dict[str, dict]:
    """The cases of tests/golden/NAME.json."""
    return json.loads((Path(__file__).parent / "golden" / f"{name}.json").read_text())


def sampled_pixels(pictures: Tensor) -> Tensor:
    """(n, 3, r, r) -> about sixty of its numbers, spread over every picture and up to the border."""
    step = max(pictures.shape[-1] // 3, 1)
    return pictures[..., ::step, step // 2 :: step].flatten()


def agree(pictures: Tensor, case: dict) -> bool:
    """Agreement to 1e-4 of the published picture's largest value."""
    expected = torch.tensor(case["pixels"])
    return (sampled_pixels(pictures) - expected).abs().max().item() <= 1e-4 * case["largest"]
