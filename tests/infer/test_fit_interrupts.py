"""Ctrl-C and SIGTERM while a fit runs."""

import os
import signal
import threading
import warnings

import pytest
import torch
from torch.utils.data import DataLoader

from pyro_idvae import Callback, fit
from tests.infer.common import ADAM, Rows, data, small

OPTIONS = {"optimizer": ADAM, "num_epochs": 6, "progress": False, "validation": 0.2}
STOPPED = r"interrupted: {} of 6 epochs; fit\(\.\.\.\) with resume=result goes on"


class At(Callback):
    """Acts in the middle of an epoch, after some number of steps."""

    def __init__(self, step, act):
        self.step, self.act = step, act
        self.ends = 0

    def on_step(self, progress):
        if progress.step == self.step:
            self.act()

    def on_end(self, progress):
        self.ends += 1


def interrupt():
    signal.raise_signal(signal.SIGINT)


def weights(vae):
    return [p.detach().clone() for p in vae.parameters()]


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def fitted(vae, *callbacks, **changed):
    options = {**OPTIONS, "batch_size": 16, "callbacks": list(callbacks), **changed}
    if "resume" in options:
        del options["optimizer"]
    else:
        options.setdefault("seed", 3)
    return fit(vae.model, vae.guide, options.pop("data", data()), **options)


@pytest.mark.parametrize("step", [1, 3, 8, 9])
@pytest.mark.parametrize("kind", ["signal", "exception"])
def test_an_interrupt_leaves_whole_epochs_and_goes_on_exactly(step, kind):
    """Three steps an epoch: of a broken one nothing is left."""

    def raised():
        raise KeyboardInterrupt

    vae, whole, stopped = small(), small(), small()
    result = fitted(whole)
    at = At(step, interrupt if kind == "signal" else raised)
    done = step // 3 if kind == "signal" else (step - 1) // 3
    with pytest.warns(UserWarning, match=STOPPED.format(done)):
        first = fitted(vae, at)
    assert first.interrupted
    assert at.ends == 1
    assert first.losses == result.losses[:done]
    assert len(first.kl) == len(first.validation_losses) == done
    if done:
        best = first.validation_losses.index(min(first.validation_losses))
        assert first.best_epoch == best
        fitted(stopped, num_epochs=best + 1, restore_best=False)
        assert equal(weights(vae), weights(stopped))
    else:
        assert equal(weights(vae), weights(small()))
    again = fitted(vae, resume=first, num_epochs=6 - done)
    assert not again.interrupted
    assert again.losses == result.losses
    assert equal(weights(vae), weights(whole))


def test_an_interrupt_of_a_full_batch_ends_with_its_epoch():
    vae, whole = small(), small()
    result = fitted(whole, batch_size=None)
    with pytest.warns(UserWarning, match=STOPPED.format(4)):
        first = fitted(vae, At(4, interrupt), batch_size=None)
    again = fitted(vae, resume=first, num_epochs=2, batch_size=None)
    assert again.losses == result.losses
    assert equal(weights(vae), weights(whole))


def test_an_exception_in_a_full_batch_keeps_the_epochs_before():
    def raised():
        raise KeyboardInterrupt

    vae, stopped = small(), small()
    with pytest.warns(UserWarning, match=STOPPED.format(3)):
        first = fitted(vae, At(4, raised), batch_size=None, restore_best=False)
    fitted(stopped, batch_size=None, num_epochs=3, restore_best=False)
    assert first.num_epochs == 3
    assert equal(weights(vae), weights(stopped))


def test_the_second_interrupt_is_raised_with_the_last_whole_epoch():
    def twice():
        interrupt()
        interrupt()

    vae, stopped = small(), small()
    at = At(8, twice)
    with pytest.raises(KeyboardInterrupt):
        fitted(vae, at)
    assert at.ends == 1
    fitted(stopped, num_epochs=2, restore_best=False)
    assert equal(weights(vae), weights(stopped))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_after_the_last_step_changes_nothing():
    vae, whole = small(), small()
    fitted(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = fitted(vae, At(18, interrupt))
    assert not result.interrupted
    assert result.num_epochs == 6
    assert equal(weights(vae), weights(whole))


def test_handlers_of_the_program_are_left_alone():
    seen = []
    before = signal.signal(signal.SIGINT, lambda *args: seen.append(args))
    try:
        result = fitted(small(), At(2, interrupt))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(seen) == 1
    assert result.num_epochs == 6


def test_handlers_are_given_back_after_an_error():
    def broken():
        raise OSError("mine")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(OSError, match="mine"):
        fitted(small(), At(2, broken))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_fit_in_another_thread_has_no_handlers():
    results = []
    thread = threading.Thread(target=lambda: results.append(fitted(small())))
    thread.start()
    thread.join()
    assert results[0].num_epochs == 6


def test_a_worker_that_the_same_signal_ended_is_no_error(tmp_path):
    """A terminal sends Ctrl-C to a loader's workers as well."""
    now = tmp_path / "now"

    class Dying(Rows):
        def __getitem__(self, index):
            if index == 47 and now.exists():
                os.kill(os.getppid(), signal.SIGINT)
                raise KeyboardInterrupt
            return self.x[index]

    vae = small()
    loader = DataLoader(Dying(data()), 4, num_workers=1)
    with pytest.warns(UserWarning, match="interrupted: "):
        result = fitted(
            vae, At(20, now.touch), data=loader, batch_size=None, validation=None, num_epochs=6
        )
    assert result.interrupted
    assert 1 <= result.num_epochs < 6
    assert all(p.isfinite().all() for p in vae.parameters())


@pytest.mark.parametrize("step", [2, 8])
def test_a_request_to_end_writes_a_checkpoint_and_is_passed_on(tmp_path, step):
    ended = []
    before = signal.signal(signal.SIGTERM, lambda *args: ended.append(sorted(os.listdir(tmp_path))))
    try:
        vae, whole = small(), small()
        result = fitted(whole)
        first = fitted(
            vae,
            At(step, lambda: signal.raise_signal(signal.SIGTERM)),
            checkpoint=tmp_path,
            every=100,
        )
        assert signal.getsignal(signal.SIGTERM) is not before
    finally:
        signal.signal(signal.SIGTERM, before)
    assert first.num_epochs == (step - 1) // 3
    assert f"epoch-{first.num_epochs:08d}.safetensors" in ended[0]
    again = fitted(small(9), checkpoint=tmp_path, every=100)
    assert again.losses == result.losses


def test_interrupted_fits_in_a_folder_go_on(tmp_path):
    vae, whole = small(), small()
    result = fitted(whole)
    with pytest.warns(UserWarning, match=r"2 of 6 epochs; fit\(\.\.\.\) with the same checkpoint"):
        fitted(vae, At(8, interrupt), checkpoint=tmp_path, every=100)
    other = small(9)
    again = fitted(other, checkpoint=tmp_path, every=100)
    assert again.losses == result.losses
    assert equal(weights(other), weights(whole))
