"""A broken sample of a table is clipped in fit."""

import numpy as np
import pytest
from small_fits import X, Y, same, tiny

pd = pytest.importorskip("pandas")

BROKEN = X.copy()
BROKEN[40, 0] = 1e9
OTHERS = np.delete(X, 40, 0)
CLIPPED = BROKEN.clip(OTHERS.min(axis=0), OTHERS.max(axis=0))
WARNED = "^1 sample has values of feature 0 that are far beyond"


@pytest.mark.parametrize("params", [{"graph": "auto"}, {"standardize": False}])
def test_fit_equals_that_of_the_clipped_samples(params):
    with pytest.warns(UserWarning, match=WARNED):
        found = tiny(**params).fit(BROKEN, Y)
    expected = tiny(**params).fit(CLIPPED, Y)
    same(found.predict_proba(X), expected.predict_proba(X))
    same(found.transduction_, expected.transduction_)


def test_far_value_of_memory_mapped_x_and_of_x_unlabeled(tmp_path):
    np.save(tmp_path / "X.npy", BROKEN)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = tiny().fit(CLIPPED, Y).predict_proba(X)
    with pytest.warns(UserWarning, match=WARNED):
        found = tiny().fit(mapped[:35], Y[:35], X_unlabeled=mapped[35:])
    same(found.predict_proba(X), expected)


def test_warning_names_the_feature_of_a_data_frame():
    frame = pd.DataFrame(BROKEN, columns=["age", "b", "c", "d", "e"])
    with pytest.warns(UserWarning, match="of feature 'age' that") as found:
        tiny().fit(frame, Y)
    assert [each.filename for each in found] == [__file__]
