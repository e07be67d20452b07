"""Agreement of agents in video with the 3D boxes that were asked for: IoU of each class (paper §6.2, Dynamic Agents).

Axes: tv video frames, n cameras, hv wv pixels, m boxes, k categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange

from gaia2.conditioning.lens import image_rays, lens_limit
from gaia2.metrics.extractors import weights_of
from gaia2.scene import AGENT_CATEGORIES, DISTORTION_MODELS, Scene

CITYSCAPES = {
    "person": "pedestrian",
    "rider": "bicycle",
    "car": "car",
    "truck": "truck",
    "bus": "bus",
    "motorcycle": "motorcycle",
    "bicycle": "bicycle",
}
"""Agent category of the classes of Cityscapes that are agents; a rider counts as what is ridden."""


@dataclass(frozen=True)
class AgentIoU:
    """Pixels that are both asked for and seen, and that are either, of each category. Parts add up to the whole.

    Attributes:
        intersection: `(k,)` int64.
        union: `(k,)` int64.
    """

    intersection: torch.Tensor
    union: torch.Tensor

    def __add__(self, other: AgentIoU) -> AgentIoU:
        """Both together."""
        return AgentIoU(self.intersection + other.intersection, self.union + other.union)

    @property
    def per_class(self) -> dict[str, float]:
        """IoU by category, of those that are asked for or seen."""
        pairs = zip(AGENT_CATEGORIES, self.intersection.tolist(), self.union.tolist(), strict=True)
        return {name: both / either for name, both, either in pairs if either}

    @property
    def mean(self) -> float:
        """Mean over the categories that are asked for or seen; NaN if there are none."""
        values = list(self.per_class.values())
        return sum(values) / len(values) if values else float("nan")


def agent_iou(seen: torch.Tensor, scene: Scene, depth: torch.Tensor | None = None) -> AgentIoU:
    """Compare class masks of a video with the scene's boxes.

    Args:
        seen: `(tv, n, hv, wv)` integer, index of `AGENT_CATEGORIES` of each pixel, -1 for anything else: of the video's
            frames, by a segmentation network or a renderer.
        scene: What was asked for, its rig at the size of the masks.
        depth: `(tv, n, hv, wv)` metres along the viewing ray to what stands in front; where that is nearer than a box,
            the box is not expected. Without it only boxes hide boxes.

    Raises:
        ValueError: If the masks do not fit the scene, are no categories, or are empty.

    Example:
        >>> from gaia2.scene import Agents
        >>> ahead = Agents(boxes=[[[12.0, 0.0, 0.8, 4.5, 1.9, 1.6, 0.0]]] * 2, category=[[0]] * 2)
        >>> scene = Scene.create("front", num_frames=2, agents=ahead)
        >>> scene = scene.replace(rig=scene.rig.fit(image_size=(64, 128)))
        >>> agent_iou(box_masks(scene), scene).per_class
        {'car': 1.0}
    """
    _check(seen, scene, depth)
    asked, distance = _cast(scene)
    if depth is not None:
        asked = torch.where(depth < distance - 0.5, -1, asked)
    both, either = [], []
    for category in range(len(AGENT_CATEGORIES)):
        one, two = asked == category, seen == category
        both.append((one & two).sum())
        either.append((one | two).sum())
    return AgentIoU(torch.stack(both).cpu(), torch.stack(either).cpu())


def box_masks(scene: Scene) -> torch.Tensor:
    """The category of the box that each pixel sees first, `(tv, n, hv, wv)` int64; -1 where it sees none.

    Every pixel's viewing ray is cut with every box, so that lens distortion, boxes beside and behind the camera, and
    boxes that hide others come out right. Boxes with an unknown place or size are left out; an unknown yaw is 0.

    Args:
        scene: Its rig at the size of the masks, all cameras alike.
    """
    return _cast(scene)[0]


def _check(seen: torch.Tensor, scene: Scene, depth: torch.Tensor | None) -> None:
    sizes = {(int(h), int(w)) for h, w in scene.rig.image_size}
    want = (scene.num_frames, scene.rig.num_cameras, *min(sizes))
    if len(sizes) > 1 or tuple(seen.shape) != want:
        raise ValueError(
            f"masks: expected (tv, n, hv, wv) = {want}, as the scene has frames, cameras and pixels, got "
            f"{tuple(seen.shape)}; use scene.window and rig.fit"
        )
    if seen.is_floating_point() or seen.dtype == torch.bool:
        raise ValueError(
            f"masks: expected whole numbers, got {seen.dtype}; give the category of each pixel, -1 for none"
        )
    if not seen.numel() or int(seen.max()) >= len(AGENT_CATEGORIES) or int(seen.min()) < -1:
        raise ValueError(
            f"masks: expected categories from -1 (none) to {len(AGENT_CATEGORIES) - 1}, got "
            f"{'no pixels' if not seen.numel() else f'{int(seen.min())} to {int(seen.max())}'}; uint8 has no -1, use "
            "int64"
        )
    if depth is not None and depth.shape != seen.shape:
        raise ValueError(f"depth: expected the axes of the masks, {tuple(seen.shape)}, got {tuple(depth.shape)}")


def _cast(scene: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """Category and distance (metres) of the first box on each pixel's ray, `(tv, n, hv, wv)`."""
    height, width = (int(v) for v in scene.rig.image_size[0])
    origin, ray = _rays(scene, height, width)
    boxes = torch.tensor(scene.agents.boxes)
    category = torch.tensor(scene.agents.category)
    known = (category >= 0) & boxes[..., :6].isfinite().all(dim=-1)
    shape = (scene.num_frames, scene.rig.num_cameras, height, width)
    nearest, found = torch.full(shape, torch.inf), torch.full(shape, -1)
    for row in range(boxes.shape[1]):  # box by box, so that memory does not grow with their number
        entry = _entry(boxes[:, row].float(), origin, ray)
        entry = torch.where(known[:, row, None, None], entry, torch.inf).unflatten(-1, (height, width))
        nearer = entry < nearest
        nearest = torch.where(nearer, entry, nearest)
        found = torch.where(nearer, category[:, row, None, None, None], found)
    return found, nearest


