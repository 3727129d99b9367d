"""Training: the paper's recipe, a short one for laptops, and the run folder that a training leaves
behind.

The names are listed in `__init__.pyi` and imported when first used: the command line needs the
recipe alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
