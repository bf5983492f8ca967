# SPDX-License-Identifier: Apache-2.0
"""One module per group of commands. Each imports what is heavy inside the command, never at the top."""
