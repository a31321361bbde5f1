"""The steps of the bundle that MONAI has not got: to the training grid, windows that slide, and the way back.

They come to the same voxels as Pansite, whose files ``grids.py`` and ``inference.py`` are, unaltered but for imports.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor, nn

from datamodules.grids import Spacing, larger_pieces, resampled, training_grid
from lightning_modules.inference import InferenceSettings, predict_probability


def images(folder: str) -> list[dict[str, str]]:
    """The NIfTI files in a folder, each as ``{"image": path}``.

    Raises:
        FileNotFoundError: there is none.
    """
    found = sorted(str(file) for file in Path(folder).iterdir() if file.name.endswith((".nii", ".nii.gz")))
    if not found:
        raise FileNotFoundError(f"{folder}: there is no NIfTI file (.nii, .nii.gz) in it; give --dataset_dir")
    return [{"image": file} for file in found]


def with_weights(network: nn.Module, checkpoint: str, device: torch.device) -> nn.Module:
    """A network with the weights of a file, of which nothing is executed."""
    network.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    return network.to(device).eval()


class ToTrainingGridd(MapTransform):  # type: ignore[misc]  # untyped
    """HU in any orientation onto the grid that the network was trained on: RAS, cropped to the body, resampled.

    Args:
        keys: of 1×W×H×D images with their affines.
        spacing: mm along left-right, posterior-anterior, inferior-superior.
        hu_range: to which HU are clipped.
        allow_missing_keys: as MONAI has it.
    """

    def __init__(
        self, keys: KeysCollection, spacing: Spacing, hu_range: tuple[float, float], allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.spacing, self.hu_range = spacing, hu_range

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace the images; their own grid is kept as ``original_affine`` and ``spatial_shape``."""
        found = dict(data)
        for key in self.key_iterator(found):
            image = found[key]
            affine = np.asarray(image.affine, dtype=np.float64)
            hu = np.asarray(image[0], dtype=np.float32)
            stored, grid = training_grid(hu, affine, self.spacing, self.hu_range)
            voxels = torch.from_numpy(stored.astype(np.float32))[None]
            found[key] = _placed(
                voxels, grid, image, original_affine=torch.from_numpy(affine), spatial_shape=np.array(hu.shape)
            )
        return found


class SlidingProbability(Inferer):  # type: ignore[misc]  # untyped
    """Probability of pancreas at every voxel of whole volumes.

    Args:
        window: d, h, w, the size of a training patch.
        overlap: of neighbouring windows, as a share of the window, in [0, 1).
        flips: average over the eight mirrored inputs.
    """

    def __init__(self, window: Sequence[int], overlap: float, flips: bool) -> None:
        super().__init__()
        self.window, self.settings = tuple(window), InferenceSettings(overlap, flips)

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """B×1×D×H×W in [0, 1] to float32 B×1×D×H×W in [0, 1]."""
        volumes = convert_to_tensor(inputs, track_meta=False)
        return torch.cat([predict_probability(network, v[None], self.window, self.settings) for v in volumes])


class ToNativeLabeld(MapTransform):  # type: ignore[misc]  # untyped
    """Probabilities on the training grid as one label, uint8 0 or 1, on the voxels of the image's file.

    Args:
        keys: of 1×D×H×W probabilities, a network's each; of several the mean is taken on the file's voxels.
        output: key of the label.
        image: key of the image that they are of, as :class:`ToTrainingGridd` left it.
        threshold: above which a voxel is pancreas.
        smallest_piece: pieces under this share of the largest piece are left out.
        allow_missing_keys: as MONAI has it.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output: str = "pred",
        image: str = "image",
        threshold: float = 0.5,
        smallest_piece: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output, self.image = output, image
        self.threshold, self.smallest_piece = threshold, smallest_piece

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Put the label where the probabilities were."""
        found = dict(data)
        image = found[self.image]
        affine = np.asarray(image.meta["original_affine"], dtype=np.float64)
        grid = np.asarray(image.affine.cpu(), dtype=np.float64)
        width, height, depth = (int(size) for size in image.meta["spatial_shape"])
        # One after the other, so that no more than two are there at once, and added in Pansite's order.
        mean = np.zeros((width, height, depth), dtype=np.float32)
        for key in self.key_iterator(found):
            probability = np.asarray(found.pop(key)[0].cpu(), dtype=np.float32)
            mean += resampled(probability, grid, affine, (width, height, depth))
        mean /= np.float32(len(self.keys))
        label = larger_pieces(mean > self.threshold, self.smallest_piece)
        found[self.output] = _placed(torch.from_numpy(label.astype(np.uint8))[None], affine, image)
        return found


def _placed(voxels: Tensor, affine: NDArray[np.float64], image: Any, **meta: Any) -> Any:
    """Voxels at a place, with what is known of the image that they are made of."""
    known = {name: value for name, value in image.meta.items() if name != "affine"}
    return MetaTensor(voxels, affine=torch.from_numpy(affine), meta={**known, **meta})
