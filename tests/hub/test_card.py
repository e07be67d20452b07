"""The card says what the files say, and nothing more."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from gaia2 import default_model
from gaia2.hub.card import model_card
from gaia2.hub.facts import Facts, read_facts
from gaia2.hub.safetensors_header import read_header


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "count": 10}


def row(*figures: tuple[float, float, float]) -> dict[str, Any]:
    return {name: figure(*one) for name, one in zip(("genuine", "generated", "shuffled"), figures, strict=True)}


EVALUATION = {
    "protocol": {"clips": 14, "weights": "0123", "metadata": ["weather"]},
    "figures": {
        "weather right": row((1.0, 1.0, 1.0), (0.8, 0.6, 1.0), (0.1, 0.0, 0.2)),
        "country right": row((1.0, 1.0, 1.0), (0.3, 0.1, 0.5), (0.4, 0.1, 0.6)),
        "one_way right": row((0.5, 0.4, 0.6), (0.3, 0.1, 0.5), (0.4, 0.1, 0.6)),
        "Fréchet distance": {"genuine": figure(690.0), "generated": figure(1270.0, 1190.0, 1370.0)},
        "empty": {"generated": figure(None)},
    },
    "refused": {"one_way right": "0.5 on genuine clips"},
}  # fmt: skip


def test_the_default_guidance_of_a_pipeline_is_said() -> None:
    configs: dict[str, dict[str, Any]] = {"vae": {}, "transformer": {}}
    said = "sampled with classifier-free guidance 2.5; `guidance_scale=1` is none"
    assert said in model_card(Facts("Gaia2Pipeline", configs, guidance_scale=2.5), "lab/mini")
    assert "guidance" not in model_card(Facts("Gaia2Pipeline", configs), "lab/mini")


def sections(card: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)\n", card, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture(scope="module")
def shipped() -> str:
    return model_card(read_facts(default_model()), "lab/mini")


def test_the_hub_reads_its_front_matter(shipped: str) -> None:
    data = ModelCard(shipped).data
    assert data.library_name == "gaia2"
    assert data.license == "apache-2.0"
    assert {"world-model", "multi-camera"} <= set(data.tags)


def test_the_default_models_card_agrees_with_its_files(shipped: str) -> None:
    folder, parts = Path(default_model()), sections(shipped)
    manifest = json.loads((folder / "manifest.json").read_text())
    config = json.loads((folder / "transformer" / "config.json").read_text())
    numbers = 0
    for tensor in read_header(folder / "transformer" / "diffusion_pytorch_model.safetensors").values():
        size = 1
        for side in tensor["shape"]:
            size *= side
        numbers += size
    assert f"| `transformer` | `WorldModel` | {numbers / 1e6:,.2f} million |" in parts["What is in it"]
    if manifest.get("commit"):
        assert f"`{manifest['commit']}`" in parts["Training"]
    for name in manifest.get("trained_on", ()):
        assert f"- {name}" in parts["Data and licences"]
    for name, values in config["metadata"]:
        (row,) = [line for line in parts["Controls"].splitlines() if line.startswith(f"| `{name}` |")]
        assert all(str(value).lower() in row for value in values)
    trained = {name for name, yes in re.findall(r"\| `(\w+)` \|.*\| (yes|no) \|", parts["Controls"]) if yes == "yes"}
    assert trained == set(config["trained_conditions"])
    assert 'from_pretrained("lab/mini")' in parts["Use"]


def test_what_is_not_obeyed_is_a_limit() -> None:
    facts = Facts("Gaia2Pipeline", {"transformer": {}, "vae": {}}, evaluation=EVALUATION)
    parts = sections(model_card(facts, "lab/x"))
    assert "| weather right | 1.00 (1.00 to 1.00) | 0.80 (0.60 to 1.00) | 0.10 (0.00 to 0.20) |" in parts["Metrics"]
    assert "| Fréchet distance | 690.00 | 1270.00 (1190.00 to 1370.00) |  |" in parts["Metrics"]
    assert "one_way" not in parts["Metrics"]
    assert "clips 14, weights 0123." in parts["Metrics"]
    (line,) = [line for line in parts["Limits"].splitlines() if "does not obey" in line]
    assert "country right" in line
    assert "weather" not in line
    assert "one_way" not in line


def test_what_is_not_known_is_left_out() -> None:
    parts = sections(model_card(Facts("FlowMatchScheduler", {"": {"_class_name": "FlowMatchScheduler"}}), "lab/s"))
    assert list(parts) == ["Use", "What is in it", "Intended use", "Licence and citation"]


def test_tables_bear_any_text() -> None:
    facts = Facts("Gaia2Pipeline", {"": {}}, manifest={"options": {"a|b": "c\nd", "e": {"f": [1, True, None]}}})
    training = sections(model_card(facts, "lab/x"))["Training"]
    assert "| a\\|b | c d |" in training
    assert "| e: f | 1, true, null |" in training
