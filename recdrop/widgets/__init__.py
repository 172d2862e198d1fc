"""Controls for a reader with a running kernel."""
