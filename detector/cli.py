"""The ``detector`` command: its verbs, its exit codes, and the one place where faults become a line on standard error.

Exit codes: 0 all done; 1 failed; 2 the command line itself is wrong; 3 done, but some inputs were skipped; 130
interrupted. A verb's module is imported only when that verb is called, so ``--help`` is quick and one broken module
breaks one verb.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from detector.commands.console import FAILED, INTERRUPTED, quiet_pillow, say, tolerant_streams
from detector.commands.options import hide_rare
from detector.commands.unexpected import tell_unexpected
from detector.commands.waiting import wait_briefly
from detector.shown import shown
from proposals.errors import UserError

# verb -> (its module, the first line of its docstring). The function bears the module's last name.
COMMANDS: dict[str, tuple[str, str]] = {
    "detect": ("detector.commands.detect", "Find objects in images and videos."),
    "propose": (
        "detector.commands.propose",
        "Propose boxes in many images and store them, one checksummed file per image.",
    ),
    "merge": ("detector.commands.merge", "Join the shards of detect, evaluate or propose."),
    "serve": ("detector.commands.serve", "Try a model on images in a web page on this machine."),
    "train": (
        "detector.commands.train",
        "Train a detector; the result is a model folder that detect and evaluate take as it is.",
    ),
    "check-data": (
        "detector.commands.check_data",
        "Read a data set once, whole, and report everything that is wrong with it.",
    ),
    "evaluate": (
        "detector.commands.evaluate",
        "Measure a model, or detections from a file, on an annotated data set.",
    ),
    "evaluate-proposals": (
        "detector.commands.evaluate_proposals",
        "Measure how well proposals cover the annotated objects of a data set.",
    ),
    "compare": (
        "detector.commands.compare",
        "Say whether B is better than A, per class and overall, by a paired bootstrap over images.",
    ),
    "export": ("detector.commands.export", "Write a model's networks as ONNX, OpenVINO or TorchScript."),
    "calibrate": (
        "detector.commands.calibrate",
        "Make a copy of a model whose probabilities, or whose detections' scores, mean what they say.",
    ),
    "suggest": (
        "detector.commands.suggest",
        "Suggest which images to label next: those of which the model is least sure.",
    ),
    "report": (
        "detector.commands.report",
        "Write a report: one HTML file that opens offline.",
    ),
    "reproduce": ("detector.commands.reproduce", "Repeat a whole experiment, from the data to its tables."),
    "doctor": ("detector.commands.doctor", "Check this installation and say what to mend."),
    "clean": ("detector.commands.clean", "Remove the unfinished folders that killed or failed runs have left."),
}


# Options whose value may be left out, the value that then stands for them, and what may follow as one.
OPTIONAL_VALUES = {"--resume": ("must", ("must", "auto"))}


class Verb(TyperCommand):
    """A command with options that may stand without their value, or be left out of the short help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As in the base class, of :data:`detector.commands.options.HelpAll`'s verbs the common options."""
        hide_rare(self, ctx)
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As in the base class, the values put in that were left out."""
        full = []
        for i, word in enumerate(args):
            full.append(word)
            value, known = OPTIONAL_VALUES.get(word, ("", ()))
            if value and args[i + 1 : i + 2] not in [[other] for other in known]:
                full.append(value)
        return super().parse_args(ctx, full)


class LazyGroup(TyperGroup):
    """Verbs that are listed without being imported."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in the base class, with the verb's own module behind it."""
        if args[0] in COMMANDS:
            self.commands[args[0]] = load_command(args[0])
        return super().resolve_command(ctx, args)


def load_command(verb: str) -> Any:
    """The verb with all its options; this imports its module."""
    module = COMMANDS[verb][0]
    function = getattr(import_module(module), module.rpartition(".")[2])
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    single.command(verb, cls=Verb, no_args_is_help=_needs_arguments(verb))(reporting_faults(function))
    return typer.main.get_command(single)


def _needs_arguments(verb: str) -> bool:
    return verb not in ("doctor", "clean", "serve")


def reporting_faults(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with faults that a user can mend told in one line, and the exit code that goes with them."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except UserError as fault:
            _fail(str(fault))
        except OSError as error:
            from detector.runs.folder import DISK_FAULTS

            if error.errno not in DISK_FAULTS:
                raise
            where = f"{shown(os.fsdecode(error.filename))}: " if isinstance(error.filename, (str, bytes)) else ""
            _fail(f"{where}cannot write: {error.strerror}; free some space, or write elsewhere, and run it again")
        except ImportError as error:
            if not _is_opencv_without_libraries(error):
                raise
            _fail(
                f"OpenCV cannot be loaded ({error}): swap in the build without a display: "
                "pip uninstall -y opencv-python && pip install opencv-python-headless"
            )
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    return guarded


def _fail(message: str) -> NoReturn:
    say(f"error: {message}")
    raise typer.Exit(FAILED)


def _is_opencv_without_libraries(error: ImportError) -> bool:
    """Whether ``import cv2`` failed for a library of the system, as libGL in slim containers."""
    inside = any("cv2" in frame.filename for frame in traceback.extract_tb(error.__traceback__))
    return "shared object file" in str(error) and (inside or "libGL" in str(error))


def _show_version(value: bool) -> None:
    if value:
        import detector

        typer.echo(f"detector {detector.__version__}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Detect objects in photographs, and train, measure and compare the detectors that do it.

    Exit codes: 0 all done, 1 failed, 2 wrong command line, 3 some inputs skipped, 130 interrupted.
    """


def build_app() -> typer.Typer:
    """The command line with a stand-in for each verb, which :class:`LazyGroup` replaces when the verb is called."""
    app = typer.Typer(
        cls=LazyGroup, name="detector", no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich"
    )
    app.callback()(_root)
    for verb, (_, summary) in COMMANDS.items():
        app.command(verb, help=summary)(lambda: None)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    wait_briefly()
    tolerant_streams()
    quiet_pillow()
    try:
        build_app()(args=None if arguments is None else list(arguments), prog_name="detector")
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader has gone (as `| head` does). Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        tell_unexpected(error)
        sys.exit(FAILED)
