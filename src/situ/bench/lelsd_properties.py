"""LELSD table 1: seven properties of methods that edit images, each shown or refuted by doing it.

Pajouheshgar et al. 2022, table 1, asks of every method whether it (A) works on any dataset, (B) needs no test-time
optimization, (C) works on any GAN architecture, (D) edits with a single image, (E) allows global and (F) local editing,
(G) of any object. What was done to tell:

A  it finds directions of a box on a model that has nothing trained on its pictures but the generator
B  its direction, found once and read from a file, moves pictures that it has never seen, without a gradient
C  it works on a generator that has no styles, whose discs are painted by a mixed latent; where F holds, locally as well
D  the picture of one code is edited from that code alone
E  asked for the whole subject, it finds a direction that turns a pose or a light, on the average of the pictures
F  half of the change or more lies inside the part (the first of the bench), more than with random directions
G  the same in every part of the bench

Published methods may differ from what is here: their column is what their own papers' methods allow.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from situ.bench.experiment import Claim, Outcome, Table, Value
from situ.bench.run import Bench, Run, Size, over_searches
from situ.bench.searches import ranked, sampled
from situ.bench.statistics import interval, paired
from situ.core.direction import Direction
from situ.core.errors import SituError
from situ.core.images import Images
from situ.core.latents import Latents
from situ.core.measurement import edited_images
from situ.core.region import Box, Part, Region, preset
from situ.core.transfer import transfer_part
from situ.generators.any_module import AnyModule
from situ.metrics.locality import InsideShare
from situ.packs.methods import METHODS, build_method
from situ.packs.pack import FactorReader, Pack

PROPERTIES = {
    "A": "any dataset",
    "B": "no test-time optimization",
    "C": "any GAN architecture",
    "D": "a single image",
    "E": "global editing",
    "F": "local editing",
    "G": "any object",
}
COMPOSITION = "part transfer"  # Editing in Style: a picture composed of two, kept apart from directions
LOCAL = 0.5  # share of the change that lies inside a part that is edited locally
MOVED = 0.25  # of the unit distance, by which a picture counts as edited
MOST = 0.9  # of the pictures
TURNED = 0.05  # of a factor's range, mean over pictures, at strength 1
WHOLE = ("pose", "light")  # what shows in no part alone
SETTINGS: Mapping[str, Mapping[str, object]] = {"stylespace": {"pictures": 4}}  # enough to tell a yes from a no
# robust PCA's own weight: the paper's makes nothing low-rank of so few dimensions
AS_SMALL: Mapping[str, Mapping[str, object]] = {"lowrankgan": {"sparse_weight": None}}

PUBLISHED = (
    Table(
        "published",
        "What the paper says in words of its table 1",
        ("method", "property", "published", "words"),
        (
            ("lelsd", "A", True, "applicable to any dataset and GAN architecture (abstract)"),
            ("lelsd", "B", True, "we do not perform test-time optimization (section 1)"),
            ("lelsd", "C", True, "applicable to any dataset and GAN architecture (abstract)"),
            ("lelsd", "D", True, "traversal methods can perform single-image editing (section 2)"),
            ("lelsd", "F", True, "latent space directions that affect local regions (section 1)"),
            ("lowrankgan", "B", False, "Zhu et al. [17] perform test-time optimization (section 2)"),
            ("interfacegan", "A", False, "only applicable on face images (section 2)"),
            ("stylespace", "C", False, "cannot be applied to other GAN architectures (section 1)"),
            ("ganspace", "F", False, "unsupervised directions are not suitable for localized editing (section 2)"),
            ("sefa", "F", False, "unsupervised directions are not suitable for localized editing (section 2)"),
            (COMPOSITION, "D", False, "they require a second image to transfer the parts from (section 2)"),
        ),
        "LELSD, table 1 and the sections named",
        "Only marks that the paper also states in words.",
    ),
)


class Discs(nn.Module):
    """Pictures of three discs, each with a colour and a size of its own; a rotation mixes all twelve coordinates."""

    SIDE = 32
    CENTRES = ((8, 8), (8, 24), (24, 16))
    HALF = 7  # pixels from a centre to the edge of its box

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.rotation: Tensor
        self.distance: Tensor
        self.register_buffer("rotation", torch.linalg.qr(torch.randn(12, 12, generator=rng))[0])
        axis = torch.arange(self.SIDE, dtype=torch.float32)
        places = [((axis[:, None] - y).square() + (axis[None, :] - x).square()).sqrt() for y, x in self.CENTRES]
        self.register_buffer("distance", torch.stack(places))  # (discs, side, side)

    def forward(self, z: Float[Tensor, "n 12"]) -> Float[Tensor, "n 3 32 32"]:
        own = (z @ self.rotation).unflatten(1, (3, 4))  # (n, discs, 3 of colour and 1 of size)
        radius = 4 + torch.tanh(own[:, :, 3, None, None])
        cover = torch.sigmoid(2 * (radius - self.distance))  # (n, discs, side, side)
        colour = torch.tanh(own[:, :, :3])
        return torch.einsum("ndc,ndhw->nchw", colour, cover)

    @classmethod
    def box(cls, disc: int) -> Box:
        """Around a disc."""
        row, column = cls.CENTRES[disc]
        return Box(row, column, 2 * cls.HALF, 2 * cls.HALF)


def discs() -> Pack:
    """The discs as a model, with a classifier of two attributes of the first disc and nothing else."""
    inside = torch.zeros(1, 1, Discs.SIDE, Discs.SIDE)
    top, left = (c - Discs.HALF for c in Discs.CENTRES[0])
    inside[..., top : top + 2 * Discs.HALF, left : left + 2 * Discs.HALF] = 1

    def classify(images: Images) -> Float[Tensor, "n 2"]:
        means = (images * inside).sum(dim=(2, 3)) / inside.sum()  # of each colour
        return torch.sigmoid(20 * torch.stack([means[:, 0], means[:, 2]], dim=1))

    def nothing(images: Images) -> Float[Tensor, "n 0"]:
        return images.new_zeros(len(images), 0)

    reader = FactorReader((), (), (), ("red", "blue"), ("disc", "disc"), nothing, classify)
    return Pack("discs", AnyModule(Discs(), z_dim=12), reader=reader, unit_distance=0.002)


@dataclass(frozen=True)
class Answer:
    """Whether a method has a property, and what was seen."""

    holds: bool
    seen: str

    def described(self) -> dict[str, object]:
        return {"holds": self.holds, "seen": self.seen}


def searched(
    run: Run, pack: Pack, name: str, region: Region, settings: Mapping[str, object]
) -> tuple[list[Direction], str]:
    """Directions of a region on any pack as they were found, or the reason why there are none."""
    own = {**SETTINGS.get(name, {}), **run.searches.settings_of(name), **settings}
    try:
        method = build_method(METHODS[name], own, pack, [region])
        rows = method.find(pack.generator, [region], torch.Generator().manual_seed(run.seed))
    except SituError as error:
        return [], str(error)
    return rows[0], "" if rows[0] else "it finds no direction"


def inside_shares(pack: Pack, direction: Direction, region: Region, latents: Latents) -> list[float]:
    """Of each picture, the mean of both signs."""
    runs = [edited_images(pack.generator, direction, region, latents, sign) for sign in (1.0, -1.0)]
    return over_searches([InsideShare()(each).tolist() for each in runs])


def is_local(ours: Sequence[float], random: Sequence[float]) -> Answer:
    """Half inside or more, and more than with random directions."""
    share, gap = interval(ours), paired(ours, random)
    return Answer(
        share.mean >= LOCAL and gap.above_zero, f"{share.mean:.0%} inside, random {interval(random).mean:.0%}"
    )


def any_dataset(run: Run, name: str) -> Answer:
    """A. The generator alone, and a box."""
    bare = Pack(run.pack.name, run.pack.generator, distance=run.pack.distance, unit_distance=run.pack.unit_distance)
    found, reason = searched(run, bare, name, preset("mouth", bare.generator.resolution), {})
    return Answer(bool(found), reason or f"{len(found)} directions of a box")


def no_test_time(run: Run, direction: Direction) -> Answer:
    """B. Unseen pictures, one pass of the generator each."""
    generator, distance = run.pack.generator, run.pack.distance.between
    with torch.inference_mode():
        before = generator.synthesize(run.latents).images
        moved = torch.stack(
            [
                distance(before, generator.synthesize(direction.apply(generator, run.latents, s)).images)
                for s in (1.0, -1.0)
            ]
        )
    share = float((moved.amax(dim=0) >= MOVED * run.pack.unit_distance).float().mean())
    return Answer(share >= MOST, f"edits {share:.0%} of unseen pictures without a gradient")


def any_architecture(run: Run, name: str, local: bool) -> Answer:
    """C. Discs of a mixed latent."""
    pack, region = discs(), Discs.box(0)
    settings = {"space": "z", **AS_SMALL.get(name, {})}
    rows, reason = searched(run, pack, name, region, settings)
    found = ranked(pack, [region], [rows])[0]
    if not found:
        return Answer(False, reason or "no direction changes the pictures")
    if not local:
        return Answer(True, "finds directions of Z")
    latents = sampled(pack, 32, run.seed)
    chance = ranked(pack, [region], [searched(run, pack, "random", region, {"space": "z", "k": 1})[0]])[0]
    return is_local(inside_shares(pack, found[0], region, latents), inside_shares(pack, chance[0], region, latents))


def single_image(run: Run, direction: Direction) -> Answer:
    """D. One code, and the same code among others."""
    generator = run.pack.generator
    with torch.no_grad():
        alone = generator.synthesize(direction.apply(generator, run.latents[:1], 1.0)).images
        among = generator.synthesize(direction.apply(generator, run.latents, 1.0)).images[:1]
    apart = float((alone - among).abs().max())
    return Answer(apart < 1e-3, f"alone and among others the edit differs by {apart:.0e}")


def global_editing(run: Run, name: str) -> Answer:
    """E. Everything but the background, or everything where there are no parts."""
    pack = run.pack
    columns = [i for i, part in enumerate(pack.reader.parts) if part in WHOLE] if pack.reader else []
    if pack.reader is None or pack.segmenter is None or not columns:
        return Answer(False, "not told: the model has no parts, or no reader of factors of pose or light")
    region = Part(pack.segmenter, tuple(part for part in pack.segmenter.parts if part != "background"))
    settings: dict[str, object] = {}
    if "classifier" in METHODS[name].build.__dataclass_fields__:
        settings["attributes"] = tuple(
            a for a, part in zip(pack.reader.attributes, pack.reader.attribute_parts, strict=True) if part in WHOLE
        )
    rows, reason = searched(run, pack, name, region, settings)
    found = ranked(pack, [region], [rows])[0]
    best, factor = 0.0, ""
    with torch.no_grad():
        before = pack.generator.synthesize(run.latents).images
        for direction in found:
            ends = [
                pack.generator.synthesize(direction.apply(pack.generator, run.latents, s)).images for s in (1.0, -1.0)
            ]
            changes = (pack.reader.change(before, ends[0]) - pack.reader.change(before, ends[1]))[:, columns].mean(
                dim=0
            )
            most = int(changes.abs().argmax())
            if float(changes[most].abs()) / 2 > best:
                best, factor = float(changes[most].abs()) / 2, pack.reader.factors[columns[most]]
    return Answer(best >= TURNED, reason or f"turns {factor} by {best:.2f} of its range")


def answers(run: Run, name: str) -> dict[str, Any]:
    """One cell: a method's row."""
    parts = list(run.regions)
    found = {part: run.find(name, part, run.seed) for part in parts}
    row: dict[str, Answer] = {"A": any_dataset(run, name)}
    if found[parts[0]].directions:
        first = found[parts[0]].best
        local = {}
        for part in parts:
            if not found[part].directions:
                local[part] = Answer(False, found[part].failed)
                continue
            chance = run.find("random", part, run.seed).best
            local[part] = is_local(
                inside_shares(run.pack, found[part].best, run.regions[part], run.latents),
                inside_shares(run.pack, chance, run.regions[part], run.latents),
            )
        held = [part for part in parts if local[part].holds]
        row["B"], row["D"], row["F"] = no_test_time(run, first), single_image(run, first), local[parts[0]]
        row["G"] = Answer(len(held) == len(parts), f"local in {len(held)} of {len(parts)}: {', '.join(held) or 'none'}")
    else:
        failed = Answer(False, found[parts[0]].failed)
        row |= {"B": failed, "D": failed, "F": failed, "G": failed}
    row["C"] = any_architecture(run, name, row["F"].holds)
    row["E"] = global_editing(run, name)
    return {key: row[key].described() for key in PROPERTIES}


