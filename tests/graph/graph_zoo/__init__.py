"""Networks to try the channel graph on: one small network for each construct, and MONAI's and our own."""
