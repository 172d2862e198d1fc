"""The notebooks here are what sweeps are made of, and no tests of nbval's."""

collect_ignore_glob = ["*.ipynb"]
