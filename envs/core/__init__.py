# SPDX-License-Identifier: Apache-2.0
"""What every world shares: interfaces, kinds, scenario files, checked fields, errors, traces."""
