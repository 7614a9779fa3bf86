"""The command line, and its verbs."""
