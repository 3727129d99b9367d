"""Which pairs show the same sample, and a split that keeps the pairs of a sample together."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from aeanet.errors import UserError


class SampleError(UserError):
    """A list of samples that cannot be used."""


def read_samples(path: Path, known: Collection[str]) -> dict[str, str]:
    """Pair name -> sample, from a text file in which each line names the pairs of one sample.

    Names are separated by spaces or commas. A # begins a comment. A pair that the file does not
    name is the only one of its sample: use `.get(name, name)`.

    Raises:
        SampleError: the file cannot be read, names a pair twice, or names one that is not among
            `known`.
    """
    if path.exists() and not path.is_file():  # to open a named pipe would wait for its other end
        raise SampleError(f"{path} cannot be read as a list of samples: it is not a file.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SampleError(f"{path} cannot be read as a list of samples: {error}.") from error

    # A sample goes by the name of its first pair.
    found: dict[str, str] = {}
    for line in lines:
        names = line.partition("#")[0].replace(",", " ").split()
        for name in names:
            if name in found:
                raise SampleError(
                    f"{path} names the pair {name} twice; a pair belongs to one sample."
                )
            if name not in known:
                raise SampleError(
                    f"{path} names the pair {name}, which the folder of pairs does not hold."
                )
            found[name] = names[0]
    return found


def split_by_specimen(
    names: Sequence[str], samples: Mapping[str, str], folds: int
) -> list[list[str]]:
    """Pair names in `folds` parts of about equal size, all pairs of one sample in the same part.

    The largest samples are placed first, each into the part that is smallest so far.

    Raises:
        SampleError: there are fewer samples than parts.
    """
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(samples.get(name, name), []).append(name)
    if not 2 <= folds <= len(members):
        raise SampleError(
            f"{len(members)} samples cannot be split into {folds} parts; 2 to {len(members)} are "
            "possible."
        )
    parts: list[list[str]] = [[] for _ in range(folds)]
    for sample in sorted(members, key=lambda sample: (-len(members[sample]), sample)):
        min(parts, key=len).extend(members[sample])
    return [sorted(part) for part in parts]
