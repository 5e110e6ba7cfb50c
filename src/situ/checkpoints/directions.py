"""Numbers of other projects' direction files made into directions of a model.

Most such files hold numbers and nothing else. What they leave out (the space, the layers, the region) is given by the
caller; nothing is assumed without being said, and numbers that do not fit are refused with the spaces that they fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from situ.checkpoints.direction_files import Channels, RawDirections, by, joined
from situ.core.direction import Direction
from situ.core.errors import DirectionError
from situ.core.generator import Generator
from situ.core.latents import LatentSpace, Subspace, parse_subspace

Rows = Sequence[int] | Literal["all"]


@dataclass(frozen=True)
class Imported:
    """Directions, not yet calibrated, and what had to be assumed to make them."""

    directions: list[Direction]
    assumed: list[str]


def to_directions(
    raw: RawDirections,
    generator: Generator,
    subspace: Subspace | None = None,
    region: str | None = None,
    *,
    rows: Rows | None = None,
    name: str | None = None,
    licence: str = "",
) -> Imported:
    """Directions of a generator, in unit length, not yet calibrated.

    Args:
        subspace: where they live; needed unless the file tells.
        region: what they edit, "everything" if neither the file nor the caller says.
        rows: which of several; needed where there are several.
        name: of the result, numbered where there are several; by default what the file says, or its name.

    Raises:
        DirectionError: the numbers do not fit the subspace, or something that the file does not say is missing.
    """
    assumed: list[str] = []
    if subspace is None:
        stated = _stated_subspaces(raw, generator, rows)
        if len(stated) > 1:
            parts = [
                to_directions(raw, generator, where, region, rows=[i], name=name, licence=licence)
                for i, where in stated.items()
            ]
            notes = [note for part in parts for note in part.assumed]
            return Imported([direction for part in parts for direction in part.directions], _once(notes))
        (subspace,) = stated.values()
        assumed.append(f"space {subspace}, as the file says")
    elif raw.subspaces and str(subspace) not in raw.subspaces and not raw.channels:
        assumed.append(f"space {subspace}, though the file says {joined(sorted(set(raw.subspaces)))}")
    if raw.generator not in ("", generator.name):
        assumed.append(f"that directions of {raw.generator} fit {generator.name}")
    if raw.channels:
        if subspace.space != parse_subspace(raw.subspaces[0], generator.spaces).space:
            raise DirectionError(f"{raw.file} holds channels of {raw.subspaces[0]}, which are none of {subspace}")
        chosen = _chosen(raw, len(raw.channels), rows)
        made = [_from_channels(raw.channels[i], raw.file, subspace, assumed) for i in chosen]
    else:
        vectors = _vectors(raw, generator, subspace, rows, assumed)
        chosen = _chosen(raw, len(vectors), rows)
        made = [(vectors[i], subspace) for i in chosen]
    label = name or Path(raw.file).stem
    directions = []
    for i, (vector, where) in zip(chosen, made, strict=True):
        length = float(vector.norm())
        if not vector.isfinite().all() or not length > 0:
            raise DirectionError(f"row {i} of {raw.file} is no direction: its length is {length}")
        own = raw.names[i] if i < len(raw.names) and not name else label if len(made) == 1 else f"{label}-{i}"
        about = region or _each(raw.regions, i) or "everything"
        if region is None:
            assumed.append(f'region "{about}", {"as the file says" if _each(raw.regions, i) else "as none was given"}')
        step = raw.steps[i] if i < len(raw.steps) and raw.steps[i] > 0 else 1.0
        found_by = f"imported({raw.kind}, {raw.file}, row {i})"
        directions.append(
            Direction(
                (vector / length).float(),
                where,
                generator.name,
                about,
                found_by,
                unit=length * step,
                name=own,
                truncation=raw.truncation,
                licence=licence,
            )
        )
    return Imported(directions, _once(assumed))


def _stated_subspaces(raw: RawDirections, generator: Generator, rows: Rows | None) -> dict[int, Subspace]:
    """Row -> the subspace that the file states for it; a single entry where it states one for all."""
    stated = dict(enumerate(raw.subspaces))
    if len(set(stated.values())) > 1:
        stated = {i: stated[i] for i in _chosen(raw, len(stated), rows)}
    if not stated:
        raise DirectionError(
            f"{raw.file} ({raw.kind}, {by(raw.shape)}) does not say its space: give it, for instance --space w; "
            f"{fitting_spaces(raw.shape, generator.spaces)}"
        )
    if len(set(stated.values())) == 1:
        stated = dict([*stated.items()][:1])
    return {i: parse_subspace(text, generator.spaces) for i, text in stated.items()}


def _each(values: Sequence[str], i: int) -> str:
    """What is said of row i, one for all or one each."""
    return values[0] if len(values) == 1 else values[i] if i < len(values) else ""


def _once(notes: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(notes))


def _chosen(raw: RawDirections, count: int, rows: Rows | None) -> list[int]:
    if rows is None:
        if count > 1:
            raise DirectionError(f"{raw.file} holds {count} directions ({by(raw.shape)}): say --row 0,2 or --row all")
        return [0]
    if rows == "all":
        return list(range(count))
    bad = [i for i in rows if not 0 <= i < count]
    if bad or not rows:
        raise DirectionError(
            f"rows of {raw.file} run from 0 to {count - 1}, got {joined(list(map(str, bad))) or 'none'}"
        )
    return list(rows)


def _from_channels(channels: Channels, file: str, subspace: Subspace, assumed: list[str]) -> tuple[Tensor, Subspace]:
    space = subspace.space
    vector = torch.zeros(space.dim, dtype=torch.float64)
    for layer, channel in channels:
        if layer not in subspace.chosen:
            raise DirectionError(
                f"channel {layer}_{channel} is on layer {layer}, {subspace} has the layers "
                f"{joined(list(map(str, subspace.chosen)), 40)}"
            )
        if channel >= space.slices[layer].size:
            raise DirectionError(
                f"channel {layer}_{channel}: layer {layer} ({space.slices[layer].name}) has the channels 0 to "
                f"{space.slices[layer].size - 1}"
            )
        vector[space.offsets[layer] + channel] = 1
        where = f"layer {layer} is {space.slices[layer].name}"
        assumed.append(f"{where} (layers of {space.name} counted with ToRGB, as StyleSpace does)")
    narrow = subspace.on_layers(tuple({layer for layer, _ in channels}))
    return narrow.restrict(vector), narrow


def _vectors(
    raw: RawDirections, generator: Generator, subspace: Subspace, rows: Rows | None, assumed: list[str]
) -> Float[Tensor, "k d"]:
    """The rows of a file in the free coordinates of a subspace."""
    values, space = raw.values, subspace.space
    widths = _widths(raw.shape)
    narrower = subspace.dim != space.dim
    free, full = subspace.dim in widths, space.dim in widths and narrower
    layered = values.ndim == 3 and values.shape[1:] == (len(space.slices), space.slices[0].size)
    if full and (layered or not free):
        return _narrowed(values.reshape(-1, space.dim), raw.file, subspace, assumed)
    if not free:
        raise DirectionError(
            f"{raw.file} holds {by(raw.shape)} numbers, {subspace} has {subspace.dim}; "
            f"{fitting_spaces(raw.shape, generator.spaces)}"
        )
    if values.ndim == 3 and values.shape[2] == subspace.dim and values.shape[1] > 1:
        if not _same(values.unbind(dim=1)):
            raise DirectionError(
                f"{raw.file} holds {by(raw.shape)} numbers that differ from layer to layer, {subspace} has no layers: "
                f"{fitting_spaces((values.shape[1] * values.shape[2],), generator.spaces)}"
            )
        assumed.append(f"one vector for all: its {values.shape[1]} layers hold the same")
        return values[:, 0]
    over = _over_layers(values.shape, generator.spaces)
    if over and subspace.dim == values.shape[-1] and not raw.subspaces:
        if rows is None:
            raise DirectionError(
                f"{raw.file} holds {len(values)} directions of {subspace} or one of {over}: say --row 0 (or all) for "
                f"the first, --space {over} for the second"
            )
        assumed.append(f"{len(values)} directions of {subspace}, not one of {over}")
    return values.reshape(-1, subspace.dim)


def _narrowed(full: Float[Tensor, "k d"], file: str, subspace: Subspace, assumed: list[str]) -> Float[Tensor, "k f"]:
    """Vectors of the whole space on the layers of a subspace."""
    parts = subspace.space.split(full)
    chosen = [parts[i] for i in subspace.chosen]
    if subspace.tied and _same(parts):
        assumed.append(f"one vector for all: its {len(parts)} layers hold the same")
        return chosen[0]
    lost = float(1 - torch.cat(chosen, dim=1).square().sum() / full.square().sum())
    if lost > 1e-6:
        layers = f"{len(chosen)} of the {len(parts)} layers in the file"
        assumed.append(f"only {layers}: {lost:.0%} of the squared length lies on the others and is dropped")
    if not subspace.tied:
        return torch.cat(chosen, dim=1)
    if not _same(chosen):
        raise DirectionError(
            f"{file} holds a vector that differs from layer to layer, {subspace} has one for all: "
            f"choose the layers of {subspace.space.name} instead, --space {subspace.space.name}"
        )
    return chosen[0]


def _same(layers: Sequence[Tensor]) -> bool:
    """Whether vectors of several layers are one, but for rounding."""
    return all(torch.allclose(layer, layers[0], rtol=1e-5, atol=1e-7) for layer in layers)


def _over_layers(shape: Sequence[int], spaces: Mapping[str, LatentSpace]) -> str:
    """The space of which an array (layers, numbers) could be a single vector."""
    if len(shape) != 2 or shape[0] == 1:
        return ""
    fit = [s.name for s in spaces.values() if [part.size for part in s.slices] == [shape[1]] * shape[0]]
    return fit[0] if fit else ""


def _widths(shape: Sequence[int]) -> list[int]:
    """The lengths that vectors of an array can have: products of its last axes."""
    return [int(np.prod(shape[i:])) for i in range(len(shape))]


def fitting_spaces(shape: Sequence[int], spaces: Mapping[str, LatentSpace]) -> str:
    """Where an array's numbers would fit, and where not: "512 numbers fit w (512), w:LAYERS; not s (9088)"."""
    fit: list[str] = []
    for width in dict.fromkeys(_widths(shape)[::-1]):
        found = _fits(width, spaces)
        fit += [f"{width} numbers fit {joined(found, 8)}"] if found else []
    named = " ".join(fit)
    others = [f"{s.name} ({s.dim})" for s in spaces.values() if f"{s.name} ({s.dim})" not in named]
    words = "; ".join(fit) or f"{by(shape)} numbers fit no space of this model"
    return f"{words}; not {', '.join(others)}" if others else words


def _fits(width: int, spaces: Mapping[str, LatentSpace]) -> list[str]:
    found = []
    for space in spaces.values():
        sizes = [s.size for s in space.slices]
        if space.dim == width:
            found.append(f"{space.name} ({width})")
        if len(sizes) == 1:
            if sizes[0] == width and f"{space.name}+" in spaces:
                found.append(f"{space.name}:LAYERS")
            continue
        kinds = {s.kind for s in space.slices if s.kind}
        found += [
            f"{space.name}:{k}" for k in sorted(kinds) if sum(s.size for s in space.slices if s.kind == k) == width
        ]
        count = width // sizes[0]
        if len(set(sizes)) == 1 and width == count * sizes[0] < space.dim:
            if count > 1 or f"{space.name.removesuffix('+')}:LAYERS" not in found:  # which is the same
                found.append(f"{space.name}:LAYERS ({count} of them)")
        elif len(set(sizes)) > 1 and width in sizes and len(sizes) > 1:
            ones = [i for i, size in enumerate(sizes) if size == width]
            found.append(
                f"{space.name}:{ones[0]}" + (f" or another of its {len(ones)} layers" if len(ones) > 1 else "")
            )
    return found
