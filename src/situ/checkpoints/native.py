"""Situ's own generator files: safetensors with the architecture's settings in the header.

One format for each architecture, all alike: settings, noise and licence in the header, the network's state dict beside.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from situ.checkpoints import stylegan1, stylegan2, stylegan3
from situ.checkpoints.weights import Options, require_same, shapes_of
from situ.core.containers import Container
from situ.core.errors import GeneratorError, ModelError
from situ.core.generator import Generator
from situ.generators.biggan import BigGAN
from situ.generators.biggan_deep_network import BigGANDeepNetwork, BigGANDeepSettings
from situ.generators.biggan_network import BigGANNetwork, BigGANSettings
from situ.generators.style_based import Noise
from situ.generators.stylegan1 import StyleGAN1
from situ.generators.stylegan1_network import StyleGAN1Network, StyleGAN1Settings
from situ.generators.stylegan2 import StyleGAN2
from situ.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Settings
from situ.generators.stylegan3 import StyleGAN3
from situ.generators.stylegan3_network import StyleGAN3Network, StyleGAN3Settings

_HEADER = 1 << 20  # bytes of a header that is looked into for the format


@dataclass(frozen=True)
class Architecture:
    """One kind of generator, as it is kept in a file."""

    format: str
    network: type[nn.Module]
    settings: Callable[[Mapping[str, Any]], Any]
    make: Callable[[Any, Mapping[str, tuple[int, ...]]], nn.Module]  # takes no memory for sizes that tensors deny
    wrap: Callable[[Any, Noise, Options, Mapping[str, Any]], Generator]

    @property
    def container(self) -> Container:
        return Container(self.format, "generator file", " as `situ convert` writes it", ModelError)


def _stylegan2(network: StyleGAN2Network, noise: Noise, options: Options, header: Mapping[str, Any]) -> StyleGAN2:
    lowered = min(3, len(network.settings.resolutions)) if options.low_precision else 0
    return StyleGAN2(network, noise, options.rng, low_precision=torch.bfloat16, low_precision_resolutions=lowered)


def _tuples(said: Mapping[str, Any]) -> dict[str, Any]:
    """Settings out of JSON, which has lists where they have tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}


