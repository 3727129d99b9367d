"""The tree of files within a Bruker file (.bcf), looked over before rosettasciio reads it.

Such a file is a file system (SFS of AidAim Software): a header, then chunks of one size, each with
a header of 32 bytes. Some of them hold the tree, 512 bytes for each file and folder in it.
"""

import struct
from pathlib import Path

_START = 0x118  # of chunk 0; the header of the whole lies before it and in it
_CHUNK_HEADER, _ITEM = 32, 512
_MOST_FOLDERS = 100  # in which a file lies


def check_tree(path: Path) -> None:
    """Raise ValueError for a tree by which rosettasciio would not end, or would fill the memory.

    That is one whose folders lie in one another, or which states files longer than the whole.
    """
    # The header: the size of the chunks, where the tree begins, and how many items it has.
    total = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_START + _CHUNK_HEADER + 20)
        if not head.startswith(b"AAMVHFSS") or len(head) < _START + _CHUNK_HEADER + 20:
            raise ValueError("it does not begin as a Bruker file")
        (chunk,) = struct.unpack_from("<I", head, 0x128)
        address, count = struct.unpack_from("<II", head, 0x140)
        per_chunk = (chunk - _CHUNK_HEADER) // _ITEM
        if per_chunk < 1 or count * _ITEM > total:
            raise ValueError("the tree of the files in it is damaged")

        # The tree: each chunk of it names the next one.
        parents: list[int] = []
        while len(parents) < count:
            file.seek(_START + chunk * address)
            part = file.read(_CHUNK_HEADER + min(per_chunk, count - len(parents)) * _ITEM)
            for start in range(_CHUNK_HEADER, len(part), _ITEM):
                size, parent, is_folder = struct.unpack_from(
                    "<4xQ28xi176x?", part.ljust(start + _ITEM, b"\0"), start
                )
                if size > total and not is_folder:
                    raise ValueError("it states files that are longer than itself")
                parents.append(parent)
            if len(part) <= _CHUNK_HEADER:
                raise ValueError("the tree of the files in it is cut short")
            (address,) = struct.unpack_from("<I", part)

    # From each item up to the root.
    for above in parents:
        steps = 0
        while above != -1:
            if not 0 <= above < count or steps == _MOST_FOLDERS:
                raise ValueError("folders in it lie in one another or nowhere")
            above, steps = parents[above], steps + 1
