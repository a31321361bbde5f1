"""What the choices of the region M can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from datamodules.registry import Registry

REGIONS = Registry("region")


@dataclass
class RegionConfig:
    """What every choice of M has.

    Attributes:
        name: the choice's name.
        reach: candidates lie within this signed distance of the surface, mm.
    """

    needs_prediction: ClassVar[bool] = True
    """Whether the choice looks at a prediction of the patch as it is, which a single pass has not got."""

    name: str
    reach: float = 15.0


@dataclass
class ShareConfig(RegionConfig):
    """What every choice has that leaves candidates out.

    Attributes:
        share: part of the candidates that M takes.
    """

    name: str
    share: float = 0.2


@REGIONS.register("entropy+band", target="lightning_modules.regions.choices.entropy:EntropyBand")
@dataclass
class EntropyBandConfig(ShareConfig):
    """Where the entropy of the prediction is highest, those near the surface favoured.

    Attributes:
        band: weight β of the boundary band [−2, 3] mm at the start, and at the end of the ramp.
    """

    name: str = "entropy+band"
    band: tuple[float, float] = (1.0, 0.5)


@REGIONS.register("entropy", target="lightning_modules.regions.choices.entropy:Entropy")
@dataclass
class EntropyConfig(ShareConfig):
    """Where the entropy of the prediction is highest."""

    name: str = "entropy"


@REGIONS.register("mc_dropout", target="lightning_modules.regions.choices.mc_dropout:McDropout")
@dataclass
class McDropoutConfig(ShareConfig):
    """Where the mean of several decodes with dropped channels is most uncertain (Gal & Ghahramani, 2016).

    Attributes:
        samples: decodes T.
        rate: share of the encoder's channels that each of them lacks.
    """

    name: str = "mc_dropout"
    samples: int = 4
    rate: float = 0.2


@REGIONS.register("ema_teacher", target="lightning_modules.regions.choices.ema_teacher:EmaTeacher")
@dataclass
class EmaTeacherConfig(ShareConfig):
    """Where a teacher is most uncertain, whose weights are a moving average (Tarvainen & Valpola, 2017).

    Attributes:
        decay: of the average, per optimiser step.
    """

    name: str = "ema_teacher"
    decay: float = 0.99


@REGIONS.register("band", target="lightning_modules.regions.choices.blind:Band")
@dataclass
class BandConfig(ShareConfig):
    """Near the surface, [−2, 3] mm, whatever the model thinks; what the band leaves of the share is drawn beyond it."""

    needs_prediction: ClassVar[bool] = False

    name: str = "band"


@REGIONS.register("random", target="lightning_modules.regions.choices.blind:Random")
@dataclass
class RandomConfig(ShareConfig):
    """Anywhere among the candidates: the control that tells whether it matters *where*."""

    needs_prediction: ClassVar[bool] = False

    name: str = "random"


@REGIONS.register("whole", target="lightning_modules.regions.choices.blind:Whole")
@dataclass
class WholeConfig(RegionConfig):
    """All candidates."""

    needs_prediction: ClassVar[bool] = False

    name: str = "whole"
