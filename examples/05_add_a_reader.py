"""A reader for a checkpoint layout of your own: find the state dict, translate its names, let the sizes be checked.

The file is made here, from the bundled generator under other names. Yours comes from your training.
"""

import re
from pathlib import Path
from typing import Any

import torch

from situ import Generator, open_model, save_generator
from situ.checkpoints.open import read_content
from situ.checkpoints.stylegan2 import build_stylegan2
from situ.checkpoints.weights import Options, Source, Weights, first_with
from situ.core.images import save_sheet

KEYS = ("style.0.weight", "blocks.4.start")  # what tells such a file from any other


def recognise(content: Any) -> bool:
    """Whether a file has this layout; `content` is what `read_content` makes of any file, without running it."""
    return first_with(content, *KEYS) is not None


def read(content: Any, options: Options) -> Generator:
    """The generator, with our names. What is missing or left over is an error: it would change the pictures."""
    found = first_with(content, *KEYS)
    assert found is not None
    source = Source(found.weights, "StyleGAN2 of my training")
    made: Weights = {translated(key): source.take(key) for key in found.weights}
    source.require_all_used()
    return build_stylegan2(made, options)


def translated(key: str) -> str:
    """ "style.0.weight" -> "mapping.fc0.weight", "blocks.8.up.weight" -> "synthesis.b8.conv0.weight"."""
    key = re.sub(r"^style\.mean$", "mapping.w_avg", re.sub(r"^style\.(\d+)\.", r"mapping.fc\1.", key))
    key = re.sub(r"^blocks\.(\d+)\.", r"synthesis.b\1.", key)
    for theirs, ours in ((".start", ".const"), (".up.", ".conv0."), (".same.", ".conv1."), (".colour.", ".torgb.")):
        key = key.replace(theirs, ours)
    return key


def written_elsewhere(path: Path) -> None:
    """Stands for the training that wrote your file."""
    words = {"mapping.fc": "style.", "mapping.w_avg": "style.mean", "synthesis.b": "blocks.", ".const": ".start"}
    words |= {".conv0.": ".up.", ".conv1.": ".same.", ".torgb.": ".colour."}
    names = {}
    for key, value in open_model("portraits").generator.network.state_dict().items():
        for ours, theirs in words.items():
            key = key.replace(ours, theirs)
        names[key] = value
    torch.save({"generator_ema": names}, path)


if __name__ == "__main__":
    written_elsewhere(Path("mine.pt"))
    content = read_content(Path("mine.pt"))
    print("recognised:", recognise(content))
    options = Options()
    generator = read(content, options)
    print("notes:", *options.notes)

    save_generator(generator, "mine.safetensors", licence="mine")  # from now on: situ sample --model mine.safetensors
    again = open_model("mine.safetensors").generator
    codes = again.sample(4, again.spaces["z"], torch.Generator().manual_seed(0), truncation=0.7)
    with torch.no_grad():
        pictures = again.synthesize(codes).images
        same = torch.equal(pictures, open_model("portraits").generator.synthesize(codes).images)
    print("the same pictures:", same)
    save_sheet(pictures, "05_add_a_reader.png", columns=4)
