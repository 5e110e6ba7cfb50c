"""The checkpoints of e4e and pSp (.pt): an encoder of photos, and a StyleGAN2 of rosinality as the decoder."""

from typing import Any

from situ.checkpoints.rosinality import KEYS, translate
from situ.checkpoints.stylegan2 import build_stylegan2
from situ.checkpoints.weights import Options, as_mapping, first_with, require_first, under
from situ.generators.stylegan2 import StyleGAN2

_KEYS = tuple(f"decoder.{key}" for key in KEYS)


def is_encoder4editing(content: Any) -> bool:
    """Whether it has a decoder under rosinality's names."""
    return first_with(content, *_KEYS) is not None


def read_encoder4editing(content: Any, options: Options) -> StyleGAN2:
    """The decoder. The tensors of the encoder, which inverts photos, are counted and left alone."""
    weights = require_first(content, *_KEYS).weights
    encoder = sum(key.startswith("encoder.") for key in weights)
    if encoder:
        options.note(f"the file's encoder ({encoder} tensors) is not used: its decoder is the generator")
    mean = as_mapping(content).get("latent_avg")
    return build_stylegan2(translate(under(weights, "decoder."), mean, options), options)
