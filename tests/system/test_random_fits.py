"""Random fits; `make fuzz` runs more of them."""

import pytest


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_random_arguments_are_learned_or_refused(first):
    for name in ("pandas", "polars"):
        pytest.importorskip(name)
    from random_fits import check_fit

    fitted = [check_fit(seed) for seed in range(first, first + 10)]
    assert 0 < sum(fitted) < 10  # neither all nor none are refused
