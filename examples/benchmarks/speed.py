"""Speed of fit and predict, compared with two references.

``python -m examples.benchmarks speed`` times them in turn, in one process per workload,
and prints medians with their spread:

- *plain loop*: the same fit written by hand in plain PyTorch, with the same networks,
  batches, views, losses, optimizer and EMA, but no history, callbacks or checks;
- *floor*: only forward, backward and optimizer step of the same two networks, on
  batches that are ready.

Both compute in float32. If the classifier has ``precision="bfloat16"``, they are timed
in bfloat16, too.
"""

import gc
import resource
import time
import warnings
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pnl_sklearn import AdaptiveNegatives, PNLClassifier
from pnl_sklearn.data._sources import chunks
from pnl_sklearn.estimator._networks import check_device
from pnl_sklearn.objectives import balance_loss, candidate_loss
from pnl_sklearn.training._schedules import cosine_decay, ema_decay_at, sigmoid_rampup
from pnl_sklearn.views import auto_views

from .runs import circumstances

_N_CLASSES = 10
_N_LABELED = 100
_N_REPETITIONS = 5


@dataclass(frozen=True)
class Workload:
    """What is timed: random samples of a shape, and parameters of the fit.

    Parameters
    ----------
    title : str
    n_samples : int
        Samples of X, 100 of them labeled.
    shape : tuple of int
        Shape of a sample; images are uint8, tables float32.
    n_steps : int
        Optimizer steps of the timed epoch.
    params : dict
        Parameters of the classifier.
    cuda : dict
        Parameters on a CUDA device, beside `params`.
    n_steps_on_cuda : int
        Optimizer steps of the timed epoch there.
    """

    title: str
    n_samples: int
    shape: tuple[int, ...]
    n_steps: int
    params: dict[str, Any]
    cuda: dict[str, Any] = field(default_factory=dict)
    n_steps_on_cuda: int = 150

    def data(self):
        """Return X and y."""
        rng = np.random.default_rng(0)
        y = np.full(self.n_samples, -1)
        y[:_N_LABELED] = np.arange(_N_LABELED) % _N_CLASSES
        if len(self.shape) == 1:
            return rng.standard_normal((self.n_samples, *self.shape), np.float32), y
        return rng.integers(256, size=(self.n_samples, *self.shape), dtype=np.uint8), y


