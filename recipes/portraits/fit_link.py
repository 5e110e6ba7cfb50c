"""Fit LinkNet and the attribute editor that MAGEC asks of the pack's codes: linear, from described pictures.

python recipes/portraits/fit_link.py
"""

import torch

from situ import open_model
from situ.inversion.descriptors import Attributes
from situ.inversion.magec import described_samples, fit_editor, fit_link, save_link
from training import PACK

SAMPLES, HELD_OUT = 6000, 1000


def main() -> None:
    pack = open_model("portraits")
    assert pack.reader is not None
    attributes, rng = Attributes(pack.reader), torch.Generator().manual_seed(0)
    data = described_samples(pack.generator, attributes, rng, samples=SAMPLES)
    link = fit_link(data, attributes)
    save_link(link, fit_editor(data, link), pack.generator.name, PACK / "link.safetensors")
    test = described_samples(pack.generator, attributes, rng, samples=HELD_OUT)
    agrees = (link(test.values) > 0) == (test.descriptions > 0.5)
    common = (test.descriptions > 0.5).float().mean(dim=0)
    prior = torch.maximum(common, 1 - common).mean()
    print(f"attributes that LinkNet gets right: {agrees.float().mean():.3f}, always the commoner answer: {prior:.3f}")


if __name__ == "__main__":
    main()
