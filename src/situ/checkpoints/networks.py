"""The published weights of the frozen networks: which file, where it is looked for, how it is read.

Nothing is fetched. A file is found in a folder of the user's, and read without running anything in it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from situ.checkpoints.foreign import read_foreign
from situ.core.errors import FileError, ModelError
from situ.networks.arcface import ArcFace, arcface_from_state_dict
from situ.networks.bisenet import BiSeNet, bisenet_from_state_dict
from situ.networks.deeplab_v2 import DeepLabV2, deeplab_v2_from_state_dict
from situ.networks.deeplab_v3 import DeepLabV3, deeplab_v3_from_state_dict
from situ.networks.inception import Inception, inception_from_state_dict
from situ.networks.lpips import LPIPS, Trunk, lpips_from_state_dict
from situ.networks.moco import MoCo, moco_from_state_dict

WEIGHTS_FOLDER = "SITU_WEIGHTS"  # the environment variable that names the folder of weights

_LIMIT = 3 << 30  # bytes in memory; a VGG-16 with its classifier takes half a gigabyte, twice while it is read


@dataclass(frozen=True)
class PublishedFile:
    """One file of weights, as its authors publish it."""

    name: str  # what it is looked up by here
    files: tuple[str, ...]  # file names, the current one first
    what: str
    input: str  # the pictures that the network learnt from
    licence: str  # of the weights, as far as their authors say
    source: str  # where people get it


PUBLISHED: Mapping[str, PublishedFile] = {
    each.name: each
    for each in (
        PublishedFile(
            "bisenet",
            ("79999_iter.pth",),
            "BiSeNet, 19 parts of faces",
            "512 x 512 pixels, RGB, ImageNet's normalisation",
            "MIT; learnt from CelebAMask-HQ, which is for non-commercial research",
            "the zllrunning/face-parsing.PyTorch project's release, linked from its README",
        ),
        PublishedFile(
            "deeplab-v3",
            ("deeplabv3_resnet101_coco-586e9e4e.pth",),
            "DeepLabV3 on ResNet-101, 21 classes of Pascal VOC",
            "shorter side 520 pixels, RGB, ImageNet's normalisation",
            "BSD-3-Clause (torchvision)",
            "torchvision's model collection, as DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1",
        ),
        PublishedFile(
            "deeplab-v2",
            ("deeplabv2_resnet101_msc-cocostuff164k-100000.pth",),
            "DeepLabV2 on ResNet-101 at three scales, 182 classes of COCO-Stuff",
            "longer side 513 pixels, BGR in [0, 255] less the means",
            "MIT",
            "the kazuto1011/deeplab-pytorch project's README, table of COCO-Stuff 164k",
        ),
        PublishedFile(
            "alexnet",
            ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth"),
            "AlexNet of ImageNet, the trunk of LPIPS (alex)",
            "any size from 31 pixels, RGB, ImageNet's normalisation",
            "BSD-3-Clause (torchvision)",
            "torchvision's model collection, as AlexNet_Weights.IMAGENET1K_V1",
        ),
        PublishedFile(
            "vgg16",
            ("vgg16-397923af.pth",),
            "VGG-16 of ImageNet, the trunk of LPIPS (vgg)",
            "any size from 16 pixels, RGB, ImageNet's normalisation",
            "BSD-3-Clause (torchvision)",
            "torchvision's model collection, as VGG16_Weights.IMAGENET1K_V1",
        ),
        PublishedFile(
            "lpips-alex",
            ("lpips/alex.pth", "lpips_alex.pth", "alex.pth"),
            "the linear heads of LPIPS (alex), version 0.1",
            "activations of AlexNet",
            "BSD-2-Clause",
            "the richzhang/PerceptualSimilarity repository, lpips/weights/v0.1/alex.pth",
        ),
        PublishedFile(
            "lpips-vgg",
            ("lpips/vgg.pth", "lpips_vgg.pth", "vgg.pth"),
            "the linear heads of LPIPS (vgg), version 0.1",
            "activations of VGG-16",
            "BSD-2-Clause",
            "the richzhang/PerceptualSimilarity repository, lpips/weights/v0.1/vgg.pth",
        ),
        PublishedFile(
            "arcface",
            ("model_ir_se50.pth",),
            "ArcFace, IR-SE-50: identity of aligned faces",
            "112 x 112 pixels, RGB in [-1, 1], cut out of aligned pictures of 256",
            "MIT; learnt from faces collected for research",
            "the TreB1eN/InsightFace_Pytorch project, linked from omertov/encoder4editing's README as IR-SE50",
        ),
        PublishedFile(
            "inception",
            ("pt_inception-2015-12-05-6726825d.pth",),
            "Inception v3 for FID",
            "299 x 299 pixels, RGB in [-1, 1]",
            "Apache-2.0",
            "the mseitzer/pytorch-fid project's release fid_weights",
        ),
        PublishedFile(
            "moco",
            ("moco_v2_800ep_pretrain.pth.tar", "moco_v2_800ep_pretrain.pth"),
            "MoCo v2's ResNet-50, 800 epochs",
            "224 x 224 pixels, RGB",
            "CC BY-NC 4.0, as the project's README says",
            "the facebookresearch/moco project's README, table of models",
        ),
    )
}


def data_folder() -> Path:
    """Where Situ keeps the user's data: packs, weights, what was fitted once."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "situ"


def user_folder() -> Path:
    """The folder of weights in the user's data."""
    return data_folder() / "weights"


