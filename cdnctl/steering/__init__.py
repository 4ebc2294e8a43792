"""Which endpoint gets which share of the new flows: shares by weight, and the pick table."""
