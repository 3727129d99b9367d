"""How long restoring takes from file to file: `aeanet restore` beside other denoisers."""
