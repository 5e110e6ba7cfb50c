"""Many photos and searches as a user starts them: on three ways, killed in the middle, on a full disk."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image

from situ import open_model
from situ.core.direction import Direction
from situ.core.images import save_image
from situ.core.latents import parse_subspace
from situ.packs.portraits.renderer import render, sample_factors

SITU = [sys.executable, "-m", "situ"]
# root reads everything, whatever the permissions: it is run without that power
PLAIN = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
SEARCHES = [
    "--part",
    "mouth",
    "--part",
    "hair",
    "--part",
    "eyes",
    "--method",
    "random",
    "--set",
    "random.k=1",
    "--random",
    "0",
]
BAD = ("truncated", "text", "bomb", "empty", "locked")

pytestmark = pytest.mark.slow


def situ(folder: Path, *words: str | Path) -> tuple[int, str, str]:
    """Exit code, output and messages of a command, in a process of its own."""
    done = subprocess.run(
        [*PLAIN, *SITU, *map(str, words)], cwd=folder, env=environment(), capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def environment() -> dict[str, str]:
    """One thread each: results of different numbers of threads differ in the last digit."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "RAY_AUTH_MODE": "disabled"}


def killed_in_the_middle(folder: Path, done: Callable[[], int], *words: str | Path) -> int:
    """Start a command, kill it once it has finished something; returns how much that was."""
    process = subprocess.Popen([*SITU, *map(str, words)], cwd=folder, env=environment(), stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    end = time.monotonic() + 300
    while not done():
        assert process.poll() is None, "it ended before anything was finished"
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return done()


@pytest.fixture(scope="module")
def direction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A direction of the mouth."""
    pack = open_model("portraits")
    subspace = parse_subspace("w+:2-9", pack.generator.spaces)
    vector = torch.randn(subspace.dim, generator=torch.Generator().manual_seed(0))
    made = Direction(vector / vector.norm(), subspace, pack.generator.name, "mouth", "drawn", name="d", unit=2.0)
    path = tmp_path_factory.mktemp("directions") / "d.safetensors"
    made.save(path)
    return path


def rendered(folder: Path, n: int) -> None:
    """Portraits of the generator's size."""
    folder.mkdir()
    for i, image in enumerate(
        render(sample_factors(n, torch.Generator().manual_seed(5_000_020)), 64).images.clamp(-1, 1)
    ):
        save_image(image, folder / f"photo{i:03d}.png")


def spoilt(path: Path, how: str) -> None:
    """A photo that nobody can use."""
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "text":
        path.write_text("not a picture")
    elif how == "bomb":  # a header that promises 60000 x 60000 pixels
        size = (60000).to_bytes(4, "big")
        header = b"IHDR" + size + size + b"\x08\x02\x00\x00\x00"
        path.write_bytes(content[:8] + b"\0\0\0\r" + header + zlib.crc32(header).to_bytes(4, "big") + content[33:])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.chmod(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 photos, 20 of them bad."""
    photos = tmp_path_factory.mktemp("many") / "photos"
    rendered(photos, 200)
    for i in range(20):
        spoilt(photos / f"photo{i * 10 + i % 7:03d}.png", BAD[i % len(BAD)])
    return photos


@contextmanager
def cluster(place: Path) -> Iterator[str]:
    """A Ray cluster of this machine, as `ray start` makes it; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [
        "--head",
        f"--port={port}",
        "--num-cpus=2",
        "--include-dashboard=false",
        "--disable-usage-stats",
        "--block",
    ]
    ray = [*PLAIN, sys.executable, "-m", "ray.scripts.scripts", "start", *options, "--node-ip-address=127.0.0.1"]
    with (place / "ray.log").open("w") as log:
        marked = {**environment(), "CLUSTER_OF_TEST": str(port)}
        started = subprocess.Popen(ray, env=marked, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 120
        while "Ray runtime started" not in (place / "ray.log").read_text():
            assert started.poll() is None, (place / "ray.log").read_text()
            assert time.monotonic() < end
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        end_all(f"CLUSTER_OF_TEST={port}")
        started.wait(30)


def end_all(mark: str) -> None:
    """End every process that has this in its environment: those of a cluster are not children of one."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue


@pytest.mark.parametrize("way", ["in this process", "two workers", "a cluster"])
def test_of_200_photos_180_are_edited_and_20_are_named(way: str, folder: Path, direction: Path, tmp_path: Path) -> None:
    words = ["photos", folder, "--apply", f"{direction}:1", "--method", "encoder", "--json", "-o", tmp_path / "out"]
    if way == "a cluster":
        with cluster(tmp_path) as address:
            code, out, err = situ(tmp_path, *words, "--ray", address)
    else:
        code, out, err = situ(tmp_path, *words, *(["--workers", "2"] if way == "two workers" else []))
    assert code == 1, err
    told = json.loads(out)
    assert len(told["edited"]) == 180
    assert len(told["failed"]) == 20
    assert len(list((tmp_path / "out").glob("*.png"))) == 180
    reasons = {how: told["failed"][f"photo{i * 10 + i:03d}.png"] for i, how in enumerate(BAD)}
    assert "Permission denied" in reasons["locked"]
    assert "pixels" in reasons["bomb"]
    for name, reason in told["failed"].items():
        assert f"{name}: {reason}" in " ".join(err.split()) or reason.split()[0] in err
    # the same pictures on every way
    kept = folder.parent / "first"
    if not kept.exists():
        shutil.copytree(tmp_path / "out", kept, ignore=shutil.ignore_patterns(".run"))
    assert differing(tmp_path / "out", kept) == []
    _, table, _ = situ(tmp_path, "runs", "out", "--json")
    (state,) = json.loads(table)
    assert (state["state"], state["done"], len(state["failed"])) == ("finished but for failures", 180, 20)


def differing(a: Path, b: Path) -> list[str]:
    """Files of two folders that are not the same, but for the records."""
    names = {path.relative_to(each).as_posix() for each in (a, b) for path in each.rglob("*") if path.is_file()}
    names = {name for name in names if not name.startswith(".run/")}
    return [n for n in sorted(names) if not ((a / n).exists() and (b / n).exists() and same(a / n, b / n))]


def same(a: Path, b: Path) -> bool:
    return a.read_bytes() == b.read_bytes()


def records(out: Path) -> int:
    return len(list((out / ".run" / "items").glob("[!.]*.json")))


@pytest.mark.parametrize("verb", ["photos", "invert", "discover", "bench"])
def test_a_killed_run_goes_on_as_if_nothing_had_been(verb: str, direction: Path, tmp_path: Path) -> None:
    rendered(tmp_path / "photos", 36)
    photos = sorted((tmp_path / "photos").iterdir())
    words = {
        "photos": ["photos", "photos", "--apply", f"{direction}:1", "--method", "encoder"],
        "invert": ["invert", *photos, "--steps", "2"],
        "discover": ["discover", "many", *SEARCHES],
        "bench": ["bench", "lelsd-fig5", "--quick"],
    }[verb]
    whole, cut = (tmp_path / name / ("lelsd-fig5/" if verb == "bench" else "") for name in ("whole", "cut"))
    assert situ(tmp_path, *words, "-o", "whole")[0] == 0
    done = killed_in_the_middle(tmp_path, lambda: records(cut), *words, "-o", "cut")
    total = records(whole)
    assert 0 < done < total
    _, table, _ = situ(tmp_path, "runs", "cut", "--json")
    (state,) = json.loads(table)
    assert (state["state"], state["items"]) == ("stopped", total)
    assert situ(tmp_path, *words, "-o", "cut")[0] == 0
    assert records(cut) == total
    left_out = ["report.json"] if verb in ("invert", "bench") else []  # it names its own folder, or the time
    assert [name for name in differing(whole, cut) if name not in left_out] == []


def test_a_full_disk_stops_the_run_and_spoils_nothing(direction: Path, tmp_path: Path) -> None:
    rendered(tmp_path / "photos", 36)
    command = " ".join([*SITU, "photos", "photos", "--apply", f"{direction}:1", "--method", "encoder", "-o"])
    script = f"""
        set -u; cd {tmp_path}; mkdir out
        mount -t tmpfs -o size=700k tmpfs out
        head -c 500k /dev/zero > out/filler
        {command} out 2> full.txt; echo $? > full.code
        cp -r out full
        rm out/filler
        {command} out 2> mended.txt; echo $? > mended.code
        cp -r out mended
    """
    subprocess.run(["unshare", "-rm", "sh", "-c", script], env=environment(), check=True)
    assert int((tmp_path / "full.code").read_text()) == 2, (tmp_path / "full.txt").read_text()
    assert "No space left on device" in (tmp_path / "full.txt").read_text()
    assert "Traceback" not in (tmp_path / "full.txt").read_text()
    pictures = list((tmp_path / "full").glob("*.png"))
    assert 0 < len(pictures) < 36
    for picture in pictures:
        with Image.open(picture) as opened:
            opened.load()
    for record in (tmp_path / "full" / ".run" / "items").glob("*.json"):
        assert json.loads(record.read_text())["result"]["files"]
    assert int((tmp_path / "mended.code").read_text()) == 0, (tmp_path / "mended.txt").read_text()
    assert situ(tmp_path, *command.split()[len(SITU) :], "whole")[0] == 0
    assert differing(tmp_path / "mended", tmp_path / "whole") == []


def test_another_command_in_the_folder_is_refused(direction: Path, tmp_path: Path) -> None:
    rendered(tmp_path / "photos", 2)
    words = ["photos", "photos", "--method", "encoder", "-o", "out", "--apply"]
    assert situ(tmp_path, *words, f"{direction}:1")[0] == 0
    code, _, err = situ(tmp_path, *words, f"{direction}:2")
    assert code == 2
    assert "x 1" in err
    assert "x 2" in err
    assert situ(tmp_path, *words, f"{direction}:2", "--anew")[0] == 0
