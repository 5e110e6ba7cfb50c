"""Tiny random models of transformers, written to a folder as their authors write theirs."""

import json
from pathlib import Path
from typing import Any

import torch

SETTINGS: dict[str, Any] = {
    "do_resize": True,
    "size": {"height": 64, "width": 64},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
LABELS = {0: "wall", 1: "sky", 2: "sky"}
_SWIN = {
    "image_size": 64,
    "patch_size": 4,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 1, 1],
    "window_size": 4,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
_UNIVERSAL = {
    "hidden_dim": 32,
    "encoder_feedforward_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "dim_feedforward": 16,
    "num_queries": 4,
    "id2label": LABELS,
}


def _save(model: Any, place: Path, settings: dict[str, Any]) -> Path:
    model.save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps(settings))
    return place


def _vocabulary() -> dict[str, int]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {word: i for i, word in enumerate(words)}


def _save_tokenizer(place: Path) -> None:
    from transformers import CLIPTokenizer

    CLIPTokenizer(vocab=_vocabulary(), merges=[]).save_pretrained(place)


def segformer(place: Path, settings: dict[str, Any] = SETTINGS) -> Path:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        id2label=LABELS,
    )
    return _save(SegformerForSemanticSegmentation(config), place, settings)


def mask2former(place: Path) -> Path:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(1)
    config = Mask2FormerConfig(backbone_config=SwinConfig(**_SWIN), feature_size=32, mask_feature_size=32, **_UNIVERSAL)
    return _save(Mask2FormerForUniversalSegmentation(config), place, SETTINGS)


def oneformer(place: Path) -> Path:
    from transformers import OneFormerConfig, OneFormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(2)
    config = OneFormerConfig(
        backbone_config=SwinConfig(**_SWIN),
        conv_dim=32,
        mask_dim=32,
        text_encoder_width=16,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=100,
        text_encoder_context_length=24,
        text_encoder_n_ctx=2,
        task_seq_len=24,
        max_seq_len=24,
        query_dec_layers=1,
        **_UNIVERSAL,
    )
    _save_tokenizer(place)
    return _save(OneFormerForUniversalSegmentation(config), place, SETTINGS)


def clipseg(place: Path) -> Path:
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

    torch.manual_seed(3)
    vocabulary = _vocabulary()
    end = vocabulary["<|endoftext|>"]
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "initializer_range": 0.5}
    config = CLIPSegConfig(
        text_config={
            **layers,
            "num_hidden_layers": 1,
            "vocab_size": len(vocabulary),
            "max_position_embeddings": 24,
            "bos_token_id": vocabulary["<|startoftext|>"],
            "eos_token_id": end,
            "pad_token_id": end,
        },
        vision_config={**layers, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        extract_layers=[0, 1, 2],
        reduce_dim=8,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )
    _save_tokenizer(place)
    return _save(CLIPSegForImageSegmentation(config), place, SETTINGS)
