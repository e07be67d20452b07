"""`CameraRig`: the cameras of a vehicle, where they sit and how they project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gaia2.scene.rig_fields import (
    DISTORTION_MODELS,
    check_distortion,
    check_extrinsics,
    check_image_size,
    check_intrinsics,
    check_models,
    check_names,
)
from gaia2.scene.validation import FrozenRecord, check_keys, nearest, to_json_value

__all__ = ["DISTORTION_MODELS", "CameraRig"]


@dataclass(frozen=True, eq=False)
class CameraRig(FrozenRecord):
    """The cameras of one vehicle. Frozen, its arrays read-only.

    Pixel coordinates run from 0 at the left (top) edge of the image to its width (height) at the other edge, so the
    centre of an image of width w is w / 2 and resizing by s multiplies the intrinsics by s.

    Args:
        names: N unique camera names.
        image_size: (n, 2) int, (height, width) in pixels of each camera; one pair holds for all.
        intrinsics: (n, 3, 3), pixels of that image size, rows (fx skew cx), (0 fy cy), (0 0 1).
        extrinsics: (n, 4, 4), camera (x right, y down, z forward) to ego (x forward, y left, z up), metres.
        distortion: (n, k <= 8), padded with zeros to (n, 8). OpenCV order: pinhole k1 k2 p1 p2 k3 k4 k5 k6, fisheye
            k1 k2 k3 k4. One row holds for all cameras. Default: None.
        distortion_model: "pinhole" or "fisheye" for each camera; one string holds for all.

    Raises:
        ValueError: A shape does not fit, a value is NaN or infinite, a name occurs twice, a focal length is not
            positive, a rotation is not orthonormal (within 1e-4) with determinant +1, or a lens model is unknown.

    Example:
        >>> rig = CameraRig(
        ...     names=("front",),
        ...     image_size=(448, 960),
        ...     intrinsics=[[[700.0, 0, 480], [0, 700, 224], [0, 0, 1]]],
        ...     extrinsics=[[[0.0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]],
        ... )
        >>> rig.fit(image_size=(112, 240)).intrinsics[0, 0].tolist()
        [175.0, 0.0, 120.0]
    """

    names: tuple[str, ...]
    image_size: np.ndarray
    intrinsics: np.ndarray
    extrinsics: np.ndarray
    distortion: np.ndarray
    distortion_model: tuple[str, ...]

    def __init__(
        self,
        names: Sequence[str],
        image_size: npt.ArrayLike,
        intrinsics: npt.ArrayLike,
        extrinsics: npt.ArrayLike,
        distortion: npt.ArrayLike | None = None,
        distortion_model: str | Sequence[str] = "pinhole",
    ) -> None:
        checked_names = check_names(names)
        n = len(checked_names)
        size = check_image_size(image_size, n)
        models = check_models(distortion_model, checked_names)
        self._set(
            names=checked_names,
            image_size=size,
            intrinsics=check_intrinsics(intrinsics, checked_names, size),
            extrinsics=check_extrinsics(extrinsics, checked_names),
            distortion=check_distortion(distortion, models, checked_names),
            distortion_model=models,
        )

    def __repr__(self) -> str:
        sizes = [f"{name} {height}x{width}" for name, (height, width) in zip(self.names, self.image_size, strict=True)]
        return f"CameraRig({', '.join(sizes)})"

    @property
    def num_cameras(self) -> int:
        """Number of cameras n."""
        return len(self.names)

    def replace(self, **changes: Any) -> CameraRig:
        """Return a rig with some fields changed.

        Raises:
            ValueError: A name is not a field of `CameraRig`, or the new rig is not valid.

        Example:
            >>> from gaia2.scene.named_rigs import named_rig
            >>> named_rig("front").replace(names=("dashcam",)).names
            ('dashcam',)
        """
        check_keys("CameraRig.replace", changes, (), self._values())
        return CameraRig(**{**self._values(), **changes})

    def select(self, names: str | Iterable[str]) -> CameraRig:
        """Return the rig of the named cameras, in the order asked for.

        Raises:
            ValueError: A name is not in this rig.

        Example:
            >>> from gaia2.scene.named_rigs import named_rig
            >>> named_rig("surround").select(["front_right", "front"]).names
            ('front_right', 'front')
        """
        wanted = check_names(names)
        for name in wanted:
            if name not in self.names:
                raise ValueError(
                    f"names: expected cameras of this rig, {', '.join(self.names)}, got {name!r}; did you mean "
                    f"{nearest(name, self.names)!r}?"
                )
        index = [self.names.index(name) for name in wanted]
        return CameraRig(
            names=wanted,
            image_size=self.image_size[index],
            intrinsics=self.intrinsics[index],
            extrinsics=self.extrinsics[index],
            distortion=self.distortion[index],
            distortion_model=tuple(self.distortion_model[i] for i in index),
        )

    def crop_box(self, image_size: tuple[int, int]) -> np.ndarray:
        """Return the largest centred crop of each camera that has the aspect ratio of `image_size`.

        Args:
            image_size: (height, width) in pixels that the crop will be resized to.

        Returns:
            (n, 4) float: top, left, height, width of the crop, in pixels of each camera's own image.

        Raises:
            ValueError: `image_size` is not two positive integers.

        Example:
            >>> from gaia2.scene.named_rigs import named_rig
            >>> named_rig("front").crop_box((448, 448)).tolist()  # of 448 x 960
            [[0.0, 256.0, 448.0, 448.0]]
        """
        height, width = check_image_size(image_size, 1)[0]
        size = self.image_size.astype(np.float64)
        scale = np.minimum(size[:, 0] / height, size[:, 1] / width)
        crop = scale[:, None] * np.array([height, width], dtype=np.float64)
        return np.concatenate([(size - crop) / 2, crop], axis=1)

    def fit(self, image_size: tuple[int, int]) -> CameraRig:
        """Return the rig of the same cameras with images cropped to `crop_box(image_size)` and then resized.

        The crop shifts the principal point, the resize scales the intrinsics; distortion and mounts stay.

        Args:
            image_size: (height, width) in pixels of the new images.

        Returns:
            The rig whose every camera has that size.

        Raises:
            ValueError: `image_size` is not two positive integers.

        Example:
            >>> from gaia2.scene.named_rigs import named_rig
            >>> named_rig("surround").fit(image_size=(64, 128)).image_size[0].tolist()
            [64, 128]
        """
        box = self.crop_box(image_size)
        new_size = check_image_size(image_size, self.num_cameras)
        shift = np.tile(np.eye(3), (self.num_cameras, 1, 1))
        shift[:, 0, 2], shift[:, 1, 2] = -box[:, 1], -box[:, 0]
        scale = np.ones((self.num_cameras, 3, 1))
        scale[:, :2, 0] = (new_size / box[:, 2:])[:, ::-1]
        return self.replace(image_size=new_size, intrinsics=scale * (shift @ self.intrinsics))

    def to_dict(self) -> dict[str, Any]:
        """Return the rig as JSON values. `from_dict` gives it back exactly."""
        return {
            "names": list(self.names),
            "image_size": to_json_value(self.image_size),
            "intrinsics": to_json_value(self.intrinsics),
            "extrinsics": to_json_value(self.extrinsics),
            "distortion": to_json_value(self.distortion),
            "distortion_model": list(self.distortion_model),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CameraRig:
        """Return the rig that `to_dict` wrote; `distortion` and `distortion_model` may be left out.

        Raises:
            ValueError: A key is missing or unknown, or a value is not valid.

        Example:
            >>> from gaia2.scene.named_rigs import named_rig
            >>> CameraRig.from_dict(named_rig("van").to_dict()) == named_rig("van")
            True
        """
        required = ("names", "image_size", "intrinsics", "extrinsics")
        return cls(**check_keys("rig", data, required, ("distortion", "distortion_model")))
