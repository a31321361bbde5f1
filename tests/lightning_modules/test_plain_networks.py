"""Every backbone can be handed over as MONAI's own network, with no layer of ours in it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from monai.networks import nets
from small_networks import PATCHES, SMALL

from lightning_modules.networks.config import NETWORKS, DynUNetConfig, MedNeXtConfig, NetworkConfig
from lightning_modules.networks.plain import plain_network

DEEP = {
    "deep dynunet": DynUNetConfig(filters=(4, 8, 12, 16), deep_supervision=True),
    "deep mednext": MedNeXtConfig(init_filters=4, deep_supervision=True),
}


@pytest.mark.parametrize("config", [*SMALL.values(), *DEEP.values()], ids=[*SMALL, *DEEP])
def test_monai_rebuilds_a_backbone_from_plain_containers_and_gives_the_same_logits(config: NetworkConfig) -> None:
    backbone = NETWORKS.build(config, 3).eval()
    patch = PATCHES[config.name]
    name, arguments, weights = plain_network(config, backbone.state_dict(), patch)
    network = getattr(nets, name)(**json.loads(json.dumps(arguments))).eval()
    network.load_state_dict(weights)
    image = torch.rand(1, 1, *patch, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        assert torch.equal(network(image), backbone(image).logits)
    assert not any(type(layer).__module__.startswith("lightning_modules") for layer in network.modules())


def test_a_network_that_is_another_in_this_monai_is_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(SMALL["dynunet"])
    weights = NETWORKS.build(config, 3).state_dict()
    original = nets.DynUNet.forward
    monkeypatch.setattr(nets.DynUNet, "forward", lambda self, image: original(self, image) + 1e-3)
    with pytest.raises(RuntimeError, match="does not give the logits of the run's network"):
        plain_network(config, weights, PATCHES["dynunet"])
