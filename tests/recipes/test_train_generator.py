"""The training script learns any folder of pictures, goes on where it stopped, and writes a model that opens."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from situ import open_model
from situ.core.images import save_image

SCRIPT = Path(__file__).parents[2] / "recipes" / "portraits" / "train_generator.py"


@pytest.mark.slow
def test_a_folder_of_pictures_becomes_a_model(tmp_path: Path) -> None:
    for i in range(4):
        save_image(torch.full((3, 20, 30), i / 2 - 1), tmp_path / "pictures" / f"{i}.png")
    words = (
        f"--images {tmp_path / 'pictures'} --out {tmp_path / 'run'} --minutes 0.03 --resolution 16 --latent 8 --batch 4"
    )
    command = [sys.executable, str(SCRIPT), *words.split(), "--channel-base", "64", "--d-base", "64", "--fp32"]
    seen = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("8 pictures")  # and their mirror images
        seen.append(torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["seen"])
    assert 0 < seen[0] < seen[1]
    pack = open_model(str(tmp_path / "run" / "generator.safetensors"))
    assert pack.generator.resolution == 16
