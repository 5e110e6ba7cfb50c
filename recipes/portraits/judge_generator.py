"""Judge a trained generator: are all facial parts where they belong, and does it cover what the renderer draws?

    python recipes/portraits/judge_generator.py --out runs/judged

The parser labels 100 samples; every facial part must have an area and a centre that the same part has in rendered
portraits (between their outermost values over 1000 renders, widened by 3 px and a half of the area). Coverage compares
the spread of every predicted factor with the renderer's own. Writes `samples.png` and `judged.json`.
"""

import argparse
import json
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from situ.core.files import write_whole
from situ.core.generator import Synthesis
from situ.core.images import Images, save_sheet
from situ.core.region import Segmenter
from situ.packs.library import open_model
from situ.packs.portraits.renderer import render, sample_factors

# "eyes" and "brows" are judged on each side of the face's middle, so that a missing one is noticed
FACIAL = ("hair", "skin", "left brow", "right brow", "left eye", "right eye", "nose", "mouth", "neck")


def places(images: Images, segmenter: Segmenter) -> Float[Tensor, "n p 3"]:
    """Area (share of the picture), row and column (pixels of 64) of every facial part."""
    masks = torch.cat([segmenter.segment(Synthesis(part)) for part in images.split(64)])
    won = masks.argmax(dim=1)  # (n, 64, 64)
    rows = torch.arange(64.0)[:, None].expand(64, 64)
    columns = torch.arange(64.0)[None, :].expand(64, 64)
    nose = (won == segmenter.parts.index("nose")).float()
    middle = (nose * columns).sum(dim=(1, 2)) / nose.sum(dim=(1, 2)).clamp(min=1)
    middle = torch.where(nose.sum(dim=(1, 2)) > 0, middle, 31.5)[:, None, None]
    found = []
    for name in FACIAL:
        side, _, part = name.rpartition(" ")
        label = {"eye": "eyes", "brow": "brows"}.get(part, part)
        mask = (won == segmenter.parts.index(label)).float()
        if side:
            mask = mask * ((columns < middle) if side == "left" else (columns >= middle))
        area = mask.sum(dim=(1, 2)).clamp(min=1e-6)
        centre = [(mask * axis).sum(dim=(1, 2)) / area for axis in (rows, columns)]
        found.append(torch.stack([area / 4096, *centre], dim=1))
    return torch.stack(found, dim=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/judged", type=Path)
    parser.add_argument("--truncation", default=0.7, type=float)
    parser.add_argument("--seed", default=0, type=int)
    arguments = parser.parse_args()
    pack = open_model("portraits")
    assert pack.segmenter is not None
    assert pack.reader is not None
    rng = torch.Generator().manual_seed(arguments.seed)
    with torch.no_grad():
        rendered = render(sample_factors(1000, rng), 64).images
        known = places(rendered, pack.segmenter)
        low, high = known.amin(dim=0), known.amax(dim=0)
        low[:, 0] *= 0.5
        high[:, 0] *= 1.5
        low[:, 1:] -= 3
        high[:, 1:] += 3
        latents = pack.generator.sample(100, pack.generator.spaces["z"], rng, arguments.truncation)
        images = pack.generator.synthesize(latents).images
        found = places(images, pack.segmenter)
        right = ((found >= low) & (found <= high)).all(dim=2)  # (n, p)
        many = pack.generator.sample(1000, pack.generator.spaces["z"], rng, 1.0)
        free = torch.cat([pack.generator.synthesize(many[i : i + 100]).images for i in range(0, 1000, 100)])
        ours, theirs = (
            torch.cat([pack.reader.predict(chunk) for chunk in pictures.split(100)]) for pictures in (free, rendered)
        )
    spread = (ours.std(dim=0) / theirs.std(dim=0)).tolist()
    shift = ((ours.mean(dim=0) - theirs.mean(dim=0)) / theirs.std(dim=0)).tolist()
    report = {
        "generator": pack.generator.name,
        "truncation": arguments.truncation,
        "faces_right_of_100": int(right.all(dim=1).sum()),
        "parts_right_of_100": dict(zip(FACIAL, right.sum(dim=0).tolist(), strict=True)),
        "wrong_faces": (~right.all(dim=1)).nonzero().flatten().tolist(),
        "mean_spread_of_factors": sum(spread) / len(spread),
        "spread_of_factors": dict(zip(pack.reader.factors, spread, strict=True)),
        "shift_of_factors": dict(zip(pack.reader.factors, shift, strict=True)),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_sheet(images, arguments.out / "samples.png", columns=10)
    write_whole(arguments.out / "judged.json", lambda place: place.write_text(json.dumps(report, indent=2)))
    print(
        json.dumps({k: v for k, v in report.items() if not k.endswith("of_factors") or k.startswith("mean")}, indent=2)
    )


if __name__ == "__main__":
    main()
