"""The page over its own HTTP interface, with the client of gradio."""

from __future__ import annotations

import http.client
import json
import re
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import torch

from gaia2.app.command import Served
from gaia2.app.form import Form
from gaia2.app.studio import FILE_RIG
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import Scene, named_rig
from gaia2.video.files import read_video, write_video
from tests.app.helpers import controls

gradio_client = pytest.importorskip("gradio_client", reason="the page needs gradio")
VISITORS = 10
LONG = 2000  # steps; more than any test waits for


def client(served: Served, folder: Path) -> Any:
    return gradio_client.Client(served.address, verbose=False, download_files=folder, analytics_enabled=False)


def asked(**changes: Any) -> dict[str, Any]:
    """What the interface takes for a short video from scratch."""
    values = controls()
    for name in ("source", "context", "strength", "mask", "agents", "metadata"):
        del values[name]
    return values | changes


def post(served: Served, path: str, data: Any) -> tuple[int, bytes]:
    return call(served, "POST", path, json.dumps(data), {"Content-Type": "application/json"})


def call(served: Served, method: str, path: str, *rest: Any) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(served.address).netloc, timeout=60)
    connection.request(method, path, *rest)
    answer = connection.getresponse()
    return answer.status, answer.read()


def until(holds: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ten_visitors_at_once_get_each_their_own(served: Served, tmp_path: Path) -> None:
    """Each asks for another scene and noise; each video is, to the byte, that of a call of its own."""
    weathers = ("clear", "snow")

    def visit(number: int) -> tuple[dict[str, Any], list[str]]:
        visitor = client(served, tmp_path / str(number))
        answer = visitor.predict(
            **asked(
                drawing=Form(speed=(float(number),)).drawing(),
                weather=weathers[number % 2],
                seed=number,
            ),
            api_name="/generate",
        )
        return answer[0], answer[1]

    with ThreadPoolExecutor(VISITORS) as pool:
        answers = list(pool.map(visit, range(VISITORS)))
    videos = set()
    for number, (player, files) in enumerate(answers):
        by_name = {Path(file).name: Path(file) for file in files}
        scene = Scene.load(by_name["scene.json"])
        assert scene.speed.tolist() == [number] * 8
        assert scene.metadata["weather"] == weathers[number % 2]
        assert Path(player["video"]).with_name("scene.json").read_text() == by_name["scene.json"].read_text()
        generator = torch.Generator().manual_seed(number)
        own = Gaia2Pipeline.from_pipe(served.studio.pipe)
        own.set_progress_bar_config(disable=True)
        expected = own(scene, num_inference_steps=1, generator=generator).pixels()
        write_video(tmp_path / "expected.mp4", expected[:, 0], 10.0)
        assert by_name["video_front.mp4"].read_bytes() == (tmp_path / "expected.mp4").read_bytes()
        videos.add(by_name["video.mp4"].read_bytes())
    assert len(videos) == VISITORS


def test_it_answers_while_the_model_is_at_work(served: Served, tmp_path: Path) -> None:
    begun, go = threading.Event(), threading.Event()
    work = served.studio.worker.submit(lambda job: (begun.set(), go.wait(120)))
    try:
        assert begun.wait(30)
        visitor = client(served, tmp_path)
        assert call(served, "GET", "/")[0] == 200
        drawn = visitor.predict(rig="surround3", rig_file=None, seconds=1.6, api_name="/draw")
        assert set(drawn) == {"props", "__type__"}
        assert drawn["props"]["seconds"] == 1.6
        assert [camera["name"] for camera in drawn["props"]["cameras"]] == list(named_rig("surround3").names)
        with pytest.raises(Exception, match="speed: expected m/s"):  # what is wrong is said before it is one's turn
            visitor.predict(**asked(drawing=Form().drawing() | {"speed": [999.0]}), api_name="/generate")
        waiting = visitor.submit(**asked(), api_name="/generate")
        until(lambda: waiting.outputs() and "Waiting; 1 before you." in waiting.outputs()[-1][2])
        assert not work.wait(0)
    finally:
        go.set()
    assert "Ready." in waiting.result(60)[2]


def test_cancelling(served: Served, tmp_path: Path) -> None:
    me, other = client(served, tmp_path), client(served, tmp_path)
    job = me.submit(**asked(steps=LONG), api_name="/generate")
    until(lambda: job.outputs() and "Step" in job.outputs()[-1][2])
    other.predict(api_name="/cancel")
    assert not job.done()
    me.predict(api_name="/cancel")
    assert "Cancelled" in job.result(60)[2]
    assert not served.studio._jobs


def test_who_leaves_does_not_hold_up_the_others(served: Served, tmp_path: Path) -> None:
    me, other = client(served, tmp_path), client(served, tmp_path)
    job = me.submit(**asked(steps=LONG), api_name="/generate")
    until(lambda: bool(job.outputs()))
    job.cancel()
    assert "Ready." in other.predict(**asked(), api_name="/generate")[2]
    until(lambda: not served.studio._jobs)


def test_a_result_becomes_the_source(served: Served, tmp_path: Path) -> None:
    visitor = client(served, tmp_path)
    files = visitor.predict(**asked(), api_name="/generate")[1]
    source = [gradio_client.handle_file(file) for file in files[3:]]
    for task, values in (("edit", {"strength": 0.5}), ("inpaint", {"mask": {"front": [[0, 0]]}, "agents": False})):
        made = visitor.predict(**asked(), source=source, **values, api_name=f"/{task}")[1]
        assert read_video(made[0])[0].shape[0] == 8
    made = visitor.predict(**asked(seconds=1.6), source=source, context=1, api_name="/continue")[1]
    assert read_video(made[0])[0].shape[0] == 16
    with pytest.raises(Exception, match="source: expected a video of each camera, got none"):
        visitor.predict(**asked(), source=[], strength=0.5, api_name="/edit")


def test_a_scene_file_fills_the_page(served: Served, tmp_path: Path) -> None:
    visitor = client(served, tmp_path / "downloads")
    path = tmp_path / "mine.json"
    Scene.create("van", num_frames=16, speed=np.linspace(0, 15, 16), weather="snow", one_way=True).save(path)
    drawing, rig, seconds, _, weather, *others = visitor.predict(
        rig_file=gradio_client.handle_file(path), api_name="/read_file"
    )
    drawing = drawing.get("value", drawing)
    assert drawing["speed"] == pytest.approx([0, 15])
    assert (rig, seconds, weather, others) == (FILE_RIG, 1.6, "snow", ["", True, ""])
    uploaded = gradio_client.handle_file(path)
    files = visitor.predict(**asked(drawing=drawing, rig=rig, rig_file=uploaded), api_name="/generate")[1]
    assert Scene.load(files[2]).rig.names == named_rig("van").names
    path.write_text("{}")
    with pytest.raises(Exception, match="expected a scene or a rig as JSON"):
        visitor.predict(rig_file=gradio_client.handle_file(path), api_name="/read_file")


def test_the_examples_of_the_page_about_it(served: Served, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "app.md").read_text()
    from_a_program, without_a_page = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {}
    code = from_a_program.replace('"http://127.0.0.1:7860"', f"{served.address!r}, download_files={str(tmp_path)!r}")
    assert code != from_a_program
    exec(code, names)
    scene = Scene.load(names["files"][2])
    assert scene.metadata["weather"] == "snow"
    np.testing.assert_allclose(scene.speed, np.linspace(12, 6, 8))
    exec(without_a_page, names)
    assert names["again"].to_scene().num_frames == 16
    assert names["again"].speed == pytest.approx(names["form"].speed)


def test_nothing_outside_of_the_upload_folder_is_read(served: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    Scene.create("front", num_frames=8).save(secret)
    for path in (secret, Path("/etc/passwd"), Path("pyproject.toml").resolve()):
        assert call(served, "GET", f"/gradio_api/file={quote(str(path))}")[0] in (403, 404)
        inside = f"{served.studio.folder}/../{secret.name}"
        assert call(served, "GET", f"/gradio_api/file={quote(inside)}")[0] in (403, 404)
        file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
        status, answer = post(served, "/gradio_api/call/read_file", {"data": [file]})
        assert status == 200
        event = json.loads(answer)["event_id"]
        said = call(served, "GET", f"/gradio_api/call/read_file/{event}")[1].decode()
        assert "event: error" in said
        assert "timestamps" not in said


def test_nothing_is_fetched_for_a_visitor(served: Served) -> None:
    file = {"path": "https://example.invalid/scene.json", "meta": {"_type": "gradio.FileData"}}
    for name, data in (("read_file", [file]), ("show_source", [[file], "front", None])):
        event = json.loads(post(served, f"/gradio_api/call/{name}", {"data": data})[1])["event_id"]
        said = call(served, "GET", f"/gradio_api/call/{name}/{event}")[1].decode()
        assert "file: expected an upload, got an address; upload the file" in said


def test_only_this_machine_reaches_it(served: Served) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("reads the sockets of Linux")
    port = f"{urlsplit(served.address).port:04X}"
    listening = [
        line.split()[1] for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]  # fmt: skip
    assert [address for address in listening if address.endswith(f":{port}")] == [f"0100007F:{port}"]
