"""What a run is told: its schema, its loading, and which of its values are secrets."""