def _cnn13(batch, n_steps):
    sizes = {"batch_size": batch // 2, "labeled_batch_size": batch // 2}
    return Workload(
        "32 x 32, cnn13",
        1000,
        (3, 32, 32),
        n_steps,
        {"module": "cnn13", **sizes},
        {"precision": "bfloat16", "compile": True},
        20,
    )


WORKLOADS = {
    "digits": Workload("8 x 8, small CNN", 1257, (1, 8, 8), 330, {}),
    "mnist": Workload("28 x 28, small CNN", 60_000, (1, 28, 28), 60, {"graph": None}),
    "cnn13-100": _cnn13(100, 3),
    "cnn13-512": _cnn13(512, 1),
    "table": Workload(
        "1,000,000 x 100, perceptron", 1_000_000, (100,), 200, {"batch_size": 1024}
    ),
}


# The time of the first is reported as a fraction of the time of the second.
PAIRS = [
    ("fit", "plain loop"),
    ("fit", "floor"),
    ("fit", "plain loop, bfloat16"),
    ("fit", "floor, bfloat16"),
    ("predict_proba", "plain forward"),
]


class _Reference:
    """The two networks of a fitted classifier, trained by a loop written by hand."""

    def __init__(self, model, X, y):
        self.model = model
        self.device = device = model.submodels_[0].device
        self.n_steps, self.n_labeled = model.steps_per_epoch, model.labeled_batch_size
        self.networks = [deepcopy(net.module_) for net in model.submodels_]
        self.averages = [deepcopy(net.ema_module_) for net in model.submodels_]
        shape = X.shape[1:]
        self.samples = torch.from_numpy(X).to(device)
        self.labels = torch.from_numpy(y).to(device)
        self.labeled = torch.from_numpy(np.flatnonzero(y >= 0)).to(device)
        self.unlabeled = torch.from_numpy(np.flatnonzero(y < 0)).to(device)
        sample = self.samples[:: len(X) // 1000 or 1][:1000].float()
        self.weak, self.strong = auto_views(sample)
        self.prior = torch.full((_N_CLASSES,), 1 / _N_CLASSES, device=device)
        n = self.n_labeled + model.batch_size
        self.inputs = torch.rand(n, *shape, device=device)
        self.targets = torch.arange(n, device=device) % _N_CLASSES

    def _autocast(self, low):
        kind = torch.device(self.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=low)

    def _optimizers(self):
        return [
            torch.optim.AdamW(network.parameters(), lr=self.model.lr, fused=True)
            for network in self.networks
        ]

    def plain_loop(self, low=False):
        """Train for one epoch, written by hand."""
        n, size = self.n_labeled, self.model.batch_size
        optimizers, select = self._optimizers(), AdaptiveNegatives()
        running = [self.prior.clone() for _ in self.networks]
        values = [_floating(network) for network in self.networks]
        averages = [_floating(network) for network in self.averages]
        for network in self.networks:
            network.train()
        order = self.unlabeled[torch.randperm(len(self.unlabeled), device=self.device)]
        for step in range(self.n_steps):
            pick = torch.randint(len(self.labeled), (n,), device=self.device)
            first = step * size % (len(order) - size)
            index = torch.cat([self.labeled[pick], order[first : first + size]])
            inputs, labels = self.samples[index].float(), self.labels[index[:n]]
            weak = self.weak(torch.cat([inputs, inputs])).chunk(2)
            strong = self.strong(torch.cat([inputs[n:], inputs[n:]])).chunk(2)
            with torch.no_grad(), self._autocast(low):
                predictions = [
                    network(view[n:]).float().softmax(dim=1)
                    for network, view in zip(self.networks, weak, strict=True)
                ]
            for i, (network, optimizer) in enumerate(
                zip(self.networks, optimizers, strict=True)
            ):
                negatives = select(predictions[1 - i])
                with self._autocast(low):
                    logits = network(torch.cat([weak[i][:n], strong[i]])).float()
                with torch.no_grad():
                    running[i].lerp_(logits[n:].softmax(dim=1).mean(dim=0), 0.03)
                ramp = sigmoid_rampup(step, self.n_steps // 3)
                loss = (
                    F.cross_entropy(logits[:n], labels)
                    + ramp * candidate_loss(logits[n:], negatives)
                    + ramp * balance_loss(logits[n:], self.prior, running[i])
                )
                lr = self.model.lr * cosine_decay(step, self.n_steps)
                optimizer.param_groups[0]["lr"] = lr
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    share = 1 - ema_decay_at(step, 0.99)
                    torch._foreach_lerp_(averages[i], values[i], share)

    def floor(self, low=False):
        """Repeat forward, backward and optimizer step on one batch."""
        optimizers = self._optimizers()
        for network in self.networks:
            network.train()
        for _ in range(self.n_steps):
            for network, optimizer in zip(self.networks, optimizers, strict=True):
                with self._autocast(low):
                    logits = network(self.inputs)
                F.cross_entropy(logits.float(), self.targets).backward()
                optimizer.step()
                optimizer.zero_grad()

    def flops(self, of_fit=False):
        """Return the floating-point operations of a step of the floor, or of a fit.

        In a fit, each network is a teacher, too, and predicts.
        """
        counter = FlopCounterMode(display=False)
        with counter:
            for network in self.networks:
                F.cross_entropy(network(self.inputs), self.targets).backward()
                if of_fit:
                    with torch.no_grad():
                        network(self.inputs[self.n_labeled :])
        return counter.get_total_flops()

    def layer_rate(self, low):
        """Return the operations per second of convolutions and linear layers alone.

        That is forward and backward of each, on inputs of the shape that it has in a
        step.
        """
        calls = []
        layers = (torch.nn.Conv2d, torch.nn.Linear)
        hooks = [
            module.register_forward_hook(
                lambda module, inputs, _: calls.append((module, inputs[0].detach()))
            )
            for module in self.networks[0].modules()
            if isinstance(module, layers)
        ]
        with self._autocast(low):
            self.networks[0](self.inputs)
        for hook in hooks:
            hook.remove()
        tasks = [
            (_bare(module, low), x.to(torch.bfloat16 if low else torch.float32))
            for module, x in calls
        ]

        def run(back):
            for i, (layer, x) in enumerate(tasks):
                out = layer(
                    x.requires_grad_(i > 0)
                )  # inputs of the first layer are data
                back(out, [*layer.parameters(), x][: None if i else -1])

        counter = FlopCounterMode(display=False)
        with counter:  # it cannot follow torch.autograd.grad
            run(lambda out, _: out.sum().backward())

        def timed():
            for _ in range(n):
                run(lambda out, to: torch.autograd.grad(out, to, torch.ones_like(out)))

        n = 20 if self.device.startswith("cuda") else 1
        seconds = [_timed(timed, self.device) for _ in range(3)]
        return n * counter.get_total_flops() / min(seconds)

    @torch.no_grad()
    def forward(self, n_samples):
        """Return mean probabilities, with the batch size of the package."""
        for network in self.averages:
            network.eval()
        parts = []
        for index in chunks(range(n_samples), self.samples.shape[1:], self.device):
            batch = self.samples[index.start : index.stop]
            each = [network(batch.float()).double() for network in self.averages]
            parts.append(sum(logits.softmax(dim=1) for logits in each).cpu() / 2)
        return torch.cat(parts).numpy()


def _bare(module, low):
    """Return a plain layer of the same shape and its own dtype."""
    if isinstance(module, torch.nn.Linear):
        layer = torch.nn.Linear(module.in_features, module.out_features)
    else:
        layer = torch.nn.Conv2d(
            module.in_channels,
            module.out_channels,
            module.kernel_size,
            padding=module.padding,
            bias=False,
        )
    layer.to(module.weight.device, torch.bfloat16 if low else torch.float32)
    return layer.to(memory_format=torch.channels_last)


def _floating(network):
    """Return weights and running statistics of a network."""
    return [v for v in network.state_dict().values() if v.is_floating_point()]


def _supervised(model, X):
    """Return skorch's fit of one of the networks, on as many labeled samples."""
    submodel = model.submodels_[0]
    n_samples = model.steps_per_epoch * (model.batch_size + model.labeled_batch_size)
    index = np.resize(np.arange(len(X)), n_samples)
    inputs, targets = X[index].astype(np.float32), index % _N_CLASSES
    net = NeuralNetClassifier(
        deepcopy(submodel.module_),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        max_epochs=1,
        batch_size=model.batch_size + model.labeled_batch_size,
        train_split=None,
        device=submodel.device,
        verbose=0,
    )
    return lambda: net.fit(inputs, targets)


def _scikit_learn(model, X):
    """Return scikit-learn's fit of a perceptron of the same size."""
    n_samples = model.steps_per_epoch * (model.batch_size + model.labeled_batch_size)
    index = np.arange(n_samples) % len(X)
    net = MLPClassifier((512,), batch_size=model.batch_size, max_iter=1)

    def run():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(X[index], index % _N_CLASSES)

    return run


def measure(name, device="auto", n_repetitions=_N_REPETITIONS):
    """Time a workload; return the record."""
    workload = WORKLOADS[name]
    X, y = workload.data()
    device = check_device(device)
    is_cuda = device.startswith("cuda")
    n_steps = workload.n_steps_on_cuda if is_cuda else workload.n_steps
    model = PNLClassifier(
        random_state=0,
        max_epochs=3 if is_cuda else 1,  # in the first two, steps are captured
        steps_per_epoch=n_steps,
        device=device,
        **workload.params | (workload.cuda if is_cuda else {}),
    )
    before = _peak_memory()
    model.fit(X, y)
    memory = _peak_memory() - before
    reference = _Reference(model, X, y)
    n_samples = n_steps * (model.batch_size + model.labeled_batch_size)
    slow = len(workload.shape) == 3 and not is_cuda
    n_predicted = min(len(X), 3000 if slow else 100_000)
    n_samples_of = {
        "fit": n_samples,
        "plain loop": n_samples,
        "floor": n_samples,
        "skorch, one network, supervised": n_samples,
        "predict_proba": n_predicted,
        "plain forward": n_predicted,
    }
    runs = [
        lambda: model.fit(X, y),
        reference.plain_loop,
        reference.floor,
        _supervised(model, X),
        lambda: model.predict_proba(X[:n_predicted]),
        lambda: reference.forward(n_predicted),
    ]
    precision = model.submodels_[0].precision
    if precision == "bfloat16":
        n_samples_of |= {
            "plain loop, bfloat16": n_samples,
            "floor, bfloat16": n_samples,
        }
        runs += [lambda: reference.plain_loop(True), lambda: reference.floor(True)]
    if len(workload.shape) == 1:
        n_samples_of["MLPClassifier, supervised"] = n_samples
        runs.append(_scikit_learn(model, X))
    seconds: dict[str, list[float]] = {part: [] for part in [*n_samples_of, "fixed"]}
    gc.collect()
    gc.freeze()  # later collections only look at new objects
    for repetition in range(n_repetitions):
        # Forth and back: what runs second may find its data in the caches.
        for part, run in list(zip(n_samples_of, runs, strict=True))[
            :: (-1) ** repetition
        ]:
            elapsed = _timed(run, reference.device)
            if part == "fit":
                # The fixed part does not grow with the number of steps.
                loop = model.history_[-1]["seconds"]
                seconds["fixed"].append(elapsed - model.max_epochs * loop)
                elapsed = loop
            seconds[part].append(elapsed)
    per_step = np.median(seconds["fit"]) / n_steps
    return {
        "workload": name,
        "precision": precision,
        "compile": model.compile is True,
        "n_steps": n_steps,
        "rows": n_samples_of,
        "seconds": {part: np.round(s, 4).tolist() for part, s in seconds.items()},
        "teraflops": n_steps * reference.flops() / np.median(seconds["floor"]) / 1e12,
        "fit_teraflops": reference.flops(of_fit=True) / per_step / 1e12,
        "layer_teraflops": reference.layer_rate(precision == "bfloat16") / 1e12,
        "matmul_teraflops": _matmul_rate(reference.device),
        "fit_memory_mb": memory,
        "input_mb": X.nbytes >> 20,
        **circumstances(device),
    }


def _timed(run, device):
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _matmul_rate(device, size=2048):
    """Return teraflops of a large matrix product in float32."""
    a = torch.rand(size, size, device=device)
    seconds = [_timed(lambda: a @ a, device) for _ in range(7)]
    return 2 * size**3 / min(seconds) / 1e12


def _peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def lines(record):
    """Yield lines of text: samples per second, and ratios to the references."""
    title = WORKLOADS[record["workload"]].title
    threads = f"{record['device']}, {record['threads']} threads"
    yield f"\n{title} ({record['workload']}), {record['precision']}, {threads}"
    for part, n_samples in record["rows"].items():
        rates = n_samples / np.array(record["seconds"][part])
        yield (
            f"  {part:33}{np.median(rates):12,.0f} samples/s"
            f"   {rates.min():,.0f} to {rates.max():,.0f}"
        )
    for part, other in PAIRS:
        if other in record["rows"]:
            ratio = ratios(record, part, other)
            pair = f"time of {part} / {other}"
            spread = f"{ratio.min():.2f} to {ratio.max():.2f}"
            yield f"  {pair:38}{np.median(ratio):7.2f}          {spread}"
    yield f"  outside the epochs: {np.median(record['seconds']['fixed']):.2f} s"
    share = record["teraflops"] / record["matmul_teraflops"]
    yield f"  floor: {share:.0%} of the rate of a large matrix product"
    yield (
        f"  memory of fit: {record['fit_memory_mb']} MB more than the input of "
        f"{record['input_mb']} MB"
    )


def ratios(record, part, other):
    """Return the ratio of two parts' seconds in each repetition."""
    seconds = record["seconds"]
    return np.array(seconds[part]) / np.array(seconds[other])
