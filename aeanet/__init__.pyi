from .data.registration import register_pair as register_pair
from .inference.files import restore_file as restore_file
from .inference.prediction import super_resolve as super_resolve
from .networks.registry import build_model as build_model
from .networks.registry import load_model as load_model
from .networks.registry import save_model as save_model
from .networks.unet import AEANet as AEANet
from .scoring.evaluation import evaluate as evaluate
