"""Networks and their parameters in files.

`save(path, net, params)` and `load(path)` write and read safetensors files; `describe(net)` and `network_of(…)` turn a
network into plain values and back.
"""

from funcnet.interchange.description import describe as describe
from funcnet.interchange.description import network_of as network_of
from funcnet.interchange.weights_file import Contents as Contents
from funcnet.interchange.weights_file import load as load
from funcnet.interchange.weights_file import save as save
from funcnet.interchange.weights_file import write_whole as write_whole
