# SPDX-License-Identifier: Apache-2.0
"""The likelihood through which alone a model's data speak of its latent, if there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_idvae import _upstream
from pyro_idvae.errors import NoCertificateError
from pyro_idvae.programs.arguments import Arguments, tensors_of
from pyro_idvae.programs.bound_model import BoundModel
from pyro_idvae.programs.likelihood_call import Call, LikelihoodCall, Recorder, scoring_call
from pyro_idvae.programs.moves import moved_latents, other_data
from pyro_idvae.programs.observed import RowCounts, count_rows, observed_entries
from pyro_idvae.programs.row_density import is_same
from pyro_idvae.programs.run import undisturbed
from pyro_idvae.programs.sites import latent_sites, unwrap_masks
from pyro_idvae.transforms.bounds import weights_not_finite

SEEDS = (20, 21)
"""Of all runs, and of one more that must not notice."""

# What is moved, as messages say it.
NOISE, LATENT, DATA = "random numbers that are no sample sites", "z", "the observed data"
REMEDIES = {
    LATENT: "the window is proved for a posterior made of the prior and one likelihood; take out "
    "of the model what depends on z",
    DATA: "the window is proved for data drawn from the likelihood, given all else; compute it "
    "without them",
    NOISE: "make those a sample site, or draw them beforehand",
}


class SoleLikelihood(NamedTuple):
    """The likelihood through which alone the data speak of the one latent."""

    likelihood: Any
    """A ``Likelihood`` or ``SequenceLikelihood``."""
    latent: Any
    """The node of the latent site in the trace."""
    options: dict[str, Any]
    """``mask``, ``total_count`` and ``covariates``, if the model passed them."""
    rows: RowCounts
    """How many rows of data each value of the latent has."""
    num_moves: int
    """How many moves of z said so."""


class Run(NamedTuple):
    """One run of the model."""

    trace: Any
    call: Call
    """The call of the likelihood that scores an observed site."""
    site: Any
    """The node of that site."""
    state: list[Tensor]
    """Parameters and buffers of all likelihoods after the run."""


@torch.no_grad()
def find_sole_likelihood(bound: BoundModel) -> SoleLikelihood:
    """Return the likelihood that scores an observed site, if nothing else depends on the latent.

    The model is run on the latent moved near and far, along lines to prior draws, to both sides and
    coordinate by coordinate, each row by itself; on other data drawn from the model; and with other
    random numbers. All other densities, the prior, and what the likelihood is given besides z must
    stay what they were, to the last bit.

    Raises:
        NoCertificateError: if something else depends on z, saying what; if there is not exactly one
            latent site, or no likelihood fed with it whose output scores an observed site.
    """
    name = _one_latent(bound)
    with (
        undisturbed(bound.arguments),
        bound.running(),
        pyro.validation_enabled(False),
        poutine.block(),
    ):
        runs = _Runs(bound, name)
        base = runs(runs.start)
        check_weights(base.call.likelihood)
        entries = _entries(base)
        runs.compare(base, runs(runs.start, seed=SEEDS[1]), NOISE)
        moves = moved_latents(runs.prior, runs.start)
        for z in moves:
            runs.compare(base, runs(z, moved=LATENT), LATENT)
        others = other_data(bound.arguments, base.site, entries)
        if others is not None:
            runs.compare(base, runs(runs.start, arguments=others, moved=DATA), DATA)
        likelihood = base.call.likelihood
        rows = count_rows(entries, base.call.output.event_dim, runs.start.shape[:-1])
    latent = bound.trace.nodes[name]
    return SoleLikelihood(likelihood, latent, _given(base.call), rows, len(moves))


def check_weights(likelihood: Any) -> None:
    """Raise unless all weights of a likelihood are finite."""
    if broken := weights_not_finite(likelihood):
        raise NoCertificateError(
            f"the likelihood's weights {broken} are not finite, so it has no (L, M): restore those "
            "of before training diverged, e.g. from a checkpoint"
        )


@torch.no_grad()
def check_given(bound: BoundModel, call: LikelihoodCall) -> None:
    """Raise if what a likelihood is given besides z moves with z: its covariates, or its options.

    For where :func:`find_sole_likelihood` would be too slow. A likelihood given nothing, or what
    the model was given, costs no run.

    Raises:
        NoCertificateError: naming it.
    """
    own = tensors_of(bound.arguments)
    given = {"covariates": call.covariates, **call.options}
    made = {
        name: value
        for name, value in given.items()
        if isinstance(value, Tensor) and all(value is not other for other in own)
    }
    name = call.latent["name"]
    for z in _few_moves(call) if made else ():
        recorder = Recorder()
        recorder.likelihoods = [call.likelihood]
        args, kwargs = bound.arguments
        with (
            undisturbed(bound.arguments),
            bound.running(),
            pyro.validation_enabled(False),
            poutine.block(),
            recorder.listening(),
        ):
            poutine.condition(bound.model, data={name: z})(*args, **kwargs)
        now = _given(recorder.calls[-1]) if recorder.calls else {}
        for what, value in made.items():
            if not _is_equal(value, now.get(what)):
                raise NoCertificateError(
                    f"the likelihood's argument {what!r} depends on {LATENT}: the closed form "
                    "holds where it does not; pass it to the model, or make it of the data alone"
                )


def _few_moves(call: LikelihoodCall) -> list[Tensor]:
    """Return the latent moved near, and far to the other side."""
    value = call.latent["value"]
    near = value + torch.ones_like(value)
    return [near, -10.0 * near]


def _one_latent(bound: BoundModel) -> str:
    """Return the name of the one latent site, which is continuous."""
    sites = latent_sites(bound.trace)
    hidden = [name for name in sites if _upstream.is_left_by_obs_mask(name, bound.trace)]
    if hidden:
        raise NoCertificateError(
            f"the sites {hidden} come from obs_mask: give the mask to the likelihood instead, by "
            "condition(z, mask=...), with any value where nothing is observed"
        )
    if len(sites) != 1:
        raise NoCertificateError(
            f"the model has the latent sites {sorted(sites)} and the observed sites "
            f"{sorted(bound.observed)}: the window is proved for one latent vector"
        )
    ((name, node),) = sites.items()
    if node["fn"].support.is_discrete:
        raise NoCertificateError(
            f"the latent site {name!r} is discrete: the window is proved for priors with a density"
        )
    return name


class _Runs:
    """Runs of a model on moved latents, and what must be the same in all of them."""

    def __init__(self, bound: BoundModel, name: str) -> None:
        self.bound, self.name, self.recorder = bound, name, Recorder()
        node = bound.trace.nodes[name]
        self.prior, self.start = node["fn"], node["value"]
        with self.recorder.finding():
            self._trace(self.start, bound.arguments, SEEDS[0])

    def _trace(self, z: Tensor, arguments: Arguments, seed: int) -> Any:
        args, kwargs = arguments
        torch.default_generator.manual_seed(seed)
        conditioned = poutine.condition(self.bound.model, data={self.name: z})
        trace = poutine.trace(conditioned).get_trace(*args, **kwargs)
        trace.compute_log_prob(lambda name, site: not _upstream.is_deterministic(site))
        return trace

    def __call__(
        self,
        z: Tensor,
        *,
        arguments: Arguments | None = None,
        seed: int = SEEDS[0],
        moved: str = "",
    ) -> Run:
        self.recorder.calls = []
        arguments = self.bound.arguments if arguments is None else arguments
        try:
            with self.recorder.listening():
                trace = self._trace(z, arguments, seed)
            call, site = scoring_call(trace, self.recorder.calls, self.name, masked=True)
        except (RuntimeError, ValueError, IndexError) as error:
            if not moved:
                raise
            raise NoCertificateError(
                f"the model is another one where {moved} moves: {str(error).splitlines()[0]}"
            ) from error
        held = [
            value.detach().clone()
            for likelihood in self.recorder.likelihoods
            for value in (*likelihood.parameters(), *likelihood.buffers())
        ]
        return Run(trace, call, site, held)

    def compare(self, base: Run, other: Run, moved: str) -> None:
        """Raise if anything but z, x and p(x|z) is not the same in two runs."""
        call, site, new, now = base.call, base.site, other.call, other.site
        given, given_now = _given(call), _given(new)
        pairs = {
            "which likelihood is called": (id(call.likelihood), id(new.likelihood)),
            "which site it scores": (site["name"], now["name"]),
            **{
                f"the likelihood's argument {name!r}": (given.get(name), given_now.get(name))
                for name in sorted(given.keys() | given_now.keys())
            },
            "which entries are observed": (_entries(base), _entries(other)),
            "a parameter or buffer of the likelihood": (base.state, other.state),
            f"the prior of the site {self.name!r}": (self._prior_at(base), self._prior_at(other)),
        }
        if moved != DATA:
            # Terms without z may depend on x: they change no posterior.
            terms, terms_now = self._other_densities(base), self._other_densities(other)
            pairs[f"what is observed at the site {site['name']!r}"] = site["value"], now["value"]
            for name in sorted(terms.keys() | terms_now.keys()):
                pairs[f"the density of the site {name!r}"] = terms.get(name), terms_now.get(name)
        for what, pair in pairs.items():
            if not _is_equal(*pair):
                raise NoCertificateError(f"{what} depends on {moved}: {REMEDIES[moved]}")
        # What a hook on the module, or code after the call, did to its output.
        wanted = new.likelihood.forward(*new.inputs, **new.options)
        densities = [unwrap_masks(d).log_prob(now["value"]) for d in (wanted, now["fn"])]
        if not is_same(*torch.broadcast_tensors(*densities)):
            raise NoCertificateError(
                f"the distribution of the site {now['name']!r} is not what the likelihood returns "
                "for z: something changes it after the call"
            )

    def _prior_at(self, run: Run) -> Any:
        return run.trace.nodes[self.name]["fn"].log_prob(self.start)

    def _other_densities(self, run: Run) -> dict[str, Any]:
        """Return the log densities of all sites but the latent and what the likelihood scores."""
        return {
            name: (site["log_prob"], site["is_observed"])
            for name, site in run.trace.nodes.items()
            if site["type"] == "sample"
            and name not in (self.name, run.site["name"])
            and not _upstream.is_subsampling(site)
            and not _upstream.is_deterministic(site)
        }


def _entries(run: Run) -> Tensor:
    """Return which entries of what the likelihood scores are observed."""
    mask = run.call.options.get("mask")
    if mask is not None and not run.call.likelihood.family.factorised:
        mask = mask.reshape(mask.shape + (1,) * len(run.call.likelihood.event_shape))
    return observed_entries(run.site, mask)


def _given(call: Call) -> dict[str, Any]:
    """Return what a likelihood was given besides z, by name; nothing for None."""
    named = dict(zip(("covariates",), call.inputs[1:], strict=False)) | call.options
    return {name: value for name, value in named.items() if value is not None}


def _is_equal(one: Any, other: Any) -> bool:
    """Tell whether two things are the same to the last bit, NaN equal to NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return bool(((one == other) | (one.isnan() & other.isnan())).all())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_equal(one[k], other[k]) for k in one)
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(_is_equal, one, other))
    return type(one) is type(other) and bool(one is other or one == other)
