from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.conditioning import scene_conditioning
from gaia2.conditioning.camera import CameraCondition, CameraEncoder
from gaia2.conditioning.condition import Check, LatentTimes
from gaia2.scene import Scene


def cameras(b: int = 2, n: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    pose = torch.eye(4, dtype=torch.float64).repeat(b, n, 1, 1)
    pose[..., :3, :3] = torch.linalg.qr(randn(b, n, 3, 3)).Q
    pose[..., :3, 3] = randn(b, n, 3)
    model = torch.randint(0, 2, (b, n), generator=generator)
    distortion = randn(b, n, 8)
    distortion[..., 4:] *= (model == 0)[..., None]
    return {
        "intrinsics": randn(b, n, 4).exp(),
        "extrinsics": pose,
        "distortion": distortion,
        "distortion_model": model,
    }


def test_three_linear_encoders_are_summed() -> None:
    encoder, given = CameraEncoder(dim=5).double(), cameras()
    for i in range(2):
        for j in range(3):
            pose = given["extrinsics"][i, j]
            mount = torch.cat([pose[:3, 0], pose[:3, 1], pose[:3, 3] / 2])
            k, zeros = given["distortion"][i, j], torch.zeros(8, dtype=torch.float64)
            fisheye = bool(given["distortion_model"][i, j])
            lens = torch.cat([zeros, k[:4]] if fisheye else [k, zeros[:4]])
            lens = torch.cat([lens, torch.tensor([not fisheye, fisheye])])
            expected = (
                encoder.intrinsics(given["intrinsics"][i, j]) + encoder.extrinsics(mount) + encoder.distortion(lens)
            )
            torch.testing.assert_close(encoder(**given)[i, j], expected)


def test_permuting_cameras_permutes_the_embeddings() -> None:
    encoder, given, order = CameraEncoder(dim=5).double(), cameras(n=4), [2, 0, 3, 1]
    torch.testing.assert_close(encoder(**{k: v[:, order] for k, v in given.items()}), encoder(**given)[:, order])


@pytest.mark.parametrize("key", ["intrinsics", "extrinsics", "distortion", "distortion_model"])
def test_each_part_changes_the_embedding(key: str) -> None:
    encoder, given = CameraEncoder(dim=5).double(), cameras(seed=0)
    other = 1 - given[key] if key == "distortion_model" else cameras(seed=1)[key]
    assert (encoder(**given | {key: other}) - encoder(**given)).abs().amax(dim=-1).min() > 1e-3


def test_no_distortion_is_a_pinhole_of_zeros() -> None:
    encoder, given = CameraEncoder(dim=5).double(), cameras()
    zeros = {"distortion": torch.zeros(2, 3, 8), "distortion_model": torch.zeros(2, 3, dtype=torch.int64)}
    torch.testing.assert_close(encoder(given["intrinsics"], given["extrinsics"]), encoder(**given | zeros))


@pytest.mark.parametrize(
    ("key", "shape", "match"),
    [
        ("intrinsics", (2, 3, 3), r"intrinsics: expected \(b, n, k=4\), got \(2, 3, 3\); give fx / w"),
        ("extrinsics", (2, 4, 4, 4), r"extrinsics: expected \(b=2, n=3, i=4, j=4\), got \(2, 4, 4, 4\)"),
        ("distortion", (2, 3, 5), r"distortion: expected \(b=2, n=3, k=8\), got \(2, 3, 5\); pad with zeros"),
        ("distortion_model", (2,), r"distortion_model: expected \(b=2, n=3\), got \(2,\)"),
    ],
)
def test_bad_shapes(key: str, shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        CameraEncoder(dim=5).double()(**cameras() | {key: torch.zeros(shape)})


def test_its_keys_are_the_tensors_that_a_scene_gives() -> None:
    given = scene_conditioning(Scene.create("surround3", num_frames=8))
    for name, key in CameraCondition().keys.items():
        assert tuple(given[name].shape) == key.shape({"b": 1, "n": 3}), name


def test_a_camera_that_does_not_take_part_is_a_plain_one_at_the_origin() -> None:
    condition, given = CameraCondition(), cameras()
    got = {key: condition.masked_like(key, tensor) for key, tensor in given.items()}
    assert torch.equal(got["extrinsics"], torch.eye(4).double().expand(2, 3, 4, 4))
    assert torch.equal(got["intrinsics"], torch.ones(2, 3, 4).double())
    assert not got["distortion"].any()
    assert not got["distortion_model"].any()
    assert got["distortion_model"].dtype == torch.int64


def failed(checks: list[Check]) -> list[str]:
    return [str(check.error()) for check in checks if check.wrong.any()]


def test_the_geometry_must_be_finite_and_the_lens_models_known() -> None:
    condition, given = CameraCondition(), cameras()
    assert failed(condition.checks(given)) == []
    for key in ("intrinsics", "extrinsics", "distortion"):
        broken = given[key].clone()
        broken[0, 0, 0] = torch.nan
        assert failed(condition.checks(given | {key: broken})) == [f"{key}: expected finite numbers, got nan"]
    for number in (-1, 2):
        wrong = given | {"distortion_model": torch.full((2, 3), number)}
        expected = f"distortion_model: expected 0 (pinhole) or 1 (fisheye), got {number}"
        assert failed(condition.checks(wrong)) == [expected]
    assert len(condition.checks({"intrinsics": given["intrinsics"]})) == 1


def test_focal_lengths_are_positive_and_the_centre_may_be_anywhere() -> None:
    condition = CameraCondition()
    for values, wrong in (([0.5, 1.0, -2.0, 0.0], 0), ([0.0, 1.0, 0.5, 0.5], 1), ([1.0, -0.1, 0.5, 0.5], 1)):
        checks = condition.plausibility_checks({"intrinsics": torch.tensor([[values]])})
        assert len(failed(checks)) == wrong
    assert condition.plausibility_checks({"extrinsics": torch.eye(4).expand(1, 1, 4, 4)}) == []


def test_a_condition_gives_one_embedding_for_all_times_and_cells() -> None:
    condition, given = CameraCondition(), cameras()
    encoder = condition.make_encoder(5).double()
    assert encoder.translation_scale == 2
    got = condition.encode(encoder, given, None)
    assert got.shape == (2, 1, 3, 1, 1, 5)
    torch.testing.assert_close(got[:, 0, :, 0, 0], encoder(**given))
    assert list(condition.said_by(Scene.create("front", num_frames=8))) == ["camera"]


def test_intrinsics_are_fractions_of_the_image_and_the_rest_is_the_rigs() -> None:
    rig = Scene.create("surround3", num_frames=8).rig
    models = ["pinhole", "fisheye", "pinhole"]
    lens = np.arange(24.0).reshape(3, 8) / 100 * [[1], [0], [1]]
    scenes = [
        Scene.create("surround3", num_frames=8).replace(rig=own)
        for own in (rig, rig.replace(distortion=lens, distortion_model=models))
    ]
    got = CameraCondition().collate(scenes, LatentTimes(8))
    for row, scene in enumerate(scenes):
        for camera in range(3):
            matrix, (height, width) = scene.rig.intrinsics[camera], scene.rig.image_size[camera]
            expected = [matrix[0, 0] / width, matrix[1, 1] / height, matrix[0, 2] / width, matrix[1, 2] / height]
            np.testing.assert_allclose(got["intrinsics"][row, camera], expected)
        np.testing.assert_array_equal(got["extrinsics"][row], scene.rig.extrinsics)
        np.testing.assert_array_equal(got["distortion"][row], scene.rig.distortion)
    assert got["distortion_model"].tolist() == [[0, 0, 0], [0, 1, 0]]
