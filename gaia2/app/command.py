"""The command `gaia2 app`: its options, and the server."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaia2._checks import real_number, whole_number
from gaia2._options import check_model, choose_device

if TYPE_CHECKING:
    from gaia2.app.studio import Studio
    from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline

MAX_UPLOAD = "200mb"
MAX_QUEUE = 256


@dataclass(frozen=True)
class App:
    """Serve a page on which one draws a scene and has it filmed; needs the extra `app`."""

    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines in, and everybody who reaches it may use the model."""
    port: int = 7860
    """Port to listen at."""
    model: str | None = None
    """Folder or hub id of a pipeline; the default model if not given."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1, ... ; auto takes a GPU if there is one."""
    uploads: Path | None = None
    """Folder for uploads and results, the only one that is read; one that goes with the server if not given."""
    max_seconds: float = 9.6
    """Longest video that a visitor may ask for."""
    max_steps: int = 100
    """Most denoising steps of a window that a visitor may ask for."""
    keep_hours: float = 24.0
    """How long uploads and results are kept."""
    open_browser: bool = False
    """Open the page in a browser."""

    def check(self) -> None:
        """Raise on what is wrong with the options alone, before anything is loaded.

        Raises:
            ValueError: A number is out of range, or there is no such device or model.
            ImportError: Gradio is not installed.
        """
        choose_device(self.device)
        if self.model is not None:
            check_model(self.model)
        whole_number("--port", self.port, 1, 65_535)
        real_number("--max-seconds", self.max_seconds, 0.1, 3600, what="seconds")
        whole_number("--max-steps", self.max_steps, 1, 1000)
        real_number("--keep-hours", self.keep_hours, above=0, what="hours")
        if importlib.util.find_spec("gradio") is None:
            raise ImportError('gaia2 app: expected gradio, which is not installed; pip install "gaia2[app]"')

    def run(self, load: Callable[[], Gaia2Pipeline]) -> None:
        """Serve until the process is interrupted.

        Args:
            load: Loads the model.

        Raises:
            ValueError: As `check`.
        """
        self.check()
        with serving(load(), self) as served:
            print(f"gaia2 app: {served.address}; stop with Ctrl+C", flush=True)
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                print("gaia2 app: stopped")


@dataclass(frozen=True)
class Served:
    """A page that is there.

    Attributes:
        address: Where.
        studio: What works behind it.
    """

    address: str
    studio: Studio


@contextmanager
def serving(pipe: Gaia2Pipeline, options: App) -> Iterator[Served]:
    """Serve a model while the block runs.

    Args:
        pipe: The model.
        options: How; `model` and `device` are not used.

    Yields:
        Where the page is, and what is behind it.

    Raises:
        OSError: If the port is taken.
    """
    with uploads(options.uploads) as folder:
        import gradio as gr

        from gaia2.app.page import Page
        from gaia2.app.studio import Limits, Studio

        limits = Limits(options.max_seconds, options.max_steps, keep_hours=options.keep_hours)
        studio = Studio(pipe, folder, limits)
        blocks = Page(studio).blocks.queue(max_size=MAX_QUEUE)
        try:
            launched: Any = blocks.launch(
                server_name=options.host,
                server_port=options.port,
                inbrowser=options.open_browser,
                prevent_thread_lock=True,
                max_file_size=MAX_UPLOAD,
                allowed_paths=[],
                theme=gr.themes.Default(),
                share=False,
                mcp_server=False,
                ssr_mode=False,
                enable_monitoring=False,
                footer_links=["api"],
                quiet=True,
            )
            yield Served(launched[1], studio)
        finally:
            studio.close()
            blocks.close(verbose=False)


@contextmanager
def uploads(folder: Path | None) -> Iterator[Path]:
    """The upload folder, which gradio is told of; a temporary one goes at the end."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="gaia2-app-", ignore_cleanup_errors=True) as own:
        root = Path(os.path.realpath(own if folder is None else folder))
        root.mkdir(parents=True, exist_ok=True)
        os.environ["GRADIO_TEMP_DIR"] = str(root)
        try:
            yield root
        finally:
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before
