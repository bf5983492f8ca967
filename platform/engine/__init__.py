# SPDX-License-Identifier: Apache-2.0
"""Units of work, side by side on Ray: done once, resumed where they were cut off, watched and recorded once."""
