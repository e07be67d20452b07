"""The page itself: gradio's controls around the drawing, the player and the painter."""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from gaia2.app.drawn_agents import SIZES
from gaia2.app.form import Form
from gaia2.app.results import Result
from gaia2.app.studio import ABSENT, FILE_RIG, Progress, Studio, sight
from gaia2.app.worker import Cancelled
from gaia2.scene import AGENT_CATEGORIES, RIG_NAMES, CameraRig, named_rig
from gaia2.scene.vocabulary import METADATA_MEANINGS
from gaia2.viz.overlay import CATEGORY_COLOURS

STATIC = Path(__file__).parent / "static"
COLOURS = ["#" + bytes(colour.tolist()).hex() for colour in CATEGORY_COLOURS]
AT_ONCE = 32  # visitors that wait for the model; gradio's queue holds the others
VIDEOS = [".mp4", ".mov", ".mkv", ".webm"]


def panel(name: str, value: Any, **options: Any) -> gr.HTML:
    """A part of the page with a script of its own, whose value is JSON.

    Args:
        name: Of its files in `static`.
        value: Its first value.
        **options: `elem_id`, and the properties that its script reads.
    """
    files = {kind: (STATIC / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    made = gr.HTML(
        value,
        html_template=files["html"],
        css_template=files["css"],
        js_on_load=files["js"],
        apply_default_css=False,
        **options,
    )
    made.api_info = lambda: {"type": {}, "description": "JSON"}  # a subclass would have a file written beside this one
    return made


def uploads_only(file: gr.File) -> gr.File:
    """Let a part take uploaded files only; gradio would fetch an address of the web that is handed in as one."""
    move = file.async_move_resource_to_block_cache

    async def moved(path: str | Path | None) -> str | None:
        if "://" in str(path):
            raise _error(ValueError("file: expected an upload, got an address; upload the file"))
        return await move(path)

    file.async_move_resource_to_block_cache = moved
    return file


class Page:
    """Builds the page of a studio.

    Args:
        studio: What does the work.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        with gr.Blocks(title="gaia2", analytics_enabled=False, fill_width=True) as self.blocks:
            gr.Markdown("## gaia2: draw a scene, and let the model film it")
            with gr.Row():
                with gr.Column(scale=2, min_width=600):
                    self._draw_scene()
                    self._draw_tasks()
                    self._draw_results()
                with gr.Column(scale=1, min_width=320):
                    self._draw_conditions()
        self.scene = {
            "drawing": self.drawing,
            "rig": self.rig,
            "rig_file": self.rig_file,
            "seconds": self.seconds,
            "prompt": self.prompt,
            "steps": self.steps,
            "guidance": self.guidance,
            "seed": self.seed,
            **self.metadata,
        }
        with self.blocks:
            self._connect()

    def _draw_scene(self) -> None:
        form = Form()
        self.drawing = panel(
            "scene_editor",
            form.drawing(),
            elem_id="drawing",
            **self._drawing_options(named_rig("surround"), self._standard_seconds()),
        )

    def _drawing_options(self, rig: CameraRig, seconds: float) -> dict[str, Any]:
        """What the script of the drawing reads; all of it has to come with each change of one."""
        known = self.studio.pipe.transformer.config.agent_categories or AGENT_CATEGORIES
        kinds = {
            name: {"colour": colour, "size": SIZES[name]}
            for name, colour in zip(AGENT_CATEGORIES, COLOURS, strict=True)
            if name in known
        }
        most = self.studio.pipe.transformer.config.max_agents
        return {"seconds": seconds, "cameras": sight(rig), "categories": kinds, "most": most}

    def _standard_seconds(self) -> float:
        window = self.studio.pipe.transformer.config.window_latents
        return round(min(window * self.studio.latent_seconds, self.studio.limits.seconds), 3)

    def _draw_conditions(self) -> None:
        step = round(self.studio.latent_seconds, 3)
        self.rig = gr.Dropdown([*RIG_NAMES, FILE_RIG], value="surround", label="Camera rig", elem_id="rig")
        self.rig_file = uploads_only(
            gr.File(label="Rig or scene file", file_types=[".json"], type="filepath", height=120, elem_id="rig_file")
        )
        self.seconds = gr.Slider(
            step,
            self.studio.limits.seconds,
            value=self._standard_seconds(),
            step=step,
            label="Seconds",
            elem_id="seconds",
        )
        self.metadata = {}
        with gr.Row():
            for name, values in self.studio.metadata.items():
                options = [("left to the model", ABSENT), *((_words(value), value) for value in values)]
                label = METADATA_MEANINGS.get(name, name).rstrip(".")
                self.metadata[name] = gr.Dropdown(options, value=ABSENT, label=label, elem_id=name, min_width=200)
        knows_words = self.studio.pipe.text_encoder is not None
        self.prompt = gr.Textbox(label="Prompt", value="", visible=knows_words)
        with gr.Accordion("How to sample"):
            most = self.studio.limits.steps
            self.steps = gr.Slider(1, most, value=min(20, most), step=1, label="Steps", elem_id="steps")
            own = self.studio.pipe.config.default_guidance_scale
            self.guidance = gr.Slider(
                0, max(10, own), value=own, step=0.1, label="Guidance; 1 is none, others take twice the time"
            )
            self.seed = gr.Number(0, precision=0, label="Seed of the noise")

    def _draw_tasks(self) -> None:
        self.tasks: dict[str, tuple[gr.Button, dict[str, Any]]] = {}
        window = self.studio.pipe.transformer.config.window_latents
        with gr.Tabs():
            with gr.Tab("Scratch"):
                gr.Markdown("Make the scene from noise.")
                self._task("generate", "Generate", {})
            with gr.Tab("Continue"):
                gr.Markdown("Go on from the end of the source, which becomes the beginning of the video.")
                most = max(1, window - 1)
                context = gr.Slider(1, max(2, most), value=1, step=1, label="Latents to take from the source")
                self._task("continue", "Continue", {"source": None, "context": context})
            with gr.Tab("Inpaint"):
                self.mask = panel("mask_painter", {}, elem_id="mask", pictures=[], grid=list(self.studio.grid))
                agents = gr.Checkbox(False, label="Make the places of all drawn agents again, too")
                self._task("inpaint", "Inpaint", {"source": None, "mask": self.mask, "agents": agents})
            with gr.Tab("Edit"):
                gr.Markdown("Change the source to obey the scene.")
                strength = gr.Slider(0, 1, value=0.7, step=0.05, label="Strength; 0 keeps the source, 1 forgets it")
                self._task("edit", "Edit", {"source": None, "strength": strength})
        with gr.Accordion("Source of continue, inpaint and edit: one video a camera", open=False):
            self.source = uploads_only(
                gr.File(
                    label="Files whose names end with a camera's, or in the order of the rig",
                    file_count="multiple",
                    file_types=VIDEOS,
                    type="filepath",
                    elem_id="source",
                )
            )
        for _, own in self.tasks.values():
            if "source" in own:
                own["source"] = self.source

    def _task(self, name: str, label: str, own: dict[str, Any]) -> None:
        self.tasks[name] = (gr.Button(label, variant="primary", elem_id=f"do_{name}"), own)

    def _draw_results(self) -> None:
        with gr.Row():
            self.status = gr.HTML("", elem_id="status")
            self.cancel = gr.Button("Cancel", size="sm", scale=0, elem_id="cancel")
        self.player = panel("player", None, elem_id="player", colours=COLOURS)
        self.files = uploads_only(gr.File(label="Download", file_count="multiple", interactive=False, elem_id="files"))
        self.take_last = gr.Button(
            "Take it as the source of continue, inpaint and edit", size="sm", elem_id="take_last"
        )

    def _connect(self) -> None:
        redraw = {"inputs": [self.rig, self.rig_file, self.seconds], "outputs": [self.drawing]}
        gr.on([self.rig.change, self.seconds.change], self._redrawn, **redraw, api_name="draw", show_progress="hidden")
        self.rig_file.upload(
            self._read_file,
            [self.rig_file],
            [self.drawing, self.rig, self.seconds, self.prompt, *self.metadata.values()],
            api_name="read_file",
        )
        self.source.change(
            self._show_source,
            [self.source, self.rig, self.rig_file],
            [self.mask],
            api_name="show_source",
            show_progress="hidden",
        )
        self.take_last.click(_cameras_of, [self.files], [self.source], api_visibility="private")
        for name, (button, own) in self.tasks.items():
            controls = {**self.scene, **own}
            button.click(
                self._named(partial(self._run, name, list(controls)), list(controls)),
                list(controls.values()),
                [self.player, self.files, self.status],
                api_name=name,
                concurrency_limit=AT_ONCE,
                concurrency_id="model",
                show_progress="hidden",
            )
        self.cancel.click(self._cancel, None, None, api_name="cancel", show_progress="hidden", queue=False)

    def _named(self, function: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
        """A function whose arguments the page's interface calls by the names of the controls."""

        def called(request: gr.Request, *values: Any) -> Iterator[Any]:
            yield from function(request, values)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter("request", kind, annotation=gr.Request)]
        parameters += [inspect.Parameter(name, kind) for name in names]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {"request": gr.Request}
        return called

    def _run(self, name: str, names: list[str], request: gr.Request, values: tuple[Any, ...]) -> Iterator[Any]:
        """Do a task; yields what player, downloads and status become."""
        given = dict(zip(names, values, strict=True))
        given["metadata"] = {name: given.pop(name) for name in self.metadata}
        try:
            for progress in self.studio.run(str(request.session_hash), name, given):
                if progress.result is None:
                    yield gr.skip(), gr.skip(), _bar(progress)
                else:
                    yield (*_shown(progress.result), _ready(progress))
        except Cancelled:
            yield gr.skip(), gr.skip(), "<p>Cancelled.</p>"
        except (ValueError, OSError, RuntimeError, MemoryError) as error:  # torch has no memory left: a RuntimeError
            raise _error(error) from error

    def _cancel(self, request: gr.Request) -> None:
        """Cancel what the visitor has under way, which then says so itself."""
        if not self.studio.cancel(str(request.session_hash)):
            gr.Info("Nothing to cancel.")

    def _redrawn(self, rig: str, rig_file: str | None, seconds: float) -> Any:
        try:
            return gr.update(**self._drawing_options(self.studio.rig_of(rig, rig_file), seconds))
        except ValueError as error:
            raise _error(error) from error

    def _read_file(self, rig_file: str) -> tuple[Any, ...]:
        """What the controls become with an uploaded rig or scene."""
        try:
            rig, form = self.studio.form_of_file(rig_file)
        except (ValueError, OSError) as error:
            raise _error(error) from error
        if form is None:
            update = gr.update(**self._drawing_options(rig, self._standard_seconds()))
            return (update, FILE_RIG, self._standard_seconds(), *[gr.skip()] * (1 + len(self.metadata)))
        latents = max(1, round(form.num_frames / self.studio.pipe.vae.frames_per_latent))
        seconds = round(latents * self.studio.latent_seconds, 3)
        drawing = gr.update(value=form.drawing(), **self._drawing_options(rig, seconds))
        metadata = [form.metadata.get(name, ABSENT) for name in self.metadata]
        return (drawing, FILE_RIG, seconds, form.prompt, *metadata)

    def _show_source(self, source: list[str] | None, rig: str, rig_file: str | None) -> Any:
        try:
            pictures = self.studio.pictures_of(source, {"rig": rig, "rig_file": rig_file})
        except (ValueError, OSError) as error:
            raise _error(error) from error
        return gr.update(value={}, pictures=pictures, grid=list(self.studio.grid))


def _error(error: Exception) -> gr.Error:
    """What was wrong, in the page; the message may hold words of the visitor's."""
    message = html.escape(" ".join(str(error).split()), quote=False)
    return gr.Error(message, duration=None, title="Not possible", print_exception=False)


def _bar(progress: Progress) -> str:
    if progress.ahead:
        return f"<p>Waiting; {progress.ahead} before you.</p>"
    words = f"Step {progress.done} of {progress.steps}"
    return f"<p>{words} <progress max='{max(1, progress.steps)}' value='{progress.done}'></progress></p>"


def _ready(progress: Progress) -> str:
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in progress.notes)
    return f"<p>Ready.</p>{notes}"


def _shown(result: Result) -> tuple[Any, ...]:
    """What player and downloads become."""
    return {**result.tiles, "video": str(result.video)}, [str(path) for path in result.files]


def _cameras_of(files: list[str] | None) -> list[str] | None:
    """The videos of the cameras among the downloads, which have them last; see `Result.files`."""
    if not files:
        raise _error(ValueError("source: expected a result to take, got none; generate one first"))
    return files[3:]


def _words(value: Any) -> str:
    """A metadata value for people."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value).replace("_", " ")
