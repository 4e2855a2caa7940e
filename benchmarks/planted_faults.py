"""Wrong gradients of every kind: a checker must refuse every one, and should say why."""

import planted_faults_arithmetic as arithmetic
import planted_faults_functions as functions
import planted_faults_layers as layers
import planted_faults_networks as networks
import planted_faults_programs as programs
import planted_faults_rules as rules
import planted_faults_shapes as shapes
import planted_faults_terms as terms
from gradient_cases import Case


def faults() -> list[Case]:
    """The cases; each with the diagnosis expected of it, if there is one."""
    parts = (networks, terms, shapes, layers, functions, rules, arithmetic, programs)
    return [case for part in parts for case in part.faults()]
