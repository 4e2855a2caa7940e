"""Data as arrays: the bundled digits, and stratified parts. Nothing here knows of networks."""

from funcnet.data.bundled import Dataset as Dataset
from funcnet.data.bundled import load as load
from funcnet.data.parts import Parts as Parts
from funcnet.data.parts import stratified as stratified
