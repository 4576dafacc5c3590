"""Folders of checkpoints: what goes on, what is refused, and what survives."""

import os
import shutil
import threading
from functools import partial
from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from pyro_idvae import IDVAE, Callback, fit, load, save
from pyro_idvae.errors import ArgumentError, CheckpointError
from pyro_idvae.infer.fit import container
from tests.infer.common import ADAM, data, small

OPTIONS = {"optimizer": ADAM, "batch_size": 16, "validation": 0.2, "seed": 3, "progress": False}


def run(folder=None, epochs=8, *, begun=0, given=None, **changed):
    """Fit a new pair; return its parameters and the result."""
    pyro.clear_param_store()
    vae = small(begun)
    options = {**OPTIONS, **changed}
    x = data() if given is None else given
    result = fit(vae.model, vae.guide, x, num_epochs=epochs, checkpoint=folder, **options)
    return vae, result


def assert_same(one, other):
    (pair, result), (same, again) = one, other
    assert result.losses == again.losses
    assert result.validation_losses == again.validation_losses
    assert result.kl == again.kl
    assert result.best_epoch == again.best_epoch
    assert all(torch.equal(a, b) for a, b in zip(pair.parameters(), same.parameters(), strict=True))


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock")


def epochs_of(folder):
    return [int(name[6:14]) for name in names(folder)]


def test_a_fit_in_a_folder_is_the_fit_without(tmp_path):
    whole = run()
    assert_same(whole, run(tmp_path / "a" / "run"))
    assert epochs_of(tmp_path / "a" / "run") == [6, 7, 8]
    for path in (tmp_path / "a" / "run").glob("epoch*"):
        assert container.read(path)[1]["kind"] == "fit"


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_fit_goes_on_where_its_folder_ends(tmp_path, every):
    whole = run(epochs=9)
    run(tmp_path, epochs=4, every=every)
    # Another pair, begun elsewhere: its own weights do not matter.
    assert_same(whole, run(str(tmp_path), epochs=9, begun=5, every=every))
    # Once more: there is nothing to do.
    assert_same(whole, run(tmp_path, epochs=9, begun=6, every=every))


def test_the_number_kept_and_the_epochs_between(tmp_path):
    run(tmp_path, epochs=8, every=3, keep=2)
    assert epochs_of(tmp_path) == [6, 8]
    assert names(tmp_path)[0] == "epoch-00000006.safetensors"


class CrashError(Exception):
    pass


class StopAt(Callback):
    """Ends the fit as a crash would, in the middle of an epoch."""

    def __init__(self, step):
        self.step = step

    def on_step(self, progress):
        if progress.step == self.step:
            raise CrashError


@pytest.mark.parametrize("step", [1, 2, 11, 12, 13])
def test_a_crash_at_any_step(tmp_path, step):
    """48 rows for training in batches of 16: three steps an epoch."""
    with pytest.raises(CrashError):
        run(tmp_path, callbacks=[StopAt(step)])
    assert epochs_of(tmp_path)[-1] == (step - 1) // 3
    assert_same(run(), run(tmp_path, begun=9))


@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer": lambda: pyro.optim.ClippedAdam({"lr": 0.02, "lrd": 0.99})},
        {
            "optimizer": lambda: pyro.optim.ExponentialLR(
                {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.05}, "gamma": 0.7}
            )
        },
        {"scheduler": lambda: partial(lr_scheduler.MultiStepLR, milestones=[2, 5])},
        {"scheduler": lambda: partial(lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=20)},
        {"optimizer": lambda: partial(torch.optim.SGD, lr=0.01, momentum=0.9)},
        {"optimizer": lambda: partial(torch.optim.RMSprop, lr=0.01, centered=True)},
        {"kl_warmup": lambda: 7, "patience": lambda: 3},
        {"batch_size": lambda: None, "validation": lambda: None},
    ],
)
def test_every_kind_of_fit_goes_on(tmp_path, changed):
    def made():
        return {name: make() for name, make in changed.items()}

    whole = run(**made())
    run(tmp_path, epochs=3, **made())
    assert_same(whole, run(tmp_path, begun=5, **made()))


def test_a_loader_with_workers_goes_on_from_the_start_of_an_epoch(tmp_path):
    def given():
        generator = torch.Generator().manual_seed(1)
        return DataLoader(
            TensorDataset(data()), 16, shuffle=True, num_workers=2, generator=generator
        )

    options = {"batch_size": None, "validation": None}
    whole = run(epochs=4, given=given(), **options)
    run(tmp_path, epochs=1, given=given(), **options)
    assert_same(whole, run(tmp_path, epochs=4, given=given(), begun=5, **options))


def test_a_damaged_file_costs_an_epoch_and_a_warning(tmp_path):
    whole = run()
    run(tmp_path, epochs=6)
    newest = tmp_path / "epoch-00000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="epoch-00000006.*the checkpoint before it is taken"):
        again = run(tmp_path, begun=5)
    assert_same(whole, again)


