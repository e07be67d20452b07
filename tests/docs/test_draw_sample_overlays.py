"""Projection of a nuScenes and a Waymo sample, where they are at hand, and the parts of the script that draws them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import draw_sample_overlays as overlays
import numpy as np
import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_waymo = pytest.mark.skipif(not (DATA / "waymo_sample").is_dir(), reason="needs ../shared/data/waymo_sample")
needs_nuscenes = pytest.mark.skipif(
    not (DATA / "nuscenes_sample").is_dir(), reason="needs ../shared/data/nuscenes_sample"
)


@needs_waymo
def test_projected_boxes_cover_waymos_own_labels() -> None:
    sample = overlays.read_waymo(DATA / "waymo_sample")
    ious, covered = overlays.label_fit(sample, overlays.project(sample))
    assert len(ious) == 26
    assert np.median(ious) > 0.48
    assert np.median(covered) > 0.99
    cars = np.concatenate([kinds for _, kinds in sample.labels]) == 0
    assert cars.sum() > 40
    ious, covered = overlays.label_fit(sample, overlays.project(sample), min_height=200)
    assert np.median(ious) > 0.55
    assert covered.min() > 0.8


@needs_waymo
@pytest.mark.parametrize("mistake", ["axes", "side"])
def test_wrong_geometry_would_be_seen(mistake: str) -> None:
    sample = overlays.read_waymo(DATA / "waymo_sample")
    if mistake == "axes":
        wrong = sample.rig.extrinsics @ np.linalg.inv(overlays.OPENCV_IN_WAYMO_CAMERA)
        sample = dataclasses.replace(sample, rig=sample.rig.replace(extrinsics=wrong))
    else:
        sample = dataclasses.replace(sample, boxes=sample.boxes * [1, -1, 1, 1, 1, 1, -1])
    ious, _ = overlays.label_fit(sample, overlays.project(sample))
    assert np.median(ious) < 0.1


@needs_nuscenes
def test_nuscenes_boxes_are_found_in_all_six_images() -> None:
    sample = overlays.read_nuscenes(DATA / "nuscenes_sample")
    features = overlays.project(sample)
    assert features.shape == (6, 69, 13)
    seen = dict(zip(sample.rig.names, (features[..., 12] >= 0).sum(axis=1).tolist(), strict=True))
    assert min(seen.values()) >= 2
    assert seen["CAM_FRONT"] > 30
    truck = features[sample.rig.names.index("CAM_FRONT"), :, :]
    truck = truck[truck[:, 12] == 1]
    nearest = truck[truck[:, 6].argmin(), :4] * (1600, 900, 1600, 900)
    np.testing.assert_allclose(nearest, (40, 190, 617, 672), atol=12)  # measured in the picture


def test_labels_and_boxes_are_matched_one_to_one_within_a_category() -> None:
    rig = overlays.CameraRig(
        names=("front",), image_size=(1000, 1000), intrinsics=np.eye(3)[None], extrinsics=np.eye(4)[None]
    )
    labels = np.array([[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9], [0.5, 0.5, 0.51, 0.51]])
    sample = overlays.Sample(rig, [], np.zeros((0, 7)), np.zeros(0), [(labels, np.array([0, 0, 5, 0]))])
    features = np.full((1, 3, 13), np.nan)
    features[0, :, :4] = [[0.1, 0.1, 0.3, 0.5], [0.6, 0.6, 0.9, 0.9], [0.55, 0.55, 1.0, 1.0]]
    features[0, :, 12] = [0, 0, 5]
    ious, covered = overlays.label_fit(sample, features)
    assert ious.tolist() == pytest.approx([0.5, 0.0, 0.09 / 0.2025])
    assert covered.tolist() == pytest.approx([1.0, 0.0, 1.0])


@needs_waymo
def test_pictures_hold_the_footage_only_where_it_is_asked_for() -> None:
    sample = overlays.read_waymo(DATA / "waymo_sample")
    features = overlays.project(sample)
    blank, full = (np.asarray(overlays.picture(sample, features, footage=footage)) for footage in (False, True))
    assert blank.shape == full.shape
    assert len(np.unique(blank.reshape(-1, 3), axis=0)) < 300
    assert len(np.unique(full.reshape(-1, 3), axis=0)) > 10000
