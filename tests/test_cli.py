from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from PIL import Image

import gaia2
from gaia2 import cli
from gaia2.cli import (
    Conditions,
    Demo,
    Generate,
    SamplingOptions,
    build_scene,
    load_source,
    main,
    read_context,
    write_result,
)
from gaia2.pipelines.output import Gaia2PipelineOutput
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import METADATA, Agents, Scene
from gaia2.scene.vocabulary import METADATA_MEANINGS
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.video.files import read_video, write_video
from tests.tiny import tokenizer, world_model


def tiny(**components: Any) -> Gaia2Pipeline:
    parts = dict(vae=tokenizer(), transformer=world_model(), scheduler=FlowMatchScheduler())
    pipe = Gaia2Pipeline(**parts | components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def read_scene(options: Generate, frames_per_latent: int = 8) -> Scene:
    return build_scene(options, load_source(options), frames_per_latent)


def saved_scene(path: Path, num_frames: int = 40, **conditions: Any) -> Path:
    Scene.create("surround3", num_frames=num_frames, speed=np.arange(num_frames), **conditions).save(path)
    return path


@pytest.fixture
def tiny_pipeline(monkeypatch: pytest.MonkeyPatch) -> list[SamplingOptions]:
    """Puts a tiny pipeline in place of the default model; gives what it was asked for with."""
    asked: list[SamplingOptions] = []

    def load(sampling: SamplingOptions) -> Gaia2Pipeline:
        asked.append(sampling)
        return tiny()

    monkeypatch.setattr(cli, "load_pipeline", load)
    return asked


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"gaia2 {gaia2.__version__} (torch {torch.__version__}, diffusers 0.")
    assert said.count("\n") == 1


def test_a_scene_from_a_rig_leaves_everything_to_the_model() -> None:
    scene = read_scene(Generate(rig="surround3", seconds=1.7, frame_rate=10.0))
    assert scene.rig.names == ("front", "front_left", "front_right")
    assert scene.num_frames == 16  # 17 frames, rounded to whole latents
    np.testing.assert_allclose(np.diff(scene.frame_times), 0.1)
    assert np.isnan(scene.speed).all()
    assert np.isnan(scene.curvature).all()
    assert dict(scene.metadata) == {}
    assert read_scene(Generate()).rig.num_cameras == 5


def test_every_condition_that_a_scene_knows_has_an_option() -> None:
    assert [option.name for option in fields(Conditions)] == ["speed", "curvature", *METADATA, "prompt"]
    assert set(METADATA_MEANINGS) == set(METADATA)


def test_whole_latents_are_those_of_the_pipeline(tmp_path: Path) -> None:
    options = Generate(rig="front", seconds=1.3, frame_rate=10.0, context_seconds=0.4)
    assert read_scene(options, frames_per_latent=8).num_frames == 16
    assert read_scene(options, frames_per_latent=4).num_frames == 12
    with pytest.raises(ValueError, match="--seconds: expected at least one latent of 40 frames, 4 s at 10 frames per"):
        read_scene(options, frames_per_latent=40)
    path = tmp_path / "front.mp4"
    write_video(path, clip_of_steps(6), frame_rate=10.0)
    strides = dict(encoder_strides=((2, 4, 4), (1, 2, 2), (1, 2, 2)), decoder_strides=((1, 2, 2), (1, 2, 2), (4, 4, 4)))
    pipe = tiny(vae=tokenizer(**strides))
    context = read_context(replace(options, context=(path,)), Scene.create("front", num_frames=8), pipe)
    assert len(context) == 4


def test_a_scene_from_a_file_is_cut_and_resampled(tmp_path: Path) -> None:
    path = saved_scene(tmp_path / "scene.json", weather="fog")
    scene = read_scene(Generate(scene=path, start=1.0, seconds=1.6, frame_rate=5.0))
    assert scene.num_frames == 8
    np.testing.assert_allclose(scene.speed, 10 + 2 * np.arange(8), atol=1e-9)
    assert scene.metadata["weather"] == "fog"


