"""`CameraRig`: the cameras of a vehicle, where they sit and how they project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gaia2.scene.validation import (
    FrozenRecord,
    as_floats,
    as_integers,
    check_keys,
    check_shape,
    first_index,
    nearest,
    to_json_value,
)

__all__ = ["DISTORTION_MODELS", "CameraRig"]

DISTORTION_MODELS = ("pinhole", "fisheye")
"""Lens models. id = index."""

_ROTATION_TOLERANCE = 1e-4


@dataclass(frozen=True, eq=False)
class CameraRig(FrozenRecord):
    """The cameras of one vehicle. Frozen, its arrays read-only.

    Pixel coordinates run from 0 at the left (top) edge of the image to its width (height) at the other edge, so the
    centre of an image of width w is w / 2 and resizing by s multiplies the intrinsics by s.

    Args:
        names: n unique camera names.
        image_size: (n, 2) int, (height, width) in pixels of each camera; one pair holds for all.
        intrinsics: (n, 3, 3), pixels of that image size, rows (fx skew cx), (0 fy cy), (0 0 1).
        extrinsics: (n, 4, 4), camera (x right, y down, z forward) to ego (x forward, y left, z up), metres.
        distortion: (n, k <= 8), padded with zeros to (n, 8). OpenCV order: pinhole k1 k2 p1 p2 k3 k4 k5 k6, fisheye
            k1 k2 k3 k4. One row holds for all cameras. Default: none.
        distortion_model: "pinhole" or "fisheye" for each camera; one string holds for all.

    Raises:
        ValueError: a shape does not fit, a value is NaN or infinite, a name occurs twice, a focal length is not
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
        checked_names = _check_names(names)
        n = len(checked_names)
        models = _check_models(distortion_model, checked_names)
        self._set(
            names=checked_names,
            image_size=_check_image_size(image_size, n),
            intrinsics=_check_intrinsics(intrinsics, checked_names),
            extrinsics=_check_extrinsics(extrinsics, checked_names),
            distortion=_check_distortion(distortion, models, checked_names),
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
            ValueError: a name is not a field of `CameraRig`, or the new rig is not valid.

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
            ValueError: a name is not in this rig.

        Example:
            >>> from gaia2.scene.named_rigs import named_rig
            >>> named_rig("surround").select(["front_right", "front"]).names
            ('front_right', 'front')
        """
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            if name not in self.names:
                raise ValueError(
                    f"camera {name!r} is not in this rig; did you mean {nearest(name, self.names)!r}? "
                    f"It has: {', '.join(self.names)}"
                )
        index = [self.names.index(name) for name in wanted]
        return CameraRig(
            names=tuple(wanted),
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
        height, width = _check_image_size(image_size, 1)[0]
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
        new_size = _check_image_size(image_size, self.num_cameras)
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
            ValueError: a key is missing or unknown, or a value is not valid.

        Example:
            >>> from gaia2.scene.named_rigs import named_rig
            >>> CameraRig.from_dict(named_rig("van").to_dict()) == named_rig("van")
            True
        """
        required = ("names", "image_size", "intrinsics", "extrinsics")
        return cls(**check_keys("rig", data, required, ("distortion", "distortion_model")))


def _check_names(names: Sequence[str]) -> tuple[str, ...]:
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, (list, tuple)) or not listed or not all(isinstance(n, str) and n for n in listed):
        raise ValueError(f"names: expected at least one camera name, each a non-empty string, got {names!r}")
    if len(set(listed)) != len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise ValueError(f"names: expected unique camera names, got {twice!r} more than once; rename one")
    return tuple(listed)


def _check_image_size(value: npt.ArrayLike, n: int) -> np.ndarray:
    size = as_integers("image_size", value)
    if size.ndim == 1:
        size = np.tile(size, (n, 1))
    check_shape("image_size", size, ("n", "2"), (n, 2))
    if (size <= 0).any():
        raise ValueError(f"image_size: expected positive (height, width) in pixels, got {size.tolist()}")
    return size


