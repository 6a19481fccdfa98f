"""One fit that many tests read; none may change it."""

import pytest
from small_fits import X, Y, tiny


@pytest.fixture(scope="session")
def fitted():
    return tiny().fit(X, Y)


@pytest.fixture(scope="session")
def expected(fitted):
    return fitted.predict_proba(X)
