"""What is called while a fit runs, and a plateau that ends one."""

import numpy as np
import pytest
import torch

from pyro_idvae import Callback, StopOnPlateau, fit
from pyro_idvae.errors import ArgumentError, NonFiniteLossError
from tests.infer.common import ADAM, data, small


class Diary(Callback):
    def __init__(self):
        self.lines = []

    def on_step(self, progress):
        self.lines.append(("step", progress.epoch, progress.step, progress.loss))

    def on_epoch(self, progress):
        self.lines.append(("epoch", progress.epoch, progress.step, progress.result.losses[-1]))

    def on_end(self, progress):
        self.lines.append(("end", progress.result.num_epochs, progress.step, progress.num_epochs))


def fitted(*callbacks, **changed):
    vae = small()
    options = {"num_epochs": 3, "seed": 0, "progress": False, "optimizer": ADAM, **changed}
    return vae, fit(vae.model, vae.guide, data(), callbacks=list(callbacks), **options)


def test_steps_epochs_and_the_end_are_called_in_order():
    diary = Diary()
    _, result = fitted(diary, batch_size=30)
    assert [line[:3] for line in diary.lines] == [
        ("step", 0, 1),
        ("step", 0, 2),
        ("epoch", 0, 2),
        ("step", 1, 3),
        ("step", 1, 4),
        ("epoch", 1, 4),
        ("step", 2, 5),
        ("step", 2, 6),
        ("epoch", 2, 6),
        ("end", 3, 6),
    ]
    steps = [line[3] for line in diary.lines if line[0] == "step"]
    assert np.mean(steps[:2]) == pytest.approx(result.losses[0])
    assert diary.lines[-1][3] == 3


def test_callbacks_change_nothing_by_being_there():
    (vae, with_one), (other, without) = fitted(Diary()), fitted()
    assert with_one.losses == without.losses
    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), other.parameters(), strict=True))


def test_an_object_with_one_of_the_methods_will_do():
    class Count:
        epochs = 0

        def on_epoch(self, progress):
            self.epochs += 1

    count = Count()
    fitted(count)
    assert count.epochs == 3


def test_a_callback_may_end_the_fit():
    class Enough(Callback):
        def on_step(self, progress):
            if progress.step == 3:
                progress.stop()

    _, result = fitted(Enough(), batch_size=30, num_epochs=9)
    assert result.stopped_early
    assert result.num_epochs == 2  # the epoch is finished first


def test_the_end_sees_the_best_weights_and_comes_after_errors():
    class Weights(Callback):
        def on_end(self, progress):
            self.found = [p.detach().clone() for p in progress.model.parameters()]

    seen = Weights()
    vae, result = fitted(
        seen, num_epochs=200, validation=0.5, optimizer=lambda ps: torch.optim.Adam(ps, lr=0.2)
    )
    assert result.best_epoch < 199
    own = list(vae.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(own, seen.found, strict=True))
    diary = Diary()
    with pytest.raises(NonFiniteLossError):
        fitted(diary, optimizer=lambda ps: torch.optim.SGD(ps, lr=1e30), num_epochs=9)
    assert diary.lines[-1][0] == "end"


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (Diary(), "callbacks is a Diary: expected a list"),
        ([3], "callbacks has 3"),
        ([Diary], "callbacks has <class"),
        ([print], "expected objects with methods"),
    ],
)
def test_what_is_no_callback_is_refused(callbacks, message):
    vae = small()
    with pytest.raises(ArgumentError, match=message):
        fit(vae.model, vae.guide, data(), callbacks=callbacks, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_improvement": 0.0}, "min_improvement=0.0"),
        ({"window": 15}, "window=15: expected at least 16"),
        ({"window": 20.0}, "window=20.0"),
        ({"alpha": 1.0}, "alpha=1.0"),
    ],
)
def test_a_plateau_of_bad_options_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        StopOnPlateau(**options)


def test_a_plateau_ends_a_fit_that_has_converged():
    _, result = fitted(StopOnPlateau(2.0, window=16), num_epochs=1000)
    assert result.stopped_early
    assert 32 <= result.num_epochs < 500
    assert result.num_epochs % 16 == 0


def test_the_epochs_of_the_warm_up_do_not_count():
    _, result = fitted(StopOnPlateau(1e6, window=16), num_epochs=100, kl_warmup=20)
    assert result.num_epochs == 52


def test_a_plateau_rarely_ends_a_loss_that_still_falls():
    """400 runs of twelve comparisons: at most α of them, within four standard errors."""
    rng, stop = np.random.default_rng(0), StopOnPlateau(1.0, window=32, alpha=0.05)
    length, runs = 13 * 32, 400
    trend = -np.arange(length) / 32
    stopped = 0
    for _ in range(runs):
        losses = trend + rng.normal(size=length)
        stopped += any(stop.has_ended(losses[: 32 * (k + 1)], k) for k in range(1, length // 32))
    assert stopped <= runs * 0.05 + 4 * (runs * 0.05 * 0.95) ** 0.5
    flat = rng.normal(size=length)
    assert any(stop.has_ended(flat[: 32 * (k + 1)], k) for k in range(1, length // 32))
