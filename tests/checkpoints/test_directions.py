"""Direction files of other projects: every layout comes back as the direction it is, and nothing is guessed."""

import json
import pickle
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from situ.checkpoints.direction_files import RawDirections, parse_channels, read_directions, write_directions
from situ.checkpoints.directions import fitting_spaces, to_directions
from situ.core.direction import Direction
from situ.core.errors import DirectionError, FileError, LatentError, SituError
from situ.core.latents import LatentSpace, Slice, Subspace, parse_subspace
from toys import tiny_stylegan2

WIDTHS = [512] * 15 + [256] * 3 + [128] * 3 + [64] * 3 + [32] * 2  # of S in StyleGAN2 at 1024 pixels
SPACES = {
    "z": LatentSpace("z", (Slice("z", 512),)),
    "w": LatentSpace("w", (Slice("w", 512),)),
    "w+": LatentSpace("w+", tuple(Slice(f"row{i}", 512) for i in range(18))),
    "s": LatentSpace("s", tuple(Slice(f"step{i}", w, "rgb" if i % 3 == 1 else "conv") for i, w in enumerate(WIDTHS))),
}
# the tiny model with the spaces of a large one: nothing here looks at its pictures
LARGE = tiny_stylegan2()
LARGE.spaces = SPACES


def numbers(*shape: int, seed: int = 0, unit: bool = True) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal(shape)
    return found / np.linalg.norm(found, axis=-1, keepdims=True) if unit else found


def close(direction: Direction, wanted: np.ndarray) -> bool:
    wanted = wanted.reshape(-1) / np.linalg.norm(wanted)
    return bool(np.allclose(direction.vector.numpy(), wanted, atol=1e-6))


def made(path: Path | str, space: str | None = None, **more: object) -> list[Direction]:
    subspace = None if space is None else parse_subspace(space, SPACES)
    return to_directions(read_directions(path), LARGE, subspace, "smile", **more).directions


# --- formats


def save_npy(path: Path, array: np.ndarray) -> Path:
    np.save(path.with_suffix(".npy"), array)
    return path.with_suffix(".npy")


def save_pt(path: Path, array: np.ndarray) -> Path:
    torch.save(torch.from_numpy(array), path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def save_old_pt(path: Path, array: np.ndarray) -> Path:
    torch.save(torch.from_numpy(array), path.with_suffix(".pt"), _use_new_zipfile_serialization=False)
    return path.with_suffix(".pt")


def save_npz(path: Path, array: np.ndarray) -> Path:
    np.savez(path.with_suffix(".npz"), direction=array)
    return path.with_suffix(".npz")


def save_pkl(path: Path, array: np.ndarray) -> Path:
    path.with_suffix(".pkl").write_bytes(pickle.dumps({"w_zoom": array}, 3))
    return path.with_suffix(".pkl")


SAVERS = [save_npy, save_pt, save_old_pt, save_npz, save_pkl]


@pytest.mark.parametrize("save", SAVERS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(512,), (1, 512), (1, 512, 1), (1, 1, 512), (512, 1)])
def test_one_vector_of_w(tmp_path: Path, save: Callable[..., Path], dtype: str, shape: tuple[int, ...]) -> None:
    wanted = numbers(512).astype(dtype)
    path = save(tmp_path / "smile", wanted.reshape(shape))
    for space in ("w", "z", "w:4-7", "w+:8", "s:9"):
        (direction,) = made(path, space)
        assert close(direction, wanted)
        assert str(direction.subspace) == space
        assert direction.generator == LARGE.name
        assert direction.region == "smile"


@pytest.mark.parametrize("save", SAVERS)
def test_rows_are_directions(tmp_path: Path, save: Callable[..., Path]) -> None:
    wanted = numbers(512, 512)
    path = save(tmp_path / "mouth", wanted)
    found = made(path, "w:4-7", rows=[0, 7, 511], name="open")
    assert [d.name for d in found] == ["open-0", "open-7", "open-511"]
    assert all(close(d, wanted[i]) for d, i in zip(found, [0, 7, 511], strict=True))
    assert len(made(path, "w", rows="all")) == 512
    with pytest.raises(DirectionError, match="holds 512 directions"):
        made(path, "w")
    for bad in ([512], [-1], []):
        with pytest.raises(DirectionError, match="from 0 to 511"):
            made(path, "w", rows=bad)


