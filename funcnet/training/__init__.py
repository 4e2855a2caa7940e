"""Training: state, step, compiled epoch, evaluation and fit."""

from funcnet.training.epoch import Examples as Examples
from funcnet.training.epoch import State as State
from funcnet.training.epoch import epoch as epoch
from funcnet.training.epoch import evaluate as evaluate
from funcnet.training.epoch import new_state as new_state
from funcnet.training.epoch import step as step
from funcnet.training.fit import fit as fit
from funcnet.training.fit import prepare as prepare
from funcnet.training.fit import run as run
from funcnet.training.metrics import score_name as score_name
