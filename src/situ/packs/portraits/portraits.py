"""The bundled pack: a StyleGAN2 of rendered portraits with its parser, predictor, identity embedder and encoder."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from situ.checkpoints.native import load_stylegan2
from situ.core.generator import Synthesis
from situ.metrics.perceptual import FeatureDistance
from situ.packs.pack import FactorReader, Pack
from situ.packs.portraits.landmark_network import LandmarkNetwork, LandmarkSettings
from situ.packs.portraits.landmarks import PORTRAIT, PortraitLandmarks
from situ.packs.portraits.networks import (
    CIRCULAR,
    EmbedderSettings,
    EncoderSettings,
    FactorPredictor,
    IdentityEmbedder,
    ParserSettings,
    PortraitEncoder,
    PortraitParser,
    PredictorSettings,
)
from situ.packs.portraits.renderer import ATTRIBUTES, FACTORS, PARTS

FOLDER = Path(__file__).parent

# Strength 1 moves a portrait by this much on the average, in the parser's features: plain to see, no caricature.
UNIT_DISTANCE = 0.025

# Where LELSD's directions of a part score best (docs/subspaces.md has the table).
BEST_SUBSPACES = {"hair": "w+:5-9", "eyes": "w+:2-9", "mouth": "w+:2-9"}

_Network = TypeVar("_Network", bound=nn.Module)


class ParserSegmenter:
    """The parser behind the segmenter contract; 64 px probabilities, single precision whatever it computes in."""

    name = "portrait-parser"
    parts = PARTS
    layers = ()

    def __init__(self, parser: PortraitParser, dtype: torch.dtype = torch.float32) -> None:
        self.parser, self.dtype = parser.to(dtype), dtype

    def segment(self, synthesis: Synthesis) -> Float[Tensor, "n p h w"]:
        """See `Segmenter.segment`."""
        return self.parser(synthesis.images.to(self.dtype)).float().softmax(dim=1)


def _load(build: Callable[[dict], _Network], name: str, device: torch.device | str) -> _Network:
    with safe_open(FOLDER / f"{name}.safetensors", framework="pt") as file:
        settings = json.loads(file.metadata()["settings"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    network = build(settings)
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    network = network.eval().requires_grad_(False)
    for module in network.modules():  # a frozen normalisation is part of the convolution before it
        if isinstance(module, nn.Sequential) and len(module) > 1:
            convolution, normalisation = module[0], module[1]
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                module[0], module[1] = fuse_conv_bn_eval(convolution, normalisation), nn.Identity()
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network.to(device)


def open_portraits(device: torch.device | str = "cpu", low_precision: bool = False) -> Pack:
    """Open the pack; every network is frozen and on `device`.

    Args:
        low_precision: the generator's upper three resolutions and the segmenter compute in bfloat16.
    """
    parser = _load(lambda s: PortraitParser(ParserSettings(**s)), "parser", device)
    predictor = _load(lambda s: FactorPredictor(PredictorSettings(**s)), "predictor", device)
    embedder = _load(lambda s: IdentityEmbedder(EmbedderSettings(**s)), "embedder", device)
    encoder = _load(lambda s: PortraitEncoder(EncoderSettings(**s)), "encoder", device)
    finder = _load(lambda s: LandmarkNetwork(LandmarkSettings(**s)), "landmarks", device)
    part_of = {factor.name: factor.part for factor in FACTORS}
    return Pack(
        name="portraits",
        generator=load_stylegan2(FOLDER / "generator.safetensors", device, low_precision=low_precision),
        segmenter=ParserSegmenter(copy.deepcopy(parser), torch.bfloat16 if low_precision else torch.float32),
        reader=FactorReader(
            factors=tuple(factor.name for factor in FACTORS),
            parts=tuple(factor.part for factor in FACTORS),
            circular=tuple(FACTORS[i].name for i in CIRCULAR),
            attributes=tuple(attribute.name for attribute in ATTRIBUTES),
            attribute_parts=tuple(part_of[attribute.factor] for attribute in ATTRIBUTES),
            predict=lambda images: predictor(images)[0],
            classify=lambda images: predictor(images)[1].sigmoid(),
        ),
        embed=embedder,
        encoder=encoder,
        link=FOLDER / "link.safetensors",
        landmarks=PortraitLandmarks(finder),
        framing=PORTRAIT,
        distance=FeatureDistance("portrait-parser features", parser.features),
        unit_distance=UNIT_DISTANCE,
        best_subspaces=BEST_SUBSPACES,
        directions=FOLDER / "directions",
        licence="MIT",
        card=(FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8"),
    )
