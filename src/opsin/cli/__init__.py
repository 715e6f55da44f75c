"""The command line: parse, call, print. No logic, and no torch before a verb needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import cyclopts

import opsin
from opsin import interrupts
from opsin.cli.output import arguments_known, print_note
from opsin.errors import DivergedError, FollowerError, InterruptedRunError, OpsinError
from opsin.openmp import set_waiting
from opsin.processes import is_follower

TOLD_BY_LEAD = (DivergedError, FollowerError, InterruptedRunError)
"""Errors that end all processes of a group alike: one of them tells the user."""

VERBS = {
    "demo": "opsin.cli.demo:demo",
    "data": "opsin.cli.data:app",
    "train": "opsin.cli.train:train",
    "evaluate": "opsin.cli.evaluate:evaluate",
    "predict": "opsin.cli.predict:predict",
    "ensemble": "opsin.cli.ensemble:ensemble",
    "runs": "opsin.cli.runs:app",
    "queue": "opsin.cli.queue:app",
    "report": "opsin.cli.report:report",
    "models": "opsin.cli.models:models",
    "clean": "opsin.cli.clean:clean",
    "compare": "opsin.cli.compare:compare",
    "doctor": "opsin.cli.doctor:doctor",
    "explain": "opsin.cli.explain:explain",
    "kernels": "opsin.cli.kernels:kernels",
    "plan": "opsin.cli.plan:plan",
    "bench": "opsin.cli.bench:app",
    "convert": "opsin.cli.convert:convert",
    "export": "opsin.cli.export:export",
    "push": "opsin.cli.push:push",
    "serve": "opsin.cli.serve:serve",
    "studio": "opsin.cli.studio:studio",
    "find-lr": "opsin.cli.find_lr:find_lr",
    "normalize": "opsin.cli.normalize:normalize",
    "tune": "opsin.cli.tune:tune",
    "ablate": "opsin.cli.ablate:ablate",
    "cv": "opsin.cli.cv:cv",
    "lab": "opsin.cli.lab:app",
}
"""Where each verb lives; a file is imported when its verb is used."""

app = cyclopts.App(
    name="opsin",
    help=opsin.__doc__.splitlines()[0] if opsin.__doc__ else "",
    version=opsin.__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # `main` reports what ended the command
)
for _number, (_verb, _place) in enumerate(VERBS.items()):
    app.command(_place, name=_verb, sort_key=_number)
app.register_install_completion_command(
    help="Install completion of verbs and options with the Tab key, for bash, zsh or fish (--shell).",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 done; 1 a bug in Opsin; 2 wrong usage or refused input; 3 a failed check; 130 interrupted.
    """
    set_waiting()
    asked = list(sys.argv[1:] if arguments is None else arguments)
    if not asked or asked[0] in app.help_flags:
        for verb in VERBS:
            app[verb]  # imports its file, so that its docstring appears in the overview
    try:
        with interrupts.raised(), arguments_known(asked):
            result = app(asked, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        verb = f"{asked[0]} " if asked and asked[0] in VERBS else ""
        print_note(f"opsin: {error}\n  do:       `opsin {verb}--help` lists the options")
        return 2
    except OpsinError as error:
        if not (is_follower() and isinstance(error, TOLD_BY_LEAD)):
            print_note(f"opsin: {error}")
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        if not is_follower():
            print_note(f"opsin: interrupted by {str(interrupt) or 'Ctrl-C'}")
        return 130
    except BrokenPipeError:
        # the reader of our output closed the pipe; nothing more can be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def run() -> None:
    """Entry point of the `opsin` script."""
    sys.exit(main())
