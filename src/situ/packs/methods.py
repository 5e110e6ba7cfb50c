"""The discovery methods by name, and what a pack has to build them with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from situ.core.discovery import Discovery
from situ.core.errors import ModelError, SituError
from situ.core.latents import Latents
from situ.core.region import Region
from situ.discovery.baselines import Interpolation, RandomDirections
from situ.discovery.ganalyze import GANalyze
from situ.discovery.ganspace import GANSpace
from situ.discovery.interfacegan import InterFaceGAN
from situ.discovery.lelsd import LELSD
from situ.discovery.lowrankgan import LowRankGAN
from situ.discovery.resefa import ReSeFa
from situ.discovery.sefa import SeFa
from situ.discovery.styleflow import StyleFlow
from situ.discovery.stylespace import StyleSpace
from situ.packs.pack import Pack


@dataclass(frozen=True)
class NamedMethod:
    """A method as people know it."""

    build: type[Any]  # the dataclass
    words: str  # what it does, in a line
    local: bool = True  # searches a region, so a part's best-known subspace is a better default than the paper's
    settings: Mapping[str, object] | None = None  # defaults that differ from the dataclass's


METHODS: Mapping[str, NamedMethod] = {
    "lelsd": NamedMethod(
        LELSD,
        "LELSD: directions optimised so that the change of every feature layer falls inside the region.",
        settings={"layer_weights": {"image": 5.0}},
    ),
    "resefa": NamedMethod(ReSeFa, "ReSeFa: directions of the region in closed form, from the Jacobian of a picture."),
    "lowrankgan": NamedMethod(
        LowRankGAN, "LowRankGAN: low-rank Jacobians of the region, projected off the rest.", local=False
    ),
    "stylespace": NamedMethod(StyleSpace, "StyleSpace: the style channels that paint the region.", local=False),
    "ganspace": NamedMethod(GANSpace, "GANSpace: principal components of the latents.", local=False),
    "sefa": NamedMethod(SeFa, "SeFa: eigenvectors of the style weights.", local=False),
    "interfacegan": NamedMethod(
        InterFaceGAN, "InterFaceGAN: normals between latents with and without an attribute.", local=False
    ),
    "ganalyze": NamedMethod(GANalyze, "GANalyze: directions learned to move an attribute's score.", local=False),
    "styleflow": NamedMethod(
        StyleFlow, "StyleFlow: a flow conditioned on attributes, as mean directions.", local=False
    ),
    "random": NamedMethod(RandomDirections, "Random directions: what any method must beat."),
    "interpolation": NamedMethod(Interpolation, "From one latent towards another: the plainest editor.", local=False),
}


def build_method(
    method: NamedMethod,
    settings: Mapping[str, object],
    pack: Pack,
    regions: Sequence[Region],
    latents: Latents | None = None,
    base: Callable[..., Discovery] | None = None,
) -> Discovery:
    """The method object, with the model's classifier and the regions' best-known subspace where it wants them.

    Args:
        latents: pictures to work on, instead of random ones, for a method that can.
        base: makes the object instead of the class (`LELSD.as_coded`, say).

    Raises:
        ModelError: it needs a classifier and the model has none. SituError: it cannot work on given pictures.
    """
    known = {each.name for each in fields(method.build)}
    made: dict[str, object] = dict(settings)
    if method.local and "space" not in made:
        made["space"] = common_subspace(pack, regions)
    if "classifier" in known:
        if pack.reader is None:
            raise ModelError(f"{method.build.__name__} needs a classifier of attributes, and {pack.name} has none")
        made["classifier"] = pack.reader
        if not made.get("attributes"):
            made["attributes"] = attributes_of(pack, regions)
    if latents is not None:
        if "latents" not in known:
            raise SituError(f"{method.build.__name__} draws its own pictures: leave --picture out")
        made["latents"] = latents
    return (base or method.build)(**made)


def common_subspace(pack: Pack, regions: Sequence[Region]) -> str:
    """The best-known subspace, where all regions share one; W+ otherwise."""
    best = {pack.best_subspaces.get(region.name.removeprefix("not "), "w+") for region in regions}
    return best.pop() if len(best) == 1 else "w+"


def attributes_of(pack: Pack, regions: Sequence[Region]) -> tuple[str, ...]:
    """The attributes that show in parts of these regions; all of them where that is not known."""
    reader = pack.reader
    if reader is None:
        return ()
    parts = {part for region in regions for part in region.name.removeprefix("not ").split("+")}
    shown = tuple(a for a, part in zip(reader.attributes, reader.attribute_parts) if part in parts)
    return shown or reader.attributes


def method_named(name: str) -> NamedMethod:
    """Raises SituError for a name that is none."""
    if name not in METHODS:
        raise SituError(f'methods are {", ".join(METHODS)}; got "{name}"')
    return METHODS[name]
