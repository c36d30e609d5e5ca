"""The ``detector`` command: its verbs, its exit codes, and the one place where faults become a line on standard error.

Exit codes: 0 all done; 1 failed; 2 the command line itself is wrong; 3 done, but some inputs were skipped; 130
interrupted. A verb's module is imported only when that verb is called, so ``--help`` is quick and one broken module
breaks one verb.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from detector.commands.console import FAILED, INTERRUPTED, log, quiet_pillow, tolerant_streams
from detector.commands.options import hide_rare
from detector.shown import shown
from proposals.errors import UserError

# verb -> the first line of its docstring. Its function, and the module of detector.commands, bear its name.
COMMANDS = {
    "detect": "Find objects in images and videos.",
    "propose": "Propose boxes in many images and store them, one checksummed file per image.",
    "merge": "Join the shards of detect, evaluate or propose.",
    "serve": "Try a model on images in a web page on this machine.",
    "train": "Train a detector; the result is a model folder that detect and evaluate take as it is.",
    "check-data": "Read a data set once, whole, and report everything that is wrong with it.",
    "evaluate": "Measure a model, or detections from a file, on an annotated data set.",
    "evaluate-proposals": "Measure how well proposals cover the annotated objects of a data set.",
    "compare": "Say whether B is better than A, per class and overall, by a paired bootstrap over images.",
    "export": "Write a model's networks as ONNX, OpenVINO or TorchScript.",
    "calibrate": "Make a copy of a model whose scores mean what they say, or that can compute in int8.",
    "suggest": "Suggest which images to label next: those of which the model is least sure.",
    "report": "Write a report: one HTML file that opens offline.",
    "reproduce": "Repeat a whole experiment, from the data to its tables.",
    "doctor": "Check this installation and say what to mend.",
    "clean": "Remove the unfinished folders that killed or failed runs have left.",
}
NEED_NO_ARGUMENTS = ("doctor", "clean", "serve")

# libgomp's threads turn in a loop 300,000 times, some milliseconds, while they wait for the others of a layer. On a
# machine that does nothing else that is quickest; where another program wants the cores it keeps the thread that is
# waited for from being run, and two detectors at once take far more than twice as long (benchmarks/busy_machine.md). A
# few turns and then sleep cost little and end that.
SPIN, FEW_TURNS = "GOMP_SPINCOUNT", "3000"
WAITING = (SPIN, "OMP_WAIT_POLICY")  # what people may have set to decide for themselves (libgomp's manual)


class Verb(TyperCommand):
    """A command whose ``--resume`` may stand without its word, and whose short help leaves rare options out."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As in the base class, of :data:`detector.commands.options.HelpAll`'s verbs the common options."""
        hide_rare(self, ctx)
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As in the base class; ``--resume`` without its word is ``--resume must``."""
        full = []
        for word, following in zip(args, [*args[1:], ""], strict=False):
            full.append(word)
            if word == "--resume" and following not in ("must", "auto"):
                full.append("must")
        return super().parse_args(ctx, full)


class LazyGroup(TyperGroup):
    """Verbs that are listed without being imported."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As in the base class, with the verb's own module behind it."""
        if args[0] in COMMANDS:
            self.commands[args[0]] = load_command(args[0])
        return super().resolve_command(ctx, args)


def function_of(verb: str) -> Callable[..., Any]:
    """What the verb does; this imports its module."""
    name = verb.replace("-", "_")
    function: Callable[..., Any] = getattr(import_module(f"detector.commands.{name}"), name)
    return function


def load_command(verb: str) -> Any:
    """The verb with all its options; this imports its module."""
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
    single.command(verb, cls=Verb, no_args_is_help=verb not in NEED_NO_ARGUMENTS)(reporting_faults(function_of(verb)))
    return typer.main.get_command(single)


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
            log("interrupted")
            raise typer.Exit(INTERRUPTED) from None

    return guarded


def _fail(message: str) -> NoReturn:
    log(f"error: {message}")
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
    for verb, summary in COMMANDS.items():
        app.command(verb, help=summary)(lambda: None)
    return app


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have threads sleep after a few turns, unless the environment says how they shall wait.

    libgomp reads the variable once, when PyTorch is imported, so this comes before that; processes that this one starts
    inherit it. Builds of PyTorch with another OpenMP, as on macOS, do not know it.
    """
    if not any(variable in environment for variable in WAITING):
        environment[SPIN] = FEW_TURNS


def tell_unexpected(error: Exception) -> None:
    """Say in one line on standard error what ``error`` was, and where its traceback is."""
    reason = " ".join(str(error).split())
    what = type(error).__name__ + (f": {reason[:300]}" if reason else "")
    if isinstance(error, MemoryError):
        log(f"error: not enough memory ({what}); make the images smaller, or report it {_kept(error)}")
    else:
        log(f"error: unexpected {what}; this should not happen: please report it {_kept(error)}")


def _kept(error: Exception) -> str:
    """Write the traceback to a new file and say where; where no file can be written, to standard error."""
    text = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix="detector-error-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{_about()}\n{text}")
    except OSError:
        print(text, file=sys.stderr, end="")
        return "with the traceback above (no file could be written)"
    return f"with the file {path}, which holds the command, the versions and the traceback"


def _about() -> str:
    """The command line and the versions."""
    lines = [f"command: {sys.argv}"]
    try:
        from detector.runs.folder import installed_versions

        lines += [f"{name}: {version}" for name, version in installed_versions().items()]
    except Exception as error:  # the installation itself may be what is broken
        lines.append(f"versions unknown: {error!r}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    wait_briefly()
    tolerant_streams()
    quiet_pillow()
    try:
        build_app()(args=None if arguments is None else list(arguments), prog_name="detector")
    except KeyboardInterrupt:
        log("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader has gone (as `| head` does). Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        tell_unexpected(error)
        sys.exit(FAILED)
