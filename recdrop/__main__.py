"""``python -m recdrop``, where no command has been installed."""

import sys

from recdrop.cli import main

sys.exit(main())