def _check_intrinsics(value: npt.ArrayLike, names: tuple[str, ...]) -> np.ndarray:
    matrices = as_floats("intrinsics", value)
    check_shape("intrinsics", matrices, ("n", "3", "3"), (len(names), 3, 3))
    focal = np.diagonal(matrices, axis1=1, axis2=2)[:, :2]
    if (focal <= 0).any():
        i = first_index(focal <= 0)[0]
        raise ValueError(
            f"intrinsics: camera {names[i]!r}: expected positive focal lengths in pixels, got fx={focal[i, 0]:g}, "
            f"fy={focal[i, 1]:g}; the matrix is [[fx, skew, cx], [0, fy, cy], [0, 0, 1]]"
        )
    lower = (matrices[:, 1, 0] != 0) | (matrices[:, 2] != [0, 0, 1]).any(-1)
    if lower.any():
        i = first_index(lower)[0]
        raise ValueError(
            f"intrinsics: camera {names[i]!r}: expected [[fx, skew, cx], [0, fy, cy], [0, 0, 1]], got "
            f"{matrices[i].tolist()}; is it transposed?"
        )
    return matrices


def _check_extrinsics(value: npt.ArrayLike, names: tuple[str, ...]) -> np.ndarray:
    poses = as_floats("extrinsics", value)
    check_shape("extrinsics", poses, ("n", "4", "4"), (len(names), 4, 4))
    bottom = (poses[:, 3] != [0, 0, 0, 1]).any(-1)
    if bottom.any():
        i = first_index(bottom)[0]
        raise ValueError(
            f"extrinsics: camera {names[i]!r}: expected the last row 0 0 0 1, got {poses[i, 3].tolist()}; "
            "the translation belongs in the last column"
        )
    rotation = poses[:, :3, :3]
    off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    if (off > _ROTATION_TOLERANCE).any():
        i = first_index(off > _ROTATION_TOLERANCE)[0]
        raise ValueError(
            f"extrinsics: camera {names[i]!r}: expected an orthonormal rotation, got R @ R.T off the identity by "
            f"{off[i]:.2g} (at most {_ROTATION_TOLERANCE:g}); normalise it, e.g. build it from a unit quaternion"
        )
    determinant = np.linalg.det(rotation)
    if (determinant < 0).any():
        i = first_index(determinant < 0)[0]
        raise ValueError(
            f"extrinsics: camera {names[i]!r}: expected a rotation of determinant +1, got a reflection "
            f"(determinant {determinant[i]:+.3f}); flip one axis"
        )
    return poses


def _check_models(value: str | Sequence[str], names: tuple[str, ...]) -> tuple[str, ...]:
    models = (value,) * len(names) if isinstance(value, str) else tuple(value)
    if len(models) != len(names):
        raise ValueError(f"distortion_model: expected one model or {len(names)}, got {len(models)}: {models}")
    for model in models:
        if model not in DISTORTION_MODELS:
            raise ValueError(
                f"distortion_model: unknown model {model!r}; did you mean {nearest(model, DISTORTION_MODELS)!r}? "
                f"Expected one of: {', '.join(DISTORTION_MODELS)}"
            )
    return models


def _check_distortion(value: npt.ArrayLike | None, models: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    given = np.zeros((len(names), 0)) if value is None else as_floats("distortion", value)
    if given.ndim == 1:
        given = np.tile(given, (len(names), 1))
    check_shape("distortion", given, ("n", "k"), (len(names), None))
    if given.shape[1] > 8:
        raise ValueError(f"distortion: expected at most 8 coefficients a camera, got {given.shape[1]}; drop the rest")
    padded = np.zeros((len(names), 8))
    padded[:, : given.shape[1]] = given
    extra = np.array([model == "fisheye" for model in models]) & (padded[:, 4:] != 0).any(1)
    if extra.any():
        name = names[first_index(extra)[0]]
        raise ValueError(
            f"distortion: camera {name!r}: expected the 4 fisheye coefficients k1 k2 k3 k4 and then zeros, got "
            "more non-zero ones; did you mean distortion_model='pinhole'?"
        )
    return padded
