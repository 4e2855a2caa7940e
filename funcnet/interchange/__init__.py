"""Networks and their parameters in files, in other frameworks, and as programs.

`save(path, net, params)` and `load(path)` write and read safetensors files; `describe(net)` and `network_of(…)` turn a
network into plain values and back. `to_torch`, `to_flax`, `to_nnx`, `to_equinox` and `to_sklearn` give what these
frameworks compute with, `from_torch`, … take it back, bit for bit. `to_onnx` and `to_stablehlo` write
programs that predict without funcnet.
"""

from funcnet.interchange.description import describe as describe
from funcnet.interchange.description import network_of as network_of
from funcnet.interchange.equinox_modules import from_equinox as from_equinox
from funcnet.interchange.equinox_modules import to_equinox as to_equinox
from funcnet.interchange.flax_modules import from_flax as from_flax
from funcnet.interchange.flax_modules import from_nnx as from_nnx
from funcnet.interchange.flax_modules import to_flax as to_flax
from funcnet.interchange.flax_modules import to_nnx as to_nnx
from funcnet.interchange.onnx_file import to_onnx as to_onnx
from funcnet.interchange.pytorch import from_torch as from_torch
from funcnet.interchange.pytorch import to_torch as to_torch
from funcnet.interchange.sklearn_estimators import from_sklearn as from_sklearn
from funcnet.interchange.sklearn_estimators import to_sklearn as to_sklearn
from funcnet.interchange.stablehlo_file import to_stablehlo as to_stablehlo
from funcnet.interchange.weights_file import Contents as Contents
from funcnet.interchange.weights_file import load as load
from funcnet.interchange.weights_file import save as save
from funcnet.interchange.weights_file import write_whole as write_whole
