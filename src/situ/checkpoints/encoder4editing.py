"""The checkpoints of e4e and pSp (.pt): an encoder of photos, and a StyleGAN2 of rosinality as the decoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from situ.checkpoints.rosinality import KEYS, translate
from situ.checkpoints.stylegan2 import build_stylegan2
from situ.checkpoints.weights import Options, as_mapping, first_with, plain, require_first, to_tensor, under
from situ.core.errors import ModelError
from situ.generators.stylegan2 import StyleGAN2
from situ.networks.encoder import Encoder4Editing, encoder_from_state_dict

_KEYS = tuple(f"decoder.{key}" for key in KEYS)
_SHARED: Mapping[str, bool] = {"Encoder4Editing": True, "GradualStyleEncoder": False}  # by `encoder_type`
_CARS = 3 / 4  # height over width of the cars that encoders learn from


@dataclass(frozen=True)
class EncoderCheckpoint:
    """What such a file holds: a generator, and the encoder that finds its codes of photos."""

    generator: StyleGAN2
    encoder: Encoder4Editing  # adds the mean to what it finds
    latent_avg: Float[Tensor, "rows d"]  # zero where the encoder learnt without


def is_encoder4editing(content: Any) -> bool:
    """Whether it has a decoder under rosinality's names."""
    return first_with(content, *_KEYS) is not None


def read_encoder4editing(content: Any, options: Options) -> StyleGAN2:
    """The decoder. The tensors of the encoder, which inverts photos, are counted and left alone."""
    weights = require_first(content, *_KEYS).weights
    encoder = sum(key.startswith("encoder.") for key in weights)
    if encoder:
        options.note(f"the file's encoder ({encoder} tensors) is not used: its decoder is the generator")
    return _decoder(content, weights, options)


def read_encoder_checkpoint(content: Any, options: Options) -> EncoderCheckpoint:
    """The decoder and the encoder.

    Raises:
        ModelError: no encoder, one of an unknown kind, or one that does not fit the decoder.
    """
    weights = require_first(content, *_KEYS).weights
    arrays = {k: v for k, v in under(weights, "encoder.").items() if not k.endswith(".num_batches_tracked")}
    if not arrays:
        raise ModelError(
            "the file has a decoder but no encoder (encoder.body.0...): expected a checkpoint of e4e or pSp"
        )
    settings = as_mapping(as_mapping(content).get("opts"))
    kind = settings.get("encoder_type")
    if kind is None:
        options.note("the file does not say what kind its encoder is: e4e is assumed")
    elif not isinstance(kind, str) or kind not in _SHARED:
        raise ModelError(f"encoders that are read are {', '.join(_SHARED)}; this file has {plain(kind)}")
    generator = _decoder(content, weights, options)
    mean = _mean(content, settings, generator)
    cars = str(settings.get("dataset_type", "")).startswith("cars")
    tensors = {key: to_tensor(f"encoder.{key}", value) for key, value in arrays.items()}
    shared = kind is None or _SHARED[kind]
    encoder = encoder_from_state_dict(tensors, mean, shared, _CARS if cars else 1.0)
    found, expected = tuple(encoder.latent_avg.shape), (generator.settings.num_ws, generator.settings.w_dim)
    if found != expected:
        raise ModelError(f"the encoder finds codes of {found[0]} x {found[1]}, W+ of the decoder has {expected}")
    encoder = encoder.to(options.device)
    return EncoderCheckpoint(generator, encoder, encoder.latent_avg)


def _decoder(content: Any, weights: Mapping[str, np.ndarray], options: Options) -> StyleGAN2:
    return build_stylegan2(
        translate(under(weights, "decoder."), as_mapping(content).get("latent_avg"), options), options
    )


def _mean(content: Any, settings: Mapping[Any, Any], generator: StyleGAN2) -> Float[Tensor, "rows d"] | None:
    """What is added to the encoder's answers: `latent_avg`, else the generator's mean if the encoder learnt with it."""
    mean = as_mapping(content).get("latent_avg")
    if isinstance(mean, np.ndarray) and mean.size:
        return to_tensor("latent_avg", mean).reshape(-1, mean.shape[-1] if mean.ndim else 1)
    if settings.get("start_from_latent_avg", True):
        return generator.mapping.w_avg.detach().to(torch.device("cpu"))[None]
    return None
