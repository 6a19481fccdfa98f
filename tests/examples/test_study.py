"""The study behind the defaults: what each setting changes, and its page."""

import numpy as np
import pytest
import torch

from examples.benchmarks import study
from examples.benchmarks.study import (
    FACTORS,
    FewerUnlabeled,
    FirstNetwork,
    TwoPassesCNN,
    variations,
)
from examples.benchmarks.study_page import changes, paired, write_study
from examples.benchmarks.tasks import TASKS, Options
from pnl_sklearn import PNLClassifier


@pytest.mark.parametrize("name", ["digits-20", "digits_as_table"])
@pytest.mark.parametrize("factor", FACTORS)
def test_settings_differ_from_the_default_in_one_thing(name, factor):
    default = PNLClassifier(random_state=3)
    settings = variations(factor, default, TASKS[name].load(0, Options()))
    names = [setting for setting, _ in settings]
    assert len(set(names)) == len(names) >= 2
    before = default.get_params(deep=False)
    for setting, estimator in settings:
        own = getattr(estimator, "estimator", estimator)
        after = own.get_params(deep=False)
        changed = {key for key in before if before[key] is not after[key]}
        if type(estimator) is PNLClassifier:
            assert changed
        assert len(changed) <= (3 if "no views" in setting else 2), setting
        assert own.random_state == 3


def blobs():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) + 3 * (np.arange(60) % 2)[:, None]
    y = np.full(60, -1)
    y[5:11] = np.arange(5, 11) % 2
    return X.astype(np.float32), y


def test_first_network_predicts_alone():
    X, y = blobs()
    both = PNLClassifier(max_epochs=1, steps_per_epoch=3, random_state=0).fit(X, y)
    one = FirstNetwork(max_epochs=1, steps_per_epoch=3, random_state=0).fit(X, y)
    expected = both.submodels_[0].predict_proba(X)
    np.testing.assert_allclose(one.predict_proba(X), expected, rtol=1e-5)
    assert not np.allclose(both.predict_proba(X), expected, rtol=1e-5)


def test_fewer_unlabeled_keeps_the_labeled_samples():
    X, y = blobs()

    class Recorder(PNLClassifier):
        def fit(self, X, y):
            self.classes_, self.seen = np.array([0, 1]), (X, y)
            return self

    fewer = FewerUnlabeled(Recorder(random_state=0), n_unlabeled=10).fit(X, y)
    X_seen, y_seen = fewer.estimator_.seen
    assert len(X_seen) == 16
    # Samples 5 to 10 are the labeled ones.
    np.testing.assert_array_equal(X_seen[y_seen != -1], X[5:11])
    np.testing.assert_array_equal(y_seen[y_seen != -1], y[5:11])
    assert {tuple(x) for x in X_seen} <= {tuple(x) for x in X}
    assert fewer.estimator_.steps_per_epoch == 110


def test_two_passes_normalize_each_part_separately():
    torch.manual_seed(0)
    net = TwoPassesCNN(image_shape=(1, 8, 8), n_classes=3)
    x = torch.randn(80, 1, 8, 8)
    x[16:] += 2
    with torch.no_grad():
        logits = net(x)
        labeled, unlabeled = net(x[:16]), net(x[16:])
        torch.testing.assert_close(logits, torch.cat([labeled, unlabeled]))
        net.eval()
        assert torch.allclose(net(x)[:16], net(x[:16]), atol=1e-5)


def test_answers_are_right_and_of_the_given_number():
    data = TASKS["digits-20"].load(0, Options())
    default = PNLClassifier(random_state=0)
    for setting, answered in variations("study-answers", default, data):
        n = int(setting.split()[0])
        if answered.labels is not None:
            new = answered.labels >= 0
            assert new.sum() == n
            assert (data.y_few[new] == -1).all()
            np.testing.assert_array_equal(answered.labels[new], data.y[new])
        else:
            mask = answered.negative_labels
            assert mask.sum() == n
            assert (data.y_few[mask.any(axis=1)] == -1).all()
            assert not mask[np.arange(len(mask)), data.y].any()
            assert set(mask.sum(axis=1)) == {0, int(setting.split('"')[0].split()[-1])}


