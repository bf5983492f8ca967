# SPDX-License-Identifier: Apache-2.0
"""The control of the live service, without Ray: books, scheduler, dispatcher."""
