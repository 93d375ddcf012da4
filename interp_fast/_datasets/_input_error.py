"""What is said when something on the command line cannot be used."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one sentence for the terminal."""
