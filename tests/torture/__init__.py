"""What a guardian must survive, done to it many times: `make torture`. docs/reliability.md."""
