"""The study of a sweep on disk: each trial is taken, continued where its process has died, and told, exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from datamodules.randomness import key_seed
from experiments import launch, status
from experiments.ending import job_id
from experiments.sweep.file import SweepFile
from experiments.sweep.leases import Leases
from experiments.sweep.probe import override
from experiments.sweep.pruning import WandbHyperband
from experiments.sweep.space import constants, space
from experiments.sweep.storage import alone, storage

MOST_LIVES = 10
"""So often a trial is taken up again; one that kills its process each time would never end."""
_LIVES, _FOLDER, _REASON = "lives", "folder", "reason"


@dataclass(frozen=True)
class Taken:
    """A trial that is this process' to train.

    Attributes:
        number: of the trial.
        words: its parameters as overrides.
        again: whether it was begun before.
    """

    number: int
    words: tuple[str, ...]
    again: bool


@dataclass(frozen=True)
class Shown:
    """A trial, as it is shown.

    Attributes:
        number: of the trial.
        state: ``done``, ``pruned``, ``failed``, ``running``, or ``waiting`` for somebody to take it up again.
        values: of its parameters, by key.
        value: of the metric, where it has one.
        folder: of its run, once that is known.
        reason: of a failure.
    """

    number: int
    state: Literal["done", "pruned", "failed", "running", "waiting"]
    values: Mapping[str, Any]
    value: float | None
    folder: Path | None
    reason: str


class Study:
    """A sweep's trials.

    Args:
        folder: of the sweep.
        plan: what is searched, and how.
        seed: of what is drawn: a trial's parameters under grid and random search follow from it and the trial's number,
            whoever takes it.
    """

    def __init__(self, folder: Path, plan: SweepFile, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        self.plan = plan
        self.leases = Leases(folder)
        self._seed = seed
        self._space = space(plan.parameters)
        self._constants = constants(plan.parameters)
        with alone(folder):
            self._study = optuna.create_study(
                storage=storage(folder),
                study_name="sweep",
                direction="maximize" if plan.metric.maximize else "minimize",
                load_if_exists=True,
                sampler=RandomSampler(),
                pruner=optuna.pruners.NopPruner() if plan.early is None else WandbHyperband(plan.early),
            )

    @property
    def size(self) -> int | None:
        """Trials of the whole grid; None where there is no end."""
        if self.plan.method != "grid":
            return None
        count = 1
        for dimension in self._space:
            count *= len(dimension.grid)
        return count

    def take(self, cap: int, phase: Literal["asked", "running"] = "running") -> Taken | None:
        """A trial to train: this job's own, else one whose process has died, else a new one; None where there is none.

        Args:
            cap: most trials.
            phase: of the lease.
        """
        jobs = self._jobs()
        with alone(self.folder):
            waiting = self._trials(TrialState.RUNNING)
            own = [trial for trial in waiting if self._is_own(trial)]
            dead = [trial for trial in waiting if not self._is_own(trial) and not self.leases.alive(trial.number, jobs)]
            for trial in [*own, *dead]:
                lives = int(trial.user_attrs.get(_LIVES, 1))
                if trial in dead and lives >= MOST_LIVES:
                    self._fail(trial._trial_id, f"its process has died {lives} times")
                    continue
                return self._again(trial, lives + 1, phase)
            if len(self._study.get_trials(deepcopy=False)) >= cap or self._target_is_reached():
                return None
            return self._new(phase)

    def taken(self, number: int) -> Taken | None:
        """A trial that somebody has taken for this process; None where it is finished."""
        trial = self._frozen(number)
        return None if trial.state.is_finished() else Taken(number, tuple(self._words(trial)), True)

    def twin_is_running(self, number: int) -> bool:
        """Whether an earlier trial that has drawn the same is being trained: both are one run, which goes on alone."""
        own = self._values(self._frozen(number))
        twins = [
            each for each in self._trials(TrialState.RUNNING) if each.number < number and self._values(each) == own
        ]
        jobs = self._jobs()
        return any(self.leases.alive(trial.number, jobs) for trial in twins)

    def note_folder(self, number: int, folder: Path) -> None:
        """Note where the run of a trial lives."""
        self._study._storage.set_trial_user_attr(self._frozen(number)._trial_id, _FOLDER, str(folder))

    def judge(self, number: int, validation: int, value: float) -> bool:
        """Whether a trial is to end after a validation.

        Args:
            number: of the trial.
            validation: its number, from 1; one that was told before is not told again.
            value: what it measured.
        """
        trial = self._frozen(number)
        if trial.state.is_finished():
            return False
        if validation not in trial.intermediate_values:
            self._study._storage.set_trial_intermediate_value(trial._trial_id, validation, value)
            trial = self._frozen(number)
        return self._study.pruner.prune(self._study, trial)

    def tell(self, number: int, value: float | None, state: TrialState, reason: str = "") -> None:
        """End a trial, unless it is ended already."""
        with alone(self.folder):
            trial = self._frozen(number)
            if trial.state.is_finished():
                return
            if state == TrialState.FAIL:
                self._fail(trial._trial_id, reason)
            else:
                values = None if value is None else [value]
                self._study._storage.set_trial_state_values(trial._trial_id, state, values)
            self.leases.give_back(number)

    def shown(self) -> list[Shown]:
        """All trials, by number."""
        jobs = self._jobs()
        return [self._shown(trial, jobs) for trial in self._study.get_trials(deepcopy=False)]

    def best(self) -> Shown | None:
        """The finished trial that does best; None where there is none."""
        done = [trial for trial in self.shown() if trial.state == "done" and trial.value is not None]
        sign = 1 if self.plan.metric.maximize else -1
        return max(done, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def importances(self) -> dict[str, float]:
        """How much each parameter matters, by PED-ANOVA; empty where too few trials are done."""
        done = self._trials(TrialState.COMPLETE)
        if len(done) < 4 or len({trial.value for trial in done}) < 2 or not self._space:
            return {}
        return optuna.importance.get_param_importances(
            self._study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )

    def mapping(self) -> list[str]:
        """What method, parameters and early end map to, a line each."""
        sampler, early = type(self._sampler(0)).__name__, self.plan.early
        lines = [f"method {self.plan.method}: Optuna's {sampler}"]
        kinds = {parameter.key: parameter.distribution for parameter in self.plan.parameters}
        for dimension in self._space:
            shown = repr(dimension.distribution).replace("Distribution(", "(")
            lines.append(f"{dimension.key}: {kinds[dimension.key]}: {dimension.words}; {shown}")
        lines += [f"{key}: constant: {value}" for key, value in self._constants.items()]
        if early is not None:
            shown = ", ".join(map(str, early.bands[:4])) + (", …" if len(early.bands) > 4 else "")
            lines.append(f"early_terminate hyperband: after validations {shown} the best 1/{early.eta:g} go on")
        return lines

    def _sampler(self, number: int) -> BaseSampler:
        seed = key_seed(self._seed, number, "sweep") % 2**32
        if self.plan.method == "grid":
            # One order for all processes: a trial's place in it is its number.
            order = key_seed(self._seed, "sweep") % 2**32
            return GridSampler({dimension.key: dimension.grid for dimension in self._space}, seed=order)
        if self.plan.method == "random":
            return RandomSampler(seed=seed)
        # What is running counts as bad, lest several processes try the same.
        return TPESampler(seed=seed, constant_liar=True)

    def _new(self, phase: Literal["asked", "running"]) -> Taken:
        self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
        trial = self._study.ask()
        self.leases.take(trial.number, phase)
        self._suggest(trial)
        return Taken(trial.number, tuple(self._words(self._frozen(trial.number))), False)

    def _again(self, frozen: FrozenTrial, lives: int, phase: Literal["asked", "running"]) -> Taken:
        self._study._storage.set_trial_user_attr(frozen._trial_id, _LIVES, lives)
        self.leases.take(frozen.number, phase)
        # Its process may have died before all of its parameters were drawn.
        self._study.sampler = self._sampler(frozen.number)
        self._suggest(Trial(self._study, frozen._trial_id))
        return Taken(frozen.number, tuple(self._words(self._frozen(frozen.number))), True)

    def _suggest(self, trial: Trial) -> None:
        for dimension in self._space:
            trial._suggest(dimension.key, dimension.distribution)

    def _values(self, trial: FrozenTrial) -> dict[str, Any]:
        drawn = {each.key: each.value(trial.params[each.key]) for each in self._space if each.key in trial.params}
        return {parameter.key: (drawn | self._constants).get(parameter.key) for parameter in self.plan.parameters}

    def _words(self, trial: FrozenTrial) -> list[str]:
        return [override(key, value) for key, value in self._values(trial).items()]

    def _shown(self, trial: FrozenTrial, jobs: Mapping[str, str] | None) -> Shown:
        states: dict[TrialState, Literal["done", "pruned", "failed"]] = {
            TrialState.COMPLETE: "done",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
        }
        alive: Literal["running", "waiting"] = "running" if self.leases.alive(trial.number, jobs) else "waiting"
        attributes = trial.user_attrs
        return Shown(
            trial.number,
            states.get(trial.state, alive),
            self._values(trial),
            trial.value,
            Path(attributes[_FOLDER]) if _FOLDER in attributes else None,
            str(attributes.get(_REASON, "")),
        )

    def _fail(self, identity: int, reason: str) -> None:
        self._study._storage.set_trial_user_attr(identity, _REASON, reason)
        self._study._storage.set_trial_state_values(identity, TrialState.FAIL)

    def _jobs(self) -> dict[str, str] | None:
        """SLURM's jobs, where a trial is some job's; asking takes its time."""
        leases = [self.leases.read(trial.number) for trial in self._trials(TrialState.RUNNING)]
        return status.jobs() if any(lease is not None and lease.job is not None for lease in leases) else None

    def _target_is_reached(self) -> bool:
        target, maximize = self.plan.metric.target, self.plan.metric.maximize
        values = [trial.value for trial in self._trials(TrialState.COMPLETE) if trial.value is not None]
        return target is not None and any(value >= target if maximize else value <= target for value in values)

    def _is_own(self, trial: FrozenTrial) -> bool:
        job, lease = job_id(), self.leases.read(trial.number)
        if job is None or lease is None or lease.job != job:
            return False
        # What an earlier life of this job was training when its machine went down is its own too.
        return lease.phase != "running" or (launch.restarts() > 0 and not self.leases.is_here(lease))

    def _trials(self, state: TrialState) -> Sequence[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))

    def _frozen(self, number: int) -> FrozenTrial:
        storage_ = self._study._storage
        return storage_.get_trial(storage_.get_trial_id_from_study_id_trial_number(self._study._study_id, number))
