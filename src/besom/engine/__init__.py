"""The sweep engine: supervisor, workers, trials and the processes they are."""
