from __future__ import annotations

import pytest
import torch

from gaia2.conditioning.metadata import MetadataEncoder, metadata_ids
from gaia2.conditioning.scene import METADATA, Scene

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
