"""Trains with a configuration of each rank's own: python own_data.py ARCHITECTURE RUN CONFIG CONFIG

A run that is there goes on.
"""

from __future__ import annotations

import os
import sys

from train_shapes import main

if __name__ == "__main__":
    architecture, run, *configs = sys.argv[1:]
    sys.argv[1:] = [configs[int(os.environ["RANK"])], architecture, run]
    main()
