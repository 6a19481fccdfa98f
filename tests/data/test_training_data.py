import numpy as np
import pytest
import sklearn
import torch
from scipy.sparse import csr_array, issparse
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading
from torch.utils.data import TensorDataset

from pnl_sklearn import PNLClassifier

pd = pytest.importorskip("pandas")

rng = np.random.default_rng(0)
TRUTH = np.arange(90) % 3
X = (rng.normal(size=(90, 4)) + 3 * np.eye(4)[TRUTH]).astype(np.float32)
Y = np.where(np.arange(90) < 18, TRUTH, -1)
X_LABELED, Y_LABELED, X_UNLABELED = X[:18], Y[:18], X[18:]


def tiny(**params):
    defaults = {
        "max_epochs": 1,
        "steps_per_epoch": 10,
        "random_state": 0,
        "graph": None,
    }
    return PNLClassifier(**(defaults | params))


def frame(X):
    return pd.DataFrame(X, columns=list("abcd"))


def images(X):
    return (10 * X + 100).clip(0, 255).astype(np.uint8).reshape(-1, 2, 2)


@pytest.mark.parametrize(
    "form",
    [
        np.asarray,
        frame,
        csr_array,
        torch.from_numpy,
        images,
        lambda X: TensorDataset(torch.from_numpy(X)),
        # The unlabeled images are (h, w), the labeled ones (1, h, w).
        lambda X: TensorDataset(
            torch.from_numpy(X).reshape(-1, *[1] * (len(X) != 72), 2, 2)
        ),
    ],
)
def test_x_unlabeled_equals_unlabeled_in_x(form):
    apart, within = tiny(graph="auto"), tiny(graph="auto")
    apart.fit(form(X_LABELED), Y_LABELED, X_unlabeled=form(X_UNLABELED))
    within.fit(form(X), Y)
    expected = within.predict_proba(form(X))
    np.testing.assert_array_equal(apart.predict_proba(form(X)), expected)
    if not isinstance(form(X), TensorDataset):
        np.testing.assert_array_equal(apart.transduction_, within.transduction_)


def test_unlabeled_both_in_x_and_in_sparse_x_unlabeled():
    weights = np.arange(40.0)
    apart, within = tiny(graph="auto"), tiny(graph="auto")
    apart.fit(X[:40], Y[:40], weights, X_unlabeled=csr_array(X[40:]))
    within.fit(csr_array(X), Y, np.pad(weights, (0, 50)))
    np.testing.assert_array_equal(apart.predict_proba(X), within.predict_proba(X))


CHANNELS_FIRST = rng.integers(0, 256, (90, 3, 8, 8), dtype=np.uint8)
CHANNELS_FIRST[np.arange(90), TRUTH] //= 2
CHANNELS_LAST = np.moveaxis(CHANNELS_FIRST, 1, -1)
SPARSE = csr_array(CHANNELS_FIRST.reshape(90, -1))
COLOR = {"steps_per_epoch": 4, "image_shape": (3, 8, 8)}


@pytest.fixture(scope="module")
def fitted_on_images():
    """Classifiers fitted on color images in one array, and in one sparse matrix."""
    # Sparse data is scaled without centering, and so is dense data combined with it.
    validation = {"X_val": CHANNELS_FIRST, "y_val": TRUTH}
    return {
        False: tiny(**COLOR).fit(CHANNELS_FIRST, Y, **validation),
        True: tiny(**COLOR).fit(SPARSE, Y, **validation),
    }


@pytest.mark.parametrize("labeled", [CHANNELS_FIRST, CHANNELS_LAST])
@pytest.mark.parametrize(
    "unlabeled", [CHANNELS_FIRST, CHANNELS_LAST, SPARSE, CHANNELS_FIRST.astype(float)]
)
def test_images_with_channels_first_and_last(labeled, unlabeled, fitted_on_images):
    whole = fitted_on_images[issparse(unlabeled)]
    mixed = tiny(**COLOR).fit(
        labeled[:18],
        Y_LABELED,
        X_unlabeled=unlabeled[18:],
        X_val=CHANNELS_LAST,
        y_val=TRUTH,
    )
    assert mixed.history_[-1]["valid_loss"] == whole.history_[-1]["valid_loss"]
    expected = whole.predict_proba(CHANNELS_FIRST)
    for form in (CHANNELS_FIRST, CHANNELS_LAST):
        np.testing.assert_array_equal(mixed.predict_proba(form), expected)


@pytest.mark.parametrize(
    ("inputs", "unlabeled", "message"),
    [
        (X_LABELED, X_LABELED, "as many samples as X, or .*: 18. .*with -1 in y"),
        (X_LABELED, X_UNLABELED[:, :3], "X has 3 features.*expecting 4"),
        (frame(X_LABELED), frame(X_UNLABELED)[["b", "a", "c", "d"]], "feature names"),
        (X_LABELED, np.full((5, 4), np.nan), "NaN"),
        (X_LABELED, TensorDataset(torch.from_numpy(X_UNLABELED)), "both Datasets"),
        (images(X_LABELED), np.zeros((5, 3, 3)), r"samples of shape \(1, 3, 3\)"),
    ],
)
def test_invalid_x_unlabeled(inputs, unlabeled, message):
    with pytest.raises((ValueError, TypeError), match=message):
        tiny().fit(inputs, Y_LABELED, X_unlabeled=unlabeled)