def test_conditions_take_the_place_of_the_scenes_own(tmp_path: Path) -> None:
    scene = Scene.load(saved_scene(tmp_path / "scene.json", weather="fog", time_of_day="day"))
    changed = Conditions(speed=0.0, weather="snow", one_way=False, prompt="a tram").apply(scene)
    assert (changed.speed == 0).all()
    assert np.array_equal(changed.curvature, scene.curvature, equal_nan=True)
    assert dict(changed.metadata) == {"weather": "snow", "time_of_day": "day", "one_way": False}
    assert changed.prompt == "a tram"
    assert Conditions().apply(scene) == scene


def clip_of_steps(num_frames: int, level: int = 0) -> np.ndarray:
    """Frames whose grey level is ten times their number."""
    frames = np.zeros((num_frames, 32, 64, 3), np.uint8)
    return frames + (level + 10 * np.arange(num_frames, dtype=np.uint8))[:, None, None, None]


def test_context_is_the_end_of_the_videos(tmp_path: Path) -> None:
    paths = tuple(tmp_path / f"{name}.mp4" for name in ("front", "left", "right"))
    for index, path in enumerate(paths):
        write_video(path, clip_of_steps(20, level=20 * index), frame_rate=20.0)
    scene = Scene.create("surround3", num_frames=16)
    options = Generate(context=paths, context_seconds=0.8, frame_rate=10.0)
    context = read_context(options, scene, tiny(vae=tokenizer(sample_size=(16, 32))))
    assert context.shape == (8, 3, 3, 16, 32)
    assert context.dtype == np.uint8
    # every second frame of 20 per second, up to the last one
    expected = 10 * np.arange(5, 20, 2)[:, None] + 20 * np.arange(3)
    np.testing.assert_allclose(context.mean(axis=(2, 3, 4)), expected, atol=4)


def test_bad_context(tmp_path: Path) -> None:
    path = tmp_path / "front.mp4"
    write_video(path, clip_of_steps(6), frame_rate=10.0)
    scene = Scene.create("surround3", num_frames=16)
    with pytest.raises(ValueError, match=r"--context: expected 3 videos, one for each of front, .*, got 1"):
        read_context(Generate(context=(path,)), scene, tiny())
    message = r"front.mp4: expected at least 0.8 s of video, got 0.6 s; give a longer one or a smaller --context-sec"
    with pytest.raises(ValueError, match=message):
        read_context(Generate(context=(path, path, path)), scene, tiny())


def result(num_frames: int = 8) -> Gaia2PipelineOutput:
    boxes = np.zeros((num_frames, 1, 7))
    boxes[:, 0] = (12.0, 0.0, 0.8, 4.5, 1.9, 1.6, 0.0)
    scene = Scene.create("surround3", num_frames=num_frames, agents=Agents(boxes, np.zeros((num_frames, 1), int)))
    scene = scene.replace(rig=scene.rig.fit(image_size=(64, 128)))
    return Gaia2PipelineOutput(np.full((1, num_frames, 3, 64, 128, 3), 100 / 255), [scene])


def test_writes_mosaic_sheet_scene_and_cameras(tmp_path: Path) -> None:
    made = result()
    written = write_result(made, Generate(out=tmp_path / "new" / "video.mp4", per_camera=True, scale=1))
    names = ["video.mp4", "video.png", "video.json", *(f"video_{name}.mp4" for name in made.camera_names)]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    assert Scene.load(written[2]) == made.scenes[0]
    camera, frame_rate = read_video(written[3])
    assert camera.shape == (8, 64, 128, 3)
    assert frame_rate == 10.0
    assert abs(camera.astype(int) - 100).max() <= 3
    small, frame_rate = read_video(written[0])
    assert frame_rate == 10.0
    large = read_video(write_result(made, Generate(out=tmp_path / "large.mp4", scale=2))[0])[0]
    assert len(small) == len(large) == 8
    assert large.shape[1] > 1.5 * small.shape[1]
    with Image.open(written[1]) as sheet:
        assert min(sheet.size) > 64


