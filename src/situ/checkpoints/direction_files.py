"""The direction files of other projects: read as plain numbers with what they say of themselves, and written.

Read, recognised by content:

* arrays, `.npy` or torch `.pt`: InterFaceGAN (1, 512); ReSeFa and LowRankGAN (k, 512), rows are directions; e4e
  (1, 512) or, for W+, (1, 18, 512);
* principal components: GANSpace `.npz` (`lat_comp`, `lat_stdev`), e4e `.pt` (`comp`, `std`), and the edits that
  GANSpace saves one by one (`.pkl` with its space, layers and name);
* channels of S: StyleSpace (layer, channel) pairs as text ("9_409", one direction a line, several channels joined by
  "+") or JSON, the layer counted with ToRGB as StyleSpace does; lists of one array per layer, as StyleCLIP has them;
* LELSD's saved objects, of which only the numbers are looked at;
* what `write_directions` has written.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from situ.checkpoints.foreign import Foreign, parse_json, read_foreign
from situ.checkpoints.unpickle import Inert
from situ.core.direction import Direction
from situ.core.errors import DirectionError, FileError
from situ.core.files import write_whole

EXPORTED = "situ-exported-directions-1"  # marks the description beside the numbers that are written

_INERT = ("lelsd.", "src.lelsd.", "__main__.LELSD", "torch.distributions.", "torch.device", "torch.Size")
_UNWANTED = ("act_comp", "act_mean", "act_stdev", "lat_mean", "var_ratio", "random_stdevs")  # of GANSpace's .npz
_PAIR = re.compile(r"[(\[]?\s*(\d{1,4})\s*[_:,]\s*(\d{1,5})\s*[)\]]?")

Channels = tuple[tuple[int, int], ...]  # (layer, channel) pairs of S that move together


@dataclass(frozen=True)
class RawDirections:
    """What a file holds, and what it says of itself."""

    file: str
    kind: str  # what the content was recognised as
    values: Float[Tensor, "k *d"]  # one direction or one layer of it a row; empty for channels
    channels: tuple[Channels, ...] = ()
    names: tuple[str, ...] = ()  # one each, where the file tells
    steps: tuple[float, ...] = ()  # a natural length of a step along each, where the file tells
    subspaces: tuple[str, ...] = ()  # one for all or one each, where the file tells
    regions: tuple[str, ...] = ()  # likewise
    generator: str = ""
    truncation: float = 1.0
    notes: Mapping[str, object] = field(default_factory=dict)  # whatever else it says that a person may want

    @property
    def shape(self) -> tuple[int, ...]:
        """As the file has it."""
        return (len(self.channels),) if self.channels else tuple(self.values.shape)


def read_directions(path: Path | str) -> RawDirections:
    """Read a direction file of any known kind; "9_409" that is no file is that channel of S.

    Raises:
        FileError: missing, damaged or refused. DirectionError: it holds no directions.
    """
    path = Path(path)
    if not path.exists() and _PAIR.fullmatch(str(path)):
        return _channels(str(path), parse_channels(str(path)))
    _refuse_own(path)
    foreign = read_foreign(path, inert=_INERT, skip=_UNWANTED)
    try:
        raw = _text(path.name, foreign.content) if foreign.kind == "text" else _recognise(path.name, foreign)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        words = " ".join(str(error).split())[:160]
        raise DirectionError(f"{path} holds something unexpected ({type(error).__name__}: {words})") from None
    return _with_description(raw, path.with_suffix(".json")) if foreign.kind == "npy" else raw


def _refuse_own(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return  # told by the reader
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
        raise DirectionError(f"{path} is a .safetensors file: Situ's own direction files are used as they are")


def _recognise(file: str, foreign: Foreign) -> RawDirections:
    content = foreign.content
    word = {"npy": "array", "npz": "archive of arrays", "torch": "torch file", "pickle": "pickle"}[foreign.kind]
    if isinstance(content, Inert):
        return _lelsd(file, content)
    if isinstance(content, np.ndarray) and content.dtype.kind == "O":
        content = content.tolist()
    if isinstance(content, np.ndarray):
        return RawDirections(file, word, _rows(file, content))
    if isinstance(content, (list, tuple)):
        return RawDirections(file, f"{word}, one array per layer", _layers(file, content))
    if isinstance(content, Mapping):
        if {"comp", "std"} <= content.keys():
            return _components(file, "principal components (e4e)", content["comp"], content["std"])
        if "lat_comp" in content and "edit_type" in content:
            return _ganspace_edit(file, content)
        if "lat_comp" in content:
            return _components(file, "principal components (GANSpace)", content["lat_comp"], content.get("lat_stdev"))
        if {"vectors", "situ"} <= content.keys():
            raw = RawDirections(file, "directions that Situ wrote", _rows(file, content["vectors"]))
            return _described(raw, parse_json(str(content["situ"])))
        return _named_arrays(file, word, content)
    raise DirectionError(f"{file} holds one {type(content).__name__}, expected numbers of directions")


def _array(file: str, values: Any) -> np.ndarray:
    """Real numbers in double precision. Raises DirectionError for anything else."""
    array = np.asarray(values)
    if array.dtype.kind not in "fi" or array.ndim == 0 or not array.size:
        raise DirectionError(
            f"{file} holds an array {array.shape} of {array.dtype}, expected real numbers with a direction in each row"
        )
    with np.errstate(invalid="ignore"):  # NaN is refused later, with its row
        return array.astype(np.float64)


def _rows(file: str, values: Any) -> Tensor:
    """An array without its axes of length 1, but for the first: (k, d), or (k, layers, d)."""
    array = _array(file, values)
    array = array[None] if array.ndim == 1 else array
    array = array.reshape(array.shape[0], *(n for n in array.shape[1:] if n != 1))
    array = array[None] if array.ndim == 1 else array  # (d, 1): one direction
    if array.ndim > 3:
        raise DirectionError(f"{file} holds an array {array.shape}, expected (k, numbers) or (k, layers, numbers)")
    return torch.from_numpy(array)


def _layers(file: str, content: Sequence[Any]) -> Tensor:
    """One array (k, width) or (width,) for every layer -> (k, sum of the widths)."""
    if not content or not all(isinstance(part, np.ndarray) for part in content):
        raise DirectionError(f"{file} holds a list of something else, expected one array per layer")
    parts = [_array(file, part) for part in content]
    parts = [part[None] if part.ndim == 1 else part for part in parts]
    shapes = {part.shape for part in parts}
    if len({part.shape[:-1] for part in parts}) > 1 or any(part.ndim != 2 for part in parts):
        raise DirectionError(
            f"{file} holds a list of {len(parts)} arrays of shapes {joined(sorted(map(str, shapes)))}: no directions, "
            "which would have as many rows on every layer (statistics of channels?)"
        )
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _components(file: str, kind: str, components: Any, deviations: Any) -> RawDirections:
    values = _rows(file, components)
    steps = () if deviations is None else tuple(_array(file, deviations).reshape(-1).tolist())
    if steps and len(steps) != len(values):
        raise DirectionError(f"{file} holds {len(values)} components and {len(steps)} deviations: damaged")
    names = tuple(f"component-{i}" for i in range(len(values)))
    return RawDirections(file, kind, values, names=names, steps=steps)


def _ganspace_edit(file: str, content: Mapping[Any, Any]) -> RawDirections:
    """One edit as GANSpace's window saves it: the only foreign file that tells its space and layers."""
    if content["edit_type"] != "latent":
        raise DirectionError(f"{file} edits activations, which are no latents: only edits of Z or W can be taken over")
    space = _line(content.get("latent_space", "")).lower()
    first, last = int(content.get("edit_start", 0)), int(content.get("edit_end", 0)) - 1
    layers = f":{first}-{last}" if last > first else f":{first}" if last == first else ""
    about = ("model_name", "output_class", "component_index", "sigma_range", "example_seed")
    return RawDirections(
        file,
        "edit (GANSpace)",
        _rows(file, content["lat_comp"]),
        names=(_line(content.get("name", "")) or "edit",),
        steps=(float(content["lat_stdev"]),) if "lat_stdev" in content else (),
        subspaces=(space + (layers if space == "w" else ""),) if space else (),
        truncation=float(content.get("truncation", 1.0)),
        notes={key: _plain(content[key]) for key in about if key in content},
    )