def _unfilled(network: Callable[[Any], nn.Module]) -> Callable[[Any, Mapping[str, tuple[int, ...]]], nn.Module]:
    """A network without memory, which only its weights will give it."""

    def make(settings: Any, shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
        with torch.device("meta"):
            return network(settings)

    return make


ARCHITECTURES = (
    Architecture(
        "situ-stylegan2-1",
        StyleGAN2Network,
        lambda said: StyleGAN2Settings(**_tuples(said)),
        stylegan2.make_network,
        _stylegan2,
    ),
    Architecture(
        "situ-stylegan1-1",
        StyleGAN1Network,
        lambda said: StyleGAN1Settings(**_tuples(said)),
        stylegan1.make_network,
        lambda network, noise, options, header: StyleGAN1(network, noise, options.rng),
    ),
    Architecture(
        "situ-stylegan3-1",
        StyleGAN3Network,
        lambda said: StyleGAN3Settings(**_tuples(said)),
        stylegan3.make_network,
        lambda network, noise, options, header: StyleGAN3(network),
    ),
    Architecture(
        "situ-biggan-1",
        BigGANNetwork,
        lambda said: BigGANSettings(**_tuples(said)),
        _unfilled(BigGANNetwork),
        lambda network, noise, options, header: BigGAN(network, header.get("classes", ())),
    ),
    Architecture(
        "situ-biggan-deep-1",
        BigGANDeepNetwork,
        lambda said: BigGANDeepSettings(**_tuples(said)),
        _unfilled(BigGANDeepNetwork),
        lambda network, noise, options, header: BigGAN(network, header.get("classes", ())),
    ),
)
GENERATOR_FILE = ARCHITECTURES[0].container


def save_generator(
    generator: Generator, path: Path | str, dtype: torch.dtype = torch.float32, licence: str = ""
) -> None:
    """Write a generator, whole or not at all.

    Args:
        dtype: of the stored weights; torch.float16 halves the file.

    Raises:
        ModelError: a generator of no architecture that files are kept of, or weights too large for `dtype`.
    """
    noise = getattr(generator, "noise", "none")
    names = list(getattr(generator, "names", ()))
    header: dict[str, object] = {"noise": "const" if noise == "random" else noise, "licence": licence}
    if names:
        header["classes"] = names
    _write(getattr(generator, "network", None), path, dtype, header)


def save_stylegan2(
    network: StyleGAN2Network,
    path: Path | str,
    dtype: torch.dtype = torch.float32,
    noise: Literal["const", "none"] = "const",
    licence: str = "",
) -> None:
    """Write a network that is no generator yet, whole or not at all.

    Args:
        dtype: of the stored weights; torch.float16 halves the file.
        noise: the noise that the generator was trained with, used unless another is asked for.
    """
    _write(network, path, dtype, {"noise": noise, "licence": licence})


def _write(network: Any, path: Path | str, dtype: torch.dtype, header: Mapping[str, object]) -> None:
    kind = next((each for each in ARCHITECTURES if type(network) is each.network), None)
    if kind is None:
        raise ModelError(f"generator files hold StyleGANs and BigGANs, got {type(network).__name__}")
    settings: Any = network.settings
    tensors = {key: value.to(dtype) for key, value in network.state_dict().items()}
    lost = [key for key, value in tensors.items() if not value.isfinite().all()]
    if lost:
        raise ModelError(f"{lost[0]} does not fit {str(dtype).removeprefix('torch.')}: keep single precision")
    kind.container.write(path, {"settings": asdict(settings), **header}, tensors)


def is_safetensors(path: Path | str) -> bool:
    """Whether a file begins as a .safetensors file does."""
    with Path(path).open("rb") as file:
        start = file.read(16)
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= 100_000_000


def format_of(path: Path | str) -> str:
    """The format that Situ wrote into a .safetensors file; "" where it did not write it, or the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("situ", "{}"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return ""
    return str(header.get("format", "")) if isinstance(header, dict) else ""


def load_generator(path: Path | str, options: Options | None = None) -> tuple[Generator, str]:
    """Read a generator file and the licence in it.

    Raises:
        ModelError: missing, something else, or damaged.
    """
    options = options or Options()
    found = format_of(path) if Path(path).is_file() else ""
    kind = next((each for each in ARCHITECTURES if each.format == found), ARCHITECTURES[0])

    def build(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Generator, str]:
        network = kind.make(kind.settings(header["settings"]), shapes_of(tensors))
        require_same(network, shapes_of(tensors), kind.network.__name__)
        weights = {key: tensor.float() for key, tensor in tensors.items()}
        for key, tensor in weights.items():
            if not tensor.isfinite().all():
                raise ValueError(f"{key} holds NaN or infinity")
        network.load_state_dict(weights, assign=True)
        noise = options.noise or header.get("noise", "none")
        return kind.wrap(network.to(options.device), noise, options, header), str(header.get("licence", ""))

    return kind.container.read(path, build)


def load_stylegan2(
    path: Path | str, device: torch.device | str = "cpu", noise: Noise | None = None, low_precision: bool = False
) -> StyleGAN2:
    """Read a StyleGAN2.

    Args:
        noise: None takes what the file says.
        low_precision: compute the upper three resolutions in bfloat16.

    Raises:
        ModelError: missing, something else, or damaged. GeneratorError: another architecture.
    """
    generator, _ = load_generator(path, Options(device, noise, low_precision))
    if not isinstance(generator, StyleGAN2):
        raise GeneratorError(f"{path} holds {generator.name}, expected a StyleGAN2")
    return generator
