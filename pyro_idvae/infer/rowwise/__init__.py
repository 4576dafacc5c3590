# SPDX-License-Identifier: Apache-2.0
"""Data points that are independent given the parameters, side by side in one tensor."""
