"""The machine beneath: files, locks, disks, processes, text, and the environment."""
