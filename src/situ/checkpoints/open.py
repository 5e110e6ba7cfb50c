"""Opening a generator from any file that is known, told by what is in it and never by what it is called.

Nothing in a file is run: pickles go through `unpickle.Machine`, sizes are checked before memory is taken, and what a
format's reader makes of the tensors is checked against the network that they are for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from situ.checkpoints.biggan import (
    huggingface_biggan_weights,
    is_ajbrock_biggan,
    is_huggingface_biggan,
    read_ajbrock_biggan,
    read_huggingface_biggan,
)
from situ.checkpoints.encoder4editing import is_encoder4editing, read_encoder4editing
from situ.checkpoints.foreign import read_foreign
from situ.checkpoints.hammer import is_genforce, is_hammer, read_genforce, read_hammer
from situ.checkpoints.native import ARCHITECTURES, format_of, is_safetensors, load_generator
from situ.checkpoints.nvidia import DISCRIMINATOR as NVIDIA_DISCRIMINATOR
from situ.checkpoints.nvidia import is_snapshot, is_state_dict, read_snapshot, read_state_dict
from situ.checkpoints.rosinality import DISCRIMINATOR as ROSINALITY_DISCRIMINATOR
from situ.checkpoints.rosinality import is_rosinality, read_rosinality
from situ.checkpoints.stylegan1 import is_stylegan1, read_stylegan1
from situ.checkpoints.stylegan3 import is_hammer_stylegan3, read_hammer_stylegan3
from situ.checkpoints.tensorflow import is_tensorflow, read_tensorflow
from situ.checkpoints.unpickle import UNREADABLE, brief, megabytes
from situ.checkpoints.weights import Options, arrays_of, as_mapping, plain, shown
from situ.core.errors import FileError, GeneratorError, ModelError
from situ.core.generator import Generator
from situ.generators.biggan import BigGAN
from situ.generators.style_based import Noise

LIMIT = 4 << 30  # bytes that the largest file may take in memory
_SMALL, _TIMES = 64 << 20, 8  # a small file may take this, a larger one a multiple of its size
_EXPECTED = "expected a generator file, of Situ or of another project"
# classes whose objects may lie in a checkpoint beside the tensors; they are kept as data, see `unpickle.Inert`
_INERT = (
    "torch_utils.persistence._reconstruct_persistent_obj",
    "dnnlib.",
    "easydict.EasyDict",
    "argparse.Namespace",
    "collections.defaultdict",
    "pathlib.",
    "runners.",
    "torch.Size",
    "torch.device",
    "torch.float",
    "torch.nn.",
    "torch.optim.",
)


@dataclass(frozen=True)
class OwnFile:
    """Stands for the content of a file that Situ wrote."""

    format: str


@dataclass(frozen=True)
class CheckpointFormat:
    """A layout that generators are published in."""

    name: str
    what: str  # in words, with the usual ending of such files
    recognise: Callable[[Any], bool]  # looks at what `read_content` gives
    build: Callable[[Any, Path, Options], Generator]


@dataclass(frozen=True)
class Checkpoint:
    """An opened file."""

    generator: Generator
    format: CheckpointFormat
    notes: tuple[str, ...] = ()  # what was assumed, left out or made, a sentence each
    licence: str = ""  # where the file states one


def _any_path(read: Callable[[Any, Options], Generator]) -> Callable[[Any, Path, Options], Generator]:
    return lambda content, path, options: read(content, options)


def _moved(read: Callable[[Any, Path], BigGAN]) -> Callable[[Any, Path, Options], Generator]:
    def build(content: Any, path: Path, options: Options) -> Generator:
        # arrays of its own: those of the file may be read-only
        generator = read({key: np.array(value) for key, value in arrays_of(content).items()}, path)
        for tensor in generator.network.state_dict().values():
            if not tensor.isfinite().all():
                raise ModelError("its weights hold NaN or infinity: the file is damaged, or its training went wrong")
        generator.network.to(options.device)
        return generator

    return build


FORMATS: tuple[CheckpointFormat, ...] = (
    CheckpointFormat(
        "situ",
        "a generator that `situ convert` wrote (.safetensors)",
        lambda content: isinstance(content, OwnFile),
        lambda content, path, options: load_generator(path, options)[0],
    ),
    CheckpointFormat(
        "nvidia",
        "a snapshot of stylegan2-ada-pytorch or stylegan3 (.pkl)",
        is_snapshot,
        _any_path(read_snapshot),
    ),
    CheckpointFormat(
        "nvidia-tensorflow",
        "a StyleGAN or StyleGAN2 of TensorFlow (.pkl)",
        is_tensorflow,
        _any_path(read_tensorflow),
    ),
    CheckpointFormat(
        "encoder4editing",
        "an encoder and its StyleGAN2, of e4e or pSp (.pt)",
        is_encoder4editing,
        _any_path(read_encoder4editing),
    ),
    CheckpointFormat("rosinality", "a StyleGAN2 of rosinality (.pt)", is_rosinality, _any_path(read_rosinality)),
    CheckpointFormat("genforce", "a StyleGAN2 of genforce (.pth)", is_genforce, _any_path(read_genforce)),
    CheckpointFormat("hammer", "a StyleGAN2 of Hammer (.pth)", is_hammer, _any_path(read_hammer)),
    CheckpointFormat(
        "hammer-stylegan3", "a StyleGAN3 of Hammer (.pth)", is_hammer_stylegan3, _any_path(read_hammer_stylegan3)
    ),
    CheckpointFormat(
        "stylegan1",
        "a StyleGAN of lernapparat, LELSD, InterFaceGAN, genforce or Hammer (.pt, .pth)",
        is_stylegan1,
        _any_path(read_stylegan1),
    ),
    CheckpointFormat(
        "nvidia-state-dict",
        "a state dict of NVIDIA's StyleGAN2 or StyleGAN3 (.pt, .safetensors)",
        is_state_dict,
        _any_path(read_state_dict),
    ),
    CheckpointFormat(
        "biggan-huggingface",
        "a BigGAN-deep of pytorch-pretrained-BigGAN (a folder, or .bin with its config)",
        is_huggingface_biggan,
        _moved(read_huggingface_biggan),
    ),
    CheckpointFormat(
        "biggan-pytorch", "a BigGAN of BigGAN-PyTorch (.pth)", is_ajbrock_biggan, _moved(read_ajbrock_biggan)
    ),
)


def open_checkpoint(
    path: Path | str,
    device: torch.device | str = "cpu",
    noise: Noise | None = None,
    low_precision: bool = False,
    rng: torch.Generator | None = None,
) -> Generator:
    """Open the generator of a file of any known format.

    Args:
        noise: None takes what the file says, or the stored maps.
        low_precision: compute the upper three resolutions of a StyleGAN2 in bfloat16.
        rng: for noise="random".

    Raises:
        ModelError: missing, damaged or refused, of no known format, or no generator that can be run.
    """
    return read_checkpoint(path, Options(device, noise, low_precision, rng)).generator


def read_checkpoint(path: Path | str, options: Options | None = None) -> Checkpoint:
    """Open the generator of a file, with what there is to say about it. See `open_checkpoint`."""
    path, options = Path(path), options or Options()
    if path.is_dir():
        weights = huggingface_biggan_weights(path)
        if weights is None:
            raise ModelError(
                f"{path} is a folder, expected a file, or the folder of a BigGAN (config.json, pytorch_model.bin)"
            )
        path = weights
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is a device or a pipe, expected a file")
    content = read_content(path)
    found = next((each for each in FORMATS if each.recognise(content)), None)
    if found is None:
        raise ModelError(f"{path} {_unknown(content)}")
    if isinstance(content, OwnFile):
        generator, licence = load_generator(path, options)
        return Checkpoint(generator, found, tuple(options.notes), licence)
    try:
        generator = found.build(content, path, options)
    except (ModelError, GeneratorError) as error:
        words = str(error)
        raise ModelError(words if str(path) in words else f"{path} cannot be opened: {words}") from None
    except (*UNREADABLE, ArithmeticError) as error:
        raise ModelError(f"{path} was taken for {found.what}, but its parts do not fit ({brief(error)})") from None
    return Checkpoint(generator, found, tuple(options.notes))


def read_content(path: Path) -> Any:
    """What a file holds, as plain data and arrays that share its memory. Raises ModelError."""
    try:
        size = path.stat().st_size
        if is_safetensors(path):
            return _safetensors(path)
        limit = min(LIMIT, max(_SMALL, _TIMES * size))
        if size > LIMIT:
            raise ModelError(f"{path} has {megabytes(size)}, more than the {megabytes(LIMIT)} that are read")
        return read_foreign(path, inert=_INERT, limit=limit, views=True).content
    except FileNotFoundError:
        raise ModelError(f"no file at {path}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): {_EXPECTED}") from None
    except FileError as error:
        words = str(error).replace(f"{path} is not read: ", f"{path} cannot be read: ", 1)
        raise ModelError(f"{words}; {_EXPECTED}") from None


def _safetensors(path: Path) -> Any:
    """Our own file by its format, any other as a dictionary of arrays."""
    own = format_of(path)
    if own in [each.format for each in ARCHITECTURES]:
        return OwnFile(own)
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            if own:
                raise ModelError(f"{path} holds something else ({own}): {_EXPECTED}")
            tensors = {key: file.get_tensor(key) for key in keys}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} cannot be read ({brief(error)}): {_EXPECTED}") from None
    return {key: np.asarray(value.float() if value.is_floating_point() else value) for key, value in tensors.items()}


def _unknown(content: Any) -> str:
    """What to say of a file that no format fits."""
    arrays = arrays_of(content)
    inside = as_mapping(content)
    if NVIDIA_DISCRIMINATOR in arrays or ROSINALITY_DISCRIMINATOR in arrays:
        return "holds a discriminator, which draws no pictures: expected the generator of the same training"
    if arrays:
        first = shown([f"{key} {value.shape}" for key, value in arrays.items()])
    elif inside:
        first = shown([f"{plain(key)} ({type(value).__name__})" for key, value in inside.items()])
    else:
        first = type(content).__name__
    known = "; ".join(each.what for each in FORMATS)
    return f"holds no generator of a known format. Its first entries: {first}. Known are: {known}"
