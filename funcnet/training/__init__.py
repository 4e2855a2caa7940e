"""Training: optimizers by name, state, step, compiled epoch, evaluation and fit."""

from funcnet.training.epoch import Examples as Examples
from funcnet.training.epoch import Objective as Objective
from funcnet.training.epoch import Report as Report
from funcnet.training.epoch import State as State
from funcnet.training.epoch import epoch as epoch
from funcnet.training.epoch import epoch_in_order as epoch_in_order
from funcnet.training.epoch import epoch_program as epoch_program
from funcnet.training.epoch import evaluate as evaluate
from funcnet.training.epoch import new_order as new_order
from funcnet.training.epoch import new_state as new_state
from funcnet.training.epoch import step as step
from funcnet.training.failure import NonFinite as NonFinite
from funcnet.training.failure import NonFiniteLoss as NonFiniteLoss
from funcnet.training.fit import Result as Result
from funcnet.training.fit import fit as fit
from funcnet.training.fit import prepare as prepare
from funcnet.training.fit import run as run
from funcnet.training.line_search import exact_line_search as exact_line_search
from funcnet.training.metrics import metric_names as metric_names
from funcnet.training.metrics import task_of as task_of
from funcnet.training.optimizers import OPTIMIZERS as OPTIMIZERS
from funcnet.training.optimizers import optimizer_by_name as optimizer_by_name
from funcnet.training.optimizers import schedule_by_name as schedule_by_name
from funcnet.training.sweep import Sweep as Sweep
from funcnet.training.sweep import fit_many as fit_many
from funcnet.training.sweep import grid as grid
