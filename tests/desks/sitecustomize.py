"""Take away what Windows lacks, in each Python process: `make test-desks` has this folder in PYTHONPATH."""

import signal
import sys

# Libraries have forms of their own for Windows: those for Linux must find what they need.
import filelock  # noqa: F401
import psutil  # noqa: F401

sys.modules |= dict.fromkeys(("resource", "fcntl"))
del signal.SIGHUP