def test_a_folder_of_damaged_files_is_refused(tmp_path):
    run(tmp_path, epochs=4)
    for path in tmp_path.glob("epoch*"):
        path.write_bytes(path.read_bytes()[:100])
    with (
        pytest.warns(UserWarning, match="is taken"),
        pytest.raises(CheckpointError, match="none of the 3 checkpoints"),
    ):
        run(tmp_path)


def test_files_of_other_kinds_in_the_folder_are_left_alone(tmp_path):
    vae = small()
    save(tmp_path / "epoch-00000099.safetensors", vae.model, vae.guide)
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.warns(UserWarning, match="holds weights only"),
        pytest.raises(CheckpointError, match="none of the 1 checkpoints"),
    ):
        run(tmp_path)
    (tmp_path / "epoch-00000099.safetensors").unlink()
    run(tmp_path, epochs=2)
    assert "notes.txt" in names(tmp_path)


def other_data():
    return data() + 1e-6 * torch.eye(60, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"given": other_data()}, r"data data\[0\] was .* and is"),
        ({"given": data(59)}, r"data data\[0\] was .*48, 4.* and is .*47, 4"),
        ({"batch_size": 15}, "batch_size was 16 and is 15"),
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"validation": None}, "validation was .* and is None"),
        ({"validation": data(10)}, "validation data"),
        ({"optimizer": partial(torch.optim.Adam, lr=0.1)}, r"options was .*0\.02.* and is .*0\.1"),
        ({"optimizer": partial(torch.optim.SGD, lr=0.1)}, "optimizer was 'Adam' and is 'SGD'"),
        ({"optimizer": pyro.optim.Adam({"lr": 0.02})}, "is 'pyro Adam'"),
        ({"scheduler": partial(lr_scheduler.ConstantLR)}, "scheduler was None and is 'ConstantLR'"),
        ({"elbo": pyro.infer.Trace_ELBO(num_particles=2)}, "elbo was .*: 1.* and is .*: 2"),
        ({"kl_warmup": 3}, "kl_warmup was 0 and is 3"),
        ({"max_grad_norm": 1.0}, "max_grad_norm was 100.0 and is 1.0"),
    ],
)
def test_another_fit_is_refused_with_what_differs(tmp_path, changed, message):
    run(tmp_path, epochs=2)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("epoch*")}
    with pytest.raises(CheckpointError, match=f"of another run: .*{message}"):
        run(tmp_path, **changed)
    assert before == {path.name: path.read_bytes() for path in tmp_path.glob("epoch*")}


def test_another_model_is_refused_with_what_differs(tmp_path):
    run(tmp_path, epochs=2)
    torch.manual_seed(0)
    wide = IDVAE(4, 2, "normal", hidden_dims=[9], encoder_hidden_dims=[8])
    with pytest.raises(
        CheckpointError, match=r"pair tensors model.* was '\(8, 4\) .* and is '\(9, 4\) "
    ):
        fit(wide.model, wide.guide, data(), checkpoint=tmp_path, **OPTIONS)
    laplace = IDVAE(4, 2, "laplace", hidden_dims=[8], encoder_hidden_dims=[8])
    with pytest.raises(CheckpointError, match="sites model obs was .*Normal.* and is .*Laplace"):
        fit(laplace.model, laplace.guide, data(), checkpoint=tmp_path, **OPTIONS)


def test_a_model_that_differs_in_its_numbers_only_is_refused(tmp_path):
    def make(width):
        def model(x):
            mean = pyro.param("mean", torch.tensor(0.5))
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, width))
                pyro.sample("x", dist.Normal(mean + z, 1.0), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x / 2, 1.0))

        return model, guide

    x = data()[:, 0]
    fit(*make(1.0), x, num_epochs=3, seed=0, checkpoint=tmp_path, progress=False)
    pyro.param("mean").data.fill_(7.0)
    message = r"was -?\d.* nats per data point and is"
    with pytest.raises(CheckpointError, match=message):
        fit(*make(1.1), x, num_epochs=5, seed=0, checkpoint=tmp_path, progress=False)
    assert pyro.param("mean").item() == 7.0
    fit(*make(1.0), x, num_epochs=5, seed=0, checkpoint=tmp_path, progress=False)


def test_a_folder_is_of_one_run_at_a_time(tmp_path):
    class Second(Callback):
        """Begins another run in the same folder, in this thread and in another one."""

        errors: ClassVar[list[str]] = []

        def on_epoch(self, progress):
            if progress.epoch == 1:
                self.begin()
                thread = threading.Thread(target=self.begin)
                thread.start()
                thread.join()

        def begin(self):
            vae = small()
            try:
                fit(vae.model, vae.guide, data(), checkpoint=tmp_path, **OPTIONS)
            except CheckpointError as error:
                self.errors.append(str(error))

    vae = small()
    fit(
        vae.model,
        vae.guide,
        data(),
        num_epochs=3,
        checkpoint=tmp_path,
        callbacks=[Second()],
        **{**OPTIONS, "seed": None},
    )
    assert len(Second.errors) == 2
    assert all("another run writes to this folder" in error for error in Second.errors)
    assert epochs_of(tmp_path) == [1, 2, 3]