def test_boxes_are_drawn_where_the_agent_is(tmp_path: Path) -> None:
    made = result()
    options = Generate(out=tmp_path / "video.mp4", per_camera=True, boxes=True)
    front = read_video(write_result(made, options)[3])[0]
    drawn = abs(front.astype(int) - 100).max(axis=(0, 3)) > 20
    rows, columns = np.nonzero(drawn)
    # a car 12 m ahead: in the middle of the picture, narrower than a third of it
    assert 20 < columns.min() < 64 < columns.max() < 108
    assert columns.max() - columns.min() < 128 / 3
    assert 20 < rows.min() < rows.max() < 64
    assert (made.frames == 100 / 255).all()  # the caller's own frames are not drawn on


def test_generate_from_words_to_files(tmp_path: Path, tiny_pipeline: list, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "--rig", "front", "--seconds", "0.8", "--weather", "snow", "--speed", "5"]
    words += ["--steps", "1", "--seed", "3", "--scale", "1", "--out"]
    assert main([*words, str(tmp_path / "video.mp4")]) == 0
    assert "video.mp4" in capsys.readouterr().out
    assert (tiny_pipeline[0].steps, tiny_pipeline[0].seed) == (1, 3)
    scene = Scene.load(tmp_path / "video.json")
    assert scene.metadata["weather"] == "snow"
    assert (scene.speed == 5).all()
    assert scene.rig.image_size.tolist() == [[32, 64]]
    assert read_video(tmp_path / "video.mp4")[0].shape[0] == 8
    before = (tmp_path / "video.mp4").read_bytes()
    assert main([*words, str(tmp_path / "again.mp4")]) == 0
    assert (tmp_path / "again.mp4").read_bytes() == before


def test_generate_from_context(tmp_path: Path, tiny_pipeline: list) -> None:
    path = tmp_path / "context.mp4"
    write_video(path, clip_of_steps(10), frame_rate=10.0)
    words = ["generate", "--rig", "front", "--seconds", "1.6", "--steps", "1", "--scale", "1", "--context"]
    assert main([*words, str(path), "--out", str(tmp_path / "video.mp4")]) == 0
    assert read_video(tmp_path / "video.mp4")[0].shape[0] == 16


def test_demo(tmp_path: Path, tiny_pipeline: list) -> None:
    cli.demo(Demo(steps=1, out=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{kind}" for name in ("day", "night") for kind in ("json", "mp4", "png")
    ]
    day, night = (Scene.load(tmp_path / f"{name}.json") for name in ("day", "night"))
    assert day.metadata["time_of_day"] == "day"
    assert day.replace(time_of_day="night") == night


def test_load_pipeline(tmp_path: Path) -> None:
    pipe = tiny()
    pipe.to(torch.bfloat16).save_pretrained(tmp_path)
    loaded = cli.load_pipeline(SamplingOptions(model=tmp_path, device="cpu"))
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded.transformer.proj_out.weight, pipe.transformer.proj_out.weight.float())
    assert (loaded.scheduler.config.solver, loaded.scheduler.config.grid) == ("euler", "linear_quadratic")
    loaded = cli.load_pipeline(SamplingOptions(model=tmp_path, device="cpu", solver="heun", grid="shifted"))
    assert (loaded.scheduler.config.solver, loaded.scheduler.config.grid) == ("heun", "shifted")


