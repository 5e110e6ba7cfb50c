"""MAGEC table 3: the edit-consistency score, whether inversions come back from an edit.

Grechka et al. 2021, eq. 4-5: the edited picture is inverted anew and the edit undone; what does not come back counts
against the inversion (0 is perfect, above 1 it ends farther off than the edit itself moved). "Our MAGEC loss
significantly improves ECS for all edits, notably ones not used to supervise our loss (GANSpace)."
"""

import math
from typing import Any

import torch

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.magec_comparisons import HERE, Figures, bars, claim, differences, means
from situ.bench.magec_editors import ATTRIBUTES, GANSPACE, ganspace_edits
from situ.bench.magec_inversions import (
    BATCH,
    ENCODER,
    FULL,
    IMAGE2STYLEGAN,
    PHOTOS,
    REFINED,
    REFINED_WITHOUT,
    WITHOUT,
    Photos,
    complete,
    inversion_notes,
    inverted,
    methods_of,
    photos_of,
)
from situ.bench.run import Bench, Run, Size
from situ.core.images import Images
from situ.core.inversion import Inversion, Inverter, invert
from situ.figures.plots import draw_bars
from situ.metrics.consistency import ReversibleEdit, edit_consistency
from situ.packs.photos import attribute_edits

SOURCE = "MAGEC, section 4.2 and table 3"
ROWS = (ENCODER, REFINED, REFINED_WITHOUT, FULL, WITHOUT)
WANTED = ("glasses", "smiling")  # attributes that are added
COMPONENTS = ("component-1",)  # of GANSpace

TABLE_3 = Table(
    "published",
    "1000 pictures of CelebA-HQ, those without the attribute: ECS (lower is better)",
    ("method", "InterFaceGAN male", "InterFaceGAN smile", "GANSpace male", "GANSpace smile"),
    ((IMAGE2STYLEGAN, 0.97, 1.00, 1.07, 0.98), (WITHOUT, 1.01, 0.95, 1.06, 0.90), (FULL, 0.84, 0.87, 0.95, 0.79)),
    "MAGEC, table 3",
)


def edits_of(run: Run) -> dict[str, ReversibleEdit]:
    """The edits of the table, by editor and name."""
    edits = {}
    if run.pack.reader is not None:
        names = [name for name in WANTED if name in run.pack.reader.attributes] or run.pack.reader.attributes[:2]
        added = attribute_edits(run.pack)
        edits |= {f"{ATTRIBUTES} {name}": added[name] for name in names}
    components = ganspace_edits(run)
    return edits | {f"{GANSPACE} {name}": components[name] for name in COMPONENTS if name in components}


def measured(
    run: Run, photos: Photos, found: Inversion, method: Inverter, name: str, edit: ReversibleEdit
) -> list[float]:
    """One cell: each photo's ecs; NaN for those that show the attribute already."""
    eligible = torch.ones(len(photos), 1, dtype=torch.bool)
    if name.startswith(f"{ATTRIBUTES} ") and run.pack.reader is not None and photos.shown is not None:
        column = run.pack.reader.attributes.index(name.removeprefix(f"{ATTRIBUTES} "))
        eligible = ~photos.shown[:, column, None]
    if not eligible.any():
        return [math.nan] * len(photos)

    def project(images: Images) -> Inversion:
        return complete(invert(run.pack.generator, images, method, torch.Generator().manual_seed(0)))

    distance = run.pack.distance.between
    scores = edit_consistency(
        run.pack.generator, found, project, {name: edit}, distance, eligible=eligible, batch=2 * BATCH
    ).scores
    return scores[:, 0].tolist()


def run_bench(run: Run) -> Outcome:
    """The whole table."""
    methods, photos = methods_of(run.pack, run.quick), photos_of(run)
    rows = {name: methods[name] for name in ROWS if name in methods}
    found = {name: inverted(run, name, method, photos).inversion for name, method in rows.items()}
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in rows}
    for edit_name, edit in edits_of(run).items():
        for name, method in rows.items():
            figures[name][f"ECS {edit_name}"] = run.cell(
                f"{edit_name} {name}",
                lambda n=name, m=method, e=edit_name, made=edit: measured(run, photos, found[n], m, e, made),
            )
    known = list(next(iter(figures.values())))
    table: list[tuple[Value, ...]] = [(row, *values) for row, values in zip(rows, means(figures, known), strict=True)]
    note = (
        f"{photos.words}; edits of attributes count photos without the attribute, GANSpace's all. Lower is better. "
        "95 % bootstrap intervals over photos."
    )
    return Outcome(
        [Table("consistency", "Edit-consistency score", ("method", *known), tuple(table), note=note),
         differences(figures)],
        _claims(figures, known),
        {"consistency": _bars(figures, known)},
        notes=[
            *inversion_notes(run.pack, photos),
            "Image2StyleGAN++ is left out, whose new inversions take 15 seconds a photo and edit; so is the published "
            "weight, whose codes are nearly those without MAGEC (magec-table1).",
        ],
    )  # fmt: skip


def _claims(figures: Figures, known: list[str]) -> list[Claim]:
    seen, unseen = ([name for name in known if name.startswith(f"ECS {editor} ")] for editor in (ATTRIBUTES, GANSPACE))
    against: Any = (FULL, WITHOUT)
    return [
        *claim("MAGEC lowers the ECS of edits by the editor that supervises it", SOURCE, figures, against, seen,
               higher=False),
        *claim("MAGEC lowers the ECS of edits by an editor that it never saw", SOURCE, figures, against, unseen,
               higher=False),
        *claim("MAGEC lowers the ECS of edits by either editor", HERE, figures, (REFINED, REFINED_WITHOUT), known,
               higher=False),
    ]  # fmt: skip


def _bars(figures: Figures, known: list[str]):
    groups = [g for name in known for g in bars(figures, name, name.removeprefix("ECS "), "ECS (0 is perfect)")]
    return draw_bars(groups, "Edit consistency")


BENCH = Bench(
    "magec-table3",
    "MAGEC table 3: edit consistency",
    "Do inversions come back from an edit that is undone on the edited picture's own codes?",
    run_bench,
    full=Size(pictures=100, searches=1, parts=(), minutes=60),
    quick=Size(pictures=4, searches=1, parts=(), minutes=1.5),
    published=(TABLE_3,),
    picture_seed=PHOTOS,
)
