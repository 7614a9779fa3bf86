"""A study in its storage: trials as a queue, leases, attributes, and what has been found."""
