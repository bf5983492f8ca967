"""Settings of the process that a command runs in."""

from __future__ import annotations

import logging
import os


def prefer_one_thread() -> None:
    """Let torch use one thread in this process, unless ``OMP_NUM_THREADS`` asks for another number.

    The tensors here are small: starting and waiting for threads costs more than they save, several times more when
    other programs keep a core busy. It also makes results independent of the number of cores.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    import torch

    torch.set_num_threads(1)


def quiet_diffusers() -> None:
    """Keep diffusers and transformers from drawing progress bars and announcing missing extras while models load."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def quiet_libraries() -> None:
    """Keep libraries from announcing what is normal in the middle of a command's own display.

    Named loggers, because both libraries set the levels of their root loggers when they are imported.
    """
    for chatty in ("ray.rllib.algorithms.algorithm_config", "mlflow.store.db.utils"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
