"""``python -m atomicbatch``."""

import signal
import sys

try:
    from atomicbatch.cli import main
except KeyboardInterrupt:
    sys.exit(128 + signal.SIGINT)

main()
