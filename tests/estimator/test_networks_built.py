"""Networks, optimizers and EMAs that a fit builds from its parameters."""

import copy
import functools
import math
import pickle

import numpy as np
import pytest
import torch
from small_fits import IMAGES, TRUTH, X, Y, predictions, same, tiny
from torch import nn


class Net(nn.Module):
    """Takes the inferred arguments under other names."""

    def __init__(self, in_features, num_classes, hidden=6):
        super().__init__()
        self.body = nn.Linear(in_features, hidden)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, x):
        return self.head(self.body(x).relu())


class NetWithReset(Net):
    def reset_head(self):
        self.head.reset_parameters()


def make_net(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, n_classes))


class ImageNet(nn.Module):
    def __init__(self, image_shape, n_channels, n_classes):
        super().__init__()
        assert n_channels == image_shape[0]
        self.convolution = nn.Conv2d(n_channels, 4, 3)
        self.head = nn.Linear(4, n_classes)

    def forward(self, x):
        return self.head(self.convolution(x).amax(dim=(2, 3)))


@pytest.mark.parametrize(
    "module",
    ["auto", "mlp", Net, nn.Linear, make_net, functools.partial(Net, hidden=8)],
)
def test_module_gets_inferred_arguments(module):
    estimator = tiny(module=module, steps_per_epoch=30, lr=0.03).fit(X, Y)
    assert estimator.score(X, TRUTH) > 0.9
    first, second = (list(net.module_.parameters()) for net in estimator.submodels_)
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("module", ["auto", "cnn", ImageNet])
def test_module_for_images(module):
    images = np.stack([IMAGES, -IMAGES], axis=1)
    estimator = tiny(module=module, image_shape=(2, 8, 8)).fit(images, Y)
    weight = next(estimator.submodels_[0].module_.parameters())
    assert weight.shape[1] == 2
    assert estimator.predict_proba(images).shape == (60, 3)


def test_module_auto_is_mlp_or_cnn(expected):
    same(predictions(module="mlp"), expected)
    assert not np.array_equal(predictions(module=nn.Linear), expected)
    cnn, auto = (tiny(module=m).fit(IMAGES, Y) for m in ("cnn", "auto"))
    same(cnn.predict_proba(IMAGES), auto.predict_proba(IMAGES))


def test_module_instance_is_copied():
    module = Net(5, 3).eval()
    before = copy.deepcopy(module.state_dict())
    estimator = tiny(module=module, lr=1e-30, standardize=False).fit(X, Y)
    for net in estimator.submodels_:
        assert net.module_.network is not module
        for name, value in net.module_.network.state_dict().items():
            assert torch.equal(value, before[name])  # lr=1e-30 leaves it as it was
    with torch.no_grad():
        logits = module(torch.from_numpy(X)).softmax(dim=1)
    np.testing.assert_allclose(estimator.predict_proba(X), logits, rtol=1e-5)

    estimator.set_params(lr=0.1).fit(X, Y)
    bodies = [net.module_.network.body.weight for net in estimator.submodels_]
    assert not torch.equal(bodies[0], before["body.weight"])
    assert not torch.equal(*bodies)
    assert not module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_reset_head_draws_a_new_head_per_submodel():
    module = NetWithReset(5, 3)
    before = copy.deepcopy(module.state_dict())
    estimator = tiny(module=module, lr=1e-30).fit(X, Y)
    networks = [net.module_.network for net in estimator.submodels_]
    for network in networks:
        assert torch.equal(network.body.weight, before["body.weight"])
        assert not torch.equal(network.head.weight, before["head.weight"])
    assert not torch.equal(networks[0].head.weight, networks[1].head.weight)
    assert torch.equal(module.head.weight, before["head.weight"])


def test_frozen_parameters_are_not_trained():
    module = Net(5, 3)
    module.body.requires_grad_(False)
    estimator = tiny(module=module, lr=0.1).fit(X, Y)
    for net in estimator.submodels_:
        assert torch.equal(net.module_.network.body.weight, module.body.weight)
        assert not torch.equal(net.module_.network.head.weight, module.head.weight)


def test_optimizer_and_its_parameters():
    params = {"optimizer": torch.optim.SGD, "lr": 0.1}
    net_params = {"optimizer__momentum": 0.9}
    estimator = tiny(**params, net_params=net_params).fit(X, Y)
    for net in estimator.submodels_:
        assert isinstance(net.optimizer_, torch.optim.SGD)
        assert net.optimizer_.param_groups[0]["momentum"] == 0.9
    assert not np.array_equal(estimator.predict_proba(X), predictions(**params))


def test_lr_follows_half_a_cosine(fitted):
    for net in fitted.submodels_:
        rate = 0.002 * (1 + math.cos(math.pi * 5 / 6)) / 2  # the last of six steps
        assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(rate)


def test_without_ema_weights_predict():
    estimator = tiny(ema_decay=None).fit(X, Y)
    for net in estimator.submodels_:
        assert net.ema_module_ is net.module_
    x = torch.from_numpy(X)
    with torch.no_grad():
        logits = [net.module_.eval()(x) for net in estimator.submodels_]
    mean = torch.stack(logits).softmax(dim=2).mean(dim=0)
    mean = (mean.log() / estimator.temperature_).softmax(dim=1)
    np.testing.assert_allclose(estimator.predict_proba(X), mean, rtol=1e-5)
    same(predictions(ema_decay=0.0), estimator.predict_proba(X))


def test_ema_of_weights():
    estimator = tiny(module=nn.Linear, ema_decay=0.9, max_epochs=1, steps_per_epoch=1)
    net = estimator.fit(X, Y).submodels_[0]
    fresh = tiny(module=nn.Linear, lr=1e-30, max_epochs=1, steps_per_epoch=1).fit(X, Y)
    start = fresh.submodels_[0].module_.network.weight
    now, ema = net.module_.network.weight, net.ema_module_.network.weight
    decay = 2 / 11  # at the first step: (1 + 1) / (10 + 1)
    torch.testing.assert_close(ema, decay * start + (1 - decay) * now)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_module_of_another_dtype_is_converted(dtype):
    module = Net(5, 3).to(dtype)
    expected = predictions(module=copy.deepcopy(module).float())
    same(predictions(module=module), expected)
    assert module.body.weight.dtype == dtype


class LazyNet(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3)
        )

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("module", [LazyNet, LazyNet(3)], ids=["class", "instance"])
def test_lazy_layers_are_initialized(module):
    estimator = tiny(module=module).fit(IMAGES, Y)
    first, second = (net.module_.network.layers[0] for net in estimator.submodels_)
    assert first.weight.shape == (4, 1, 3, 3)
    assert not torch.equal(first.weight, second.weight)
    assert np.isfinite(
        pickle.loads(pickle.dumps(estimator)).predict_proba(IMAGES)
    ).all()


def test_batch_size_1_with_batch_normalization_of_images():
    estimator = tiny(module="cnn", batch_size=1, labeled_batch_size=1).fit(IMAGES, Y)
    assert np.isfinite(estimator.predict_proba(IMAGES)).all()
