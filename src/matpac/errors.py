"""The root of errors whose message is for the person who gave the input."""


class MatpacError(ValueError):
    """Something given is not usable; the message names it, says why, and tells the way out."""


def one_line(error: Exception) -> str:
    """What a library says, which may be many lines, as part of a message."""
    return " ".join(str(error).split())
