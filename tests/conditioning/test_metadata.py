from __future__ import annotations

import pytest
import torch

from gaia2.conditioning.collate import scene_conditioning
from gaia2.conditioning.metadata import MetadataEncoder, metadata_ids
from gaia2.scene import METADATA, Scene
from tests.tiny import world_model

VOCABULARY = {"weather": ("clear", "rain", "snow"), "lanes": (1, 2), "one_way": (False, True), "district": 4}


def test_ids_of_every_value_of_the_library() -> None:
    for column, (name, values) in enumerate(METADATA.items()):
        for index, value in enumerate(values):
            ids = metadata_ids(Scene.create("front", num_frames=1, **{name: value}).metadata, METADATA)
            assert ids == [index if i == column else -1 for i in range(len(METADATA))]


def test_ids_of_a_users_vocabulary() -> None:
    assert metadata_ids({"district": 3, "one_way": False, "lanes": None}, VOCABULARY) == [-1, -1, 0, 3]


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        ({"wether": "rain"}, "metadata: unknown name 'wether'; did you mean 'weather'"),
        ({"weather": "rian"}, r"weather: unknown value 'rian'; did you mean 'rain'\? Expected one of: 'clear'"),
        ({"lanes": True}, "lanes: unknown value True"),
        ({"one_way": 1}, "one_way: unknown value 1"),
        ({"district": 9}, r"district: unknown value 9; did you mean 3\? Expected 0 to 3"),
    ],
)
def test_unknown_names_and_values(metadata: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        metadata_ids(metadata, VOCABULARY)


def test_every_id_and_every_absence_has_its_own_vector() -> None:
    encoder = MetadataEncoder(dim=4, vocabulary=VOCABULARY)
    sizes = [3, 2, 2, 4]
    vectors = []
    for column, size in enumerate(sizes):
        for index in range(-1, size):
            ids = torch.zeros(1, 4, dtype=torch.int64)
            ids[0, column] = index
            vectors.append(encoder(ids)[0, column])
    stacked = torch.stack(vectors)
    assert stacked.shape[0] == encoder.table.num_embeddings
    assert (torch.cdist(stacked, stacked) + torch.eye(len(stacked))).min() > 1e-3
    torch.testing.assert_close(stacked, encoder.table.weight)  # each row used exactly once


def test_columns_do_not_mix_and_batches_agree() -> None:
    encoder = MetadataEncoder(dim=4, vocabulary=VOCABULARY)
    ids = torch.tensor([[1, -1, 0, 3], [-1, 1, 1, 0]])
    both = encoder(ids)
    for row in range(2):
        torch.testing.assert_close(both[row], encoder(ids[row : row + 1])[0])
    changed = ids.clone()
    changed[0, 0] = 2
    assert ((encoder(changed) - both).abs().amax(dim=-1) > 0).tolist() == [[True, False, False, False], [False] * 4]


def test_offsets_are_saved_with_the_weights() -> None:
    encoder = MetadataEncoder(dim=4, vocabulary=VOCABULARY)
    with torch.device("meta"):
        empty = MetadataEncoder(dim=4, vocabulary=VOCABULARY)
    empty.load_state_dict(encoder.state_dict(), assign=True)
    ids = torch.tensor([[1, -1, 0, 3]])
    torch.testing.assert_close(empty(ids), encoder(ids))


def test_bad_input() -> None:
    with pytest.raises(
        ValueError, match=r"metadata: expected \(b, k=4\), got \(1, 3\); the columns are weather, lanes"
    ):
        MetadataEncoder(dim=4, vocabulary=VOCABULARY)(torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="vocabulary: expected at least one value for 'empty', got 0"):
        MetadataEncoder(dim=4, vocabulary={"empty": ()})


def test_a_users_own_metadata_go_from_the_scene_through_the_config_to_the_model() -> None:
    vocabulary = {"weather": ["clear", "hail"], "x_road_surface": ["dry", "wet"]}
    scene = Scene.create("front", num_frames=8, x_road_surface="wet")
    assert Scene.from_json(scene.to_json()) == scene
    assert scene.replace(x_road_surface=None).metadata == {}
    model, latents = world_model(metadata=vocabulary), torch.randn(1, 1, 1, 2, 4, 4)
    outputs = []
    for variant in (scene, scene.replace(x_road_surface="dry"), scene.replace(x_road_surface=None)):
        given = scene_conditioning(variant, vocabulary=model.config.metadata)
        outputs.append(model(latents, torch.zeros(1), given).sample)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (outputs[one] - outputs[other]).abs().max() > 1e-5
    with pytest.raises(ValueError, match="metadata: x_road_surface: unknown value 'icy'; did you mean 'dry'"):
        scene_conditioning(scene.replace(x_road_surface="icy"), vocabulary=vocabulary)
    with pytest.raises(ValueError, match="metadata: unknown name 'x_road_surface'"):
        scene_conditioning(scene)
    with pytest.raises(ValueError, match=r"metadata: x_road_surface: expected a string, .* got \[1\]"):
        Scene.create("front", num_frames=8, x_road_surface=[1])
    with pytest.raises(ValueError, match=r"Scene\.create: unknown argument 'road_surface'"):
        Scene.create("front", num_frames=8, road_surface="wet")
