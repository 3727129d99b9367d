"""Errors meant for a user: each is one sentence that says what is wrong and what to do."""


class PairError(ValueError):
    """A folder or set without a usable pair; the message is one sentence."""
