"""What learns: networks, the three losses, regions, inference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_modules.config import ModelConfig, Preprocessing
    from lightning_modules.dual_ssl import DualSSLModule

__all__ = ["DualSSLModule", "ModelConfig", "Preprocessing"]


def __getattr__(name: str) -> Any:
    """Import on first use: ``lightning_modules.config`` must stay free of torch."""
    if name == "DualSSLModule":
        from lightning_modules.dual_ssl import DualSSLModule

        return DualSSLModule
    if name in ("ModelConfig", "Preprocessing"):
        from lightning_modules import config

        return getattr(config, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
