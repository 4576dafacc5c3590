# SPDX-License-Identifier: Apache-2.0
"""Paths of densities from a proposal to the posterior, for many data points at once."""