@pytest.mark.parametrize("save", SAVERS)
def test_one_vector_for_each_layer_of_w_plus(tmp_path: Path, save: Callable[..., Path]) -> None:
    wanted = numbers(1, 18, 512)
    for array in (wanted, wanted[0], wanted.reshape(1, -1), wanted.reshape(-1)):
        path = save(tmp_path / "pose", array)
        (direction,) = made(path, "w+")
        assert close(direction, wanted)
        assert direction.unit == pytest.approx(18**0.5, rel=1e-5)
    path = save(tmp_path / "pose", wanted)
    (direction,) = made(path, "w+:4-7")
    assert close(direction, wanted[0, 4:8])
    for space in ("w", "w:4-7"):
        with pytest.raises(DirectionError, match="differ"):
            made(path, space)


def test_equal_layers_are_one_vector_of_w(tmp_path: Path) -> None:
    vector = numbers(512)
    path = save_pt(tmp_path / "pose", np.tile(vector, (1, 18, 1)))
    for space in ("w", "w:4-7"):
        (direction,) = made(path, space)
        assert close(direction, vector)
        assert direction.unit == pytest.approx(1)
    assumed = to_directions(read_directions(path), LARGE, parse_subspace("w", SPACES), "pose").assumed
    assert assumed == ["one vector for all: its 18 layers hold the same"]


def test_as_many_rows_as_layers_is_asked_about(tmp_path: Path) -> None:
    wanted = numbers(18, 512)
    path = save_npy(tmp_path / "either", wanted)
    for space in ("w", "w:4-7"):
        with pytest.raises(DirectionError, match=r"18 directions of .* or one of w\+"):
            made(path, space)
        assert close(made(path, space, rows=[3])[0], wanted[3])
    assert close(made(path, "w+")[0], wanted)


def test_narrower_layers_say_what_is_dropped(tmp_path: Path) -> None:
    array = np.zeros((1, 18, 512))
    array[0, 4] = 1
    array[0, 9] = 2
    raw = read_directions(save_npy(tmp_path / "a", array))
    (assumed,) = to_directions(raw, LARGE, parse_subspace("w+:4-7", SPACES), "x").assumed
    assert "4 of the 18 layers" in assumed
    assert "80%" in assumed
    assert to_directions(raw, LARGE, parse_subspace("w+:4-9", SPACES), "x").assumed == []


def test_components_of_e4e(tmp_path: Path) -> None:
    comp, std = numbers(80, 1, 512).astype("f4"), np.linspace(3, 0.4, 80).astype("f4")
    content = {"mean": torch.zeros(1, 512), "comp": torch.from_numpy(comp), "std": torch.from_numpy(std)}
    torch.save(content, tmp_path / "ffhq_pca.pt")
    found = made(tmp_path / "ffhq_pca.pt", "w:7-8", rows=[0, 79])
    assert [d.name for d in found] == ["component-0", "component-79"]
    assert close(found[0], comp[0])
    assert [d.unit for d in found] == pytest.approx([3, 0.4], rel=1e-5)


def test_components_of_ganspace(tmp_path: Path) -> None:
    comp, stdev = numbers(80, 1, 512).astype("f4"), np.linspace(3, 0.4, 80).astype("f4")
    arrays = {"act_comp": comp, "act_mean": comp[0], "act_stdev": stdev, "lat_comp": comp, "lat_stdev": stdev}
    np.savez_compressed(tmp_path / "a.npz", **arrays, lat_mean=comp[0], var_ratio=stdev, random_stdevs=stdev)
    found = made(tmp_path / "a.npz", "w", rows="all")
    assert len(found) == 80
    assert all(close(d, c) for d, c in zip(found, comp, strict=True))
    assert found[0].unit == pytest.approx(3, rel=1e-5)


EDIT = {
    "name": "Light direction",
    "sigma_range": np.float64(-2.8),
    "component_index": 15,
    "act_comp": numbers(1, 512).astype("f4"),
    "lat_comp": numbers(1, 512).astype("f4"),
    "latent_space": "W",
    "act_stdev": 1.04,
    "lat_stdev": 1.03,
    "model_name": "StyleGAN2",
    "output_class": "ffhq",
    "decomposition": {"name": "ipca", "components": 80, "layer": "style"},
    "edit_type": "latent",
    "truncation": 0.9,
    "edit_start": 8,
    "edit_end": 11,
    "example_seed": 1941578080,
}


