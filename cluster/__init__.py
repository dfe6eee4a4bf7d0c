"""Start or join the machines of a Longreel Cluster from a command line: `python -m longreel.cluster`."""
