# SPDX-License-Identifier: Apache-2.0
"""The fleet world: unequal sites that keep models, route requests and choose steps, beside a cloud."""
