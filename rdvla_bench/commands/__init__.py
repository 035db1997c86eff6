"""The command line: only here are envs, policies and leaderboards composed."""
