"""Parts by words ("the wheels"): CLIPSeg from Hugging Face's transformers.

Lüddecke, Ecker, "Image segmentation using text and image prompts" (2022). The package is optional and the model is
opened as in `transformers_models.py`: from a folder or the hub's cache, never from the network.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from situ.core.errors import ModelError, RegionError
from situ.segmenters.pixels import PixelSegmenter
from situ.segmenters.transformers_models import input_format, opening, read_model, transformers_package

ELSEWHERE = "elsewhere"  # the part of the pixels that no word is about


def words_segmenter(
    place: Path | str,
    words: Sequence[str],
    *,
    size: int | None = None,
    device: torch.device | str = "cpu",
) -> PixelSegmenter:
    """A segmenter whose parts are the words given, and "elsewhere".

    CLIPSeg gives a logit for each word on its own, sigmoid(l) being the probability. Several words compete here: the
    probability of word i is exp(l_i) / (1 + sum_j exp(l_j)), which for one word is the sigmoid.

    Args:
        place: a folder with a CLIPSeg, or the name of one in the hub's cache ("CIDAS/clipseg-rd64-refined").
        size: pixels on the longer side of the answer; None for the size at which the model looks (352).

    Raises:
        ModelError: no transformers, no such model on this machine, or one of another kind.
        RegionError: no words, or one of them twice.
    """
    words = tuple(words)
    if not words or len({*words, ELSEWHERE}) < len(words) + 1:
        raise RegionError(f'parts by words are one or more different words, none of them "{ELSEWHERE}"; got {words}')
    transformers = transformers_package("a part by words")
    with opening(place):
        config = transformers.AutoConfig.from_pretrained(str(place), local_files_only=True, trust_remote_code=False)
    if config.model_type != "clipseg":
        raise ModelError(f"{place} is of the kind {config.model_type}, expected a CLIPSeg")
    model = read_model(transformers.CLIPSegForImageSegmentation, place).to(device)
    fed = input_format(place)
    with opening(place):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(place), local_files_only=True, trust_remote_code=False
        )
        told = tokenizer(list(words), padding=True, truncation=True, return_tensors="pt").to(device)
    with torch.no_grad():
        made = model.clip.get_text_features(input_ids=told["input_ids"], attention_mask=told["attention_mask"])
    meanings: Tensor = getattr(made, "pooler_output", made)  # (words, d); older versions give the tensor itself

    def scores(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n p h2 w2"]:
        x = fed.prepare(images.to(model.dtype))
        # the model's own forward pass cuts the derivative by the picture, so its two halves are called one by one
        seen = model.clip.vision_model(pixel_values=x, output_hidden_states=True, interpolate_pos_encoding=True)
        taps = [seen.hidden_states[i + 1] for i in model.extract_layers]
        maps = [model.decoder(taps, meaning.expand(len(x), -1)).logits for meaning in meanings]
        stacked = torch.stack([each.reshape(len(x), *each.shape[-2:]) for each in maps], dim=1)
        found = torch.cat([stacked, torch.zeros_like(stacked[:, :1])], dim=1)
        if size is not None:  # resized once, to that
            return found
        return functional.interpolate(found, x.shape[-2:], mode="bilinear", align_corners=False)

    return PixelSegmenter(f"CLIPSeg ({Path(str(place)).name})", (*words, ELSEWHERE), scores, size=size)
