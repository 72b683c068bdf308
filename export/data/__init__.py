"""Data: readers, renderers and checks of what the models learn from."""