def test_what_an_earlier_process_left_half_written_is_removed(tmp_path):
    left = tmp_path / ".epoch-00000001.safetensors.another-machine.1.0123456789ab.part"
    left.write_bytes(b"half")
    run(tmp_path, epochs=1)
    assert not left.exists()


@pytest.mark.parametrize("place", ["/proc/no/folder", "/dev/null", __file__])
def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(place):
    vae = small()
    before = [p.detach().clone() for p in vae.parameters()]
    with pytest.raises(CheckpointError, match="give the path of a folder"):
        fit(vae.model, vae.guide, data(), checkpoint=place, **OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))


@pytest.mark.parametrize("changed", [{"checkpoint": 3}, {"checkpoint": b"x"}])
def test_what_is_no_path_is_refused(changed):
    vae = small()
    with pytest.raises(ArgumentError, match="checkpoint"):
        fit(vae.model, vae.guide, data(), **{**OPTIONS, **changed})


def test_a_disk_that_is_full_for_a_while_does_not_cost_the_run(tmp_path, monkeypatch):
    write, calls = container.write, []

    def full(path, tensors, said):
        calls.append(path)
        if len(calls) in (4, 5):
            raise CheckpointError(f"{path} cannot be written (No space left on device)")
        write(path, tensors, said)

    monkeypatch.setattr(container, "write", full)
    whole = run()
    with pytest.warns(UserWarning, match="No space left.*goes on without this checkpoint") as seen:
        assert_same(whole, run(tmp_path))
    assert len(seen) == 2
    assert epochs_of(tmp_path) == [6, 7, 8]


def test_files_deleted_under_a_run_do_not_cost_it(tmp_path):
    class Delete(Callback):
        def on_epoch(self, progress):
            if progress.epoch == 4:
                for path in tmp_path.glob("epoch*"):
                    path.unlink()

    whole = run(callbacks=[Delete()])
    assert_same(whole, run(tmp_path, callbacks=[Delete()]))
    assert epochs_of(tmp_path) == [6, 7, 8]


def test_a_folder_deleted_under_a_run_does_not_cost_it(tmp_path):
    folder = tmp_path / "run"

    class Delete(Callback):
        def on_epoch(self, progress):
            if progress.epoch == 4 and folder.exists():
                shutil.rmtree(folder)

    whole = run(callbacks=[Delete()])
    with pytest.warns(UserWarning, match="goes on without this checkpoint"):
        assert_same(whole, run(folder, callbacks=[Delete()]))


def test_a_checkpoint_holds_the_best_weights_for_load(tmp_path):
    vae, result = run(
        tmp_path, epochs=30, optimizer=partial(ADAM.func, lr=0.2), validation=0.5, batch_size=None
    )
    assert result.best_epoch < 29
    other = small(7)
    load(tmp_path / "epoch-00000030.safetensors", other.model, other.guide)
    assert all(torch.equal(a, b) for a, b in zip(vae.parameters(), other.parameters(), strict=True))


def test_a_change_of_versions_is_said(tmp_path):
    run(tmp_path, epochs=2)
    path = tmp_path / "epoch-00000002.safetensors"
    tensors, said = container.read(path)
    said["versions"]["torch"] = "1.0"
    container.write(path, tensors, said)
    with pytest.warns(UserWarning, match=r"torch was '1\.0' and is"):
        run(tmp_path)


def test_states_that_no_file_can_keep_are_refused_by_name(tmp_path):
    class Odd(Callback):
        def on_epoch(self, progress):
            pass

        def state_dict(self):
            return {"made": object()}

    with pytest.raises(ArgumentError, match=r"callbacks\.0\.made is a object"):
        run(tmp_path, callbacks=[Odd()])
    assert names(tmp_path) == []


def test_plain_functions_have_checkpoints_too(tmp_path):
    def model(x):
        mean = pyro.param("mean", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

    def fitted(epochs, **options):
        pyro.clear_param_store()
        fit(model, lambda x: None, data()[:, 0], num_epochs=epochs, progress=False, **options)
        return pyro.param("mean").item()

    whole = fitted(9)
    fitted(4, checkpoint=tmp_path)
    assert fitted(9, checkpoint=tmp_path) == whole != fitted(4)


def test_the_lock_is_given_back_after_an_error(tmp_path):
    with pytest.raises(CrashError):
        run(tmp_path, callbacks=[StopAt(2)])
    run(tmp_path, callbacks=[StopAt(-1)])
    assert os.path.exists(tmp_path / ".lock")
