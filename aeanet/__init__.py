"""Super-resolution of electron micrographs by augmented equivariant attention: the names a script
needs.

They are listed in `__init__.pyi` and imported when first used, so that `import aeanet` does not
wait for PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