def _lelsd(file: str, content: Inert) -> RawDirections:
    """LELSD saves its whole object; what it was searched on is told by its attributes."""
    state = content.state
    if not isinstance(state, Mapping) or "latent_dirs" not in state:
        raise DirectionError(f"{file} holds an object {content.name} without latent_dirs, expected saved LELSD")
    found, space = state["latent_dirs"], _line(state.get("latent_space", "")).lower()
    per_layer = isinstance(found, (list, tuple))
    if isinstance(found, (list, tuple)):
        found = found[:26] if len(found) == 27 else found  # its last layer of S feeds nothing
    subspace = {"s+": "s", "s_conv": "s:conv"}.get(space, re.sub(r"^s(\d+)$", r"s:\1", space))
    parts = state.get("semantic_parts")
    region = "+".join(_line(part) for part in parts) if isinstance(parts, (list, tuple)) else ""
    if state.get("mode") == "background" and region:
        region = f"not {region}"
    return RawDirections(
        file,
        "saved object (LELSD)",
        _layers(file, found) if per_layer else _rows(file, found),
        subspaces=(subspace,) if subspace else (),
        regions=(region,) if region else (),
        notes={"object": content.name},
    )


def _named_arrays(file: str, word: str, content: Mapping[Any, Any]) -> RawDirections:
    """A dictionary: one array, or one direction under each name."""
    arrays = {str(key): value for key, value in content.items() if isinstance(value, np.ndarray)}
    if len(arrays) == 1:
        ((name, value),) = arrays.items()
        values = _rows(file, value)
        return RawDirections(file, word, values, names=(_line(name),) if len(values) == 1 else ())
    if arrays and len({array.shape for array in arrays.values()}) == 1 and len(arrays) == len(content):
        stacked = [_rows(file, value) for value in arrays.values()]
        if all(len(values) == 1 for values in stacked):
            return RawDirections(file, word, torch.cat(stacked), names=tuple(map(_line, arrays)))
    inside = joined([f"{_line(key)} {array.shape}" for key, array in arrays.items()])
    raise DirectionError(
        f"{file} holds no directions that are known ({len(content)} entries; arrays: {inside or 'none'}): expected one "
        "array, arrays of one shape, or components (comp and std, or lat_comp)"
    )


