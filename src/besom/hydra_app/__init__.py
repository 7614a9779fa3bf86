"""The Hydra app that is swept: composed for a trial, sent to another process, run there."""
