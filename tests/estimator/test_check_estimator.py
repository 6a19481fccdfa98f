"""scikit-learn's own checks of an estimator."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from pnl_sklearn import PNLClassifier

_EXPECTED_FAILURES = {
    "check_classifiers_classes": (
        "trains on the labels -1 and 1; scikit-learn exempts its own semi-supervised "
        "classifiers by name"
    ),
    "check_sample_weight_equivalence_on_dense_data": (
        "asks for equality to 1e-7, which no minibatch method gives"
    ),
    "check_sample_weight_equivalence_on_sparse_data": (
        "asks for equality to 1e-7, which no minibatch method gives"
    ),
}


@parametrize_with_checks(
    [PNLClassifier(max_epochs=2, steps_per_epoch=30)],
    expected_failed_checks=lambda estimator: _EXPECTED_FAILURES,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)
