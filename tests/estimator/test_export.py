"""The fitted classifier as a torch module, and as a file of ONNX."""

import json
import sys

import numpy as np
import pytest
import torch
from small_fits import IMAGES, X, Y, tiny
from torch import nn

COLOR = np.random.default_rng(2).normal(5, 3, size=(60, 9, 8, 3)).astype(np.float32)
SHORT = {"max_epochs": 1, "steps_per_epoch": 2}


@pytest.fixture(scope="module", params=[X, COLOR], ids=["table", "color"])
def exported(request):
    """A fitted classifier with a temperature, and samples."""
    classes = np.array(["-1", "a", "b", "c"])
    classifier = tiny(**SHORT).fit(request.param, classes[Y + 1])
    classifier.temperature_ = 1.7
    return classifier, request.param


def close(given, classifier, samples):
    expected = classifier.predict_proba(samples)
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5)


def test_module_predicts_as_the_classifier(exported):
    classifier, samples = exported
    module = classifier.to_module()
    assert isinstance(module, nn.Module)
    assert not module.training
    probabilities = module(torch.from_numpy(samples))
    assert not probabilities.requires_grad
    assert probabilities.dtype == torch.float32
    close(probabilities, classifier, samples)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_module_is_a_copy(precision):
    classifier = tiny(precision=precision, **SHORT).fit(X, Y)
    module = classifier.to_module()
    before = module(torch.from_numpy(X))
    classifier.set_params(warm_start=True, lr=0.1).fit(X, Y)
    assert torch.equal(module(torch.from_numpy(X)), before)
    np.testing.assert_allclose(before.sum(dim=1), 1, rtol=1e-6)


@pytest.mark.parametrize("samples", [IMAGES, COLOR], ids=["gray", "color"])
def test_module_takes_what_the_classifier_takes(samples):
    classifier = tiny(**SHORT).fit(samples, Y)
    module, (n_channels, *size) = classifier.to_module(), classifier.input_shape_
    last = samples.reshape(60, *size, n_channels)
    first = np.ascontiguousarray(last.transpose(0, 3, 1, 2))
    for form in (samples, last, first):
        close(module(torch.from_numpy(form)), classifier, samples)
    flat = torch.from_numpy(first.reshape(60, -1))
    close(module(flat), classifier, samples)
    close(module(flat.double()), classifier, samples)
    for wrong in (first.transpose(0, 1, 3, 2)[:, :, :4], first.transpose(0, 2, 1, 3)):
        with pytest.raises(ValueError, match="was fitted on samples of shape"):
            module(torch.from_numpy(wrong))


def test_onnx_file_predicts_as_the_classifier(exported, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    classifier, samples = exported
    classifier.to_onnx(tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (given,), (output,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("X", "tensor(float)")
    assert output.name == "probabilities"
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == ["a", "b", "c"]
    if samples is COLOR:
        samples = samples.transpose(0, 3, 1, 2)
    for n_samples in (1, 60):
        (probabilities,) = session.run(None, {"X": samples[:n_samples]})
        close(probabilities, classifier, samples[:n_samples])


def test_onnx_needs_onnxscript(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install 'pnl_sklearn\[onnx\]'"):
        fitted.to_onnx(tmp_path / "model.onnx")


def test_unfitted_classifier_has_no_module():
    with pytest.raises(ValueError, match="not fitted"):
        tiny().to_module()
