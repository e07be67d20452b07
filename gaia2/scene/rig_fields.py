"""Checks of the fields of `CameraRig`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from gaia2._checks import refuse
from gaia2.scene.validation import as_floats, as_integers, check_shape, check_within, first_index, nearest

__all__ = [
    "DISTORTION_MODELS",
    "check_distortion",
    "check_extrinsics",
    "check_image_size",
    "check_intrinsics",
    "check_models",
    "check_names",
]

DISTORTION_MODELS = ("pinhole", "fisheye")
"""Lens models. id = index."""

_ROTATION_TOLERANCE = 1e-4
_MAX_IMAGE_SIDE = 65_536
_MAX_MOUNT = 1000.0  # metres from the ego origin; trailers are long, millimetres are longer


def check_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return camera names as a tuple.

    Raises:
        ValueError: There is none, one is no string or no name for a file, or occurs twice.
    """
    listed = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else []
    if not listed or not all(isinstance(name, str) and name for name in listed):
        raise refuse("names", "at least one camera name, each a non-empty string", names)
    for name in listed:
        if not name.isprintable() or set("/\\:") & set(name) or name.startswith("."):
            raise refuse("names", "names that files can have", name, "leave out / \\ : and a dot in front")
    if len(set(listed)) != len(listed):
        twice = next(name for name in listed if listed.count(name) > 1)
        raise ValueError(f"names: expected unique camera names, got {twice!r} more than once; rename one")
    return tuple(listed)


def check_image_size(value: npt.ArrayLike, n: int) -> np.ndarray:
    """Return `(n, 2)` heights and widths; one pair holds for all.

    Raises:
        ValueError: Another shape, or not positive.
    """
    size = as_integers("image_size", value)
    if size.ndim == 1:
        size = np.tile(size, (n, 1))
    check_shape("image_size", size, ("n", "2"), (n, 2))
    if (size <= 0).any() or (size > _MAX_IMAGE_SIDE).any():
        raise ValueError(
            f"image_size: expected positive (height, width) in pixels, at most {_MAX_IMAGE_SIDE}, got {size.tolist()}"
        )
    return size


def check_intrinsics(value: npt.ArrayLike, names: tuple[str, ...], image_size: np.ndarray) -> np.ndarray:
    """Return `(n, 3, 3)` intrinsics in pixels of images of `image_size (n, 2)`.

    Raises:
        ValueError: Another shape or form, not finite, a focal length that is not positive, or normalised ones.
    """
    matrices = as_floats("intrinsics", value)
    check_shape("intrinsics", matrices, ("n", "3", "3"), (len(names), 3, 3))
    check_within("intrinsics", matrices, 1e7, "pixels", "the matrix is [[fx, skew, cx], [0, fy, cy], [0, 0, 1]]")
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
    _refuse_normalised(matrices, names, image_size)
    return matrices


def _refuse_normalised(matrices: np.ndarray, names: tuple[str, ...], image_size: np.ndarray) -> None:
    """Refuse intrinsics divided by the image's size, as some data sets have them."""
    centre = matrices[:, :2, 2]
    small = (np.abs(centre) <= 1).all(1) & (centre > 0).any(1) & (matrices[:, [0, 1], [0, 1]] < 8).all(1)
    normalised = small & (image_size >= 16).all(1)
    if normalised.any():
        i = first_index(normalised)[0]
        (fx, _, cx), (_, fy, cy) = matrices[i, :2].tolist()
        height, width = image_size[i].tolist()
        raise ValueError(
            f"intrinsics: camera {names[i]!r}: expected pixels of the {height}x{width} image, got fx={fx:g}, "
            f"fy={fy:g}, cx={cx:g}, cy={cy:g}, which look divided by the image's size; multiply the first row by the "
            f"width {width} and the second by the height {height}"
        )


def check_extrinsics(value: npt.ArrayLike, names: tuple[str, ...]) -> np.ndarray:
    """Return `(n, 4, 4)` camera-to-ego poses.

    Raises:
        ValueError: Another shape or form, not finite, no rotation, or a mount far from the vehicle.
    """
    poses = as_floats("extrinsics", value)
    check_shape("extrinsics", poses, ("n", "4", "4"), (len(names), 4, 4))
    hint = "they are relative to the ego vehicle, not to a map, and not in millimetres"
    check_within("extrinsics", poses[:, :3, 3], _MAX_MOUNT, "mounts in metres", hint)
    check_within("extrinsics", poses, _MAX_MOUNT, "a pose", "the last row is 0 0 0 1")
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


def check_models(value: str | Sequence[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the lens model of each camera; one string holds for all.

    Raises:
        ValueError: A model is unknown, or there are more or fewer than cameras.
    """
    if not isinstance(value, str | list | tuple):
        raise refuse("distortion_model", f"one of {', '.join(DISTORTION_MODELS)}, for all cameras or each", value)
    models = (value,) * len(names) if isinstance(value, str) else tuple(value)
    if len(models) != len(names):
        raise ValueError(f"distortion_model: expected one model or {len(names)}, got {len(models)}: {models}")
    for model in models:
        if not isinstance(model, str) or model not in DISTORTION_MODELS:
            raise ValueError(
                f"distortion_model: unknown model {model!r}; did you mean {nearest(model, DISTORTION_MODELS)!r}? "
                f"Expected one of: {', '.join(DISTORTION_MODELS)}"
            )
    return models


def check_distortion(value: npt.ArrayLike | None, models: tuple[str, ...], names: tuple[str, ...]) -> np.ndarray:
    """Return `(n, 8)` coefficients, padded with zeros.

    Raises:
        ValueError: Another shape, not finite, or more than the lens model has.
    """
    given = np.zeros((len(names), 0)) if value is None else as_floats("distortion", value)
    if given.ndim == 1:
        given = np.tile(given, (len(names), 1))
    check_shape("distortion", given, ("n", "k"), (len(names), None))
    if given.shape[1] > 8:
        raise ValueError(f"distortion: expected at most 8 coefficients a camera, got {given.shape[1]}; drop the rest")
    check_within("distortion", given, 1e4, "coefficients", "their order is that of OpenCV")
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
