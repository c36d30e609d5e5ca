"""The one exception for faults that a user can mend, and a kind of it that a program can mend as well."""

from __future__ import annotations


class UserError(ValueError):
    """A wrong file, setting or argument.

    The message is one line, names the file or the setting, and says what to do. The command line prints it without a
    traceback and exits with code 1.
    """


class ImageTooSmall(UserError):
    """An image with a side shorter than the finest grid of MultiBox's priors."""
