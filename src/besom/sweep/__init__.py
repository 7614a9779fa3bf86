"""The sweep engine, for any Hydra app. See `hydra_plugins/besom_sweeper` for the way in."""
