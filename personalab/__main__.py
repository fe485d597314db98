"""`python -m personalab`: the same as the `personalab` command."""

import sys

from personalab.cli import main

sys.exit(main())
