"""Which device there is to work on."""

import os

import torch

from situ.core.errors import ModelError
from situ.core.ranks import started_by_torchrun


def usable_device(device: str) -> str:
    """The device asked for, the fastest for "auto", or the CPU where an accelerator is not there.

    Raises:
        ModelError: what is no device at all.
    """
    if device == "auto" and torch.cuda.is_available() and started_by_torchrun():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"  # each process its own
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        if device.partition(":")[0] not in ("cuda", "mps", "xpu"):
            raise ModelError(f'no device "{device}": expected auto, cpu, cuda, cuda:N or mps') from None
        return "cpu"
    return device
