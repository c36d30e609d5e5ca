"""The one exception for faults that a user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A wrong file, setting or argument.

    The message is one line, names the file or the setting, and says what to do. The command line prints it without a
    traceback and exits with code 1.
    """
