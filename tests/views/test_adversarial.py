import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs

from pnl_sklearn import PNLClassifier
from pnl_sklearn.networks._mlp import ReLUDropout
from pnl_sklearn.views import AdversarialView, StudentView, TableView


@pytest.fixture(autouse=True)
def _seed_torch():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def normal_table(n_samples, n_features):
    rng = np.random.default_rng(0)
    return torch.tensor(rng.normal(size=(n_samples, n_features))).float()


def test_adversarial_view_is_a_student_view():
    assert isinstance(AdversarialView(), StudentView)
    assert not isinstance(TableView(), StudentView)


def test_adversarial_direction_of_logistic_regression():
    # With two classes the predictions of a linear model depend on w x alone. So the
    # gradient, and the worst perturbation, are parallel to the difference of weights.
    x = normal_table(50, 6)
    model = torch.nn.Linear(6, 2)
    change = AdversarialView(size=0.2).perturb(x, model) - x
    # The gradient with respect to standardized features is w times the units.
    w = (model.weight[1] - model.weight[0]).detach() * x.var(dim=0, correction=0)
    cosines = (change @ w) / (change.norm(dim=1) * w.norm())
    torch.testing.assert_close(cosines.abs(), torch.ones(50), atol=1e-3, rtol=0)
    assert all(p.grad is None for p in model.parameters())


def test_adversarial_size_is_in_standard_deviations():
    scale = torch.tensor([1e-3, 1.0, 50.0, 1e4])
    x = normal_table(80, 4)
    model = torch.nn.Linear(4, 3)

    def model_of_scaled(z):
        return model(z / scale)

    changes = []
    for batch, network in [(x, model), (x * scale, model_of_scaled)]:
        torch.manual_seed(1)
        change = AdversarialView(size=0.2).perturb(batch, network) - batch
        changes.append(change / batch.std(dim=0, correction=0))
    plain, scaled = changes
    torch.testing.assert_close(plain.square().mean(1).sqrt(), torch.full((80,), 0.2))
    torch.testing.assert_close(scaled, plain, atol=2e-3, rtol=0)
    images = torch.rand(5, 2, 6, 6)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(72, 3))
    change = AdversarialView(size=0.2).perturb(images, flat) - images
    size = change.square().mean(dim=(1, 2, 3)).sqrt() / images.std(correction=0)
    torch.testing.assert_close(size, torch.full((5,), 0.2))


@pytest.mark.parametrize("dropout", [torch.nn.Dropout, ReLUDropout])
def test_adversarial_passes_have_the_same_dropout_mask(dropout):
    x = normal_table(100, 10)
    model = torch.nn.Sequential(
        torch.nn.Linear(10, 50), dropout(0.5), torch.nn.Linear(50, 3)
    )
    outputs = []

    def recorded(z):
        outputs.append(model(z))
        return outputs[-1]

    AdversarialView(size=1e-4).perturb(x, recorded)
    clean, moved = outputs
    assert (clean - moved).abs().max() < 1e-3
    assert (model(x) - clean).abs().max() > 0.1


def test_adversarial_perturbation_of_confident_network_stays_small():
    x = normal_table(50, 6)
    model = torch.nn.Linear(6, 2)
    with torch.no_grad():
        model.weight.mul_(200)
    change = AdversarialView(size=0.2).perturb(x, model) - x
    assert (change.square().mean(dim=1).sqrt() < 0.5).all()


def test_adversarial_perturbation_changes_predictions_more_than_noise(generator):
    x = normal_table(200, 20)
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 50), torch.nn.ReLU(), torch.nn.Linear(50, 4)
    )

    def divergence(moved):
        log_p, log_q = (model(z).log_softmax(dim=1).detach() for z in (x, moved))
        return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()

    perturbed = AdversarialView(size=0.3).perturb(x, model)
    noisy = AdversarialView(noise=0.3)(x, generator)
    assert (noisy - x).std() / x.std() == pytest.approx(0.3, rel=0.05)
    assert divergence(perturbed) > 4 * divergence(noisy)


def test_adversarial_view_of_empty_and_constant_batches():
    view = AdversarialView(noise=0.1)
    assert view(torch.zeros(0, 3)).shape == (0, 3)
    assert view.perturb(torch.zeros(0, 3), torch.nn.Linear(3, 2)).shape == (0, 3)
    constant = torch.zeros(4, 3)
    assert view.perturb(constant, torch.nn.Linear(3, 2)).isfinite().all()


@pytest.mark.parametrize("exchange", ["simultaneous", "alternating"])
def test_fit_with_adversarial_view(exchange):
    X, y = make_blobs(150, centers=3, n_features=4, random_state=0)
    y_few = np.where(np.arange(150) < 15, y, -1)
    fits = [
        PNLClassifier(
            exchange=exchange,
            strong_view=strong,
            max_epochs=1,
            steps_per_epoch=30,
            random_state=0,
        ).fit(X, y_few)
        for strong in [AdversarialView(0.2), AdversarialView(0.2), None]
    ]
    first, again, without = (fit.predict_proba(X) for fit in fits)
    assert fits[0].score(X, y) > 0.9
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, without)


def test_adversarial_view_as_weak_view_raises():
    with pytest.raises(ValueError, match="Use it as strong_view"):
        PNLClassifier(weak_view=AdversarialView()).fit(np.eye(4), [0, 1, -1, -1])
