"""The pages of `--report`: a module for each command, imported when a page is asked for."""
