"""The paper's tables and figures on a user's own pairs: which networks to train, their training,
and the report.
"""

from aeanet.reproduce.page import write_report
from aeanet.reproduce.plan import SECTIONS, ReproduceError, Study, recipe_for
from aeanet.reproduce.run import Results, replaced_files, run_study

__all__ = [
    "SECTIONS",
    "ReproduceError",
    "Results",
    "Study",
    "recipe_for",
    "replaced_files",
    "run_study",
    "write_report",
]
