# SPDX-License-Identifier: Apache-2.0
"""The loop of a fit: epoch after epoch, and what ends it."""

from __future__ import annotations

import time
from typing import Any

from tqdm.auto import tqdm

from pyro_idvae.infer.fit.callbacks import Progress
from pyro_idvae.infer.fit.checkpoints import Checkpoints
from pyro_idvae.infer.fit.options import FitOptions
from pyro_idvae.infer.fit.pair import copy_tensors
from pyro_idvae.infer.fit.run import Run
from pyro_idvae.infer.fit.signals import Signals
from pyro_idvae.infer.fit.state import FitState
from pyro_idvae.infer.interrupts import warn_caller
from pyro_idvae.infer.ranks import Ranks


def train(
    run: Run,
    options: FitOptions,
    end: int,
    checkpoints: Checkpoints | None,
    *,
    terminate: bool = False,
) -> None:
    """Train until the last epoch, patience, a callback, Ctrl-C or SIGTERM ends it.

    The run is left at the end of a whole epoch, with the best parameters if they are wanted;
    ``result.state`` is what it goes on from.

    Args:
        run: what is trained.
        options: how.
        end: epochs all in all, those of earlier legs included.
        checkpoints: where to write states to, or None.
        terminate: whether SIGTERM ends the run after the step under way.
    """
    result = run.result
    progress = Progress(run.trainer.model, run.trainer.guide, result, end, options.kl_warmup)
    loop = _Loop(run, options, checkpoints, progress)
    with Signals(terminate=terminate) as signals:
        try:
            loop.run(signals)
            if checkpoints is not None:
                checkpoints.write(loop.whole, result)
            loop.restore_best()
        finally:
            run.callbacks.call("on_end", progress)
    if result.interrupted:
        goes_on = "resume=result" if checkpoints is None else "the same checkpoint"
        warn_caller(
            f"interrupted: {result.num_epochs} of {end} epochs; fit(...) with {goes_on} goes on"
        )


class _Loop:
    """The loop, and the last state between two epochs."""

    def __init__(
        self, run: Run, options: FitOptions, checkpoints: Checkpoints | None, progress: Progress
    ) -> None:
        self.own, self.options, self.checkpoints = run, options, checkpoints
        self.progress, self.result = progress, run.result
        self.clock = time.perf_counter(), time.process_time()
        self.whole: FitState = run.state()
        self.done = self.result.num_epochs, len(self.result.validation_losses)

    def run(self, signals: Signals) -> None:
        """Go from epoch to epoch; what is broken off in the middle of one is undone."""
        epochs = range(self.result.num_epochs, self.progress.num_epochs)
        shown = self.options.progress and Ranks.here().speaks
        bar = tqdm(epochs, desc="fit", unit="epoch", disable=not shown)
        try:
            self.keep(last=False)
            for epoch in bar:
                self.progress.epoch = epoch
                if self.asked(signals.requested) or not self.epoch(bar, signals):
                    break
                self.result.stopped_early = self.progress.stopping or self.patience_is_out()
                ends = self.asked(signals.requested) or self.result.stopped_early
                self.keep(last=ends or epoch + 1 == self.progress.num_epochs)
                if ends:
                    break
        except KeyboardInterrupt:
            self.go_back()
            if signals.interrupted:  # and again: whoever asks twice wants out
                raise
            self.result.interrupted = True
        except Exception:
            # A loader's workers get the same signal, and their end is an error here.
            if not signals.requested:
                self.settle()
                raise
            self.go_back()
        finally:
            bar.close()
            self.tick()
            self.result.state = self.whole
        done = self.result.num_epochs == self.progress.num_epochs or self.result.stopped_early
        self.result.interrupted |= self.asked(signals.interrupted) and not done

    def asked(self, requested: bool) -> bool:
        """Tell whether this process, or any of several, was asked for something."""
        trainer = self.own.trainer
        if trainer.exchange is None:
            return requested
        return trainer.exchange.any(requested, trainer.tensors[0])

    def epoch(self, bar: Any, signals: Signals) -> bool:
        """Do one; tell whether it was whole."""
        run, result, epoch = self.own, self.result, self.progress.epoch
        trainer = run.trainer

        def after_step(loss: float) -> bool:
            self.progress.step, self.progress.loss = trainer.steps, loss
            run.callbacks.call("on_step", self.progress)
            if trainer.exchange is not None:
                trainer.exchange.stop = signals.requested
            return not signals.requested

        loss = trainer.epoch(run.train, epoch, run.generator, after_step)
        if loss is None:
            self.go_back()
            return False
        result.losses.append(loss)
        result.kl.append(trainer.kl())
        result.best_epoch = epoch
        shown = {"ELBO": f"{-loss:.2f}", "KL": f"{result.kl[-1]:.2f} nats"}
        if run.held_out is not None:
            loss = trainer.validate(run.held_out, run.seed)
            result.validation_losses.append(loss)
            shown["validation ELBO"] = f"{-loss:.2f}"
            if run.best_epoch == epoch:
                run.best = run.pair.copy()
        bar.set_postfix(shown)
        trainer.optimizer.end_epoch(loss)
        run.callbacks.call("on_epoch", self.progress)
        return True

    def patience_is_out(self) -> bool:
        """Tell whether the last better validation loss is too long ago."""
        patience = self.options.patience
        if patience is None or self.own.held_out is None:
            return False
        return self.progress.epoch - max(self.own.best_epoch, self.own.since) >= patience

    def keep(self, *, last: bool) -> None:
        """Note the state between two epochs, and write it if it is time.

        Where an epoch is a single step nothing can break off in the middle of one, and the state is
        copied when it is needed only.
        """
        self.done = self.result.num_epochs, len(self.result.validation_losses)
        due = last or self.result.num_epochs % self.options.every == 0
        if last or self.checkpoints is not None or not self.own.train.is_one_step:
            self.whole = self.own.state(probed=due and self.checkpoints is not None)
        if self.checkpoints is not None and due:
            self.tick()
            self.checkpoints.write(self.whole, self.result)

    def go_back(self) -> None:
        """Undo the epoch under way."""
        if self.whole.epochs == self.done[0]:
            self.own.restore(self.whole, "the last epoch")
        else:
            self.own.trainer.last_good.restore()
        self.settle()

    def settle(self) -> None:
        """Let histories end with the last whole epoch, and note the state if it was not copied."""
        epochs, validations = self.done
        del self.result.losses[epochs:], self.result.kl[epochs:]
        del self.result.validation_losses[validations:]
        if self.whole.epochs != epochs:
            self.whole = self.own.state()

    def restore_best(self) -> None:
        """Set the parameters of the epoch with the best validation loss, if they are wanted."""
        run, result = self.own, self.result
        result.best_epoch = max(result.num_epochs - 1, 0)
        if run.held_out is not None and self.options.restore_best and run.best:
            copy_tensors(run.pair.live(), run.best)
            result.best_epoch = run.best_epoch

    def tick(self) -> None:
        """Add the time since the last call to the result's."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.result.wall_time += wall - self.clock[0]
        self.result.cpu_time += cpu - self.clock[1]
        self.clock = wall, cpu
