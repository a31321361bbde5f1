"""Who started this process, by the environment that ``srun``, ``torchrun`` and Lightning's launcher leave it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from datamodules.errors import UsageError
from experiments import launch
from experiments.config import TrainerConfig
from experiments.console import own_words

ALONE: dict[str, str] = {}
BATCH = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "a", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
SRUN = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
SHELL = {**SRUN, "SLURM_JOB_NAME": "bash", "SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"}
LAUNCHED = {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}
SECOND_NODE = {"NODE_RANK": "1", "MASTER_ADDR": "node0"}


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    def be(environment: dict[str, str]) -> None:
        for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
            monkeypatch.delenv(name)
        for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "GROUP_RANK"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return be


@pytest.mark.parametrize(
    ("environment", "first", "position", "local"),
    [
        (ALONE, True, (0, 1), 0),
        (BATCH, True, (0, 1), 0),
        (SRUN, False, (1, 2), 1),
        (SRUN | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True, (0, 2), 0),
        (SHELL, True, (0, 1), 0),
        (TORCHRUN, False, (1, 2), 1),
        (TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0"}, True, (0, 2), 0),
        (TORCHRUN | SRUN | {"RANK": "0", "LOCAL_RANK": "0"}, True, (0, 2), 0),
        (LAUNCHED, False, (0, 1), 1),
        (LAUNCHED | {"LOCAL_RANK": "0"}, True, (0, 1), 0),
        (LAUNCHED | {"LOCAL_RANK": "0", "NODE_RANK": "1"}, False, (0, 1), 0),
        (SECOND_NODE, False, (0, 1), 0),
    ],
)
def test_first_of_all_and_place_among_those_started(
    within: Callable[[dict[str, str]], None],
    environment: dict[str, str],
    first: bool,
    position: tuple[int, int],
    local: int,
) -> None:
    within(environment)
    assert (launch.first(), launch.position(), launch.local_rank()) == (first, position, local)


@pytest.mark.parametrize(
    ("environment", "devices", "nodes", "sentence"),
    [
        (ALONE, 2, 1, ""),
        (SECOND_NODE, 2, 2, ""),
        (SRUN | {"SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}, 2, 1, ""),
        (SRUN | {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"}, 1, 2, ""),
        (TORCHRUN, 2, 1, ""),
        (TORCHRUN | SRUN, 2, 1, ""),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "4"}, 1, 1, ""),
        (SHELL, 2, 1, ""),
        (BATCH, 2, 1, ""),
        (SRUN, 1, 1, "trainer.devices: 1 on 1 node make 1 processes, but srun has started 2"),
        (SRUN, 2, 1, "srun: --ntasks alone does not tell how many processes a node has; give --ntasks-per-node=2"),
        (
            SRUN | {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"},
            2,
            1,
            "srun: --ntasks-per-node=1 does not go with trainer.devices=2 and trainer.nodes=1",
        ),
        (
            SRUN | {"SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"},
            1,
            2,
            "srun: --ntasks-per-node=2 does not go with",
        ),
        (TORCHRUN, 4, 2, "trainer.devices: 4 on 2 nodes make 8 processes, but torchrun has started 2"),
        (BATCH, 1, 2, "trainer.nodes: 2 nodes need a process each, which srun starts in a job"),
    ],
)
def test_processes_that_would_wait_for_ever_or_train_the_run_twice_are_refused(
    within: Callable[[dict[str, str]], None], environment: dict[str, str], devices: int, nodes: int, sentence: str
) -> None:
    within(environment)
    settings = TrainerConfig(devices=devices, nodes=nodes)
    if sentence:
        with pytest.raises(UsageError) as caught:
            launch.check(settings)
        assert sentence in str(caught.value)
    else:
        launch.check(settings)


def test_lightning_refuses_a_bare_number_of_tasks_in_a_traceback(within: Callable[[dict[str, str]], None]) -> None:
    """The trap; here it is a sentence, said before anything is prepared."""
    within(SRUN)
    with pytest.raises(RuntimeError, match="--ntasks=2"):
        SLURMEnvironment()


def test_threads_that_wait_do_not_spin_unless_somebody_wants_them_to(
    pansite: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap: processes of several threads side by side, waiting busily, are many times slower."""
    for given, found in ((None, "PASSIVE"), ("ACTIVE", "ACTIVE")):
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
        if given is not None:
            monkeypatch.setenv("OMP_WAIT_POLICY", given)
        assert pansite("config", "schema", "seed")[0] == 0
        assert os.environ["OMP_WAIT_POLICY"] == found


def test_lightning_never_requeues_and_starts_the_ranks_itself_in_the_shell_of_a_job(
    within: Callable[[dict[str, str]], None],
) -> None:
    for environment, kinds in (
        (ALONE, []),
        (TORCHRUN | SRUN, []),
        (BATCH, ["LightningEnvironment"]),
        (SHELL, ["LightningEnvironment"]),
        (SRUN | {"SLURM_NTASKS_PER_NODE": "2"}, ["SLURMEnvironment"]),
    ):
        within(environment)
        found = launch.cluster_environments()
        assert [type(one).__name__ for one in found] == kinds
    assert found[0].auto_requeue is False  # type: ignore[attr-defined]
    assert (found[0].global_rank(), found[0].world_size()) == (1, 2)


def test_an_srun_that_is_installed_but_not_used_is_no_warning(
    within: Callable[[dict[str, str]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    within(ALONE)
    srun = tmp_path / "srun"
    srun.touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.warns(UserWarning, match="`srun` command is available"):
        SLURMEnvironment.detect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with own_words():
            SLURMEnvironment.detect()


def test_images_are_shared_out_among_processes_and_each_tells_of_its_own(
    within: Callable[[dict[str, str]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from experiments import prediction
    from experiments.masks import Target

    config = SimpleNamespace(data=SimpleNamespace(source=SimpleNamespace(check_ct=True)))
    monkeypatch.setattr(prediction, "load_members", lambda *_: ([], config))
    monkeypatch.setattr(prediction, "predict_case", lambda *_: SimpleNamespace(volume_ml=1.0, notes=()))
    monkeypatch.setattr(Target, "write", lambda *_: None)
    told = []
    for rank in range(2):
        within(SRUN | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)})
        assert prediction.predict([tmp_path], ["a.nii", "b.nii", "c.nii"], tmp_path / "out") == 0
        told.append([Path(line.partition(":")[0]).name for line in capsys.readouterr().out.splitlines()])
    assert told == [["a.nii.gz", "c.nii.gz"], ["b.nii.gz"]]
