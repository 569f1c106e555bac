"""``python -m atomicbatch``."""

from atomicbatch.cli import main

main()
