"""Triton's kernels run in its interpreter: it reads the variable once, when the first test module imports it."""

import os

os.environ["TRITON_INTERPRET"] = "1"
