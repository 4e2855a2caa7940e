"""Data as arrays and class names: bundled sets, MNIST, OpenML, text and NumPy files. Nothing here knows of networks."""

from funcnet.data.arrays import read_npz as read_npz
from funcnet.data.bundled import BUNDLED as BUNDLED
from funcnet.data.bundled import load_bundled as load_bundled
from funcnet.data.dataset import Dataset as Dataset
from funcnet.data.dataset import Schema as Schema
from funcnet.data.dataset import Table as Table
from funcnet.data.dataset import schema as schema
from funcnet.data.dataset import take as take
from funcnet.data.idx import read_idx as read_idx
from funcnet.data.idx import read_mnist as read_mnist
from funcnet.data.load import load as load
from funcnet.data.load import load_as as load_as
from funcnet.data.load import read_features as read_features
from funcnet.data.openml import read_openml as read_openml
from funcnet.data.parts import Parts as Parts
from funcnet.data.parts import shuffled as shuffled
from funcnet.data.parts import split as split
from funcnet.data.parts import stratified as stratified
from funcnet.data.standardisation import Standardisation as Standardisation
from funcnet.data.standardisation import fit_standardisation as fit_standardisation
from funcnet.data.standardisation import restore as restore
from funcnet.data.standardisation import standardise as standardise
from funcnet.data.table import read_csv as read_csv
from funcnet.data.targets import encode as encode
from funcnet.data.targets import encode_as as encode_as
