"""A pickle that an earlier version has saved.

If this version cannot read it on purpose, increase `FORMAT_VERSION`, and run this file
to save a new one.
"""

import pickle
from pathlib import Path

import numpy as np
import pytest
from small_fits import X, Y, tiny

SAVED = Path(__file__).parent / "saved"


@pytest.mark.smoke
def test_pickle_of_an_earlier_version_predicts_and_continues():
    with open(SAVED / "classifier.pickle", "rb") as file:
        classifier = pickle.load(file)
    stored = np.load(SAVED / "predictions.npz")
    probabilities = classifier.predict_proba(stored["X"])
    np.testing.assert_allclose(probabilities, stored["probabilities"], atol=1e-5)
    classifier.set_params(warm_start="resume", max_epochs=3).fit(X, Y)
    assert classifier.n_iter_ == 3


if __name__ == "__main__":
    classifier = tiny(net_params={"module__hidden": 8}).fit(X, Y)
    (SAVED / "classifier.pickle").write_bytes(pickle.dumps(classifier, protocol=4))
    np.savez(
        SAVED / "predictions.npz",
        X=X[:9],
        probabilities=classifier.predict_proba(X[:9]),
    )
