"""The parts of the READMEs that are generated: a function for each, from the records alone.

The text between the markers `<!-- NAME -->` and `<!-- /NAME -->` of a README is what
`SECTIONS[NAME]` returns.
"""

from collections.abc import Callable

from .images import (
    demo_sentence,
    denoising_section,
    errors_sentence,
    flips_sentence,
    frames_table,
    reproduce_section,
    scans_sentence,
    sem_sentence,
    tiling_section,
)
from .kernels import (
    attention_table,
    block_section,
    converting_table,
    gpu_paragraph,
    h200_section,
    networks_section,
    supported_table,
    symmetries_table,
)
from .qualified import qualified_section
from .tool import restoring_table, tool_section

SECTIONS: dict[str, Callable[[], str]] = {
    # README.md
    "sem": sem_sentence,
    "restoring": restoring_table,
    "attention": attention_table,
    "gpu": gpu_paragraph,
    "converting": converting_table,
    "symmetries": symmetries_table,
    # aea_kernels/README.md
    "supported": supported_table,
    # aeanet/README.md
    "errors": errors_sentence,
    "flips": flips_sentence,
    "demo": demo_sentence,
    "frames": frames_table,
    "scans": scans_sentence,
    # benches/README.md
    "block": block_section,
    "h200": h200_section,
    "qualified": qualified_section,
    "networks": networks_section,
    "denoising": denoising_section,
    "reproduce": reproduce_section,
    "tiling": tiling_section,
    "tool": tool_section,
}
