# SPDX-License-Identifier: Apache-2.0
"""Studies: experiments as data, run over seeds, kept as data, and drawn and reported from that data alone."""