def test_an_edit_of_ganspace_tells_its_space_and_layers(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(EDIT, 3))
    raw = read_directions(tmp_path / "a.pkl")
    assert raw.notes["model_name"] == "StyleGAN2"
    imported = to_directions(raw, LARGE)
    (direction,) = imported.directions
    assert close(direction, EDIT["lat_comp"])
    assert str(direction.subspace) == "w:8-10"
    assert (direction.name, direction.truncation, direction.region) == ("Light direction", 0.9, "everything")
    assert direction.unit == pytest.approx(1.03)
    assert imported.assumed == ["space w:8-10, as the file says", 'region "everything", as none was given']
    other = to_directions(raw, LARGE, parse_subspace("w:0-3", SPACES), "light")
    assert other.assumed == ["space w:0-3, though the file says w:8-10"]
    for change, wanted in [({"edit_start": 5, "edit_end": 6}, "w:5"), ({"latent_space": "Z"}, "z")]:
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({**EDIT, **change}))
        assert str(made(tmp_path / "a.pkl")[0].subspace) == wanted
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({**EDIT, "edit_type": "activation"}))
    with pytest.raises(DirectionError, match="activations"):
        made(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({**EDIT, "edit_start": "soon"}))
    with pytest.raises(DirectionError, match="unexpected"):
        made(tmp_path / "a.pkl")


def test_several_named_vectors(tmp_path: Path) -> None:
    wanted = {"smile": numbers(1, 512, seed=1), "age": numbers(1, 512, seed=2)}
    np.savez(tmp_path / "a.npz", **wanted)
    found = made(tmp_path / "a.npz", "w", rows="all")
    assert [d.name for d in found] == ["smile", "age"]
    assert all(close(d, wanted[d.name]) for d in found)


def test_one_array_for_each_layer_of_s(tmp_path: Path) -> None:
    layers = [numbers(2, width, seed=i) for i, width in enumerate(WIDTHS)]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(layers))
    (direction,) = made(tmp_path / "a.pkl", "s", rows=[1])
    assert close(direction, np.concatenate([layer[1] for layer in layers]))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([layer[0] for layer in layers]))
    (direction,) = made(tmp_path / "a.pkl", "s")
    assert close(direction, np.concatenate([layer[0] for layer in layers]))
    conv = [layer for i, layer in enumerate(layers) if i % 3 != 1]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([layer[0] for layer in conv]))
    assert close(made(tmp_path / "a.pkl", "s:conv")[0], np.concatenate([layer[0] for layer in conv]))
    objects = np.empty(26, dtype=object)
    objects[:] = [layer[0] for layer in layers]
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    assert close(made(tmp_path / "a.npy", "s")[0], np.concatenate([layer[0] for layer in layers]))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([np.zeros((width, 11)) for width in WIDTHS]))
    with pytest.raises(DirectionError, match="statistics of channels"):
        made(tmp_path / "a.pkl", "s")


