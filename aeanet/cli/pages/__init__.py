"""What the pages of `--report` show: a module for each command, imported when a page is asked for."""