def _plain(value: Any) -> object:
    """A number or text of a file, as JSON can hold it."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (int, float)) else _line(value)


def _line(value: Any) -> str:
    """A text of a file, cut to one line."""
    return " ".join(value.split())[:200] if isinstance(value, str) else type(value).__name__


def joined(items: Sequence[str], most: int = 6) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


# --- channels of S


def parse_channels(text: str) -> tuple[Channels, ...]:
    """Lines of (layer, channel) pairs: "9_409", "9:409", "9,409"; "12_479+12_266" moves both. # begins a comment.

    Raises:
        DirectionError: a line is something else.
    """
    rows = []
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if line:
            pairs = [_PAIR.fullmatch(item.strip()) for item in line.split("+")]
            if not all(pairs):
                raise DirectionError(f'channels of S are written LAYER_CHANNEL like "9_409", got "{line[:60]}"')
            rows.append(tuple((int(pair[1]), int(pair[2])) for pair in pairs if pair))
    if not rows:
        raise DirectionError('expected channels of S, written LAYER_CHANNEL like "9_409", one direction a line')
    return tuple(rows)


def _channels(file: str, rows: tuple[Channels, ...], names: tuple[str, ...] = ()) -> RawDirections:
    names = names or tuple("+".join(f"{layer}_{channel}" for layer, channel in row) for row in rows)
    return RawDirections(
        file, "channels of S (StyleSpace)", torch.zeros(0, 0), channels=rows, names=names, subspaces=("s",)
    )


def _text(file: str, text: str) -> RawDirections:
    if text.lstrip()[:1] not in ("[", "{"):
        try:
            return _channels(file, parse_channels(text))
        except DirectionError as error:
            raise DirectionError(f"{file} is a text: {error}") from None
    try:
        content = parse_json(text)
    except FileError as error:
        raise FileError(f"{file}: {error}") from None
    if isinstance(content, Mapping) and content.get("format") == EXPORTED:
        raise DirectionError(f"{file} describes directions, the numbers are in the .npy beside it: name that")
    if not content:
        raise DirectionError(f"{file} is empty, expected (layer, channel) pairs of S")
    if isinstance(content, Mapping):
        return _channels(file, tuple(_json_row(file, row) for row in content.values()), tuple(map(_line, content)))
    content = [content] if _pair(content) else content
    return _channels(file, tuple(_json_row(file, row) for row in content))


def _pair(value: Any) -> Channels:
    """[layer, channel] as the one channel that it is; empty for anything else."""
    fits = isinstance(value, list) and len(value) == 2 and all(type(n) is int and n >= 0 for n in value)
    return ((value[0], value[1]),) if fits else ()


def _json_row(file: str, row: Any) -> Channels:
    if isinstance(row, str):
        (channels, *others) = parse_channels(row)
        pairs = [channels] if not others else []
    else:
        pairs = [_pair(row)] if _pair(row) else [_pair(item) for item in row] if isinstance(row, list) else []
    if pairs and all(pairs):
        return tuple(channel for pair in pairs for channel in pair)
    raise DirectionError(f"{file}: expected [layer, channel] or a list of such pairs for every direction")


# --- writing


def write_directions(directions: Sequence[Direction], path: Path | str, full: bool = False) -> list[Path]:
    """Write directions for other programs: `.npy`, (k, numbers), with a `.json` beside it, or `.npz` with both.

    Args:
        full: vectors over all layers of their space instead of the coordinates that are free.

    Raises:
        FileError: another suffix, or a place that cannot be written. DirectionError: they are not of one length.
    """
    path = Path(path)
    if path.suffix.lower() in (".pt", ".pth", ".pkl", ".pickle"):
        raise FileError(
            f"no pickle is ever written, and {path.suffix} is one: write .npy; "
            "torch.from_numpy(numpy.load(FILE)) makes a tensor of it"
        )
    if path.suffix.lower() not in (".npy", ".npz"):
        raise FileError(f"directions are written as .npy or .npz, got {path}")
    if not directions:
        raise DirectionError("no directions to write")
    vectors = [d.subspace.lift(d.vector) if full else d.vector for d in directions]
    if len({len(v) for v in vectors}) > 1:
        each = joined([f"{d.name or d.region} {d.subspace} ({len(v)})" for d, v in zip(directions, vectors)])
        one_space = len({d.subspace.space.dim for d in directions}) == 1
        advice = "write them apart" + (", or over all layers of their space with --full" if one_space else "")
        raise DirectionError(f"the directions of one file are of one length, got {each}: {advice}")
    values = torch.stack(vectors).detach().cpu().float().numpy()
    text = json.dumps(_description(directions, full, values.shape), indent=2)
    if path.suffix.lower() == ".npz":
        _write(path, lambda file: np.savez(file, allow_pickle=False, vectors=values, situ=np.array(text)))
        return [path]
    beside = path.with_suffix(".json")
    if beside.exists() and not _is_description(beside):
        raise FileError(f"{beside} is there already and is something else: choose another name for {path.name}")
    _write(path, lambda file: np.save(file, values, allow_pickle=False))
    write_whole(beside, lambda place: place.write_text(text + "\n"))
    return [path, beside]


def _write(path: Path, save: Callable[[Any], object]) -> None:
    def write(place: Path) -> None:
        with place.open("wb") as file:
            save(file)

    write_whole(path, write)


def _description(directions: Sequence[Direction], full: bool, shape: Sequence[int]) -> dict[str, object]:
    rows = [
        {
            "name": d.name,
            "subspace": str(d.subspace),
            "space_numbers": d.subspace.space.dim,
            "layers": [d.subspace.space.slices[i].name for i in d.subspace.chosen],
            "tied": d.subspace.tied,
            "generator": d.generator,
            "region": d.region,
            "found_by": d.found_by,
            "raw_alpha_per_unit": d.unit,
            "region_gain": d.score if np.isfinite(d.score) else None,
            "truncation": d.truncation,
            "seed": d.seed,
            "licence": d.licence,
        }
        for d in directions
    ]
    return {"format": EXPORTED, "shape": list(shape), "rows": "full" if full else "free", "directions": rows}


def _is_description(path: Path) -> bool:
    try:
        content = parse_json(path.read_text())
    except (OSError, FileError, UnicodeDecodeError):
        return False
    return isinstance(content, Mapping) and content.get("format") == EXPORTED


def _with_description(raw: RawDirections, beside: Path) -> RawDirections:
    """The same with what the file beside it says, where that is one of ours and of these numbers."""
    return _described(raw, parse_json(beside.read_text())) if _is_description(beside) else raw


def _described(raw: RawDirections, content: Any) -> RawDirections:
    try:
        rows = content["directions"]
        if tuple(content["shape"]) != raw.shape or len(rows) != len(raw.values):
            return raw
        generators = {_line(row["generator"]) for row in rows}
        return RawDirections(
            raw.file,
            "directions that Situ wrote",
            raw.values,
            names=tuple(_line(row["name"] or row["region"]) for row in rows),
            steps=tuple(float(row["raw_alpha_per_unit"]) for row in rows),
            subspaces=tuple(_line(row["subspace"]) for row in rows),
            regions=tuple(_line(row["region"]) for row in rows),
            generator=generators.pop() if len(generators) == 1 else "",
            truncation=float(rows[0]["truncation"]),
        )
    except (KeyError, TypeError, ValueError, IndexError):
        return raw
