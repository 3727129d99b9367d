"""The command `aeanet`, also as `python -m aeanet` and `torchrun ... -m aeanet`."""

import sys

from aeanet.errors import sentence_or_raise


def main() -> None:
    """Run the command; without the packages it needs, say in one sentence how to install them."""
    try:
        from aeanet.cli import main as command
    except ModuleNotFoundError as error:
        sys.exit(sentence_or_raise(error))
    command()


if __name__ == "__main__":
    main()
