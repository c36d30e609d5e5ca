"""The last net: an error that nothing foresaw is one line, and its traceback is in a file to report."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback

from detector.commands.console import say


def tell_unexpected(error: Exception) -> None:
    """Say in one line on standard error what ``error`` was, and where its traceback is."""
    reason = " ".join(str(error).split())
    what = type(error).__name__ + (f": {reason[:300]}" if reason else "")
    if isinstance(error, MemoryError):
        say(f"error: not enough memory ({what}); make the images smaller, or report it {_kept(error)}")
    else:
        say(f"error: unexpected {what}; this should not happen: please report it {_kept(error)}")


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
