"""CameraRig and the named rigs, against projections done by hand and OpenCV's conventions."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.scene import RIG_NAMES, CameraRig, camera_extrinsics, named_rig, pinhole_intrinsics

FORWARD = [[0.0, 0, 1, 1.7], [-1, 0, 0, 0.2], [0, -1, 0, 1.5], [0, 0, 0, 1]]
INTRINSICS = [[700.0, 0, 480], [0, 710, 220], [0, 0, 1]]


def make_rig(**changes) -> CameraRig:
    fields = {"names": ("front",), "image_size": (448, 960), "intrinsics": [INTRINSICS], "extrinsics": [FORWARD]}
    return CameraRig(**{**fields, **changes})


def project(rig: CameraRig, camera: int, point: tuple[float, float, float]) -> np.ndarray:
    """Pixel (u, v) of a point in the ego frame, one number at a time."""
    pose = rig.extrinsics[camera]
    offset = np.array(point) - pose[:3, 3]
    x, y, z = (sum(pose[row, axis] * offset[row] for row in range(3)) for axis in range(3))
    k = rig.intrinsics[camera]
    return np.array([k[0, 0] * x / z + k[0, 1] * y / z + k[0, 2], k[1, 1] * y / z + k[1, 2]])


def test_one_value_holds_for_all_cameras():
    rig = make_rig(
        names=["a", "b"],
        intrinsics=[INTRINSICS] * 2,
        extrinsics=[FORWARD] * 2,
        distortion=[-0.2, 0.1, 0, 0, 0.3],
        distortion_model="pinhole",
    )
    assert rig.image_size.tolist() == [[448, 960]] * 2
    assert rig.distortion.tolist() == [[-0.2, 0.1, 0, 0, 0.3, 0, 0, 0]] * 2
    assert rig.distortion_model == ("pinhole", "pinhole")


def test_arrays_are_copied_and_read_only():
    intrinsics = np.array([INTRINSICS])
    rig = make_rig(intrinsics=intrinsics)
    intrinsics[:] = 5
    assert rig.intrinsics[0].tolist() == INTRINSICS
    with pytest.raises(ValueError, match="read-only"):
        rig.extrinsics[0, 0, 3] = 1.0
    with pytest.raises(AttributeError):
        rig.names = ("other",)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda rig: pickle.loads(pickle.dumps(rig))])
def test_a_copy_is_equal_and_read_only(duplicate):
    rig = named_rig("van")
    other = duplicate(rig)
    assert other == rig
    assert not other.intrinsics.flags.writeable


def test_equality_is_exact():
    rig = make_rig()
    moved = rig.extrinsics.copy()
    moved[0, 0, 3] = np.nextafter(moved[0, 0, 3], 2)
    assert rig == make_rig()
    assert rig != rig.replace(extrinsics=moved)
    assert rig != rig.replace(distortion_model="fisheye")
    assert rig != "front"


@given(height=st.integers(16, 600), width=st.integers(16, 600), y=st.floats(-4, 4), z=st.floats(-2, 5))
@settings(max_examples=50, deadline=None)
def test_fit_moves_pixels_as_the_crop_and_the_resize_do(height, width, y, z):
    rig = make_rig()
    top, left, crop_height, crop_width = rig.crop_box((height, width))[0]
    u, v = project(rig, 0, (20.0, y, z))
    fitted = rig.fit(image_size=(height, width))
    expected = [(u - left) * width / crop_width, (v - top) * height / crop_height]
    np.testing.assert_allclose(project(fitted, 0, (20.0, y, z)), expected, rtol=1e-9, atol=1e-7)
    # a centred crop inside the image that touches two edges and has the new aspect ratio
    assert min(top, left) == pytest.approx(0, abs=1e-9)
    assert top * 2 + crop_height == pytest.approx(448)
    assert left * 2 + crop_width == pytest.approx(960)
    assert crop_width / crop_height == pytest.approx(width / height)


def test_fit_handles_each_cameras_own_size():
    rig = make_rig(
        names=("tall", "wide"),
        image_size=[(2048, 1550), (1550, 2048)],
        intrinsics=[[[1780.0, 0, 775], [0, 1780, 1024], [0, 0, 1]], [[1690.0, 0, 1024], [0, 1690, 775], [0, 0, 1]]],
        extrinsics=[FORWARD] * 2,
    )
    np.testing.assert_allclose(rig.crop_box((155, 310)), [[636.5, 0, 775, 1550], [263, 0, 1024, 2048]])
    fitted = rig.fit((155, 310))
    np.testing.assert_allclose(fitted.intrinsics[:, 0, 0], [1780 * 310 / 1550, 1690 * 310 / 2048])
    np.testing.assert_allclose(fitted.intrinsics[:, :2, 2], [[155, 77.5]] * 2)


def test_select_keeps_the_order_asked_for():
    rig = named_rig("surround")
    picked = rig.select(["rear_left", "front"])
    assert picked.names == ("rear_left", "front")
    np.testing.assert_array_equal(picked.extrinsics, rig.extrinsics[[3, 0]])
    assert rig.select("front").num_cameras == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ()}, "names: expected at least one camera name"),
        ({"names": ("a", "a")}, "unique camera names, got 'a' more than once"),
        ({"intrinsics": np.eye(3)}, r"intrinsics: expected shape \(n=1, 3, 3\), got \(3, 3\)"),
        ({"intrinsics": np.ones((1, 3, 4))}, r"intrinsics: expected shape \(n=1, 3, 3\), got \(1, 3, 4\)"),
        ({"intrinsics": [np.diag([700.0, -700, 1])]}, "'front': expected positive focal lengths.*fx=700, fy=-700"),
        ({"intrinsics": [np.transpose(INTRINSICS)]}, "is it transposed"),
        ({"intrinsics": [[[np.nan, 0, 1], [0, 1, 1], [0, 0, 1]]]}, r"intrinsics: .*got NaN at index \[0, 0, 0\]"),
        ({"extrinsics": [np.eye(3)]}, r"extrinsics: expected shape \(n=1, 4, 4\)"),
        ({"extrinsics": [np.diag([1.0, 1, 1.001, 1])]}, "'front': expected an orthonormal rotation.*unit quaternion"),
        ({"extrinsics": [np.diag([1.0, 1, -1, 1])]}, "determinant [+]1, got a reflection"),
        ({"extrinsics": [np.transpose(FORWARD)]}, "expected the last row 0 0 0 1"),
        ({"extrinsics": [np.diag([1.0, 1, 1, np.inf])]}, r"extrinsics: expected finite.*index \[0, 3, 3\]"),
        ({"image_size": (448, 0)}, r"image_size: expected positive \(height, width\)"),
        ({"image_size": (448.5, 960)}, "image_size: expected an array of integers"),
        ({"image_size": [(448, 960)] * 2}, r"image_size: expected shape \(n=1, 2\)"),
        ({"distortion": np.zeros(9)}, "distortion: expected at most 8"),
        ({"distortion": np.zeros((2, 4))}, r"distortion: expected shape \(n=1, k\)"),
        ({"distortion": [0, 0, 0, 0, 1], "distortion_model": "fisheye"}, "expected the 4 fisheye coefficients"),
        ({"distortion_model": "fish_eye"}, "unknown model 'fish_eye'; did you mean 'fisheye'"),
        ({"distortion_model": ("pinhole", "pinhole")}, "expected one model or 1, got 2"),
    ],
)
def test_bad_rig_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_rig(**changes)


def test_a_rotation_within_tolerance_is_kept_as_it_is():
    nearly = np.array([FORWARD])
    nearly[0, 0, 2] += 4e-5
    np.testing.assert_array_equal(make_rig(extrinsics=nearly).extrinsics, nearly)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"rig: unknown name 'suround'; did you mean 'surround'.*van"):
        named_rig("suround")
    with pytest.raises(
        ValueError, match=r"names: expected cameras of this rig, .* got 'frontleft'; did you mean 'front_l"
    ):
        named_rig("van").select(["frontleft"])
    with pytest.raises(ValueError, match="unknown key 'intrinsic'; did you mean 'intrinsics'"):
        named_rig("van").replace(intrinsic=1)
    with pytest.raises(ValueError, match="rig: expected the key 'extrinsics'"):
        CameraRig.from_dict({"names": ["a"], "image_size": [1, 1], "intrinsics": [INTRINSICS]})
    with pytest.raises(ValueError, match="rig: expected an object"):
        CameraRig.from_dict([1, 2])
    with pytest.raises(ValueError, match="image_size: expected positive"):
        named_rig("front").fit((0, 5))
    with pytest.raises(ValueError, match="hfov: expected degrees above 0 and below 180"):
        pinhole_intrinsics(180, (2, 2))


@pytest.mark.parametrize("name", RIG_NAMES)
def test_named_rigs_round_trip_and_see_the_road(name):
    rig = named_rig(name)
    assert CameraRig.from_dict(rig.to_dict()) == rig
    assert rig.image_size.tolist() == [[448, 960]] * rig.num_cameras
    assert ((rig.extrinsics[:, 2, 3] > 1.4) & (rig.extrinsics[:, 2, 3] < 2.7)).all()
    # a point on the ground 15 m along each optical axis is in the image, in the lower half unless the camera dips
    for camera, camera_name in enumerate(rig.names):
        forward = rig.extrinsics[camera, :3, 2]
        place = rig.extrinsics[camera, :3, 3] + 15 * np.array([forward[0], forward[1], 0])
        u, v = project(rig, camera, (place[0], place[1], 0.0))
        assert u == pytest.approx(480)
        assert 200 < v < 448
        # left cameras look left (y > 0) and sit on the left
        side = ("left" in camera_name) - ("right" in camera_name)
        assert np.sign(np.round(forward[1], 6)) == side == np.sign(rig.extrinsics[camera, 1, 3])
        assert (forward[0] < 0) == ("rear" in camera_name)


def test_named_rigs_differ_as_described():
    car, van = named_rig("surround"), named_rig("van")
    hfov = np.degrees(2 * np.arctan(480 / car.intrinsics[:, 0, 0]))
    np.testing.assert_allclose(hfov, [70, 80, 80, 80, 80])
    assert (van.extrinsics[:, 2, 3] > car.extrinsics[:, 2, 3]).all()
    assert not np.allclose(van.intrinsics, car.intrinsics)
    assert (van.extrinsics[:, 2, 2] < 0).all()  # it looks down
    assert named_rig("surround3") == car.select(["front", "front_left", "front_right"])
    assert named_rig("front") == car.select("front")
    assert named_rig("van", image_size=(64, 128)) == van.fit((64, 128))


@given(yaw=st.floats(-180, 180), pitch=st.floats(-60, 60))
def test_camera_extrinsics_point_where_they_say(yaw, pitch):
    pose = camera_extrinsics((1.0, -2.0, 3.0), yaw, pitch)
    right, down, forward = pose[:3, :3].T
    a, p = math.radians(yaw), math.radians(pitch)
    np.testing.assert_allclose(forward, [math.cos(a) * math.cos(p), math.sin(a) * math.cos(p), -math.sin(p)])
    np.testing.assert_allclose(np.cross(forward, right), down, atol=1e-12)
    assert right[2] == 0  # no roll
    assert down[2] < 0
    assert pose[:3, 3].tolist() == [1, -2, 3]


def rig_of(**changes):
    good = {
        "names": ("front",),
        "image_size": (448, 960),
        "intrinsics": [[[700.0, 0, 480], [0, 700, 224], [0, 0, 1]]],
        "extrinsics": [camera_extrinsics((1.7, 0.0, 1.5))],
    }
    return CameraRig(**good | changes)


def test_normalised_intrinsics_are_recognised():
    message = (
        "intrinsics: camera 'front': expected pixels of the 448x960 image, got fx=0.73, fy=1.56, cx=0.5, cy=0.5, "
        "which look divided by the image's size; multiply the first row by the width 960"
    )
    with pytest.raises(ValueError, match=message):
        rig_of(intrinsics=[[[0.73, 0, 0.5], [0, 1.56, 0.5], [0, 0, 1]]])
    rig_of(image_size=(8, 8), intrinsics=[[[5.0, 0, 0.5], [0, 5, 0.5], [0, 0, 1]]])  # a crop's may be this small


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"distortion_model": None},
            "distortion_model: expected one of pinhole, fisheye, for all cameras or each,",
        ),
        ({"distortion_model": [None]}, "distortion_model: unknown model None"),
        ({"names": ("../front",)}, "names: expected names that files can have, got '../front'"),
        ({"names": None}, "names: expected at least one camera name"),
        (
            {"extrinsics": [camera_extrinsics((1700.0, 0.0, 1500.0))]},
            "extrinsics: expected mounts in metres within",
        ),
        ({"image_size": (0, 0)}, "image_size: expected positive"),
        ({"distortion": [1e30]}, "distortion: expected coefficients within"),
    ],
)
def test_what_a_rig_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        rig_of(**changes)
