"""The numbers of one evaluated case."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class CaseMetrics:
    """Agreement of one prediction with its reference, and what the model thinks of its own.

    What is None is not defined for the case, or was not measured: another tool's masks have no probabilities, and
    evaluations of earlier versions had none of the fields from ``recall_head`` on.

    Attributes:
        dice: 2|P∩R| / (|P|+|R|), in [0, 1].
        nsd: normalised surface Dice, in [0, 1]: share of both surfaces within the tolerance of the other one.
        hd95: larger of the two directed 95th percentiles of the surface distances, mm.
        assd: mean distance over both surfaces, mm.
        precision: |P∩R| / |P|, in [0, 1].
        recall: |P∩R| / |R|, in [0, 1].
        volume_ml: volume of the prediction.
        reference_volume_ml: volume of the reference.
        empty_prediction: nothing was predicted.
        empty_reference: there is nothing to predict.
        recall_head: |P∩R₁| / |R₁| of the third of the reference at its head's end, in [0, 1]; None where the
            reference has no such third.
        recall_body: the same of the middle third.
        recall_tail: the same of the third at the tail's end.
        band_dice: Dice of the voxels near the reference's surface, in [0, 1]; see
            :func:`lightning_modules.metrics.band.band_dice`.
        volume_error_ml: |P| − |R|, ml.
        relative_volume_error: (|P| − |R|) / |R|, the relative volume difference (Heimann et al., *Comparison and
            evaluation of methods for liver segmentation from CT datasets*, IEEE TMI 2009) with its sign, so that its
            mean over cases is the bias and its sd the spread; None where there is a prediction without a reference.
        ece: expected calibration error within 15 mm of the reference and inside, in [0, 1]; see
            :func:`lightning_modules.metrics.calibration.expected_calibration_error`.
        uncertainty: mean entropy of the predicted region in bit, from 0 to 1, without a look at the reference; see
            :func:`lightning_modules.metrics.uncertainty.mean_entropy`.
    """

    dice: float
    nsd: float
    hd95: float
    assd: float
    precision: float
    recall: float
    volume_ml: float
    reference_volume_ml: float
    empty_prediction: bool
    empty_reference: bool
    recall_head: float | None = None
    recall_body: float | None = None
    recall_tail: float | None = None
    band_dice: float | None = None
    volume_error_ml: float | None = None
    relative_volume_error: float | None = None
    ece: float | None = None
    uncertainty: float | None = None

    @property
    def failure(self) -> bool:
        """The prediction or the reference is empty, and the other one is not."""
        return self.empty_prediction != self.empty_reference

    @property
    def both_empty(self) -> bool:
        """Prediction and reference are empty."""
        return self.empty_prediction and self.empty_reference


THIRDS = ("recall_head", "recall_body", "recall_tail")
DETAILS = (*THIRDS, "band_dice", "volume_error_ml", "relative_volume_error", "ece", "uncertainty")
"""What not every evaluation has of every case."""
COLUMNS = ("site", "case", *(field.name for field in fields(CaseMetrics)))
"""Of ``per_case.csv``; what is None is an empty cell."""
