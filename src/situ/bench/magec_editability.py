"""MAGEC table 2: whether edited inversions are realistic, and whether they do what the edit says.

Grechka et al. 2021, section 4.2: realism is the k-NN score of Kynkäänniemi et al. (1 and above lies among real
pictures), and t the rise of the edited attribute's probability. Edits by InterFaceGAN's steps, which supervise MAGEC,
by StyleFlow, GANSpace and interpolation, which do not. The paper makes 20 random edits of a photo; here every edit of
every editor is made of every photo, and a photo's figure is the mean over them.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from PIL import Image

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.magec_comparisons import HERE, Figures, bars, claim, differences, means
from situ.bench.magec_editors import ATTRIBUTES, GANSPACE, INTERPOLATION, STYLEFLOW, Editor, editors_of
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
    inversion_notes,
    inverted,
    methods_of,
    photos_of,
    pictures,
)
from situ.bench.run import Bench, Run, Size, summarised
from situ.core.errors import SituError
from situ.core.inversion import Inversion
from situ.figures.overlays import enlarge
from situ.figures.plots import draw_bars
from situ.figures.sheets import Grid, Row, draw_grid, lay_out

SOURCE = "MAGEC, section 4.2 and table 2"
EDITORS = (ATTRIBUTES, STYLEFLOW, GANSPACE, INTERPOLATION)
UNSEEN = (STYLEFLOW, GANSPACE, INTERPOLATION)  # editors that MAGEC is not supervised with
ON_PAR = 0.01  # of the other row's realism: what is worse by less is on a par
SHEET_ROWS = (ENCODER, REFINED, FULL, WITHOUT, IMAGE2STYLEGAN)
SHEET_EDITS = (  # editor, edit, and what the sheet calls it
    (ATTRIBUTES, "glasses", "glasses"),
    (ATTRIBUTES, "smiling", "smiling"),
    (STYLEFLOW, "glasses", "glasses, StyleFlow"),
    (GANSPACE, "component-1", "GANSpace 1"),
    (INTERPOLATION, "half 1", "half another"),
)
SHOWN = 2
CELL = 116

TABLE_2 = Table(
    "published",
    "1000 pictures of CelebA-HQ, 20,000 edited pictures a row: realism R and improved target t (higher is better)",
    ("method", "R InterFaceGAN", "t InterFaceGAN", "R StyleFlow", "t StyleFlow", "R GANSpace", "R interpolation"),
    (
        (IMAGE2STYLEGAN, 0.973, 0.096, 0.929, 0.211, 0.960, 1.00),
        (WITHOUT, 0.994, 0.097, 0.976, 0.148, 0.985, 1.03),
        (FULL, 0.998, 0.122, 0.982, 0.202, 0.984, 1.04),
    ),
    "MAGEC, table 2",
)


def measured(run: Run, photos: Photos, found: Inversion, editor: Editor) -> dict[str, list[float]]:
    """One cell: each photo's mean realism and, where attributes are edited, mean t over the edits."""
    pack, realism, rise = run.pack, [], []
    before = _attributes(run, pictures(pack, found)) if editor.attributes else None
    for i, edit in enumerate(editor.edits.values()):
        images = pictures(pack, found, edit(found.latents))
        realism.append(run.realism.score(summarised(pack, images)))
        if before is not None and photos.shown is not None:
            wanted = 1 - 2 * photos.shown[:, i].float()  # which way the probability is to go
            rise.append(wanted * (_attributes(run, images) - before)[:, i])
    cell = {"R": torch.stack(realism).mean(dim=0).tolist()}
    return {**cell, "t": torch.stack(rise).mean(dim=0).tolist()} if rise else cell


def _attributes(run: Run, images: torch.Tensor) -> torch.Tensor:
    assert run.pack.reader is not None
    with torch.no_grad():
        return torch.cat([run.pack.reader.classify(some) for some in images.split(BATCH)]).cpu()


