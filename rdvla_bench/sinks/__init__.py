"""Where a run's numbers go while it runs: experiment trackers, each through its own library."""
