"""What a person runs: the experiment files, and the command, configuration and report behind them."""
