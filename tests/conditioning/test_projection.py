from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from gaia2.conditioning.projection import model_ids, project_agents, project_boxes
from gaia2.scene import Agents, Scene, named_rig
from tests.conditioning.test_lens import random_cameras

NAN = float("nan")
AHEAD = torch.tensor([[0.0, 0, 1, 1.5], [-1, 0, 0, -0.3], [0, -1, 0, 1.6], [0, 0, 0, 1]], dtype=torch.float64)
SIZE = (448, 960)
MATRIX = torch.tensor([[700.0, 0, 480], [0, 700, 224], [0, 0, 1]], dtype=torch.float64)


def see(box: list[float] | torch.Tensor, **camera: torch.Tensor) -> torch.Tensor:
    """Features (13,) of one box in one pinhole camera that looks ahead."""
    boxes = torch.as_tensor(box, dtype=torch.float64)[None]
    given = {"intrinsics": MATRIX[None], "extrinsics": AHEAD[None], "image_size": SIZE, **camera}
    return project_boxes(boxes, torch.tensor([2]), **given)[0, 0]


def ego_corners(box: np.ndarray) -> np.ndarray:
    x, y, z, length, width, height, yaw = box
    axes = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    halves = np.array(list(itertools.product((-0.5, 0.5), repeat=3))) * (length, width, height)
    return halves @ axes + (x, y, z)


