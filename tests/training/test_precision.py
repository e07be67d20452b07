from __future__ import annotations

import pytest
import torch

from gaia2.training.precision import autocast, resolve_precision


@pytest.mark.parametrize(("tiles", "vectors"), [(True, True), (False, True), (False, False)])
def test_a_cpu_takes_bfloat16_where_it_multiplies_it(
    tiles: bool, vectors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = tiles or vectors
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: vectors)
    assert resolve_precision("auto", "cpu") == ("bf16" if units else "fp32")
    assert resolve_precision("bf16", "cpu") == "bf16"
    with autocast("auto", "cpu"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if units else torch.float32)
