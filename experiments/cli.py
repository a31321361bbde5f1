"""The ``pansite`` command. What a command needs is imported when it runs: ``--help`` answers at once."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callbacks.requests import Stopped
from datamodules.errors import AgreedError, ConfigurationErrors, LostRankError, UsageError
from experiments.command_line import Parser, sort_words, with_evaluation_keys
from experiments.commands_comparison import add_comparisons
from experiments.commands_hand_over import add_hand_over
from experiments.commands_ladder import add_ladder
from experiments.commands_sweep import add_sweep
from experiments.ending import leave
from experiments.importing import imported
from experiments.notices import notices_told
from experiments.signals import SIGNALS
from experiments.sweep.agent import understood

_OVERRIDES = "Overrides of the experiment: key=value, --key=value, --key value or ++key=value, as in data.batch_size=4."
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words of the command line; None takes them from ``sys.argv``.

    Returns:
        the exit code: 0 all well, 1 ranks that lost one another, 2 a mistake that one sentence on stderr names, 75
        preempted, 130 interrupted, 143 terminated.
    """
    # Before torch is imported: threads that spin while they wait slow all that runs beside them many times over.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with SIGNALS.installed(), notices_told():
            return _run(sys.argv[1:] if arguments is None else list(arguments))
    except Stopped as stopped:
        return leave(stopped)
    except AgreedError as error:
        if _is_first_rank():
            _complain(error)
        return 2
    except UsageError as error:
        _complain(error)
        return 2
    except LostRankError as lost:
        if str(lost):
            _complain(UsageError(str(lost)))
        return lost.code
    except SystemExit as ending:
        # argparse leaves this way after --help, Lightning after Ctrl-C.
        if isinstance(ending.__context__, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
            return 130
        return ending.code if isinstance(ending.code, int) else 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader went away, as `head` does; a second complaint at exit is to be spared.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        sentence = _disk_sentence(error)
        if sentence is None:
            raise
        _complain(UsageError(sentence))
        return 2


def _run(words: list[str]) -> int:
    sorted_words = sort_words(understood(words))
    parser = _parser()
    if not words:
        parser.print_help()
        return 0
    parsed = parser.parse_args(sorted_words.own)
    result: int = parsed.handler(parsed, sorted_words.overrides)
    return result


def _parser() -> Parser:
    parser = Parser(
        prog="pansite",
        description="Train pancreas segmentation on one site's CTs and evaluate it on sites it has never seen.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, text, handler in (
        ("run", "fit on the source, evaluate every held-out site, report", _run_all),
        ("fit", "fit on the source alone", _fit),
    ):
        command = _command(commands, name, text, handler)
        _experiment(command)
        command.add_argument("--fresh", action="store_true", help="start anew instead of continuing the run")
        command.add_argument("--inexact", action="store_true", help="go on on other devices, and say so for ever")
    submit = _command(commands, "submit", "queue experiments on a SLURM cluster", _submit)
    submit.add_argument("experiments", metavar="EXPERIMENT", nargs="*", help="YAML files, or names of shipped ones")
    submit.add_argument("--seeds", metavar="N,N,…", type=_seeds, default=[], help="run each experiment with each seed")
    submit.add_argument("--sweep", metavar="FILE", help="instead: a sweep, whose trials the tasks of an array take")
    submit.add_argument("--array", metavar="N%%K", help="of a sweep: N trials, at most K at a time")
    submit.add_argument("--allow-peeking", action="store_true", help="allow a sweep for a metric of held-out sites")
    submit.add_argument("--dry-run", action="store_true", help="print the job file, write and submit nothing")
    add_sweep(commands, _command)
    runs = _command(commands, "runs", "show the runs under a folder: state, step, metric, job", _runs)
    runs.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="what run.root names; runs by default")
    evaluate = _command(commands, "evaluate", "compute what is missing of a run's evaluation", _evaluate)
    evaluate.add_argument("run", metavar="RUN", help="a run's folder; an experiment where --predictions is given")
    evaluate.add_argument("--predictions", metavar="DIR", type=Path, help="judge another tool's masks on its sites")
    _run_argument(_command(commands, "report", "write a run's report.html", _report))
    _run_argument(_command(commands, "checkpoints", "list a run's checkpoints, loadable or not", _checkpoints))
    add_hand_over(commands, _command)
    _experiment(_command(commands, "prepare", "preprocess an experiment's sites into the store", _prepare))
    sites = _command(commands, "sites", "the layouts known, or the sites of an experiment", _sites)
    _experiment(sites, optional=True)
    sites.add_argument("--write", nargs=2, metavar=("nnunet", "DIR"), help="hand the sites over to nnU-Net")
    add_comparisons(commands, _command)
    add_ladder(commands, _command)
    config = commands.add_parser("config", help="look at configurations", allow_abbrev=False)
    parts = config.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _experiment(_command(parts, "show", "print the resolved YAML", _config_show))
    _experiment(_command(parts, "check", "tell every fault of a configuration", _config_check))
    schema = _command(parts, "schema", "print every key with type and default", _config_schema)
    schema.add_argument("keys", metavar="KEY", nargs="*", help="only what lies below these, as in model.contrastive")
    return parser


def _command(commands: Any, name: str, text: str, handler: Any) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_OVERRIDES, allow_abbrev=False
    )
    command.set_defaults(handler=handler)
    return command


def _experiment(command: argparse.ArgumentParser, optional: bool = False) -> None:
    text = "an experiment's YAML file, or the name of a shipped one"
    command.add_argument("experiment", metavar="EXPERIMENT", nargs="?" if optional else None, help=text)


def _run_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", metavar="RUN", help="a run's folder, or the folder above where it is the only one")


