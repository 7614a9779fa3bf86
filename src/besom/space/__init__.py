"""What is searched: from the words of a config or a command line to distributions."""