@pytest.mark.parametrize("text", ["9_409", "9:409", "9,409", " (9, 409) ", "[9, 409]", "[[9, 409]]", '["9_409"]'])
def test_a_channel_of_s(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    (direction,) = made(tmp_path / "a.txt")
    assert str(direction.subspace) == "s:9"
    assert direction.vector.nonzero().flatten().tolist() == [409]
    assert direction.name == "9_409"


def test_a_channel_without_a_file() -> None:
    (direction,) = made("9_409")
    assert str(direction.subspace) == "s:9"
    assert "as StyleSpace does" in " ".join(to_directions(read_directions("9_409"), LARGE).assumed)


def test_lists_of_channels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# StyleSpace, FFHQ\n6_501  # smile\n\n12:479 + 12_266 + 9_1\n")
    smile, blond = made(tmp_path / "a.txt", rows="all")
    assert (smile.name, blond.name) == ("6_501", "12_479+12_266+9_1")
    assert str(blond.subspace) == "s:9,12"
    assert blond.vector.nonzero().flatten().tolist() == [1, 512 + 266, 512 + 479]
    assert blond.unit == pytest.approx(3**0.5)
    (tmp_path / "a.json").write_text(json.dumps({"smile": [6, 501], "blond": [[12, 479], [12, 266]], "age": "9_1"}))
    assert [(d.name, str(d.subspace)) for d in made(tmp_path / "a.json", rows="all")] == [
        ("smile", "s:6"),
        ("blond", "s:12"),
        ("age", "s:9"),
    ]
    assert [d.name for d in made(tmp_path / "a.json", "s:conv", rows=[0], name="grin")] == ["grin"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("26_0", "the layers 0, 1, 2"),
        ("25_32", "has the channels 0 to 31"),
        ("smile", "LAYER_CHANNEL"),
        ("9_409_3", "LAYER_CHANNEL"),
        ("9_", "LAYER_CHANNEL"),
        ("# nothing", "LAYER_CHANNEL"),
        ("[]", "is empty"),
        ("{}", "is empty"),
        ("[[1, -2]]", "pairs"),
        ("[[1, true]]", "pairs"),
        ("[[[9, 409], 3]]", "pairs"),
        ("[3]", "pairs"),
        ("[[9, 409]", "no JSON"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_bad_channels(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(SituError, match=words) as error:
        made(tmp_path / "a.txt")
    assert "\n" not in str(error.value)


def test_channels_are_of_s_alone() -> None:
    for space in ("w", "w+", "w:4-7"):
        with pytest.raises(DirectionError, match="channels of s"):
            made("9_409", space)
    with pytest.raises(DirectionError, match="layer 10"):
        made("10_1", "s:conv")


@pytest.fixture
def lelsd(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class of LELSD's name, as its own code has it when it saves itself."""
    module = types.ModuleType("lelsd")

    class LELSD:
        pass

    LELSD.__module__, LELSD.__qualname__ = "lelsd", "LELSD"
    module.LELSD = LELSD  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "lelsd", module)
    return LELSD


def saved(lelsd: type, path: Path, space: str, directions: object, zipped: bool = True, **more: object) -> Path:
    made = lelsd()
    made.device = torch.device("cpu")
    made.latent_space, made.latent_dirs = space, directions
    made.semantic_parts = ["l_eye", "r_eye"]
    made.mode = "foreground"
    made.localization_layer_weights = list(np.array([0.5, 0.5]))
    made.coefficient_sampling_dist = torch.distributions.relaxed_categorical.RelaxedOneHotCategorical(
        temperature=torch.tensor([0.001]), probs=torch.tensor([0.5, 0.5])
    )
    for key, value in more.items():
        setattr(made, key, value)
    torch.save(made, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_saved_objects_of_lelsd(tmp_path: Path, lelsd: type, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    tied = torch.randn(2, 512, requires_grad=True)
    wide = torch.randn(2, 18, 512, requires_grad=True)
    styles = [torch.randn(2, width, requires_grad=True) for width in [*WIDTHS, 32]]
    paths = [
        saved(lelsd, tmp_path / "w.pth", "W", tied, zipped),
        saved(lelsd, tmp_path / "w+.pth", "W+", wide, zipped, mode="background"),
        saved(lelsd, tmp_path / "s.pth", "S_conv", styles, zipped),
        saved(lelsd, tmp_path / "s9.pth", "S9", styles, zipped),
    ]
    monkeypatch.delitem(sys.modules, "lelsd")
    conv = torch.cat([s for i, s in enumerate(styles[:26]) if i % 3 != 1], dim=1).detach()
    truths = [("w", tied.detach()), ("w+", wide.detach()), ("s:conv", conv), ("s:9", styles[9].detach())]
    for path, (subspace, truth) in zip(paths, truths, strict=True):
        found = to_directions(read_directions(path), LARGE, rows="all").directions
        assert [str(d.subspace) for d in found] == [subspace] * 2
        assert all(close(d, t.numpy()) for d, t in zip(found, truth, strict=True))
        assert found[0].region == ("not l_eye+r_eye" if path.name == "w+.pth" else "l_eye+r_eye")


# --- what does not fit


def test_the_message_says_what_would_fit(tmp_path: Path) -> None:
    path = save_npy(tmp_path / "a", numbers(1, 512))
    with pytest.raises(DirectionError, match=r"s has 9088; 512 numbers fit .*w \(512\), w:LAYERS.*not .*s \(9088\)"):
        made(path, "s")
    with pytest.raises(DirectionError, match=r"does not say its space: give it.*512 numbers fit"):
        made(path)
    assert fitting_spaces((1, 6048), SPACES).startswith("6048 numbers fit s:conv; not")
    assert fitting_spaces((9088,), SPACES).startswith("9088 numbers fit s (9088); not z (512)")
    assert "w+:LAYERS (4 of them)" in fitting_spaces((3, 2048), SPACES)
    assert fitting_spaces((7, 5), SPACES).startswith("7 x 5 numbers fit no space")
    assert "9216 numbers fit w+ (9216)" in fitting_spaces((18, 512), SPACES)


def test_a_space_that_the_model_lacks(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({**EDIT, "latent_space": "Y"}))
    with pytest.raises(LatentError, match="spaces of this generator"):
        made(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "content",
    [
        np.zeros((1, 512)),
        np.full((1, 512), np.nan),
        np.array([[np.inf] + [0.0] * 511]),
    ],
    ids=["zeros", "nan", "infinity"],
)
def test_rows_that_are_no_direction(tmp_path: Path, content: np.ndarray) -> None:
    with pytest.raises(DirectionError, match=r"row 0 of a\.npy is no direction"):
        made(save_npy(tmp_path / "a", content), "w")


def test_content_that_is_no_direction(tmp_path: Path) -> None:
    others: list[object] = [
        np.zeros((150, 3), np.uint8),
        np.array(["smile"]),
        np.zeros((2, 512), np.complex64),
        np.zeros((0, 512)),
        np.array(1.0),
        np.zeros((2, 3, 4, 512)),
        {"a": np.zeros(3), "b": np.zeros(4)},
        {"a": np.zeros(3), "b": "text"} | {"c": np.zeros(4)},
        {"comp": numbers(5, 512), "std": np.ones(4)},
        {"comp": "text", "std": 3},
        {},
        [],
        [1, 2],
        ["a"],
        None,
        3.5,
    ]
    for content in others:
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(DirectionError) as error:
            made(tmp_path / "a.pkl", "w")
        assert "\n" not in str(error.value)


def test_our_own_files_are_not_imported(tmp_path: Path) -> None:
    direction = Direction(torch.ones(512), Subspace(SPACES["w"]), "g", "r", "f")
    direction.save(tmp_path / "a.safetensors")
    with pytest.raises(DirectionError, match="used as they are"):
        read_directions(tmp_path / "a.safetensors")
    write_directions([direction], tmp_path / "b.npy")
    with pytest.raises(DirectionError, match=r"\.npy beside it"):
        read_directions(tmp_path / "b.json")


def test_parse_channels_takes_lines() -> None:
    assert parse_channels("1_2\n3_4+5_6") == (((1, 2),), ((3, 4), (5, 6)))


# --- writing


def searched(text: str, seed: int, **more: object) -> Direction:
    subspace = parse_subspace(text, SPACES)
    vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(seed))
    made = Direction(vector / vector.norm(), subspace, LARGE.name, "mouth", "drawn", unit=0.3, name=f"n{seed}")
    return replace(made, truncation=0.7, licence="CC0", **more)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("space", ["w", "w+", "w:4-7", "w+:4-7", "s", "s:conv", "s:9", "z"])
def test_what_is_written_comes_back(tmp_path: Path, suffix: str, full: bool, space: str) -> None:
    directions = [searched(space, seed) for seed in range(3)]
    files = write_directions(directions, tmp_path / f"a{suffix}", full)
    assert [file.name for file in files] == (["a.npy", "a.json"] if suffix == ".npy" else ["a.npz"])
    loaded = np.load(files[0], allow_pickle=False)
    written = loaded if suffix == ".npy" else loaded["vectors"]
    assert written.shape == (3, directions[0].subspace.space.dim if full else directions[0].subspace.dim)
    assert written.dtype == np.float32
    imported = to_directions(read_directions(files[0]), LARGE, rows="all")
    for before, after in zip(directions, imported.directions, strict=True):
        assert torch.allclose(before.vector, after.vector, atol=1e-6)
        assert (after.subspace, after.region, after.name) == (before.subspace, "mouth", before.name)
        assert (after.truncation, after.generator) == (0.7, LARGE.name)
        assert after.unit == pytest.approx(0.3)
    one = to_directions(read_directions(files[0]), LARGE, rows=[1]).directions
    assert [d.name for d in one] == ["n1"]


def test_directions_of_several_subspaces_share_a_file(tmp_path: Path) -> None:
    directions = [searched("w", 0), replace(searched("w:4-7", 1), region="hair"), searched("w+:8", 2)]
    write_directions(directions, tmp_path / "a.npy")
    imported = to_directions(read_directions(tmp_path / "a.npy"), LARGE, rows="all")
    assert [str(d.subspace) for d in imported.directions] == ["w", "w:4-7", "w+:8"]
    assert [d.region for d in imported.directions] == ["mouth", "hair", "mouth"]
    (second,) = to_directions(read_directions(tmp_path / "a.npy"), LARGE, rows=[1]).directions
    assert str(second.subspace) == "w:4-7"
    with pytest.raises(DirectionError, match="holds 3 directions"):
        to_directions(read_directions(tmp_path / "a.npy"), LARGE)
    (tmp_path / "a.json").unlink()
    with pytest.raises(DirectionError, match="does not say its space"):
        to_directions(read_directions(tmp_path / "a.npy"), LARGE)


def test_another_models_directions_are_said_so(tmp_path: Path) -> None:
    write_directions([replace(searched("w", 0), generator="stylegan2-1024px-other")], tmp_path / "a.npy")
    assumed = to_directions(read_directions(tmp_path / "a.npy"), LARGE).assumed
    assert any("stylegan2-1024px-other" in note for note in assumed)


def test_a_description_of_other_numbers_is_left_alone(tmp_path: Path) -> None:
    write_directions([searched("w", 0)], tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", numbers(4, 512))
    assert read_directions(tmp_path / "a.npy").subspaces == ()
    for text in ("{", "[]", '{"format": "situ-exported-directions-1", "shape": [4, 512], "directions": [{}, 1, 2, 3]}'):
        (tmp_path / "a.json").write_text(text)
        assert read_directions(tmp_path / "a.npy").subspaces == ()


def test_no_pickle_is_written(tmp_path: Path) -> None:
    for suffix in (".pt", ".pth", ".pkl", ".pickle"):
        with pytest.raises(FileError, match=r"no pickle is ever written.*write \.npy"):
            write_directions([searched("w", 0)], tmp_path / f"a{suffix}")
    with pytest.raises(FileError, match=r"\.npy or \.npz"):
        write_directions([searched("w", 0)], tmp_path / "a.txt")
    with pytest.raises(DirectionError, match=r"one length.*with --full"):
        write_directions([searched("w+", 0), searched("w+:4-7", 1)], tmp_path / "a.npy")
    with pytest.raises(DirectionError, match=r"one length.*write them apart$"):
        write_directions([searched("w", 0), searched("w+", 1)], tmp_path / "a.npy")
    with pytest.raises(DirectionError, match="no directions"):
        write_directions([], tmp_path / "a.npy")
    (tmp_path / "b.json").write_text('{"mine": 1}')
    with pytest.raises(FileError, match="something else"):
        write_directions([searched("w", 0)], tmp_path / "b.npy")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        write_directions([searched("w", 0)], tmp_path / "file" / "a.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "file"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.sampled_from(["w", "w+", "w+:0", "w:1-2", "s", "z"]))
def test_any_shape_is_a_direction_or_one_line(tmp_path: Path, shape: list[int], space: str) -> None:
    tiny = tiny_stylegan2()
    np.save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal(shape))
    try:
        found = to_directions(read_directions(tmp_path / "a.npy"), tiny, parse_subspace(space, tiny.spaces), rows=[0])
    except DirectionError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert len(found.directions) == 1


def test_shapes_are_told_as_the_file_has_them() -> None:
    assert RawDirections("f", "k", torch.zeros(2, 3)).shape == (2, 3)
    assert read_directions("9_409").shape == (1,)