def test_sampling_options_reach_the_pipeline(tmp_path: Path, tiny_pipeline: list, monkeypatch: Any) -> None:
    calls: list[dict[str, Any]] = []
    generate = Gaia2Pipeline.__call__
    monkeypatch.setattr(Gaia2Pipeline, "__call__", lambda *args, **kw: calls.append(kw) or generate(*args, **kw))
    words = ["generate", "--rig", "front", "--seconds", "2.4", "--weather", "snow", "--steps", "1", "--scale", "1"]
    words += ["--guidance", "3", "--guidance-on", "weather", "speed", "--guidance-interval", "0.1", "0.9"]
    assert main([*words, "--overlap", "1", "--out", str(tmp_path / "video.mp4")]) == 0
    assert calls[0]["guidance_scale"] == 3
    assert calls[0]["guidance_on"] == ("weather", "speed")
    assert calls[0]["guidance_region"] is None
    assert calls[0]["guidance_interval"] == (0.1, 0.9)
    assert calls[0]["num_context_latents"] == 1


def test_guidance_is_the_models_own_unless_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale of the last step, as a model that says 3 is told to generate."""
    pipe = tiny(default_guidance_scale=3.0)
    monkeypatch.setattr(cli, "load_pipeline", lambda sampling: pipe)
    words = ["generate", "--rig", "front", "--seconds", "0.8", "--steps", "1", "--out", str(tmp_path / "video.mp4")]
    for given, scale in (([], 3.0), (["--guidance", "1"], 1.0), (["--guidance", "0"], 0.0)):
        assert main([*words, *given]) == 0
        assert pipe.guidance_scale == scale
    cli.demo(Demo(steps=1, out=tmp_path))
    assert pipe.guidance_scale == 3.0


def test_fast_takes_the_adapter_of_the_model_and_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(default_guidance_scale=3.0).save_pretrained(tmp_path / "model")
    words = ["generate", "--rig", "front", "--seconds", "0.8", "--device", "cpu", "--model", str(tmp_path / "model")]
    words += ["--fast", "--out", str(tmp_path / "video.mp4")]
    assert main(words) == 2  # it has none
    pipe = tiny()
    pipe.transformer.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights=False))
    layers = peft.utils.get_peft_model_state_dict(pipe.transformer)
    pipe.save_lora_weights(tmp_path / "model" / "few_steps", layers)
    adapted = pipe.transformer.state_dict()
    name = next(name.removesuffix(".base_layer.weight") for name in adapted if name.endswith("to_q.base_layer.weight"))
    up, down = (adapted[f"{name}.lora_{part}.default.weight"] for part in "BA")
    want = adapted[f"{name}.base_layer.weight"] + up @ down
    calls: list[tuple[torch.Tensor, dict[str, Any]]] = []
    generate = Gaia2Pipeline.__call__

    def spy(self: Gaia2Pipeline, *args: Any, **kw: Any) -> Any:
        calls.append((self.transformer.state_dict()[f"{name}.weight"], kw))
        return generate(self, *args, **kw)

    monkeypatch.setattr(Gaia2Pipeline, "__call__", spy)
    assert main(words) == 0
    assert main([*words, "--steps", "2", "--guidance", "1.5"]) == 0
    told = [(kw["num_inference_steps"], kw["guidance_scale"]) for _, kw in calls]
    assert told == [(8, 1.0), (2, 1.5)]
    for weight, _ in calls:
        torch.testing.assert_close(weight, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--seconds 0.1",
            "seconds: expected at least one latent of 8 frames, 0.8 s at 10 frames per second, got 0.1 s",
        ),
        ("--frame-rate 0", "--frame-rate: expected frames per second from 0.001 to 10000, got 0.0"),
        ("--frame-rate inf", "--frame-rate: expected frames per second from 0.001 to 10000, got inf"),
        (
            "--seconds inf",
            "--seconds: expected seconds from 0 to 86400, got inf",
        ),
        ("--rig front --start 1", "--start: expected a scene or a log to start in, got --start 1 without one"),
        ("--scene a.json --comma2k19 b", "expected one of --scene, --argoverse2 and --comma2k19, got ['comma2k19', 's"),
        ("--scene a.json --rig van", "--rig: expected no rig beside --scene, whose own is used, got van"),
        ("--scene nowhere.json", "nowhere.json"),
        ("--rig front --speed-limit 31", "speed_limit"),
        ("--rig front --context nowhere.mp4", "nowhere.mp4"),
        ("--rig surround3 --seconds 0.8 --context a.mp4", "--context: expected 3 videos"),
        ("--rig front --guidance 2 --guidance-on wether", "did you mean 'weather'"),
        ("--rig front --steps 0", "--steps: expected a whole number from 1 to 10000, got 0"),
        ("--rig front --prompt tram", "prompt: expected a pipeline with text_encoder and tokenizer"),
        ("--steps 9999999999999999999999", "--steps: expected a whole number from 1 to 10000, got 9999999999"),
        ("--guidance 1e300", "--guidance: expected a number from 0 to 1000, got 1e+300"),
        ("--guidance-interval 0.5 0.1", "--guidance-interval: expected two rising flow times, got (0.5, 0.1)"),
        ("--seed 99999999999999999999", "--seed: expected a whole number from 0"),
        ("--speed nan", "--speed: expected a number, got nan; leave the option out"),
        ("--speed 1e38", "speed: expected m/s within"),
        ("--device foo", "--device: expected auto, cpu, or an accelerator that is there, such as cuda:0, got 'foo'"),
        ("--device CPU", "--device: expected auto, cpu, or an accelerator"),
        ("--device mps", "--device: expected auto, cpu, or an accelerator"),
        ("--out result.txt", "--out: expected a file ending in one of .mp4, .mkv, .mov, got result.txt"),
        ("--out /proc/none/video.mp4", "--out: expected a folder that can be written to, got /proc/none"),
        ("--out /dev/null/video.mp4", "--out: expected a folder that can be written to, got /dev/null"),
    ],
)
def test_a_users_error_is_one_line(
    words: str,
    message: str,
    tiny_pipeline: list,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["generate", *words.split()]) == 2
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("gaia2: ")
    assert message in lines[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", ["generate --weather hail", "generate --rig lorry", "fly", "generate --speed fast"])
def test_the_parser_refuses_what_it_does_not_know(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert words.split()[-1] in captured.out + captured.err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--device", "cuda"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("gaia2: --device: expected auto, cpu, or an accelerator that is there, such as cuda:0, got")


@pytest.mark.parametrize("taken", ["video.mp4", "video.png", "video.json"])
def test_out_is_tried_before_anything_is_loaded(
    taken: str, tmp_path: Path, tiny_pipeline: list, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / taken).mkdir()
    assert main(["generate", "--rig", "front", "--out", str(tmp_path / "video.mp4")]) == 2
    assert f"--out: expected a file to write, got a folder at {tmp_path / taken}" in capsys.readouterr().err
    assert not tiny_pipeline


def test_the_demo_tries_its_folder_first(tmp_path: Path, tiny_pipeline: list) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"--out: expected a folder that can be written to, got .*file"):
        cli.demo(Demo(steps=1, out=tmp_path / "file"))
    with pytest.raises(ValueError, match="--steps: expected a whole number"):
        cli.demo(Demo(steps=0, out=tmp_path))
    assert not tiny_pipeline


def test_files_of_one_result_appear_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, options = result(), Generate(out=tmp_path / "video.mp4", per_camera=True, scale=1)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Scene, "save", fail)
        with pytest.raises(OSError, match="disk full"):
            write_result(made, options)
    assert list(tmp_path.iterdir()) == []
    written = write_result(made, options)
    before = [path.read_bytes() for path in written]
    with monkeypatch.context() as patch:
        patch.setattr("gaia2.video.files.VideoWriter.write", fail)
        with pytest.raises(OSError, match="disk full"):
            write_result(made, options)
    assert [path.read_bytes() for path in written] == before
    assert sorted(tmp_path.iterdir()) == sorted(written)