def composition() -> dict[str, Any]:
    """The row of part transfer: only D tells it from the rest; the others are what its signature says."""
    asked = inspect.signature(transfer_part).parameters
    second = [name for name in asked if "reference" in name]
    return {"D": Answer(not second, f"asks for a second image ({', '.join(second)})").described()}


def run_bench(run: Run) -> Outcome:
    """The whole table."""
    rows: dict[str, dict[str, Any]] = {}
    for name in METHODS:
        rows[name] = run.cell(name, lambda name=name: answers(run, name))
    rows[COMPOSITION] = run.cell(COMPOSITION, composition)
    marks: list[tuple[Value, ...]] = []
    seen: list[tuple[Value, ...]] = []
    for name, row in rows.items():
        marks.append((name, *[_mark(row.get(key)) for key in PROPERTIES]))
        seen += [
            (name, f"{key} {PROPERTIES[key]}", _mark(row[key]), row[key]["seen"]) for key in PROPERTIES if key in row
        ]
    columns = ("method", *(f"{key} {words}" for key, words in PROPERTIES.items()))
    return Outcome(
        [
            Table("properties", "Seven properties, by doing", columns, tuple(marks)),
            Table("seen", "What was seen", ("method", "property", "holds", "seen"), tuple(seen)),
        ],
        _claims(rows),
        notes=[
            "A: finds directions of a box where nothing but the generator was trained.",
            f"B: a direction from a file edits at least {MOST:.0%} of unseen pictures, without a gradient.",
            "C: works on a generator without styles whose latent is mixed, and locally there too where F holds.",
            "D: the picture of one code is edited from that code alone.",
            f"E: asked for the whole subject, turns a factor of pose or light by {TURNED:g} of its range.",
            f"F: {LOCAL:.0%} of the change or more inside {next(iter(run.regions))}, and more than random directions.",
            f"G: F in all of {', '.join(run.regions)}.",
        ],
    )


def _mark(answer: Mapping[str, Any] | None) -> str:
    return "" if answer is None else "yes" if answer["holds"] else "no"


def _claims(rows: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    claims = []
    for method, key, published, words in PUBLISHED[0].rows:
        answer = rows[str(method)].get(str(key))
        if answer is None:
            continue
        said = "has" if published else "does not have"
        text = f"{method} {said} property {key} ({PROPERTIES[str(key)]}): {words}"
        claims.append(Claim(text, "LELSD, table 1", answer["holds"] == published, str(answer["seen"])))
    return claims


BENCH = Bench(
    "lelsd-table1",
    "LELSD table 1: seven properties of methods",
    "Which methods work on any data and any GAN, without optimization at test time, on one picture, on any part?",
    run_bench,
    full=Size(pictures=32, searches=1, parts=("hair", "eyes", "mouth", "nose"), minutes=8),
    quick=Size(pictures=4, searches=1, parts=("mouth",), minutes=2),
    published=PUBLISHED,
)
