"""Video files: what is written comes back, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from gaia2.video.files import VideoWriter, read_video, write_video


def moving_picture(num_frames: int = 12, height: int = 64, width: int = 96) -> np.ndarray:
    """Smooth, faintly coloured waves that move, with a red block: ``(tv, h, w, 3)`` uint8."""
    t, y, x = np.meshgrid(np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij")
    colours = np.stack([np.sin(x / 9 + t / 3), np.cos(y / 7 - t / 4), np.sin((x + y) / 11 + t / 5)], axis=-1)
    frames = (127.5 + 80 * np.sin(x / 5 - y / 8 + t / 4)[..., None] + 25 * colours).astype(np.uint8)
    frames[:, 8:24, 16:40] = (230, 40, 60)
    return frames


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize("frame_rate", [10.0, 24.0, 30000 / 1001, 12.5])
def test_round_trip(tmp_path: Path, frame_rate: float) -> None:
    frames = moving_picture()
    write_video(tmp_path / "new folder" / "a.mp4", frames, frame_rate)
    back, rate = read_video(tmp_path / "new folder" / "a.mp4")
    assert back.shape == frames.shape
    assert rate == pytest.approx(frame_rate, rel=1e-6)
    assert psnr(back, frames) > 36
    np.testing.assert_allclose(back[:, 12:20, 22:34].mean((0, 1, 2)), (230, 40, 60), atol=3)
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["a.mp4"]


def test_every_player_can_show_it(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_picture(), 10.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, int(context.colorspace)) == ("h264", "yuv420p", 1)


def test_odd_sizes_are_padded_with_the_edge(tmp_path: Path) -> None:
    frames = np.zeros((4, 33, 47, 3), dtype=np.uint8)
    frames[:, :, -2:] = 200
    write_video(tmp_path / "a.mp4", frames, 10.0, quality=1)
    back, _ = read_video(tmp_path / "a.mp4")
    assert back.shape == (4, 34, 48, 3)
    assert back[:, :, -1].mean() > 190


def test_window(tmp_path: Path) -> None:
    frames = np.repeat(np.arange(10, 250, 20, dtype=np.uint8), 32 * 32 * 3).reshape(12, 32, 32, 3)
    write_video(tmp_path / "a.mp4", frames, 8.0)
    back, _ = read_video(tmp_path / "a.mp4", start=3, num_frames=4)
    np.testing.assert_allclose(back.mean((1, 2, 3)), [70, 90, 110, 130], atol=2)
    assert len(read_video(tmp_path / "a.mp4", start=7)[0]) == 5


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"path: expected a video file, found none at .*nothing\.mp4"):
        read_video(tmp_path / "nothing.mp4")


@pytest.mark.parametrize("content", [b"", b"this is not a video", b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 40])
def test_unreadable_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.mp4: expected a video, got a file that cannot be read as one"):
        read_video(tmp_path / "a.mp4")


def test_truncated_file(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_picture(), 10.0)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match=r"a\.mp4"):
        read_video(tmp_path / "a.mp4", num_frames=12)


def test_sound_only(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(ValueError, match="expected a video, got a file without one"):
        read_video(tmp_path / "a.wav")


def test_too_few_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_picture(), 10.0)
    with pytest.raises(ValueError, match="expected at least 13 frames, got 12"):
        read_video(tmp_path / "a.mp4", start=5, num_frames=8)
    with pytest.raises(ValueError, match=r"(start|num_frames): expected a whole number"):
        read_video(tmp_path / "a.mp4", num_frames=0)


def test_bad_frames_write_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected \(tv, h, w, 3\) uint8, got .* float64"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3)), 10.0)
    with pytest.raises(ValueError, match="frame_rate: expected a positive number"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3), dtype=np.uint8), 0.0)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", moving_picture(), 10.0)
    before = (tmp_path / "a.mp4").read_bytes()

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr(av.VideoFrame, "from_ndarray", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        write_video(tmp_path / "a.mp4", moving_picture(), 10.0)
    assert (tmp_path / "a.mp4").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_pieces_make_the_same_file_as_the_whole(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 15, 21, 3), dtype=np.uint8)
    write_video(tmp_path / "whole.mp4", frames, 10.0)
    with VideoWriter(tmp_path / "new" / "pieces.mp4", 10.0) as video:
        for part in np.split(frames, [1, 5, 5]):
            video.write(part)
            assert not (tmp_path / "new" / "pieces.mp4").exists()
    whole, pieces = (read_video(tmp_path / name)[0] for name in ("whole.mp4", "new/pieces.mp4"))
    np.testing.assert_array_equal(whole, pieces)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["pieces.mp4"]


@pytest.mark.parametrize("written", [0, 4])
def test_nothing_is_left_of_a_video_that_fails(tmp_path: Path, written: int) -> None:
    def write() -> None:
        with VideoWriter(tmp_path / "a.mp4", 10.0) as video:
            video.write(np.zeros((written, 16, 16, 3), dtype=np.uint8))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_or_of_two_sizes_is_refused(tmp_path: Path) -> None:
    def write(*widths: int) -> None:
        with VideoWriter(tmp_path / "a.mp4", 5.0) as video:
            for width in widths:
                video.write(np.zeros((1, 16, width, 3), dtype=np.uint8))

    with pytest.raises(ValueError, match="expected at least one frame, got none"):
        write()
    with pytest.raises(
        ValueError, match=r"frames: expected the size of those before, \(16, 16, 3\), got \(16, 18, 3\)"
    ):
        write(16, 18)
    assert list(tmp_path.iterdir()) == []
