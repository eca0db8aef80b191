"""What all tests share."""

import os

import torch
from hypothesis import settings

# How long an example takes depends on what else the machine does; that is not what is tested.
settings.register_profile("book", deadline=None)
settings.register_profile("long", deadline=None, max_examples=1000)
settings.load_profile("book")

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)