def _hub_folder() -> Path:
    """Where Hugging Face's tools keep what they have fetched."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"])
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]) / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "huggingface" / "hub"


def find_weights(name: str, path: Path | str | None = None) -> Path:
    """Where a published file is on this machine.

    Looked for: the path given (the file or its folder), the folder that SITU_WEIGHTS names, the user's data folder, and
    what Hugging Face's tools have fetched. The network is never asked.

    Raises:
        ModelError: no such file; the message says where to get it and where to put it.
    """
    if name not in PUBLISHED:
        raise ModelError(f'published networks are {", ".join(PUBLISHED)}; got "{name}"')
    published = PUBLISHED[name]
    if path is not None and not Path(path).is_dir():
        if Path(path).is_file():
            return Path(path)
        raise _missing(published, f"no file at {path}")
    named = os.environ.get(WEIGHTS_FOLDER)
    folders = [Path(path)] if path is not None else [*([Path(named)] if named else []), user_folder()]
    places = [folder / file for folder in folders for file in published.files]
    if path is None:
        places += [hit for file in published.files for hit in _fetched(file)]
    for place in places:
        if place.is_file():
            return place
    raise _missing(published, f"no {published.files[0]} in {path}" if path is not None else "it is not on this machine")


def _fetched(file: str) -> list[Path]:
    """Copies in the hub's cache, the latest first."""
    found = [hit for hit in _hub_folder().glob(f"models--*/snapshots/*/{file}") if hit.is_file()]
    return sorted(found, key=lambda hit: hit.stat().st_mtime, reverse=True)


def _missing(published: PublishedFile, why: str) -> ModelError:
    named = os.environ.get(WEIGHTS_FOLDER)
    folder = f"{named} ({WEIGHTS_FOLDER})" if named else f"a folder that the variable {WEIGHTS_FOLDER} names"
    return ModelError(
        f"the weights of {published.what} are needed, {why}: get {published.files[0]} from {published.source}, "
        f"and put it into {user_folder()} or {folder}, or give its path. Licence: {published.licence}"
    )


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a torch file (of either format, in a `state_dict` or not) or of a .safetensors.

    Raises:
        FileError: missing or damaged, or in need of more than arrays and containers.
        ModelError: no tensors in it.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise FileError(f"{path} cannot be read ({error})") from None
    content = read_foreign(path, limit=_LIMIT).content
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    arrays = content if isinstance(content, Mapping) else {}
    tensors = {
        key: torch.from_numpy(np.array(value))
        for key, value in arrays.items()
        if isinstance(key, str) and isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    }
    if not tensors:
        raise ModelError(f"{path} holds no named tensors: expected the weights of a network")
    if all(key.startswith("module.") for key in tensors):  # of a model that learnt on several devices
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _read(name: str, path: Path | str | None) -> dict[str, Tensor]:
    return read_tensors(find_weights(name, path))


def load_bisenet(path: Path | str | None = None, device: torch.device | str = "cpu") -> BiSeNet:
    """The face parser. Raises ModelError where its file is missing or another, FileError where it is damaged."""
    return bisenet_from_state_dict(_read("bisenet", path)).to(device)


def load_deeplab_v3(path: Path | str | None = None, device: torch.device | str = "cpu") -> DeepLabV3:
    """The segmenter of Pascal VOC's classes. Raises as `load_bisenet`."""
    return deeplab_v3_from_state_dict(_read("deeplab-v3", path)).to(device)


def load_deeplab_v2(path: Path | str | None = None, device: torch.device | str = "cpu") -> DeepLabV2:
    """The segmenter of COCO-Stuff's classes. Raises as `load_bisenet`."""
    return deeplab_v2_from_state_dict(_read("deeplab-v2", path)).to(device)


def load_deeplab(path: Path | str, device: torch.device | str = "cpu") -> DeepLabV2 | DeepLabV3:
    """Either, told by the names in the file. Raises as `load_bisenet`."""
    tensors = read_tensors(path)
    third = any(key.startswith("backbone.") for key in tensors)
    return (deeplab_v3_from_state_dict(tensors) if third else deeplab_v2_from_state_dict(tensors)).to(device)


def load_lpips(
    trunk: Trunk = "alex",
    path: Path | str | None = None,
    heads: Path | str | None = None,
    device: torch.device | str = "cpu",
) -> LPIPS:
    """The perceptual distance, of two files: the trunk and its heads. Raises as `load_bisenet`.

    Args:
        path: of the trunk.
        heads: path of the heads.
    """
    network = {"alex": "alexnet", "vgg": "vgg16"}.get(trunk)
    if network is None:
        raise ModelError(f'LPIPS stands on alex or vgg, got "{trunk}"')
    found = lpips_from_state_dict(_read(network, path), _read(f"lpips-{trunk}", heads))
    if found.trunk != trunk:
        raise ModelError(f"the trunk in {path} is that of LPIPS ({found.trunk}), expected {trunk}")
    return found.to(device)


def load_arcface(path: Path | str | None = None, device: torch.device | str = "cpu") -> ArcFace:
    """The identity network. Raises as `load_bisenet`."""
    return arcface_from_state_dict(_read("arcface", path)).to(device)


def load_inception(path: Path | str | None = None, device: torch.device | str = "cpu") -> Inception:
    """FID's network. Raises as `load_bisenet`."""
    return inception_from_state_dict(_read("inception", path)).to(device)


def load_moco(path: Path | str | None = None, device: torch.device | str = "cpu") -> MoCo:
    """The similarity of anything. Raises as `load_bisenet`."""
    return moco_from_state_dict(_read("moco", path)).to(device)
