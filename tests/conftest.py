"""What all tests share: a patient hypothesis, a store of their own, and a run small enough for seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("pansite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("pansite"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "pansite")


@pytest.fixture(scope="session", autouse=True)
def _away_from_the_users_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the caches, accounts and data of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        # Where matplotlib keeps its list of fonts, which takes seconds to make.
        patch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", str(Path("~/.cache/matplotlib").expanduser())))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("WANDB_MODE", "disabled")
        for name in ("WANDB_API_KEY", "PANSITE_DATA", "XDG_CACHE_HOME"):
            patch.delenv(name, raising=False)
        yield


TINY = """
extends: {base}
name: tiny
data:
  source: {{name: source, layout: phantom, site: source, cases: 6, root: {home}/phantoms}}
  held_out:
    north: {{layout: phantom, site: north, cases: 1, root: {home}/phantoms}}
    west: {{layout: phantom, site: west, cases: 2, root: {home}/phantoms}}
  spacing: [6.0, 6.0, 6.0]
  patch_size: [16, 16, 16]
  store: {home}/store
  split: {{folds: 3}}
model:
  network: {{name: dynunet, filters: [4, 8, 16]}}
  contrastive: {{slots: [4, 16, 8, 8]}}
trainer: {{max_steps: 6, validate_every: 3, checkpoint_every: 2, log_every: 1, progress_bar: false}}
logging: {{wandb: disabled}}
"""
"""The demo's experiment on six small cases, coarse grid, six steps."""


@dataclass(frozen=True)
class Tiny:
    """A tiny experiment.

    Attributes:
        file: its YAML.
        home: where its store and its phantoms are.
    """

    file: Path
    home: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The tiny experiment, its store shared by all tests of this process."""
    home = tmp_path_factory.mktemp("tiny")
    file = home / "tiny.yaml"
    file.write_text(TINY.format(base="phantom_quick.yaml", home=home))
    return Tiny(file, home)


@pytest.fixture
def pansite(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command, in this process: exit code, what it printed, what it complained of."""
    from experiments.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