@pytest.fixture(scope="module")
def without_x_unlabeled():
    return tiny().fit(X, Y).predict_proba(X)


@pytest.mark.parametrize("empty", [X[:0], [], csr_array((0, 4)), frame(X[:0])])
def test_empty_x_unlabeled_equals_none(empty, without_x_unlabeled):
    found = tiny().fit(X, Y, X_unlabeled=empty).predict_proba(X)
    np.testing.assert_array_equal(found, without_x_unlabeled)


class RecordingClassifier(PNLClassifier):
    """Records what `fit` was given."""

    fits: list = []  # noqa: RUF012

    def fit(self, X, y, sample_weight=None, *, X_unlabeled=None, negative_labels=None):
        self.fits.append((X, y, X_unlabeled, negative_labels))
        super().fit(X, y, X_unlabeled=X_unlabeled, negative_labels=negative_labels)
        return self


@pytest.fixture
def recording():
    """A recording classifier that requests metadata, with routing enabled."""
    RecordingClassifier.fits.clear()
    with sklearn.config_context(enable_metadata_routing=True):
        classifier = RecordingClassifier(**tiny().get_params(deep=False))
        yield classifier.set_fit_request(X_unlabeled=True, negative_labels=True)


def test_grid_search_does_not_split_x_unlabeled(recording):
    folds = StratifiedKFold(3)
    search = GridSearchCV(recording, {"selection__tolerance": [0.05, 0.2]}, cv=folds)
    search.fit(X_LABELED, Y_LABELED, X_unlabeled=X_UNLABELED)
    assert len(RecordingClassifier.fits) == 7
    for inputs, labels, unlabeled, _ in RecordingClassifier.fits:
        assert len(inputs) == len(labels)
        assert (labels >= 0).all()
        np.testing.assert_array_equal(unlabeled, X_UNLABELED)
    assert search.best_score_ > 0.6
    search.set_params(error_score="raise")
    with pytest.raises(ValueError, match=r"this training set of it: 12\."):
        search.fit(X_LABELED, Y_LABELED, X_unlabeled=X_UNLABELED[:18])


def test_pipeline_transforms_x_unlabeled(recording):
    scaler = StandardScaler()
    pipeline = make_pipeline(scaler, recording, transform_input=["X_unlabeled"])
    grid = {"recordingclassifier__lr": [0.001, 0.002]}
    search = GridSearchCV(pipeline, grid, cv=2)
    search.fit(X_LABELED, Y_LABELED, X_unlabeled=X_UNLABELED)
    expected = StandardScaler().fit(X_LABELED).transform(X_UNLABELED)
    np.testing.assert_allclose(RecordingClassifier.fits[-1][2], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "combine",
    [
        lambda model: VotingClassifier([("a", model), ("b", model)], voting="soft"),
        lambda model: BaggingClassifier(model, n_estimators=2, random_state=0),
        OneVsRestClassifier,
        lambda model: CalibratedClassifierCV(model, cv=2),
    ],
    ids=["voting", "bagging", "one-vs-rest", "calibrated"],
)
def test_meta_estimators_have_no_class_of_unlabeled_samples(combine, recording):
    combined = combine(recording)
    combined.fit(X_LABELED, Y_LABELED, X_unlabeled=X_UNLABELED)
    assert combined.classes_.tolist() == [0, 1, 2]
    assert combined.score(X_UNLABELED, TRUTH[18:]) > 0.6
    assert len(RecordingClassifier.fits) > 1
    for _, labels, unlabeled, _ in RecordingClassifier.fits:
        assert (labels >= 0).all()
        np.testing.assert_array_equal(unlabeled, X_UNLABELED)


def test_tuned_threshold_has_no_class_of_unlabeled_samples(recording):
    two = Y_LABELED < 2
    tuned = TunedThresholdClassifierCV(recording, cv=2)
    tuned.fit(X_LABELED[two], Y_LABELED[two], X_unlabeled=X_UNLABELED)
    assert tuned.classes_.tolist() == [0, 1]
    assert 0 < tuned.best_threshold_ < 1


def test_stacking_of_prefit_estimators():
    y = np.where(np.arange(90) < 9, Y, -1)
    spreading = LabelSpreading(kernel="knn").fit(X, y)
    fitted = [("pnl", tiny().fit(X, y)), ("spreading", spreading)]
    stack = StackingClassifier(fitted, cv="prefit").fit(X[9:18], Y[9:18])
    assert stack.classes_.tolist() == [0, 1, 2]
    assert stack.score(X_UNLABELED, TRUTH[18:]) > 0.6


def test_cross_validate_splits_negative_labels(recording):
    mask = np.zeros((90, 3), dtype=bool)
    mask[np.arange(90), (TRUTH + 1) % 3] = True
    mask[::4] = False
    folds = [(np.arange(0, 90, 2), np.arange(1, 18, 2)), (np.arange(1, 90), [0, 2])]
    pipeline = make_pipeline(StandardScaler(), recording)
    params = {"negative_labels": mask}
    scores = cross_validate(pipeline, X, Y, cv=folds, params=params)
    assert (scores["test_score"] >= 0.5).all()
    for (train, _), fit in zip(folds, RecordingClassifier.fits, strict=True):
        _, labels, _, negatives = fit
        np.testing.assert_array_equal(labels, Y[train])
        np.testing.assert_array_equal(negatives, mask[train])
