"""What MAGEC's paper could not measure: edited inversions beside the photo as it truly looks with that factor changed.

The photos are renders, so that each can be rendered again with the factor behind an attribute on the other side of its
threshold. The edit is a step along the attribute at the strength, of a slider's, that comes nearest; a person would
find it so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.magec_comparisons import HERE, Figures, bars, claim, differences, means
from situ.bench.magec_editors import attribute_editor
from situ.bench.magec_inversions import (
    ENCODER,
    FULL,
    IMAGE2STYLEGAN,
    PHOTOS,
    PUBLISHED,
    REFINED,
    REFINED_WITHOUT,
    WITHOUT,
    Photos,
    inversion_notes,
    inverted,
    methods_of,
    photos_of,
    pictures,
)
from situ.bench.run import Bench, Run, Size
from situ.core.errors import SituError
from situ.core.images import Images
from situ.core.inversion import Inversion
from situ.figures.overlays import enlarge
from situ.figures.plots import draw_bars
from situ.figures.sheets import Grid, Row, draw_grid
from situ.inversion.magec import AttributeEditor
from situ.packs.portraits.renderer import ATTRIBUTES, FACTORS, attributes, render, sample_factors

SOURCE = "what editability is for; no paper could measure it"
SLIDER = (0.5, 1.0, 1.5, 2.0, 3.0)  # strengths among which a person would find the right one
USUAL, USUAL_SEED = 10_000, 6_000_101  # people, whose means say where the other side of a threshold is
FIGURES = {"unedited": "MSE unedited", "mse": "MSE edited", "cosine": "cosine"}
SHEET_ROWS = (ENCODER, REFINED, FULL, WITHOUT, IMAGE2STYLEGAN)
SHEET_EDITS = ("glasses", "long_hair", "mouth_open", "beard", "red_hair", "smiling")
CELL = 124


@dataclass(frozen=True)
class Truth:
    """The photos with one attribute turned over."""

    attribute: int
    images: Images


def truths(run: Run, photos: Photos) -> list[Truth]:
    """The photos rendered again, each attribute in turn brought to the mean of the other side."""
    assert photos.factors is not None and photos.shown is not None  # noqa: PT018
    names = [factor.name for factor in FACTORS]
    usual = sample_factors(USUAL, torch.Generator().manual_seed(USUAL_SEED))
    sides, found = attributes(usual), []
    for i, attribute in enumerate(ATTRIBUTES):
        column = names.index(attribute.factor)
        on, off = usual[sides[:, i], column].mean(), usual[~sides[:, i], column].mean()
        changed = photos.factors.clone()
        changed[:, column] = torch.where(photos.shown[:, i], off, on)
        images = render(changed, run.pack.generator.resolution).images.clamp(-1, 1)
        found.append(Truth(i, images.to(run.pack.generator.device)))
    return found


def measured(
    run: Run, photos: Photos, found: Inversion, editor: AttributeEditor, true: list[Truth]
) -> dict[str, list[float]]:
    """One cell: each photo's means over attributes.

    "mse" is from the edited inversion at the best strength to the true render, "unedited" from the inversion as it is;
    "cosine" is between the change of the edit (strength 1) and the true change, in pixels.
    """
    assert photos.shown is not None
    before = pictures(run.pack, found)
    columns: dict[str, list[torch.Tensor]] = {name: [] for name in FIGURES}
    for truth in true:
        moves = _slider(run, photos, found, editor, truth.attribute)
        unedited = _mse(before, truth.images)
        errors = torch.stack([_mse(images, truth.images) for images in moves.values()])
        columns["unedited"].append(unedited)
        columns["mse"].append(torch.minimum(errors.amin(dim=0), unedited))  # a slider can be left alone
        change, wanted = (moves[1.0] - before).flatten(1), (truth.images - photos.images).flatten(1)
        columns["cosine"].append(torch.cosine_similarity(change, wanted))
    return {name: torch.stack(rows).mean(dim=0).tolist() for name, rows in columns.items()}


def _slider(run: Run, photos: Photos, found: Inversion, editor: AttributeEditor, attribute: int) -> dict[float, Images]:
    assert photos.shown is not None
    shown = photos.shown[:, attribute]
    return {s: pictures(run.pack, found, editor.turned(found.latents, attribute, shown, s)) for s in SLIDER}


def _mse(a: Images, b: Images) -> torch.Tensor:
    return (a - b).square().mean(dim=(1, 2, 3))


def run_bench(run: Run) -> Outcome:
    """The whole table.

    Raises:
        SituError: a model whose photos are not renders.
    """
    photos = photos_of(run)
    if photos.factors is None:
        raise SituError(
            f"true edits are known of renders alone, and {run.pack.name} has no renderer: only --model portraits has"
        )
    methods = methods_of(run.pack, run.quick)
    found = {name: inverted(run, name, method, photos).inversion for name, method in methods.items()}
    editor, true = attribute_editor(run.pack), truths(run, photos)
    cells = {name: run.cell(name, lambda i=i: measured(run, photos, i, editor, true)) for name, i in found.items()}
    figures = {row: {FIGURES[name]: values for name, values in cell.items()} for row, cell in cells.items()}
    known = list(FIGURES.values())
    rows: list[tuple[Value, ...]] = [(row, *values) for row, values in zip(figures, means(figures, known), strict=True)]
    note = (
        f"{photos.words}, each of {len(true)} attributes turned over; strengths {', '.join(f'{s:g}' for s in SLIDER)} "
        "or none. MSE to the true render; cosine between the edit's (strength 1) and the true change, in pixels. 95 % "
        "bootstrap intervals over photos."
    )
    return Outcome(
        [Table("truth", "Beside the true render", ("method", *known), tuple(rows), note=note), differences(figures)],
        _claims(figures),
        {"truth": _bars(figures, known)},
        {"sheet": _sheet(run, photos, found, editor, true)},
        inversion_notes(run.pack, photos),
    )


def _claims(figures: Figures) -> list[Claim]:
    def both(text: str, source: str, pair: tuple[str, str]) -> list[Claim]:
        near = claim(text.format("comes nearer to the true picture than"), source, figures, pair, (FIGURES["mse"],),
                     higher=False)  # fmt: skip
        alike = claim(text.format("is more like the true change than"), source, figures, pair, (FIGURES["cosine"],),
                      higher=True)  # fmt: skip
        return [*near, *alike]

    return [
        *both("An edit of MAGEC's codes {} one of codes found without it", SOURCE, (FULL, WITHOUT)),
        *both("An edit of MAGEC's codes {} one of Image2StyleGAN++'s", SOURCE, (FULL, IMAGE2STYLEGAN)),
        *both("An edit after 40 steps of MAGEC {} one after 40 steps without", HERE,
              (REFINED, REFINED_WITHOUT)),
        *both("An edit after the encoder and 40 steps {} one after the published 200", HERE,
              (REFINED, PUBLISHED)),
    ]  # fmt: skip


def _bars(figures: Figures, known: list[str]):
    return draw_bars([g for name in known for g in bars(figures, name, name, name)], "Beside the true render", 3)


def _sheet(
    run: Run, photos: Photos, found: Mapping[str, Inversion], editor: AttributeEditor, true: list[Truth]
) -> Image.Image:
    """One photo a column, under one edit; each row's edit at the strength that comes nearest to the truth."""
    names = [attribute.name for attribute in ATTRIBUTES]
    chosen = [(k, true[names.index(name)]) for k, name in enumerate(SHEET_EDITS) if k < len(photos)]
    lines = [
        Row("photo", torch.cat([photos.images[k : k + 1] for k, _ in chosen])),
        Row("true edit", torch.cat([truth.images[k : k + 1] for k, truth in chosen])),
    ]
    one = {row: [found[row][k : k + 1] for k, _ in chosen] for row in SHEET_ROWS if row in found}
    for row, each in one.items():
        nearest = []
        for (k, truth), inversion in zip(chosen, each, strict=True):
            assert photos.shown is not None
            shown = photos.shown[k : k + 1, truth.attribute]
            tried = [inversion.latents] + [editor.turned(inversion.latents, truth.attribute, shown, s) for s in SLIDER]
            images = torch.cat([pictures(run.pack, inversion, latents) for latents in tried])
            nearest.append(images[_mse(images, truth.images[k : k + 1].expand_as(images)).argmin()])
        lines.append(Row(row, torch.stack(nearest)))
    lines = [Row(line.caption, enlarge(line.images.cpu(), CELL)) for line in lines]
    captions = [f"{'without' if photos.shown is not None and photos.shown[k, t.attribute] else 'with'} "
                f"{names[t.attribute].replace('_', ' ')}" for k, t in chosen]  # fmt: skip
    return draw_grid(Grid(lines, "Edited inversions beside the truth", captions, photos.words, CELL))


BENCH = Bench(
    "magec-truth",
    "MAGEC's edits beside the true picture",
    "How near does an edited inversion come to the photo as it truly looks with that factor changed?",
    run_bench,
    full=Size(pictures=100, searches=1, parts=(), minutes=75),
    quick=Size(pictures=4, searches=1, parts=(), minutes=1.5),
    picture_seed=PHOTOS,
)
