"""`python -m aeanet`, and so `torchrun ... -m aeanet`: the command."""

from aeanet.cli import main

if __name__ == "__main__":
    main()
