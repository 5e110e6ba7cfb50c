"""MoCo's features are those of the published similarity loss.

Numbers: omertov/encoder4editing at 99ea505 on a residual network of a sixteenth of the channels, weights drawn from a
seed.
"""

import torch

from situ.networks.moco import moco_from_state_dict
from toys_networks import golden, narrow_moco, pictures, require_golden

TRUNK = narrow_moco()
MOCO = moco_from_state_dict(TRUNK)


def test_it_is_the_published() -> None:
    expected = golden("moco")
    require_golden(MOCO.embed(pictures(2, 256, 256, 6)), expected["square"])
    require_golden(MOCO.embed(pictures(2, 192, 256, 7)), expected["car"])


def test_the_trained_encoder_is_taken_out_of_its_checkpoint() -> None:
    checkpoint = {f"module.encoder_q.{key}": value for key, value in TRUNK.items()}
    checkpoint |= {f"module.encoder_k.{key}": torch.zeros_like(value) for key, value in TRUNK.items()}
    checkpoint |= {
        "module.encoder_q.fc.0.weight": torch.zeros(4, 4),
        "module.queue": torch.zeros(128, 8),
        "module.queue_ptr": torch.zeros(1),
    }
    x = pictures(1, 224, 224)
    assert torch.equal(moco_from_state_dict(checkpoint).embed(x), MOCO.embed(x))


def test_one_picture_is_a_batch_and_no_normalisation() -> None:
    x = pictures(1, 224, 224)
    assert MOCO.embed(x).shape == (1, 128)
    torch.testing.assert_close(MOCO.input.prepare(x), x, rtol=0, atol=1e-6)
