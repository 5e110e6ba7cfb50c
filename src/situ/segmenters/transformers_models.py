"""Parts from any semantic segmentation model of Hugging Face's transformers: SegFormer, Mask2Former, OneFormer, others.

The package is optional (the extra "transformers"). Models are opened from a folder, or by the name of one that is in
the hub's cache already; nothing is fetched, weights are read from .safetensors only, and no code of a model's is run.
The preparation of pictures follows the model's own settings, on tensors, so that it is differentiable.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.errors import ModelError
from situ.networks.inputs import InputFormat, Triple
from situ.segmenters.pixels import PixelSegmenter, softmax

_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # by Pillow's numbers
_TASK = "the task is semantic"  # what OneFormer is told
_KINDS = {  # by the end of the architecture's name
    "ForSemanticSegmentation": "AutoModelForSemanticSegmentation",
    "ForUniversalSegmentation": "AutoModelForUniversalSegmentation",
    "MaskFormerForInstanceSegmentation": "AutoModelForUniversalSegmentation",
}


def transformers_package(purpose: str) -> Any:
    """The package. Raises ModelError where it is not installed."""
    try:
        import transformers
    except ImportError:
        raise ModelError(
            f"{purpose} needs the package transformers, which is not installed: pip install 'situ[transformers]'"
        ) from None
    return transformers


@contextmanager
def opening(place: Path | str) -> Iterator[None]:
    """Turns what transformers makes of a folder that is not there, or of something else, into ModelError."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError) as error:
        words = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{place} cannot be opened ({type(error).__name__}: {words}): expected a folder with config.json, "
            "preprocessor_config.json and model.safetensors, or the name of a model in Hugging Face's cache; nothing "
            "is fetched, and other kinds of weights are not read"
        ) from None


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def read_model(kind: Any, place: Path | str) -> Any:
    """A frozen model of a class of transformers, all of whose weights are in the folder. Raises ModelError."""
    with opening(place), _without_progress_bars():
        model, told = kind.from_pretrained(
            str(place), local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    missing = sorted(told["missing_keys"])
    if missing:
        raise ModelError(
            f"{place} has no weights for {', '.join(missing[:3])} ({len(missing)} are missing): its config.json and "
            "its weights are of different models"
        )
    return model.eval().requires_grad_(False)


def input_format(place: Path | str) -> InputFormat:
    """How a model's own settings (preprocessor_config.json) say that pictures are prepared. Raises ModelError."""
    from transformers.image_processing_base import ImageProcessingMixin

    with opening(place):
        settings, _ = ImageProcessingMixin.get_image_processor_dict(str(place), local_files_only=True)
    return format_of(settings, place)


def format_of(settings: Mapping[str, Any], place: Path | str) -> InputFormat:
    """The same from the settings themselves."""

    def needed(key: str) -> Any:
        if settings.get(key) is None:
            raise ModelError(f"the settings of {place} for pictures say nothing of {key}: expected its size, mean, std")
        return settings[key]

    if settings.get("do_center_crop"):
        raise ModelError(f"{place} cuts out the centre of pictures, which leaves the rest without labels")
    mean: Triple = (0.0, 0.0, 0.0)
    std: Triple = (1.0, 1.0, 1.0)
    if settings.get("do_normalize", True):
        mean, std = _triple(needed("image_mean"), place), _triple(needed("image_std"), place)
    white = 255 * float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 255.0
    if not settings.get("do_resize", True):
        return InputFormat(mean=mean, std=std, white=white)
    resample = settings.get("resample", 2)
    if resample not in _INTERPOLATIONS:
        raise ModelError(
            f"{place} resizes pictures by filter {resample} of Pillow; bilinear (2) and bicubic (3) are known"
        )
    divisor = settings.get("size_divisor", settings.get("size_divisibility"))
    given = {"mean": mean, "std": std, "white": white, "interpolation": _INTERPOLATIONS[resample]}
    return InputFormat(**_size_of(needed("size"), settings.get("max_size"), place), divisor=divisor or 1, **given)


def _triple(values: Any, place: Path | str) -> Triple:
    values = values if isinstance(values, (list, tuple)) else [values] * 3
    if len(values) != 3:
        raise ModelError(f"{place} takes pictures of {len(values)} channels, these have red, green and blue")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _size_of(size: Any, max_size: Any, place: Path | str) -> dict[str, Any]:
    """The three ways in which sizes are written: a number, height and width, the shorter side and a limit."""
    if isinstance(size, int):
        size = {"height": size, "width": size} if max_size is None else {"shortest_edge": size}
    if isinstance(size, Mapping) and {"height", "width"} <= size.keys():
        return {"size": (int(size["height"]), int(size["width"]))}
    if isinstance(size, Mapping) and size.get("shortest_edge"):
        return {
            "size": int(size["shortest_edge"]),
            "fit": "shorter side",
            "longest": size.get("longest_edge") or max_size,
        }
    raise ModelError(f"{place} gives the size of pictures as {size}: expected height and width, or the shortest edge")


def transformers_segmenter(
    place: Path | str, *, size: int | None = None, device: torch.device | str = "cpu"
) -> PixelSegmenter:
    """A semantic segmentation model as a segmenter; its parts are the model's labels.

    Args:
        place: a folder, or the name of a model in the hub's cache ("nvidia/segformer-b0-finetuned-ade-512-512").
        size: pixels on the longer side of the answer; None for the size at which the model looks.

    Raises:
        ModelError: no transformers, no such model on this machine, or one of another kind.
    """
    transformers = transformers_package("this segmenter")
    with opening(place):
        config = transformers.AutoConfig.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
    architecture = (config.architectures or ["?"])[0]
    kind = next((auto for end, auto in _KINDS.items() if architecture.endswith(end)), None)
    if kind is None:
        raise ModelError(f"{place} is {architecture}, expected a model for semantic or universal segmentation")
    model = read_model(getattr(transformers, kind), place).to(device)
    fed = input_format(place)
    extra = _task(transformers, place, config, device) if config.model_type == "oneformer" else {}
    universal = kind == "AutoModelForUniversalSegmentation"
    forward = _universal_scores if universal else _semantic_scores

    def scores(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h2 w2"]:
        x = fed.prepare(images.to(model.dtype))
        repeated = {name: value.expand(len(x), -1) for name, value in extra.items()}
        found = forward(model, x, repeated)
        if size is not None:  # resized once, to that
            return found
        return functional.interpolate(found, x.shape[-2:], mode="bilinear", align_corners=False)

    name = f"{config.model_type} ({Path(str(place)).name})"
    normalise = _shares if universal else softmax
    return PixelSegmenter(name, part_names(config.id2label), scores, size=size, normalise=normalise)


def part_names(id2label: Mapping[int, str]) -> tuple[str, ...]:
    """Labels in the order of the channels, as names that parts can have: no "+", and each once."""
    names: list[str] = []
    for number in sorted(id2label, key=int):
        name = " ".join(str(id2label[number]).replace("+", " and ").split()) or f"label {number}"
        names.append(f"{name} {number}" if name in names else name)
    return tuple(names)


def _semantic_scores(model: Any, x: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
    return model(pixel_values=x, **extra).logits


def _universal_scores(model: Any, x: Tensor, extra: Mapping[str, Tensor]) -> Tensor:
    """Every query's mask, counted for the classes that the query may be of."""
    made = model(pixel_values=x, **extra)
    if not hasattr(made, "class_queries_logits"):
        raise ModelError(
            f"{type(model).__name__} answers in a form that is not known here, expected queries with masks"
        )
    classes = made.class_queries_logits.softmax(dim=-1)[..., :-1]  # the last is "nothing"
    return torch.einsum("nqc,nqhw->nchw", classes, made.masks_queries_logits.sigmoid())


def _shares(scores: Tensor) -> Tensor:
    """Sums of queries are not probabilities: their shares are, with the same winner."""
    scores = scores.clamp(min=torch.finfo(scores.dtype).tiny)  # bilinear weights keep them positive, but for rounding
    return scores / scores.sum(dim=1, keepdim=True)


def _task(transformers: Any, place: Path | str, config: Any, device: torch.device | str) -> dict[str, Tensor]:
    """OneFormer is told its task in words."""
    with opening(place):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(place), local_files_only=True, trust_remote_code=False
        )
        told = tokenizer(
            [_TASK], padding="max_length", max_length=config.task_seq_len, truncation=True, return_tensors="pt"
        )
    return {"task_inputs": (told["input_ids"] * told["attention_mask"]).to(device)}
