"""What the trials of a sweep run, as its file's ``command`` says it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from datamodules.errors import UsageError
from experiments.command_line import sort_words
from experiments.configuration.faults import Faults
from experiments.configuration.nodes import Items, Scalar
from experiments.sweep.metric import Entries, Metric

MACROS = (
    "args_no_hyphens", "args", "args_no_equals", "args_no_boolean_flags", "args_append_hydra", "args_override_hydra",
    "args_json", "args_json_file",
)  # fmt: skip
_ENVIRONMENT = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


@dataclass(frozen=True)
class Command:
    """What a trial runs.

    Attributes:
        verb: ``fit`` or ``run``.
        experiment: that is named; None where a fault leaves none.
        overrides: that all trials get.
    """

    verb: str
    experiment: str | None
    overrides: tuple[str, ...]


def read_command(entries: Entries, label: str, metric: Metric | None, faults: Faults) -> Command:
    """What a sweep file's command says.

    Args:
        entries: of the file.
        label: of the file.
        metric: what is sought; None where that is faulty.
        faults: takes up what is wrong.
    """
    node = entries.get("command")
    form = "write [pansite, fit, EXPERIMENT, '${args_no_hyphens}']"
    if not isinstance(node, Items) or not all(isinstance(item, Scalar) for item in node.nodes):
        faults.add(node.where if node else label, "command", f"is missing; {form}, which names the experiment.")
        return Command("fit", None, ())
    words = [_ENVIRONMENT.sub(_variable, item.text) for item in node.nodes if isinstance(item, Scalar)]
    verb = next((word for word in words if word in ("fit", "run")), None)
    if verb is None:
        faults.add(node.where, "command", f"runs neither `pansite fit` nor `pansite run`; {form}.")
        return Command("fit", None, ())
    rest = words[words.index(verb) + 1 :]
    macros = [word[2:-1] for word in rest if word.startswith("${")]
    for macro in macros:
        if macro not in MACROS:
            known = f"known: {', '.join(f'${{{each}}}' for each in MACROS)}"
            faults.add(node.where, "command", f"W&B has no macro ${{{macro}}}; {known}.")
    if not macros:
        faults.add(node.where, "command", f"hands no parameter on; {form}.")
    if verb == "run" and metric is not None and not metric.peeks:
        faults.add(node.where, "command", "a trial is `pansite fit`: the best alone is evaluated on held-out sites.")
    if verb == "fit" and metric is not None and metric.peeks:
        faults.add(node.where, "command", f"{metric.name} is known to `pansite run` alone.")
    try:
        sorted_words = sort_words([word for word in rest if not word.startswith("${")])
    except UsageError as error:
        faults.add(node.where, "command", str(error))
        return Command(verb, None, ())
    named = [word for word in sorted_words.own if not word.startswith("-")]
    if len(named) != 1:
        faults.add(node.where, "command", f"names {len(named)} experiments; {form}.")
        return Command(verb, None, ())
    return Command(verb, named[0], tuple(sorted_words.overrides))


def _variable(match: re.Match[str]) -> str:
    # As W&B does: what is not set stays a word.
    return os.environ.get(match[1], match[1])
