"""A trained backbone as MONAI's own network: a class of MONAI's, its arguments, and weights under MONAI's names.

Nothing is renamed: a backbone is made of the layers of a network of MONAI's, so that weights put into the one are in
the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from monai.networks import nets
from torch import Tensor, nn

from lightning_modules.networks.backbone import Backbone
from lightning_modules.networks.config import NetworkConfig
from lightning_modules.networks.dynunet import dynunet_arguments, dynunet_backbone
from lightning_modules.networks.mednext import mednext_arguments, mednext_backbone
from lightning_modules.networks.segresnet import segresnet_arguments, segresnet_backbone
from lightning_modules.networks.swin_unetr import swin_unetr_arguments, swin_unetr_backbone

DEEP = "decoder.deep."
"""Heads that only training uses."""


class PlainNetwork(NamedTuple):
    """What rebuilds a network by MONAI alone."""

    name: str
    """Class in ``monai.networks.nets``."""
    arguments: dict[str, Any]
    """What it is called with, as plain containers."""
    weights: dict[str, Tensor]
    """Its state."""


class _Kind(NamedTuple):
    name: str
    arguments: Callable[[Any], dict[str, Any]]
    backbone: Callable[[Any, Any], Backbone]


_KINDS = {
    "dynunet": _Kind("DynUNet", dynunet_arguments, dynunet_backbone),
    "mednext": _Kind("MedNeXt", mednext_arguments, mednext_backbone),
    "segresnet": _Kind("SegResNet", segresnet_arguments, segresnet_backbone),
    "swin_unetr": _Kind("SwinUNETR", swin_unetr_arguments, swin_unetr_backbone),
}


def plain_network(config: NetworkConfig, weights: Mapping[str, Tensor], patch: tuple[int, int, int]) -> PlainNetwork:
    """MONAI's network with a backbone's weights, shown to give the same logits to the last bit.

    Args:
        config: the backbone's settings.
        weights: the backbone's state.
        patch: d, h, w of the patches that it takes.

    Raises:
        RuntimeError: it does not give the same logits: this MONAI's network is not the one that was trained.
    """
    kind = _KINDS[config.name]
    arguments = kind.arguments(config)
    shared: nn.Module = getattr(nets, kind.name)(**arguments)
    backbone = kind.backbone(shared, config)
    backbone.load_state_dict({name: value for name, value in weights.items() if not name.startswith(DEEP)})
    state = {name: value.detach().cpu().clone() for name, value in shared.state_dict().items()}
    rebuilt: nn.Module = getattr(nets, kind.name)(**arguments)
    rebuilt.load_state_dict(state)
    image = torch.rand(1, 1, *patch, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if not torch.equal(rebuilt.eval()(image), backbone.eval()(image).logits):
            raise RuntimeError(f"MONAI's {kind.name} does not give the logits of the run's network")
    return PlainNetwork(kind.name, arguments, state)
