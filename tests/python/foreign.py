"""The operands and checks of the tests with foreign arrays (test_foreign_*.py)."""

import mseloss
import pytest
from conftest import DTYPES, normal
from mseloss import reference

X = normal(1, (3, 4))
Y = normal(2, (3, 4))
EXPECTED = reference.grad(1.0, X, Y)
FORMATS = [d for d in DTYPES if d.name != "bfloat16"]  # of the struct module


def read(array):
    return mseloss._core.asnumpy(array, "input")


def refusal(exception, words, call, *arguments, **options):
    """Checks that the call raises `exception` with one line that matches `words`; returns the exception."""
    with pytest.raises(exception, match=words) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return caught.value