def _rays(scene: Scene, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Place `(n, 3)` of the cameras and direction `(n, hv wv, 3)` of their pixels, unit vectors in the ego frame."""
    rig = scene.rig
    matrix, pose = torch.tensor(rig.intrinsics).float(), torch.tensor(rig.extrinsics).float()
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    model = torch.tensor([DISTORTION_MODELS.index(name) for name in rig.distortion_model])
    _, ideal, seen = lens_limit(torch.tensor(rig.distortion).float(), model)
    ray = image_rays(torch.stack([x.flatten(), y.flatten()], dim=-1), matrix, ideal, seen)
    ray = torch.einsum("nij,npj->npi", pose[:, :3, :3], ray)
    return pose[:, :3, 3], ray / ray.norm(dim=-1, keepdim=True)


def _entry(box: torch.Tensor, origin: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
    """Distance `(tv, n, p)` at which rays enter a box `(tv, 7)`; infinite where they miss it."""
    yaw = box[:, 6].nan_to_num(0.0)
    cos, sin = yaw.cos(), yaw.sin()
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    turn = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], dim=-1).unflatten(-1, (3, 3))
    start = torch.einsum("tij,tnj->tni", turn, origin - box[:, None, :3])[:, :, None]
    step = torch.einsum("tij,npj->tnpi", turn, ray)
    step = torch.where(step.abs() < 1e-9, 1e-9, step)
    half = box[:, None, None, 3:6] / 2
    a, b = (-half - start) / step, (half - start) / step
    near, far = torch.minimum(a, b).amax(dim=-1), torch.maximum(a, b).amin(dim=-1)
    return torch.where((near <= far) & (far > 0), near.clamp(min=0), torch.inf)


class OneFormerSegmenter:
    """Agent masks of a OneFormer (Jain et al. 2023) trained on Cityscapes, the paper's judge of agents.

    Args:
        model: A `transformers.OneFormerForUniversalSegmentation`; "shi-labs/oneformer_cityscapes_swin_large" by
            default.
        processor: Its `transformers.OneFormerProcessor`.
        classes: Agent category by the model's class name; other classes are no agents.
        batch_size: Images at a time.

    Raises:
        OSError: If the weights are neither in the cache nor to be had.
        ValueError: If the model has none of the classes, or only one of model and processor is given.
    """

    def __init__(
        self,
        model: Any = None,
        processor: Any = None,
        *,
        classes: Mapping[str, str] = CITYSCAPES,
        batch_size: int = 4,
    ) -> None:
        if (model is None) != (processor is None):
            raise ValueError("OneFormerSegmenter: expected both model and processor, or neither; give the other, too")
        if model is None:
            from transformers import OneFormerForUniversalSegmentation, OneFormerProcessor

            name = "shi-labs/oneformer_cityscapes_swin_large"
            with weights_of(name):
                model = OneFormerForUniversalSegmentation.from_pretrained(name)
                processor = OneFormerProcessor.from_pretrained(name)
        self.model, self.processor, self.batch_size = model.eval(), processor, batch_size
        self.name = f"OneFormer {model.config._name_or_path or 'of the user'}"
        labels = {int(index): label for index, label in model.config.id2label.items()}
        self._category = torch.full((max(labels) + 1,), -1)
        for index, label in labels.items():
            if label in classes:
                self._category[index] = AGENT_CATEGORIES.index(classes[label])
        if (self._category < 0).all():
            raise ValueError(
                f"classes: expected some of the model's class names, {', '.join(list(labels.values())[:20])}, got "
                f"{', '.join(classes)}; map those that are agents to {', '.join(AGENT_CATEGORIES)}"
            )

    @torch.no_grad()
    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        """Category of each pixel, -1 for none, `(tv, n, hv, wv)` of frames `(tv, n, 3, hv, wv)` uint8."""
        tv, n, _, height, width = frames.shape
        images = rearrange(frames, "t n c h w -> (t n) h w c").cpu().numpy()
        masks = []
        for first in range(0, len(images), self.batch_size):
            part = list(images[first : first + self.batch_size])
            inputs = self.processor(images=part, task_inputs=["semantic"] * len(part), return_tensors="pt")
            outputs = self.model(**inputs.to(self.model.device))
            sizes = [(height, width)] * len(part)
            masks += self.processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
        return rearrange(self._category[torch.stack(masks).cpu()], "(t n) h w -> t n h w", t=tv)
