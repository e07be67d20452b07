"""What every test shares: no downloads, a fair share of the cores, and GPU tests only where there is a GPU."""

from __future__ import annotations

import os

import pytest
import setuptools  # noqa: F401  before anybody imports distutils, whose place it takes: torch's compiler looks which it is

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