def run_bench(run: Run) -> Outcome:
    """The whole table."""
    methods, photos = methods_of(run.pack, run.quick), photos_of(run)
    found = {name: inverted(run, name, method, photos).inversion for name, method in methods.items()}
    editors, failed = editors_of(run, photos), []
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in found}
    for editor, make in editors.items():
        try:
            for name, inversion in found.items():
                cell = run.cell(f"{editor} {name}", lambda m=make, i=inversion: measured(run, photos, i, m()))
                figures[name] |= {f"{figure} {editor}": values for figure, values in cell.items()}
        except SituError as error:  # an editor that is not installed, or cannot be had of this model
            failed.append(f"{editor}: {error}")
    wanted = [f"{figure} {editor}" for editor in EDITORS for figure in ("R", "t")]
    known = [name for name in wanted if all(name in each for each in figures.values())]
    figures = {row: {name: each[name] for name in known} for row, each in figures.items()}
    rows: list[tuple[Value, ...]] = [(row, *values) for row, values in zip(figures, means(figures, known), strict=True)]
    note = f"{photos.words}; R is realism, t the improved target; 95 % bootstrap intervals over photos."
    return Outcome(
        [Table("edits", "Edited inversions", ("method", *known), tuple(rows), note=note), differences(figures)],
        _claims(figures),
        {"edits": _bars(figures, known)},
        {"sheet": _sheet(run, photos, found, {name: make for name, make in editors.items() if f"R {name}" in known})},
        [
            *inversion_notes(run.pack, photos),
            f"Realism is R of Kynkäänniemi et al. among {run.real[1]}, in {run.pack.distance.name}: real from 1.",
            "Attributes are turned over from what the photo shows, by steps along C n (n InterFaceGAN's normal, C the "
            "covariance of the codes), by StyleFlow to probability 0 or 1. GANSpace goes both ways along its first 4 "
            "components; interpolation goes halfway to 3 other photos.",
            *failed,
        ],
    )


def _claims(figures: Figures) -> list[Claim]:
    against, images = (FULL, WITHOUT), (FULL, IMAGE2STYLEGAN)
    all_r, unseen_r = [f"R {editor}" for editor in EDITORS], [f"R {editor}" for editor in UNSEEN]
    return [
        *claim("Edits of the supervising editor change more of what they are asked to with MAGEC than without", SOURCE,
               figures, against, (f"t {ATTRIBUTES}",), higher=True),
        *claim("So do edits of an editor that MAGEC never saw", SOURCE, figures, against, (f"t {STYLEFLOW}",),
               higher=True),
        *claim("Edits are as realistic with MAGEC as without, under every editor", SOURCE, figures, against, all_r,
               higher=True, slack=ON_PAR),
        *claim("Between photos, pictures are more realistic with MAGEC than without", SOURCE, figures, against,
               (f"R {INTERPOLATION}",), higher=True),
        *claim("Edits are more realistic than those of Image2StyleGAN++'s codes, under every editor", SOURCE, figures,
               images, all_r, higher=True),
        *claim("Edits of the supervising editor change more than those of Image2StyleGAN++'s codes", SOURCE, figures,
               images, (f"t {ATTRIBUTES}",), higher=True),
        *claim("Edits change more of what they are asked to with MAGEC than without", HERE, figures,
               (REFINED, REFINED_WITHOUT), (f"t {ATTRIBUTES}", f"t {STYLEFLOW}"), higher=True),
        *claim("Edits of editors that MAGEC never saw are as realistic with it as without", HERE, figures,
               (REFINED, REFINED_WITHOUT), unseen_r, higher=True, slack=ON_PAR),
    ]  # fmt: skip


def _bars(figures: Figures, known: Sequence[str]):
    groups = []
    for name in sorted(known, key=lambda name: name[0]):  # all of R, then all of t
        words = "realism R" if name.startswith("R ") else "improved target t"
        groups += bars(figures, name, name[2:], words, {"real": 1.0} if name.startswith("R ") else None)
    return draw_bars(groups, "Edited inversions")


def _sheet(
    run: Run, photos: Photos, found: Mapping[str, Inversion], editors: Mapping[str, Callable[[], Editor]]
) -> Image.Image:
    """The first photos under some edits, of some rows."""
    chosen = [(editors[name]().edits.get(edit), caption) for name, edit, caption in SHEET_EDITS if name in editors]
    edits = [(edit, caption) for edit, caption in chosen if edit is not None]
    drawn = {
        row: [pictures(run.pack, found[row]), *(pictures(run.pack, found[row], edit(found[row].latents))
                                                for edit, _ in edits)]
        for row in SHEET_ROWS
        if row in found
    }  # fmt: skip
    grids = []
    for k in range(min(SHOWN, len(photos))):
        lines = [Row("photo", enlarge(photos.images[k : k + 1].cpu(), CELL))]
        for row, columns in drawn.items():
            lines.append(Row(row, enlarge(torch.stack([images[k] for images in columns]).cpu(), CELL)))
        captions = ["inverted", *(caption for _, caption in edits)]
        grids.append([draw_grid(Grid(lines, f"Photo {k + 1}", captions, "", CELL))])
    return lay_out(grids, "Edited inversions", f"{photos.words}; attributes are turned over from what the photo shows")


BENCH = Bench(
    "magec-table2",
    "MAGEC table 2: realism and reaction of edits",
    "Are edited inversions realistic, and do they change what the edit is to change?",
    run_bench,
    full=Size(pictures=100, searches=1, parts=(), minutes=75),
    quick=Size(pictures=4, searches=1, parts=(), minutes=1.5),
    published=(TABLE_2,),
    picture_seed=PHOTOS,
)
