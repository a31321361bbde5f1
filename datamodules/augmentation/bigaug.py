"""The intensities of BigAug's stack (Zhang et al., IEEE TMI 2020); its geometry is :mod:`.spatial`'s."""

from __future__ import annotations

from monai.transforms import GaussianSharpen
from torch import Tensor

from datamodules.augmentation.config import BigAugConfig
from datamodules.augmentation.draws import Draws
from datamodules.augmentation.intensity import blur, gamma, noise

WIDTHS = (1.0, 0.5)
"""Standard deviations, in voxels, of the two blurs whose difference sharpens."""


def bigaug(image: Tensor, config: BigAugConfig, draws: Draws) -> Tensor:
    """Sharpness, blur, noise, brightness, contrast (γ), perturbation, in the paper's order; each by its own draw.

    The sharpening is MONAI's.

    Args:
        image: float D×H×W in [0, 1].
        config: its settings.
        draws: of the sample.

    Returns:
        D×H×W, not clipped.
    """

    def drawn(purpose: str, low: float, high: float) -> float | None:
        numbers = draws.numbers(f"bigaug {purpose}")
        chosen, value = numbers.random() < config.intensity, float(numbers.uniform(low, high))
        return value if chosen else None

    if (amount := drawn("sharpness", *config.sharpness)) is not None:
        image = GaussianSharpen(*WIDTHS, alpha=amount)(image[None]).as_subclass(Tensor)[0]
    if sd := drawn("blur", *config.blur):
        image = blur(image, sd)
    if sd := drawn("noise", 0.0, config.noise):
        image = noise(image, sd, draws.tensors("bigaug noise voxels", image.device))
    if (shift := drawn("brightness", -config.brightness, config.brightness)) is not None:
        image = image + shift
    if (exponent := drawn("contrast", *config.contrast)) is not None:
        image = gamma(image, exponent, inverted=False)
    if (factor := drawn("perturbation", -config.perturbation, config.perturbation)) is not None:
        numbers = draws.numbers("bigaug perturbing shift")
        image = image * (1 + factor) + float(numbers.uniform(-config.perturbation, config.perturbation))
    return image
