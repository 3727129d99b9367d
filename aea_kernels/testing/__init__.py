"""Symmetries and parity in your own CI: assertions, errors, and a report that names the layer.

    from aea_kernels.testing import assert_equivariant, d4, permutations, translations
    from aea_kernels.testing import equivariance_report

    assert_equivariant(my_block.eval(), torch.randn(2, 32, 16, 16), permutations)
    print(equivariance_report(my_network.eval(), image, [d4, translations(4)]))

In pytest, the fixture `equivariance` does the same and writes the measured errors into the JUnit
file; hypothesis strategies for feature maps, group elements and attention are in
`aea_kernels.testing.strategies`.
"""

from .acts import channels, image, invariant, points, regular, vector
from .assertions import (
    assert_equivariant,
    assert_invariant,
    assert_permutation_equivariant,
    assert_permutation_invariant,
)
from .errors import Difference, UnmeasurableError, Verdict
from .groups import (
    batch_order,
    batch_order_of,
    d4,
    flips,
    permutations,
    permutations_of_patches,
    rotations,
    rotations_by,
    scale,
    translations,
)
from .measure import equivariance_error
from .parity import assert_parity, assert_within_error_budget
from .report import Report, equivariance_report
from .results import ElementError, Errors, Layer
from .sizes import averaged_kernels, legal_sizes
from .symmetry import Element, Group, UndefinedActionError

__all__ = [
    "Difference",
    "Element",
    "ElementError",
    "Errors",
    "Group",
    "Layer",
    "Report",
    "UndefinedActionError",
    "UnmeasurableError",
    "Verdict",
    "assert_equivariant",
    "assert_invariant",
    "assert_parity",
    "assert_permutation_equivariant",
    "assert_permutation_invariant",
    "assert_within_error_budget",
    "averaged_kernels",
    "batch_order",
    "batch_order_of",
    "channels",
    "d4",
    "equivariance_error",
    "equivariance_report",
    "flips",
    "image",
    "invariant",
    "legal_sizes",
    "permutations",
    "permutations_of_patches",
    "points",
    "regular",
    "rotations",
    "rotations_by",
    "scale",
    "translations",
    "vector",
]
