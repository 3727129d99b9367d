"""What every part of the library stands on: operators, their derivatives, dtypes and checks."""
