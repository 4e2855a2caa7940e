"""The bundled digits and their parts."""

import numpy as np
import pytest

from funcnet.data import load, stratified


@pytest.mark.quick
def test_digits():
    digits = load("digits")
    assert digits.x.shape == (1797, 64)
    assert digits.x.dtype == np.float32
    assert (digits.x.min(), digits.x.max()) == (0, 1)
    assert digits.y.dtype == np.int32
    assert sorted(set(digits.y.tolist())) == list(range(10))
    assert digits.class_names == tuple("0123456789")


def test_parts_are_disjoint_complete_and_stratified():
    y = load("digits").y
    parts = stratified(y, seed=3)
    rows = np.concatenate(parts)
    assert sorted(rows.tolist()) == list(range(len(y)))
    assert [round(len(part) / len(y), 2) for part in parts] == [0.65, 0.15, 0.2]
    for part in parts:
        shares = np.bincount(y[part], minlength=10) / len(part)
        np.testing.assert_allclose(shares, np.bincount(y) / len(y), atol=0.005)


def test_the_same_seed_gives_the_same_parts():
    y = load("digits").y
    np.testing.assert_array_equal(stratified(y, seed=3).test, stratified(y, seed=3).test)
    assert not np.array_equal(stratified(y, seed=3).test, stratified(y, seed=4).test)


def test_refusals():
    with pytest.raises(ValueError, match=r"data must be one of digits; got 'digit'"):
        load("digit")
    with pytest.raises(
        ValueError, match=r"validation and test must be positive shares of sum below 1; got 0.5 and 0.5"
    ):
        stratified(np.zeros(10), seed=0, validation=0.5, test=0.5)
