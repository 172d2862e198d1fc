"""The study: conditions, their training as tables of networks, and the files of their results."""