def in_camera(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    return (np.linalg.inv(pose) @ np.c_[points, np.ones(len(points))].T)[:3].T


def random_scene(n: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around the ego vehicle and camera poses on it."""
    rng = np.random.default_rng(seed)
    boxes = np.c_[
        rng.uniform(-40, 40, (m, 2)), rng.uniform(-1, 2, m), rng.uniform(0.5, 6, (m, 3)), rng.uniform(-4, 4, m)
    ]
    poses = np.tile(np.eye(4), (n, 1, 1))
    tilt = np.linalg.qr(np.eye(3) + 0.05 * rng.normal(size=(n, 3, 3)))[0]
    tilt *= np.sign(np.diagonal(tilt, axis1=1, axis2=2))[:, None]
    pan = rng.uniform(-np.pi, np.pi, n)
    turn = np.tile(np.eye(3), (n, 1, 1))
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = np.cos(pan), -np.sin(pan), np.sin(pan), np.cos(pan)
    poses[:, :3, :3] = turn @ AHEAD[:3, :3].numpy() @ tilt
    poses[:, :3, 3] = rng.uniform(-2, 2, (n, 3))
    return boxes, poses


@pytest.mark.parametrize("kind", ["pinhole", "fisheye"])
def test_bounds_agree_with_opencv_over_random_cameras(kind: str) -> None:
    cv2 = pytest.importorskip("cv2")
    n, m, (height, width) = 60, 50, (1000, 1600)
    boxes, poses = random_scene(n, m, seed=1)
    matrix, distortion, _ = random_cameras(kind, n, seed=2)
    distortion[:, 4:] = 0  # no poles
    features = project_boxes(
        torch.tensor(boxes),
        torch.zeros(m, dtype=torch.int64),
        torch.tensor(matrix),
        torch.tensor(poses),
        torch.tensor(distortion),
        torch.full((n,), int(kind == "fisheye")),
        (height, width),
    )
    compared = 0
    for i, j in itertools.product(range(n), range(m)):
        corners = in_camera(ego_corners(boxes[j]), poses[i])
        present = features[i, j, 12] >= 0
        if (corners[:, 2] < 0.1).all():
            assert not present
        if (corners[:, 2] < 0.2).any() or np.hypot(*(corners[:, :2] / corners[:, 2:]).T).max() > 0.8:
            continue  # cut boxes have tests of their own
        if kind == "pinhole":
            pixels, _ = cv2.projectPoints(corners, np.zeros(3), np.zeros(3), matrix[i], distortion[i])
        else:
            pixels, _ = cv2.fisheye.projectPoints(
                corners[:, None], np.zeros(3), np.zeros(3), matrix[i], distortion[i, :4]
            )
        pixels = pixels.reshape(-1, 2)
        low, high = pixels.min(0), pixels.max(0)
        if (high < 0).any() or (low > (width, height)).any():
            assert not present
        elif (low > 0).all() and (high < (width, height)).all():
            assert present
        if present:
            expected = np.clip(np.r_[low, high], 0, (width, height, width, height))
            got = features[i, j, :4].numpy() * (width, height, width, height)
            np.testing.assert_allclose(got, expected, atol=0.01)
            compared += 1
    assert compared > 100


def test_the_other_features() -> None:
    boxes, poses = random_scene(6, 80, seed=3)
    rig = named_rig("surround")
    features = project_boxes(
        torch.tensor(boxes),
        torch.arange(80) % 7,
        torch.tensor(rig.intrinsics[[0] * 6]),
        torch.tensor(poses),
        image_size=tuple(rig.image_size[0]),
    )
    present = features[..., 12] >= 0
    assert present.any(dim=1).all()
    for i, j in present.nonzero().tolist():
        row, box = features[i, j].numpy(), boxes[j]
        np.testing.assert_allclose(row[4:7], in_camera(box[None, :3], poses[i])[0], atol=1e-9)
        np.testing.assert_allclose(row[7:10], box[3:6])
        forward = poses[i, :2, 2] / np.linalg.norm(poses[i, :2, 2])
        heading = np.array([np.cos(box[6]), np.sin(box[6])])
        np.testing.assert_allclose(row[11], forward @ heading, atol=1e-9)
        np.testing.assert_allclose(row[10], forward[0] * heading[1] - forward[1] * heading[0], atol=1e-9)
        assert row[12] == j % 7
        assert 0 <= row[0] < row[2] <= 1
        assert 0 <= row[1] < row[3] <= 1
    assert features[~present][:, :12].isnan().all()
    assert (features[~present][:, 12] == -1).all()


def test_a_box_that_reaches_behind_the_camera_is_cut_at_the_near_plane() -> None:
    rng = np.random.default_rng(4)
    low, high = (-3, -4, 0, 2, 2, 2, -3), (5, 4, 2, 9, 9, 9, 3)
    boxes = rng.uniform(low, high, (400, 7))
    given = (MATRIX[None], AHEAD[None], None, None, SIZE)
    features = project_boxes(torch.tensor(boxes), torch.zeros(400, dtype=torch.int64), *given)[0].numpy()
    cut = 0
    for box, row in zip(boxes, features, strict=True):
        corners = in_camera(ego_corners(box), AHEAD.numpy())
        pairs = [(corners[i], corners[i + s]) for s in (1, 2, 4) for i in range(8) if not i & s]
        points = [corner for corner in corners if corner[2] >= 0.1]
        points += [p + (q - p) * (0.1 - p[2]) / (q[2] - p[2]) for p, q in pairs if (p[2] < 0.1) != (q[2] < 0.1)]
        if not points:
            assert row[12] == -1
        elif row[12] >= 0:
            uv = np.array([p[:2] / p[2] * 700 + (480, 224) for p in points])
            expected = np.clip(np.r_[uv.min(0), uv.max(0)] / (960, 448, 960, 448), 0, 1)
            np.testing.assert_allclose(row[:4], expected, atol=1e-9)
            cut += corners[:, 2].min() < 0.1
    assert cut > 50


def test_a_box_around_the_camera_fills_the_image() -> None:
    assert see([1.5, 0, 1.6, 4, 2, 1.5, 0])[:4].tolist() == [0, 0, 1, 1]


def test_a_car_alongside_shows_its_front_only() -> None:
    row = see([2.0, -3.0, 0.8, 10.0, 1.8, 1.5, 0.0])  # 3 m to the right, from 3 m behind the ego origin to 7 m ahead
    front = MATRIX @ torch.tensor([1.8, 0.8, 5.5], dtype=torch.float64)  # its near lower front edge: y -2.1, z 0.05
    assert row[0].item() == pytest.approx((front[0] / front[2] / 960).item(), abs=1e-9)
    assert row[2] == 1


@pytest.mark.parametrize(
    "box",
    [
        [-10.0, 0, 1, 4, 2, 1.5, 0],  # behind
        [10.0, 30, 1, 4, 2, 1.5, 0],  # far to the left
        [10.0, 0, 40, 4, 2, 1.5, 0],  # above
    ],
)
def test_boxes_out_of_sight_are_absent(box: list[float]) -> None:
    row = see(box)
    assert row[12] == -1
    assert row[:12].isnan().all()


def test_a_slanting_pole_is_seen_only_where_it_crosses_the_image_itself() -> None:
    angle = 0.8
    rolled = AHEAD.clone()
    roll = [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    rolled[:3, :3] = torch.tensor(roll) @ AHEAD[:3, :3]
    only_bounds = 0
    for lift in np.linspace(0, 14, 57):
        pole = [12.0, -0.3, 1.6 + lift, 0.01, 12.0, 0.01, 0.0]
        corners = in_camera(ego_corners(np.array(pole)), rolled.numpy())
        uv = corners[:, :2] / corners[:, 2:] * 700 + (480, 224)
        inside = np.all(
            (np.linspace(uv[0], uv[-1], 5001) > 0) & (np.linspace(uv[0], uv[-1], 5001) < SIZE[::-1]), axis=1
        )
        present = bool(see(pole, extrinsics=rolled[None])[12] >= 0)
        assert present == inside.any()
        only_bounds += not present and bool((uv.max(0) > 0).all() and (uv.min(0) < SIZE[::-1]).all())
    assert only_bounds > 3


def test_a_lens_that_folds_does_not_bring_boxes_back_into_view() -> None:
    lens = torch.tensor([[0.04, -0.33, 0.001, -0.0015, 0, 0, 0, 0]], dtype=torch.float64)
    box = [12.0, -19.0, 1.6, 2.0, 2.0, 2.0, 0.0]  # 60 degrees to the right; the image ends at 34
    ideal = 19.0 / 10.5
    folded = ideal * (1 + 0.04 * ideal**2 - 0.33 * ideal**4) * 700 + 480
    assert folded < 960  # what the polynomial alone says
    assert see(box, distortion=lens)[12] == -1


def test_a_wall_that_covers_a_folding_lens_fills_the_image() -> None:
    lens = torch.tensor([[0.04, -0.33, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    assert see([6.0, 0, 1.6, 1.0, 60.0, 60.0, 0.0], distortion=lens)[:4].tolist() == [0, 0, 1, 1]


def test_truncated_by_a_folding_lens_reaches_the_image_border() -> None:
    lens = torch.tensor([[0.04, -0.33, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    row = see([11.5, -30.3, 1.6, 1.0, 60.0, 1.0, 0.0], distortion=lens)  # from the image centre to far right
    assert row[0].item() == pytest.approx(0.5, abs=1e-6)
    assert row[2] == 1
    assert 0 < row[1] < row[3] < 1
    row = see([11.5, -0.3, 31.6, 1.0, 1.0, 60.0, 0.0], distortion=lens)  # from the image centre to far above
    assert row[1] == 0
    assert row[3].item() == pytest.approx(0.5, abs=1e-6)
    assert 0 < row[0] < 0.5 < row[2] < 1


@pytest.mark.parametrize(("column", "lost"), [(6, [0, 1, 2, 3, 10, 11]), (3, [0, 1, 2, 3, 7]), (5, [0, 1, 2, 3, 9])])
def test_an_unknown_yaw_or_size_leaves_the_rest(column: int, lost: list[int]) -> None:
    box = [20.0, 1.0, 0.8, 4.5, 1.9, 1.6, 0.3]
    whole = see(box)
    box[column] = NAN
    part = see(box)
    assert part.isnan().nonzero().flatten().tolist() == lost
    kept = [i for i in range(13) if i not in lost]
    torch.testing.assert_close(part[kept], whole[kept])


def test_an_unknown_place_is_no_box_and_an_unknown_yaw_out_of_sight_neither() -> None:
    assert see([NAN, 1.0, 0.8, 4.5, 1.9, 1.6, 0.3])[12] == -1
    assert see([-20.0, 1.0, 0.8, 4.5, 1.9, 1.6, NAN])[12] == -1


def test_normalised_intrinsics_and_pixels_agree_in_any_batch() -> None:
    b, t, n, m = 2, 3, 4, 10
    parts = [random_scene(n, t * m, seed=i) for i in range(b)]
    boxes = torch.tensor(np.stack([p[0].reshape(t, m, 7) for p in parts]))
    poses = torch.tensor(np.stack([p[1] for p in parts]))
    matrix, distortion, _ = (torch.tensor(x) for x in random_cameras("pinhole", b * n))
    matrix, distortion = matrix.reshape(b, n, 3, 3), distortion.reshape(b, n, 8)
    sizes = torch.tensor([[800, 1600], [600, 1200], [448, 960], [900, 1000]]).expand(b, n, 2)
    model = torch.tensor([0, 1, 0, 1]).expand(b, n)
    category = torch.randint(-1, 7, (b, t, m))
    whole = project_boxes(boxes, category, matrix, poses, distortion, model, sizes)
    assert whole.shape == (b, t, n, m, 13)
    h, w = sizes.double().unbind(-1)
    vector = torch.stack(
        [matrix[..., 0, 0] / w, matrix[..., 1, 1] / h, matrix[..., 0, 2] / w, matrix[..., 1, 2] / h], -1
    )
    same = project_boxes(boxes, category, vector, poses, distortion, model)
    torch.testing.assert_close(same, whole, equal_nan=True)
    for i, j, k in itertools.product(range(b), range(t), range(n)):
        one = project_boxes(
            boxes[i, j], category[i, j], matrix[i, k, None], poses[i, k, None], distortion[i, k, None],
            model[i, k, None], tuple(sizes[i, k].tolist()),
        )  # fmt: skip
        torch.testing.assert_close(one[0], whole[i, j, k], equal_nan=True)
    per_time = [x[:, None].expand(b, t, *x.shape[1:]) for x in (matrix, poses, distortion, model, sizes)]
    torch.testing.assert_close(project_boxes(boxes, category, *per_time), whole, equal_nan=True)


def test_no_boxes() -> None:
    empty = project_boxes(torch.zeros(2, 3, 0, 7), torch.zeros(2, 3, 0, dtype=torch.int64), MATRIX[None], AHEAD[None])
    assert empty.shape == (2, 3, 1, 0, 13)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"boxes": torch.zeros(3, 2, 6)}, r"boxes: expected boxes \(..., m, 7\) with category .* got \(3, 2, 6\)"),
        ({"category": torch.zeros(3, dtype=torch.int64)}, r"got \(3, 2, 7\) and \(3,\)"),
        ({"extrinsics": torch.zeros(5, 3, 4)}, r"extrinsics: expected \(..., n, 4, 4\), got \(5, 3, 4\)"),
        ({"extrinsics": torch.zeros(2, 5, 4, 4)}, r"extrinsics: expected the leading axes of the boxes, \(3,\)"),
        ({"intrinsics": torch.zeros(5, 3)}, r"intrinsics: expected \(5, 3, 3\) or \(5, 4\), .* got \(5, 3\)"),
        ({"distortion": torch.zeros(5, 4)}, r"distortion: expected \(5, 8\), as the extrinsics have it, got \(5, 4\)"),
        ({"distortion_model": torch.zeros(4)}, r"distortion_model: expected \(5,\), as the extrinsics have it"),
    ],
)
def test_bad_shapes(changes: dict[str, torch.Tensor], match: str) -> None:
    given = {
        "boxes": torch.zeros(3, 2, 7),
        "category": torch.zeros(3, 2, dtype=torch.int64),
        "intrinsics": torch.zeros(5, 4),
        "extrinsics": torch.zeros(5, 4, 4),
    }
    with pytest.raises(ValueError, match=match):
        project_boxes(**given | changes)


def test_a_pole_that_rises_behind_a_camera_that_looks_down_is_seen_up_to_the_border() -> None:
    pose = AHEAD.clone()
    down = torch.tensor([[1.0, 0, 0], [0, 0.5**0.5, 0.5**0.5], [0, -(0.5**0.5), 0.5**0.5]], dtype=torch.float64)
    pose[:3, :3] = AHEAD[:3, :3] @ down
    pose[:3, 3] = torch.tensor([0.0, 0.0, 5.0])
    box = np.array([4.0, 0.3, 6.0, 0.4, 0.5, 12.0, 0.2])  # its foot is ahead, its top behind the image plane
    x, y, z, length, width, height, yaw = box
    grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, k) for k in (3, 3, 4001)], indexing="ij"), -1).reshape(-1, 3)
    turn = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    points = in_camera(grid * (length, width, height) @ turn + (x, y, z), pose.numpy())
    assert (points[:, 2] < 0).any()
    points = points[points[:, 2] > 0.1]
    spots = (points[:, :2] / points[:, 2:] * 700 + (480, 224)) / (960, 448)
    got = see(torch.tensor(box), extrinsics=pose[None])[:4]
    np.testing.assert_allclose(got, np.clip([*spots.min(axis=0), *spots.max(axis=0)], 0, 1), atol=2e-3)
    assert got[1] == 0
    assert 0.5 < got[3] < 1


def test_things_are_seen_from_the_near_depth_on() -> None:
    """A wall 5 m ahead, of 1 m depth, before and behind the depth that is asked for."""
    wall = torch.tensor([[6.5, 0.0, 1.6, 1.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    for near, there in ((0.1, True), (5.4, True), (5.6, False)):
        given = (MATRIX[None], AHEAD[None], None, None, SIZE)
        row = project_boxes(wall, torch.tensor([0]), *given, near=near)[0, 0]
        assert (row[12] >= 0) == there, near
        if there:
            depth = max(4.5, near)  # of the wall's near side, cut where seeing begins; it stands 0.3 m to the left
            x1, y1, x2, y2 = (700 / depth * metres for metres in (-0.8, -0.5, 0.2, 0.5))
            expected = [(480 + x1) / 960, (224 + y1) / 448, (480 + x2) / 960, (224 + y2) / 448]
            assert row[:4].tolist() == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ValueError, match="near: expected a depth in metres above 0, got 0"):
        project_boxes(wall, torch.tensor([0]), MATRIX[None], AHEAD[None], near=0.0)


@pytest.mark.parametrize("category", [[0], torch.tensor([True]), torch.zeros(1).cfloat()])
def test_categories_are_ids(category: object) -> None:
    with pytest.raises(ValueError, match=r"category: expected integer ids \(..., m\) as a torch.Tensor"):
        project_boxes(torch.zeros(1, 7), category, MATRIX[None], AHEAD[None])


@pytest.mark.parametrize("name", ["boxes", "intrinsics", "extrinsics"])
def test_boxes_and_cameras_are_real_numbers(name: str) -> None:
    given = {"boxes": torch.zeros(1, 7), "intrinsics": torch.zeros(1, 4), "extrinsics": torch.eye(4)[None]}
    with pytest.raises(ValueError, match=f"{name}: expected floating-point numbers"):
        project_boxes(category=torch.zeros(1).long(), **given | {name: given[name].int()})


def test_half_precision_is_computed_in_float32() -> None:
    box = torch.tensor([[20.0, 1.0, 0.75, 4.5, 2.0, 1.5, 0.25]])
    rows = [
        project_boxes(box.to(dtype), torch.tensor([0]), MATRIX[None].float(), AHEAD[None].float(), image_size=SIZE)
        for dtype in (torch.bfloat16, torch.float32)
    ]
    assert rows[0].dtype == torch.float32
    torch.testing.assert_close(rows[0], rows[1])


def test_agents_of_a_scene_are_its_boxes_in_its_rig() -> None:
    rng = np.random.default_rng(0)
    boxes = np.tile([12.0, 1.0, 0.8, 4.0, 2.0, 1.5, 0.2], (8, 3, 1)) + rng.uniform(0, 1, (8, 3, 7))
    rig = named_rig("surround3")
    rig = rig.replace(distortion_model=["fisheye", "pinhole", "fisheye"])
    scene = Scene.create("surround3", num_frames=8).replace(rig=rig, agents=Agents(boxes, np.tile([0, 2, -1], (8, 1))))
    assert model_ids(rig).tolist() == [1, 0, 1]
    whole = project_agents(scene)
    assert whole.shape == (8, 3, 3, 13)
    expected = project_boxes(
        torch.tensor(scene.agents.boxes),
        torch.tensor(scene.agents.category),
        torch.tensor(rig.intrinsics),
        torch.tensor(rig.extrinsics),
        torch.tensor(rig.distortion),
        torch.tensor([1, 0, 1]),
        torch.tensor(rig.image_size),
    )
    assert (expected[..., 12] >= 0).any()
    torch.testing.assert_close(whole, expected, equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(project_agents(scene, slice(2, 5)), whole[2:5], equal_nan=True, rtol=0, atol=0)


def test_a_box_of_unknown_size_is_there_while_its_centre_is_in_the_image() -> None:
    """The image ends at x = 480 / 700 of the depth to each side, the lens and the near plane are no limit here."""
    for side, there in ((0.67, True), (0.70, False), (-0.67, True), (-0.70, False)):
        row = see([10.0 + 1.5, -0.3 - side * 10, 1.6, NAN, 2.0, 1.5, 0.0])
        assert (row[12] >= 0) == there, side
    for up, there in ((0.31, True), (0.33, False), (-0.31, True), (-0.33, False)):
        assert (see([10.0 + 1.5, -0.3, 1.6 + up * 10, 4.0, NAN, 1.5, 0.0])[12] >= 0) == there, up
    assert see([1.5 + 0.05, -0.3, 1.6, NAN, 2.0, 1.5, 0.0])[12] == -1  # nearer than what is seen
    lens = torch.tensor([[0.04, -0.33, 0, 0, 0, 0, 0, 0]], dtype=torch.float64)
    assert see([1.5 + 5.0, -0.3 - 6.5, 1.6, NAN, 2.0, 1.5, 0.0], distortion=lens)[12] == -1  # where the lens folds
    assert see([1.5 + 5.0, -0.3 - 0.5, 1.6, NAN, 2.0, 1.5, 0.0], distortion=lens)[12] >= 0
    for depth, there in ((0.5, True), (0.5 - 1e-9, False)):  # the near plane itself is seen
        box = torch.tensor([[1.5 + depth, -0.3, 1.6, NAN, 2.0, 1.5, 0.0]], dtype=torch.float64)
        row = project_boxes(box, torch.tensor([0]), MATRIX[None], AHEAD[None], image_size=SIZE, near=0.5)[0, 0]
        assert (row[12] >= 0) == there


def test_a_face_that_lies_in_the_near_plane_is_seen() -> None:
    """All else of the box is nearer; cameras to both sides, so that each edge is cut at each of its ends."""
    back = torch.tensor([[0.0, 0, -1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    ahead = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    box = torch.tensor([[0.0, 0.0, 0.0, 1.0, 0.5, 0.2, 0.0]], dtype=torch.float64)
    expected = [(480 - 350) / 960, (224 - 140) / 448, (480 + 350) / 960, (224 + 140) / 448]
    for pose in (back, ahead):
        row = project_boxes(box, torch.tensor([0]), MATRIX[None], pose[None], image_size=SIZE, near=0.5)[0, 0]
        assert row[:4].tolist() == pytest.approx(expected, abs=1e-9)
