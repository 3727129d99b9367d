"""The whole attention block of Fig. 3, for every norm."""