def test_impossible_answers_are_left_out():
    default = PNLClassifier(random_state=0)
    data = TASKS["two_normals"].load(0, Options())
    names = [name for name, _ in variations("study-answers", default, data)]
    assert not any(": 3 " in name for name in names)  # there is one wrong class
    data = TASKS["iris"].load(0, Options())
    names = [name for name, _ in variations("study-answers", default, data)]
    assert {name.split()[0] for name in names} == {"30", "90"}  # of 93 samples


def test_study_refuses_other_than_the_defaults():
    data = TASKS["digits-20"].load(0, Options())
    with pytest.raises(SystemExit, match="changes the defaults"):
        list(variations("study-views", PNLClassifier(weak_view=None), data))


RECORD = {"task": "digits-20", "small": False}
RECORDS = [
    RECORD | {"method": "default", "split": 0, "errors": {"": 3.0}},
    RECORD | {"method": "default", "split": 1, "errors": {"": 5.0}},
    RECORD | {"method": "default", "split": 100, "errors": {"": 4.0}},
    RECORD | {"task": "wine", "method": "default", "split": 0, "errors": {"": 7.0}},
    RECORD | {"method": "study-ema", "split": 0, "errors": {"no EMA": 4.0}},
    RECORD | {"method": "study-ema", "split": 1, "errors": {"no EMA": 8.0}},
    RECORD
    | {
        "method": "study-unlabeled",
        "split": 0,
        "errors": {"30 unlabeled samples": 9.0, "100 unlabeled samples": 6.0},
    },
]


def test_settings_are_compared_with_the_default_on_the_same_splits():
    of_task = changes(RECORDS)["digits-20"]
    default = of_task["default"]["default"]
    assert default == {0: 3.0, 1: 5.0}
    mean, difference, spread, values = paired(of_task["study-ema"]["no EMA"], default)
    # The differences are 1 and 3: their mean 2, its standard error sqrt(2) / sqrt(2).
    assert (mean, difference, values.tolist()) == (6.0, 2.0, [4.0, 8.0])
    assert spread == pytest.approx(1.0)
    assert np.isnan(
        paired(of_task["study-unlabeled"]["30 unlabeled samples"], default)[2]
    )


def test_write_study(tmp_path):
    write_study(RECORDS, tmp_path)
    page = (tmp_path / "study.md").read_text()
    assert "| EMA of the weights | no EMA | 6.00 | +2.00 | 1.00 |" in page
    row = "| Number of unlabeled samples | 30 unlabeled samples | 9.00 (1) | +6.00 |  |"
    assert row in page
    assert "![Error by number of samples](study_curves.png)" in page
    assert "wine" not in page, "no setting of it was changed"
    assert (
        "label splits 0, 1; in parentheses the number of label splits where it is"
        in page
    )
    for name in ("study_digits-20.png", "study_curves.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    (tmp_path / "study_curves.png").unlink()
    write_study([RECORDS[0], RECORDS[4]], tmp_path)
    page = (tmp_path / "study.md").read_text()
    assert "study_curves" not in page
    assert "one label split, 0: small differences say nothing." in page
    assert not (tmp_path / "study_curves.png").exists()


def test_large_tasks_run_few_settings():
    data = TASKS["digits-20"].load(0, Options())
    kept = set()
    for factor in FACTORS:
        default = PNLClassifier(random_state=0)
        every = [setting for setting, _ in variations(factor, default, data)]
        few = [s for s, _ in variations(factor, default, data, is_large=True)]
        # In their order, and each is one that small tasks run too.
        assert few == [setting for setting in every if setting in few]
        kept |= set(few)
    # These 1,237 unlabeled samples have all settings of large tasks but one.
    assert {*study._OF_LARGE} - kept == {"10000 unlabeled samples"}
    # A small version has less than a thousand unlabeled samples.
    iris = TASKS["iris"].load(0, Options())
    sizes = variations("study-unlabeled", default, iris, is_large=True)
    assert [setting for setting, _ in sizes] == ["30 unlabeled samples"]
