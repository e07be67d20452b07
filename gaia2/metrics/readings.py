"""What judges and measures read off one clip. Nothing of what the scene asked for goes in but the rig and the time.

Axes: tv video frames, tm frames that are judged, n cameras, hv wv pixels, y x parts of a picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from einops import rearrange

from gaia2.data.rendered import MASK_STRIDE
from gaia2.metrics.corner_tracks import corner_survival, frame_change
from gaia2.metrics.detail_judge import DetailVerdict, clip_details
from gaia2.metrics.ego_motion import measure_ego_motion
from gaia2.metrics.fvmd import FrechetVideoMotionDistance
from gaia2.metrics.ground_judge import street_evidence
from gaia2.metrics.ground_view import GroundCameras
from gaia2.metrics.judge_pictures import AGENTS
from gaia2.metrics.judge_training import TrainedJudge
from gaia2.metrics.sharpness import seam_ratio
from gaia2.metrics.view_agreement import view_agreement
from gaia2.scene import CameraRig

READING_VERSION = 6
"""Changes when readings hold something else, so that those of an earlier version are not taken up."""
SEGMENT, SEGMENT_STRIDE = 16, 4
"""Frames whose motion is one sample of FVMD, and frames from the beginning of one to that of the next."""
SPAN = 8
"""Frames over which corners are followed."""
_SHOWS = 1.0
"""Evidence (nats, above the mean of the values) from which on a picture has a vote."""

Reading = dict[str, torch.Tensor]
"""Tensors by name: `agents (tm, n, categories, y, x)` probabilities; `label NAME (values,)` evidence of the clip for
each value; `number NAME (n,)`; `speed`, `curvature` (m/s and 1/m, means over the clip); `features (tm n, d)`;
`motion (s, d)`, histograms of motion for FVMD; `seam`; `views`, agreement of cameras; `corners`, share that can be
followed; `change` from frame to frame."""


def judged_frames(num_frames: int) -> slice:
    """Frames that are judged: those that have masks."""
    return slice(MASK_STRIDE // 2, num_frames, MASK_STRIDE)


@torch.no_grad()
def read_clip(
    judge: TrainedJudge,
    extractor: Callable[[torch.Tensor], torch.Tensor],
    frames: torch.Tensor,
    rig: CameraRig,
    times: np.ndarray,
    *,
    frames_per_latent: int = 8,
) -> Reading:
    """Read a clip.

    Args:
        judge: With the priors of its labels: evidence is relative to them, so that pictures that show nothing of a
            label do not vote.
        extractor: Images `(i, 3, hv, wv)` to features `(i, d)`.
        frames: `(tv, n, 3, hv, wv)` uint8.
        rig: The cameras.
        times: `(tv,)` seconds.
        frames_per_latent: Frames between the borders at which seams are looked for.
    """
    shown = frames[judged_frames(len(frames))]
    tm, n = shown.shape[:2]
    flat = rearrange(shown, "t n c h w -> (t n) c h w")
    verdicts = [judge.judge(part.float() / 255).float() for part in flat.split(32)]
    classes = torch.cat([v.classes for v in verdicts]).softmax(dim=1)
    reading: Reading = {"agents": rearrange(classes[:, AGENTS], "(t n) k y x -> t n k y x", n=n).half()}
    for name, prior in judge.priors.items():
        told = torch.cat([v.labels[name] for v in verdicts]).log_softmax(dim=-1)
        reading[f"label {name}"] = _votes(told - prior) + prior
    reading |= {f"label {name}": evidence for name, evidence in _street_labels(judge, shown, rig).items()}
    for name in judge.judge.number_scales:
        told = torch.cat([v.numbers[name] for v in verdicts])
        reading[f"number {name}"] = rearrange(told, "(t n) -> t n", t=tm).mean(dim=0)
    motion = measure_ego_motion(frames, rig, times)
    weight = motion.speed.sum()
    reading["speed"] = torch.tensor(float(motion.speed.mean()))
    reading["curvature"] = torch.tensor(motion.curvature if weight > 0 else float("nan"))
    reading["features"] = extractor(flat)
    video = rearrange(frames, "t n c h w -> n c t h w").float()
    reading["views"] = torch.tensor(view_agreement(shown, rig))
    reading["seam"] = seam_ratio(video, frames_per_latent).mean()
    motions = FrechetVideoMotionDistance(segment_frames=min(SEGMENT, len(frames) // 4 * 4), stride=SEGMENT_STRIDE)
    views = rearrange(frames, "t n c h w -> n t c h w")
    reading["motion"] = motions.features(views)
    reading["corners"] = torch.tensor(
        [corner_survival(view, span=min(SPAN, len(view) - 1)) for view in views]
    ).nanmean()
    reading["change"] = torch.tensor(frame_change(frames))
    return reading


def _street_labels(judge: TrainedJudge, shown: torch.Tensor, rig: CameraRig) -> dict[str, torch.Tensor]:
    """Evidence of a clip `(tm, n, 3, hv, wv)` for what small things and the ground tell, `(values,)` by name."""
    pictures = shown.float() / 255
    cameras = GroundCameras(rig, (shown.shape[-2], shown.shape[-1]))
    labels = street_evidence(judge.ground.both_ways(cameras.see(pictures)), cameras.pixels)
    told = [judge.details(part) for part in pictures.flatten(0, 1).split(32)]
    verdict = DetailVerdict(
        torch.cat([v.things for v in told]),
        {name: torch.cat([v.values[name] for v in told]) for name in told[0].values},
    )
    return labels | clip_details(verdict)


def _votes(evidence: torch.Tensor) -> torch.Tensor:
    """Sum of the evidence `(i, values)` of pictures that show something of a label; a little of it is noise."""
    centred = evidence - evidence.mean(dim=1, keepdim=True)
    return (centred * (centred.abs().amax(dim=1, keepdim=True) > _SHOWS)).sum(dim=0)
