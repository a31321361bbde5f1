"""What a person names on the command line, found: an experiment file, shipped or their own, and a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import UsageError
from experiments.configuration.faults import did_you_mean

SHIPPED = Path(__file__).parent


def find_experiment(name: str) -> Path:
    """The experiment file that ``name`` means: a path, or else one that comes with Pansite, from any folder.

    Args:
        name: a path, or a shipped experiment as ``phantom_quick`` or ``experiments/phantom_quick.yaml``.

    Raises:
        UsageError: there is none.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise UsageError(f"{name}: is a folder; give an experiment's YAML file.")
    inside = Path(name.removeprefix(f"{SHIPPED.name}/"))
    for candidate in (SHIPPED / inside, SHIPPED / inside.with_name(f"{inside.name}.yaml")):
        if candidate.is_file() and candidate.suffix in (".yaml", ".yml"):
            return candidate
    beside = [file.stem for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    shipped = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
    raise UsageError(
        f"{name}: there is no such file, and no shipped experiment of that name; "
        f"{did_you_mean(path.stem, dict.fromkeys([*beside, *shipped]))}"
    )


def find_shipped(name: str, kind: str, folder: str) -> Path:
    """The study or sweep file that ``name`` means: a path, or else one that comes with Pansite.

    Args:
        name: a path, or a shipped one as ``ablation`` or ``experiments/studies/ablation.yaml``.
        kind: what it is called.
        folder: where those that come with Pansite lie.

    Raises:
        UsageError: there is none.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    stem, shipped = path.name.removesuffix(".yaml"), SHIPPED / folder
    ours = (Path(), Path(folder), Path(SHIPPED.name) / folder)
    if path.parent in ours and (shipped / f"{stem}.yaml").is_file():
        return shipped / f"{stem}.yaml"
    known = sorted(file.stem for file in shipped.glob("*.yaml"))
    raise UsageError(f"{name}: there is no such file, and no shipped {kind} of that name; {did_you_mean(stem, known)}")


def find_run(name: str) -> Path:
    """The run folder that ``name`` means: itself, or the only run in ``<run.root>/<name>``.

    Raises:
        UsageError: there is none, or more than one to choose from.
    """
    runs = find_runs(name)
    if len(runs) > 1:
        raise UsageError(f"{name}: holds {len(runs)} runs; give one of {', '.join(map(str, runs))}.")
    return runs[0]


def find_runs(name: str) -> list[Path]:
    """The run folder that ``name`` means, or all runs in ``<run.root>/<name>``.

    Raises:
        UsageError: there is none.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        beside = sorted(folder.name for folder in path.parent.glob("*/")) if path.parent.is_dir() else []
        hint = f" {did_you_mean(path.name, beside).capitalize()}" if beside else ""
        raise UsageError(f"{name}: there is no such run folder.{hint}")
    if _is_run(path):
        return [path]
    # A run that `--fresh` set aside keeps its files, but is no longer the one that is meant.
    runs = sorted(folder for folder in path.iterdir() if _is_run(folder) and ".replaced-" not in folder.name)
    if not runs:
        raise UsageError(
            f"{name}: holds no run: neither it nor a folder in it has a config.yaml as `pansite fit` writes it."
        )
    return runs


def runs_and_images(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """The words of a command line that name runs, and the others: a folder of a DICOM series has no run in it.

    Args:
        words: the first names a run.

    Returns:
        The runs' folders, and what is left.

    Raises:
        UsageError: a run is none, is not the only one in its folder, or was set aside by ``--fresh``.
    """
    first, *rest = words
    named = [first, *(word for word in rest if _names_run(word))]
    runs = [find_run(word) for word in named]
    if len(runs) > 1 and (aside := next((run for run in runs if ".replaced-" in run.name), None)):
        raise UsageError(f"{aside}: was set aside by --fresh; leave it out.")
    return runs, [word for word in rest if not _names_run(word)]


def _names_run(word: str) -> bool:
    folder = Path(word).expanduser()
    return folder.is_dir() and (_is_run(folder) or any(map(_is_run, folder.glob("*/"))))


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file()
