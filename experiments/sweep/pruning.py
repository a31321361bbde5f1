"""W&B's rule for ending trials early, as a pruner of Optuna's."""

from __future__ import annotations

from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from experiments.sweep.early import Early


class WandbHyperband(BasePruner):
    """Ends what is not among the best ``1 / eta`` at the last band that it has reached.

    As W&B's own stopping does, running trials count at every band that they have reached. It differs from Optuna's
    successive halving, which holds a trial only against those that reached a band before it.

    Args:
        early: bands in numbers of validations, which are the steps of the trials' intermediate values.
    """

    def __init__(self, early: Early) -> None:
        self._early = early

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether the trial is to be ended now."""
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        own = _history(trial, sign)
        reached = [band for band in self._early.bands if band <= len(own)]
        if not reached:
            return False
        band = reached[-1]
        histories = [
            _history(other, sign) for other in study.get_trials(deepcopy=False) if other._trial_id != trial._trial_id
        ]
        values = sorted(history[band - 1] for history in [*histories, own] if len(history) >= band)
        threshold = values[int(len(values) / self._early.eta)]
        return (own[band - 1] if self._early.strict else min(own)) > threshold


def _history(trial: FrozenTrial, sign: int) -> list[float]:
    """What a trial has measured, by the number of the validation; the smaller, the better."""
    return [sign * trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
