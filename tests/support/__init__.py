"""What tests of a folder share: what they start, what they ask, and how they wait for it."""
