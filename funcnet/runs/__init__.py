"""A training run, from options to a folder. Needs the packages of the extra `train`."""

from funcnet.runs.config import Config as Config
from funcnet.runs.folder import new_folder as new_folder
from funcnet.runs.folder import read_run as read_run
from funcnet.runs.model import Model as Model
from funcnet.runs.model import Predictions as Predictions
from funcnet.runs.model import load_model as load_model
from funcnet.runs.model import measure as measure
from funcnet.runs.model import predict as predict
from funcnet.runs.model import save_model as save_model
from funcnet.runs.proof import Proof as Proof
from funcnet.runs.proof import prove as prove
from funcnet.runs.record import run_curves as run_curves
from funcnet.runs.record import write_run as write_run
from funcnet.runs.setup import Setup as Setup
from funcnet.runs.setup import set_up as set_up
