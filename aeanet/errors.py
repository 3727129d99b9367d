"""The errors a user can mend, and what to say about them: one sentence each."""


class UserError(ValueError):
    """Something the user can mend. The message is one sentence that says what is wrong and, where
    it can, what to do.

    All errors of aeanet that are meant for a user derive from this class, which is a ValueError
    too. Any other error is a defect of aeanet.
    """


class PairError(UserError):
    """A folder or a set of pairs that cannot be used."""


class ModelError(UserError):
    """A network that cannot be built, or a model file that cannot be read."""


def sentence_or_raise(error: Exception) -> str:
    """The sentence for the user about an error that the user can mend: a `UserError`, a file that
    cannot be read or written, a package that is not installed, or a lack of memory.

    Raises:
        Exception: `error` again if it is another one, so that its traceback is kept.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'} cannot be read or written: {error.strerror or error}."

    # a module of aeanet that is missing is a defect of its own
    if isinstance(error, ModuleNotFoundError) and not (error.name or "aeanet").startswith("aeanet"):
        return (
            f"The package {error.name} is not installed: aeanet needs more packages here, "
            "pip install 'aeanet[em]'."
        )

    # PyTorch raises a class of its own for a lack of memory on GPUs, a bare RuntimeError on CPUs.
    words = "out of memory", "can't allocate memory", "not enough memory"
    of_pytorch = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    if isinstance(error, MemoryError) or of_pytorch:
        return (
            "There is not enough memory for this: use smaller images, crops or batches, or another "
            "machine."
        )
    raise error
