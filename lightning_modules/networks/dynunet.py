"""MONAI's DynUNet, its stages run one by one so that every feature map is at hand."""

from __future__ import annotations

from monai.networks.nets import DynUNet
from torch import Tensor, nn

from datamodules.errors import UsageError
from lightning_modules.keyed_initialisation import keyed_initialisation
from lightning_modules.memory_layout import keep_layout
from lightning_modules.networks.backbone import Backbone
from lightning_modules.networks.config import DynUNetConfig

FEWEST_LEVELS = 3
DEEP_HEADS = 2


class Encoder(nn.Module):
    """The stages on the way down.

    Args:
        stages: one per stride 1, 2, 4, …, the bottleneck last.
    """

    def __init__(self, stages: list[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Features by stride of B×1×D×H×W."""
        features: dict[int, Tensor] = {}
        x = image
        for level, stage in enumerate(self.stages):
            x = stage(x)
            features[2**level] = x
        return features


class Decoder(nn.Module):
    """The stages on the way up, by transposed convolution (trilinear has no deterministic backward on CUDA).

    Args:
        stages: the deepest first.
        output: decoder features at stride 1 → logits.
        deep: the same for strides 2, 4, …; may be empty.
    """

    def __init__(self, stages: nn.ModuleList, output: nn.Module, deep: nn.ModuleList) -> None:
        super().__init__()
        self.stages = stages
        self.output = output
        self.deep = deep

    def forward(self, encoder: dict[int, Tensor]) -> tuple[dict[int, Tensor], Tensor, list[Tensor]]:
        """Decoder features by stride, logits at stride 1, logits at strides 2, 4, … while training."""
        features: dict[int, Tensor] = {}
        stride = max(encoder)
        x = encoder[stride]
        for stage in self.stages:
            stride //= 2
            x = stage(x, encoder[stride])
            features[stride] = x
        deep = [head(features[2 ** (i + 1)]) for i, head in enumerate(self.deep)] if self.training else []
        return features, self.output(x), deep


def build_dynunet(config: DynUNetConfig, seed: int) -> Backbone:
    """A DynUNet of one input and one output channel with InstanceNorm, initialised by MONAI's rule.

    Args:
        config: its settings.
        seed: of the run; the weights depend on it and the settings alone.

    Raises:
        UsageError: too few levels.
    """
    levels = len(config.filters)
    if levels < FEWEST_LEVELS or min(config.filters) < 1:
        raise UsageError(
            f"model.network.filters: {list(config.filters)} must name at least {FEWEST_LEVELS} positive widths, "
            "one for each of the strides 1, 2, 4, …"
        )
    heads = min(DEEP_HEADS, levels - 2) if config.deep_supervision else 0
    with keyed_initialisation(seed, "backbone"):
        network = monai_dynunet(config, heads)
    keep_layout(network)
    deep = network.deep_supervision_heads if heads else nn.ModuleList()
    stages = [network.input_block, *network.downsamples, network.bottleneck]
    channels = {2**level: width for level, width in enumerate(config.filters)}
    return Backbone(
        Encoder(stages),
        Decoder(network.upsamples, network.output_block, deep),
        encoder_channels=channels,
        decoder_channels={stride: width for stride, width in channels.items() if stride < max(channels)},
    )


def monai_dynunet(config: DynUNetConfig, deep_heads: int) -> DynUNet:
    """MONAI's network as it comes: isotropic kernels of 3, strides of 2."""
    levels = len(config.filters)
    return DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(config.filters),
        norm_name=("INSTANCE", {"affine": True}),
        deep_supervision=deep_heads > 0,
        deep_supr_num=max(deep_heads, 1),
        res_block=config.residual,
    )
