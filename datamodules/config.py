"""The ``data:`` section of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from datamodules.augmentation.config import AUGMENTATIONS, AugmentationConfig, LightConfig
from datamodules.layouts import LAYOUTS, SiteConfig
from datamodules.layouts.phantom import PhantomSite


@dataclass
class SplitConfig:
    """Train, validation and test cases of the source, by patient.

    Attributes:
        folds: number of folds; fold ``fold`` tests, the next one validates, the others train.
        fold: the fold that tests, from 0.
        seed: which patients come together in a fold; apart from the experiment's seed, so that runs of several seeds
            are tested on the same cases.
        file: a JSON file with lists ``train``, ``validation`` and ``test`` of case ids, instead of folds.
    """

    folds: int = 5
    fold: int = 0
    seed: int = 0
    file: str | None = field(default=None, metadata={"path": True})


@dataclass
class SamplingConfig:
    """Where patches are taken.

    Attributes:
        foreground: share of patches centred on the pancreas, between 2/3 and 1.
    """

    foreground: float = 2 / 3


@dataclass
class StructureConfig:
    """The spatial structure that is computed on whole label volumes.

    Attributes:
        axis: how the head-to-tail coordinate is found.
    """

    axis: Literal["geodesic", "pca", "none"] = "geodesic"


@dataclass
class SourceData:
    """All that training sees: the source site alone.

    Attributes:
        source: the source site.
        patch_size: D, H, W of a training patch in voxels.
        batch_size: global batch, over all ranks and accumulated batches.
        spacing: training spacing in mm along D, H, W; null takes the source's median.
        window: HU that become 0 and 1.
        store: folder of the preprocessed cases, shared by all experiments.
        split: train, validation and test cases.
        sampling: where patches are taken.
        structure: the spatial structure maps.
        augmentation: what is done to a batch of patches, on the GPU or by the loader processes.
        workers: loader processes a rank, and processes that prepare cases.
    """

    source: SiteConfig = field(
        default_factory=lambda: PhantomSite(name="phantom_source"), metadata={"registry": LAYOUTS, "replace": True}
    )
    patch_size: tuple[int, int, int] = (96, 96, 96)
    batch_size: int = 2
    spacing: tuple[float, float, float] | None = None
    window: tuple[float, float] = (-100.0, 240.0)
    store: str = field(default="~/.cache/pansite", metadata={"path": True})
    split: SplitConfig = field(default_factory=SplitConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    augmentation: AugmentationConfig = field(default_factory=LightConfig, metadata={"registry": AUGMENTATIONS})
    workers: int = 0


@dataclass
class DataConfig(SourceData):
    """The source, and the sites that are held out from training and from every choice.

    Attributes:
        held_out: held-out sites by name.
        overlap: what is done with a held-out case whose scan, by content, is the source's too: refuse, leave it out by
            name, or test on it all the same, which the report says for ever.
    """

    held_out: dict[str, SiteConfig] = field(default_factory=dict, metadata={"registry": LAYOUTS, "replace": True})
    overlap: Literal["error", "exclude", "allow"] = "error"

    def training(self) -> SourceData:
        """The part of this that training may see: it has no field that could name a held-out site."""
        return SourceData(**{f.name: getattr(self, f.name) for f in fields(SourceData)})
