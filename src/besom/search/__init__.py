"""How it is searched: samplers, pruners, and what counts as infeasible."""
