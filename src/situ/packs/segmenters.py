"""Opening a segmenter from whatever it is kept in: our own files, published weights, folders of transformers models."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from situ.checkpoints.frozen import read_frozen
from situ.checkpoints.native import format_of, is_safetensors
from situ.core.errors import FileError, ModelError, RegionError
from situ.core.generator import Generator
from situ.core.region import Segmenter
from situ.segmenters.bisenet import bisenet_segmenter
from situ.segmenters.clusters import CLUSTERS_FILE, load_clusters
from situ.segmenters.deeplab import deeplab_v2_segmenter, deeplab_v3_segmenter
from situ.segmenters.linear import LINEAR_FILE, load_linear
from situ.segmenters.shared import LARGEST
from situ.segmenters.transformers_models import transformers_segmenter
from situ.segmenters.words import words_segmenter

OWN = {CLUSTERS_FILE.format: load_clusters, LINEAR_FILE.format: load_linear}


def own_format(path: Path) -> str:
    """The format of a segmenter file that Situ wrote, "" for any other file."""
    found = format_of(path) if path.is_file() and is_safetensors(path) else ""
    return found if found in OWN else ""


def open_segmenter(
    place: str | Path, generator: Generator, words: Sequence[str] = (), device: torch.device | str | None = None
) -> Segmenter:
    """A segmenter for a generator's pictures.

    Args:
        place: a file of `situ clusters` or `situ train-segmenter`, weights of a published network, a folder of a
            transformers model, or the name of one in the hub's cache.
        words: the parts to look for, where the model goes by words (CLIPSeg).
        device: None for the generator's.

    Raises:
        RegionError: a file that was made on another generator, or a damaged one. ModelError: no such place, or nothing
            that is known.
    """
    path, device = Path(place), device or generator.device
    if own_format(path):
        return OWN[own_format(path)](path, generator)
    if path.is_file():
        try:
            kind, network = read_frozen(path, "segmenter")
        except (ModelError, FileError) as error:
            raise RegionError(
                f"{path} is no segmenter: expected a file of `situ clusters` or `situ train-segmenter`, or the weights "
                f"of a published one ({error})"
            ) from None
        return network_segmenter(kind, network.to(device), size=generator.resolution)
    if not path.is_dir() and str(place).count("/") != 1:
        raise RegionError(
            f"no segmenter at {place}: expected a file of `situ clusters` or `situ train-segmenter`, the weights of a "
            "published one, or the folder of a transformers model"
        )
    size = min(generator.resolution, LARGEST)
    if goes_by_words(path):
        return words_segmenter(place, words, size=size, device=device)
    return transformers_segmenter(place, size=size, device=device)


def network_segmenter(
    kind: str, network: nn.Module, labels: str = "face-parsing", grouped: bool = True, size: int = LARGEST
) -> Segmenter:
    """A published network as a segmenter; `kind` as `read_frozen` tells it.

    Args:
        labels: the order of BiSeNet's labels.
        grouped: eyes, brows, lips (sky, building, water, plant) as one part each.
        size: pixels of the pictures; the answer need not be larger.
    """
    frozen: Any = network.eval().requires_grad_(False)
    if kind == "bisenet":
        return bisenet_segmenter(frozen, labels, grouped=grouped, size=size)  # pyright: ignore[reportArgumentType]
    if kind == "deeplab-v2":
        return deeplab_v2_segmenter(frozen, grouped=grouped, size=min(size, LARGEST))
    return deeplab_v3_segmenter(frozen, size=size)


def goes_by_words(folder: Path) -> bool:
    """Whether the folder of a transformers model holds a CLIPSeg; by its name where only the cache has it."""
    config = folder / "config.json"
    if not folder.is_dir():
        return "clipseg" in str(folder).lower()
    try:
        return json.loads(config.read_text(encoding="utf-8")).get("model_type") == "clipseg"
    except (OSError, ValueError, AttributeError):
        return False  # what is wrong with it is said where it is opened
