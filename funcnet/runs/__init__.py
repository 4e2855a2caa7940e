"""A training run, from options to a folder. Needs the packages of the extra `train`.

`set_up(Config(…))` gives network, optimizer and data; `prove` compares the gradient with the oracle; `write_run` keeps
what `funcnet.training.run` left, in a folder from `new_folder`; `write_report` makes a
page of it. `read_run(folder).model` is what was trained, with
scales and names; `predict(model, x)` and `measure(model, dataset)` take data as they are read.
"""

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
from funcnet.runs.record import write_sweep as write_sweep
from funcnet.runs.report import check_report as check_report
from funcnet.runs.report import write_report as write_report
from funcnet.runs.setup import Setup as Setup
from funcnet.runs.setup import set_up as set_up
from funcnet.runs.sweep import Swept as Swept
from funcnet.runs.sweep import run_sweep as run_sweep
from funcnet.runs.trained import Trained as Trained
from funcnet.runs.trained import measured as measured
