"""All bad and odd inputs of the command as data. `test_bad_inputs` runs them."""

from bad_calls import CALLS
from bad_cases import Case
from bad_images import IMAGES
from bad_models import MODELS
from bad_pairs import PAIRS

CASES: dict[str, Case] = IMAGES | CALLS | MODELS | PAIRS
