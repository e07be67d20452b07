"""The evaluation from end to end on tiny models, its report, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import peft
import pytest
import torch
from evaluate import MADE_OF, Evaluation, _keep_protocol, main, make_clip, roll_out
from evaluation_report import Column, drift_figures, figures, write_report

from gaia2._checkpoint import load_checkpoint
from gaia2.metrics.held_out import HeldOutScene, held_out_scenes
from gaia2.metrics.picture_training import new_judge
from gaia2.models.behaviour_encoder import BehaviourEncoder
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import Scene
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests import tiny
from tests.metrics.test_control import facts_of, reading_of, scene_of

CLIPS = 12


@pytest.fixture(scope="module")
def table():
    """Generated clips that are as good as genuine ones, and one pair of which half of the shift is made."""
    facts = [facts_of(scene_of(seed)) for seed in range(CLIPS)]
    generator = torch.Generator().manual_seed(0)
    latents = [torch.randn(3, 1, 4, 8, 4, generator=generator) for _ in facts]
    readings = []
    for fact in facts:
        reading = reading_of(fact)
        reading |= {"features": torch.randn(5, 6, generator=generator)}
        reading |= {"seam": torch.tensor(1.0), "views": torch.tensor(0.5), "corners": torch.tensor(0.75)}
        reading |= {"motion": torch.randn(3, 6, generator=generator)}
        readings.append(reading)
    columns = {name: Column(readings, latents) for name in ("genuine", "round trip")}
    columns["generated"] = Column(readings, [0.5 * z for z in latents])
    base, changed = latents[0], latents[1]
    sources = {
        "genuine": (base, changed),
        "round trip": (base, changed),
        "generated": (base, base + 0.5 * (changed - base)),
    }
    item = HeldOutScene("pair-0000-weather", "pair", 0, facts[0].scene, "pair-0000", "weather")
    pair = (item, {k: v[1] for k, v in sources.items()}, {k: v[0] for k, v in sources.items()})
    return figures(columns, facts, ["random"] * CLIPS, [pair])


def test_figures_say_what_is_so(table) -> None:
    rows, refused = table
    for column in ("genuine", "round trip", "generated"):
        assert rows["weather right"][column]["value"] == 1.0
        assert rows["agents found"][column]["value"] == 1.0
    assert rows["weather right"]["shuffled"]["value"] < 0.7
    assert rows["weather right"]["genuine"]["count"] == CLIPS
    assert rows["latent shift: weather"]["generated"]["value"] == pytest.approx(0.5, abs=1e-3)
    assert rows["within-clip latent variance ratio"]["generated"]["value"] == pytest.approx(0.25, rel=1e-4)
    assert rows["Fréchet distance"]["round trip"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert rows["Fréchet distance over round trip"]["generated"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert rows["corners followed"]["generated"]["value"] == 0.75
    assert rows["FVMD (opencv DIS optical flow)"]["generated"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert rows["FVMD (opencv DIS optical flow)"]["genuine"]["value"] > 0.1  # halves of few clips differ
    assert rows["FVMD (opencv DIS optical flow)"]["generated"]["high"] < 1e-6  # the same in each draw
    assert rows["FVMD (opencv DIS optical flow)"]["generated"]["count"] == 3 * CLIPS
    assert rows["agents IoU"]["generated"]["value"] == 1.0
    assert rows["agents IoU"]["shuffled"]["value"] < 0.5
    assert not refused


def test_report_is_strict_json_and_names_what_is_refused(table, tmp_path: Path) -> None:
    rows, _ = table
    pictures = np.zeros((2, 3, 32, 64, 3), np.uint8)
    write_report(tmp_path, {"model": "tiny"}, rows, {"weather right": "0.9 in shuffled clips"}, pictures)
    content = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert content["figures"]["focal r"]["genuine"]["value"] is None  # one focal length in all scenes
    text = (tmp_path / "evaluation.md").read_text()
    assert "| weather right | refused: 0.9 in shuffled clips |" in text
    assert "model: tiny" in text
    assert (tmp_path / "evaluation.png").is_file()


def test_drift_is_what_is_left_of_the_looks_of_all_rollouts() -> None:
    looks = [
        {"genuine": {"contrast": [0.2, 0.5, 0.2]}, "generated": {"contrast": [0.2, 0.0, 0.1]}},
        {"genuine": {"contrast": [0.4, 0.4]}, "generated": {"contrast": [0.4, 0.2]}},
    ]
    row = drift_figures(20.0, looks)["contrast kept over 20 s"]
    assert row["genuine"] == {"value": 1.0, "low": 1.0, "high": 1.0, "count": 2}
    assert row["generated"]["value"] == pytest.approx(0.5)


def test_each_rollout_is_of_another_street_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Gaia2Pipeline(vae=tiny.tokenizer(), transformer=tiny.world_model(), scheduler=FlowMatchScheduler())
    judge = SimpleNamespace(judge=new_judge(width=4).eval())
    seconds = 2 * pipe.transformer.config.window_latents * pipe.vae.frames_per_latent / 10
    config = Evaluation(out=tmp_path, num_inference_steps=1, rollout_seconds=seconds, rollout_scenes=2)
    streets: list[Scene] = []
    stream = pipe.stream
    monkeypatch.setattr(pipe, "stream", lambda scene, **options: [streets.append(scene), *stream(scene, **options)][1:])
    for index in (0, 1, 1):
        roll_out(index, pipe, judge, config)
    assert len(streets) == 2
    assert (streets[0].metadata, streets[0].agents) != (streets[1].metadata, streets[1].agents)
    looks = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("rollout-*.json"))]
    assert len(looks) == 2
    frames = load_checkpoint(tmp_path / f"rollout-{seconds:g}s-00.pt")
    assert frames["genuine"].shape == frames["generated"].shape
    assert len(looks[0]["generated"]["contrast"]) == 2


def test_a_rollout_of_less_than_two_windows_is_refused_at_once(tmp_path: Path) -> None:
    pipe = Gaia2Pipeline(vae=tiny.tokenizer(), transformer=tiny.world_model(), scheduler=FlowMatchScheduler())
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"rollout_seconds: expected 0 or at least .*, two windows, got 0.5"):
        main(Evaluation(out=tmp_path / "out", model=str(tmp_path / "model"), rollout_seconds=0.5))
    assert not (tmp_path / "out").exists()


def test_another_model_needs_another_folder(tmp_path: Path) -> None:
    path = tmp_path / "protocol.json"
    protocol = dict.fromkeys(MADE_OF, 1)
    _keep_protocol(path, protocol | {"weights": "a", "clips": 4})
    _keep_protocol(path, protocol | {"weights": "a", "clips": 8})  # more scenes are welcome
    with pytest.raises(
        ValueError, match=r"out: expected a folder of the same evaluation, got one with another weights"
    ):
        _keep_protocol(path, protocol | {"weights": "b", "clips": 8})


def test_a_scenario_embedding_stands_for_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = held_out_scenes(1, 0, 0, image_size=(32, 64), num_frames=16)[0]
    pipe = Gaia2Pipeline(vae=tiny.tokenizer(), transformer=tiny.world_model(), scheduler=FlowMatchScheduler())
    encoder = BehaviourEncoder(embedding_dim=5, dim=8, num_heads=2, num_blocks=1)
    given: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(pipe.transformer, "encode_conditioning", spying(pipe.transformer.encode_conditioning, given))
    make_clip(item, pipe, Evaluation(out=tmp_path, num_inference_steps=1), encoder)
    torch.testing.assert_close(given[0]["scenario_embedding"].float(), torch.from_numpy(encoder.embed([item.scene])))
    assert "speed" not in given[0] or given[0]["speed"].isnan().all()


def spying(function: Callable[..., Any], given: list[dict[str, torch.Tensor]]) -> Callable[..., Any]:
    def call(conditioning: dict[str, torch.Tensor], *args: Any, **options: Any) -> Any:
        given.append(conditioning)
        return function(conditioning, *args, **options)

    return call


@pytest.mark.long
def test_from_end_to_end_and_again(tmp_path: Path) -> None:
    pipe = Gaia2Pipeline(vae=tiny.tokenizer(), transformer=tiny.world_model(), scheduler=FlowMatchScheduler())
    pipe.save_pretrained(tmp_path / "model")
    config = Evaluation(
        out=tmp_path / "out",
        model=str(tmp_path / "model"),
        random_scenes=3,
        surround_scenes=3,
        pair_scenes=1,
        num_inference_steps=1,
        judge_scenes=2,
        judge_minutes=0.02,
    )
    main(config)
    content = json.loads((config.out / "evaluation.json").read_text())
    assert content["protocol"]["clips"] == 6
    assert set(content["figures"]["agents AUC"]) == {"genuine", "round trip", "generated", "shuffled"}
    assert content["figures"]["latent shift: weather"]["genuine"]["value"] == pytest.approx(1.0, abs=1e-3)
    made = {path: path.stat().st_mtime_ns for path in config.out.glob("*/*.pt")}
    main(replace(config, random_scenes=4))
    assert {path: path.stat().st_mtime_ns for path in made} == made  # nothing is made twice
    assert len(list(config.out.glob("readings/*.pt"))) == 7
    with pytest.raises(ValueError, match="got one with another weights"):  # an adapter makes another model
        main(replace(config, adapter=str(adapter_of(pipe, tmp_path))))


def adapter_of(pipe: Gaia2Pipeline, folder: Path) -> Path:
    """Folder of an adapter of a pipeline's world model."""
    pipe.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"]))
    pipe.save_lora_weights(folder / "adapter", peft.utils.get_peft_model_state_dict(pipe.transformer))
    return folder / "adapter"