def _loaded(parsed: argparse.Namespace, overrides: list[str]) -> Any:
    from experiments.configuration import load_experiment
    from experiments.locate import find_experiment

    return load_experiment(find_experiment(parsed.experiment), overrides)


def _call(target: str, *arguments: Any, **keywords: Any) -> int:
    module, _, name = target.partition(":")
    code: int | None = getattr(imported(module), name)(*arguments, **keywords)
    return code or 0


def _run_all(parsed: argparse.Namespace, overrides: list[str]) -> int:
    target = "experiments.sweep.trial:fit" if "PANSITE_TRIAL" in os.environ else "experiments.flow:run"
    return _call(target, _loaded(parsed, overrides), fresh=parsed.fresh, inexact=parsed.inexact)


def _fit(parsed: argparse.Namespace, overrides: list[str]) -> int:
    # A sweep names the trial by the environment, to all ranks alike.
    target = "experiments.sweep.trial:fit" if "PANSITE_TRIAL" in os.environ else "experiments.flow:fit"
    return _call(target, _loaded(parsed, overrides), fresh=parsed.fresh, inexact=parsed.inexact)


def _submit(parsed: argparse.Namespace, overrides: list[str]) -> int:
    if parsed.sweep is not None:
        peeking, words = parsed.allow_peeking, (parsed.sweep, parsed.array, overrides, parsed.dry_run)
        if parsed.experiments or parsed.seeds:
            raise UsageError("pansite submit --sweep: the sweep names its experiment; leave out any other and --seeds.")
        return _call("experiments.sweep.array:submit", *words, peeking)
    if not parsed.experiments or parsed.array or parsed.allow_peeking:
        raise UsageError("pansite submit: give experiments, or --sweep FILE with --array N%K.")
    return _call("experiments.submit:submit", parsed.experiments, overrides, parsed.seeds, parsed.dry_run)


def _seeds(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--seeds: write whole numbers with commas, such as 0,1,2, not {text!r}.")
    return list(dict.fromkeys(map(int, parts)))


def _runs(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from experiments.config import RunConfig

    _refuse_overrides("runs", overrides)
    return _call("experiments.commands_runs:runs", (parsed.folder or Path(RunConfig().root)).expanduser())


def _evaluate(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from experiments.locate import find_run

    if parsed.predictions is not None:
        return _evaluate_predictions(parsed, with_evaluation_keys(overrides))
    return _call("experiments.flow:evaluate", find_run(parsed.run), with_evaluation_keys(overrides))


def _evaluate_predictions(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from experiments.configuration import load_experiment
    from experiments.locate import find_experiment

    folder = parsed.predictions.expanduser()
    # Named after the tool's folder, so that comparisons tell it from the runs of the experiment.
    name = re.sub(r"[^\w.+-]", "_", folder.resolve().name).lstrip(".+-") or "predictions"
    loaded = load_experiment(find_experiment(parsed.run), [f"name={name}", *overrides])
    return _call("experiments.outside:evaluate_predictions", loaded, folder)


def _report(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from experiments.locate import find_run

    _refuse_overrides("report", overrides)
    return _call("experiments.flow:report", find_run(parsed.run))


def _checkpoints(parsed: argparse.Namespace, overrides: list[str]) -> int:
    from experiments.locate import find_run

    _refuse_overrides("checkpoints", overrides)
    return _call("experiments.commands_checkpoints:checkpoints", find_run(parsed.run))


def _prepare(parsed: argparse.Namespace, overrides: list[str]) -> int:
    return _call("experiments.flow:prepare", _loaded(parsed, overrides))


def _sites(parsed: argparse.Namespace, overrides: list[str]) -> int:
    if parsed.write is not None:
        if parsed.experiment is None:
            raise UsageError("pansite sites --write: say of which experiment: sites EXPERIMENT --write nnunet DIR.")
        form, folder = parsed.write
        return _call("experiments.hand_over:write_sites", _loaded(parsed, overrides), form, Path(folder).expanduser())
    if parsed.experiment is None:
        _refuse_overrides("sites without an experiment", overrides)
        return _call("experiments.commands_sites:known_layouts")
    return _call("experiments.commands_sites:sites_of", _loaded(parsed, overrides))


def _config_show(parsed: argparse.Namespace, overrides: list[str]) -> int:
    return _call("experiments.commands_config:show", _loaded(parsed, overrides))


def _config_check(parsed: argparse.Namespace, overrides: list[str]) -> int:
    return _call("experiments.commands_config:check", _loaded(parsed, overrides), parsed.experiment)


def _config_schema(parsed: argparse.Namespace, overrides: list[str]) -> int:
    _refuse_overrides("config schema", overrides)
    return _call("experiments.commands_config:schema", parsed.keys)


def _refuse_overrides(command: str, overrides: list[str]) -> None:
    if overrides:
        raise UsageError(f"pansite {command}: takes no overrides, but got {overrides[0]!r}.")


def _is_first_rank() -> bool:
    from experiments.console import first_rank

    return first_rank()


def _disk_sentence(error: OSError) -> str | None:
    place = error.filename or error.filename2 or "a file"
    if error.errno in _DISK_FULL:
        return f"{place}: the disk is full; make room and give the same command again."
    if error.errno in _NOT_ALLOWED:
        return f"{place}: no permission ({error.strerror}); choose another folder or change its permissions."
    return None


def _complain(error: UsageError) -> None:
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    start, end = ("\x1b[1;31m", "\x1b[0m") if colour else ("", "")
    if isinstance(error, ConfigurationErrors) and len(error.faults) > 1:
        print(f"{start}error:{end} {len(error.faults)} faults in the configuration", file=sys.stderr)
        print(*(f"  {fault}" for fault in error.faults), sep="\n", file=sys.stderr)
    else:
        print(f"{start}error:{end} {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
