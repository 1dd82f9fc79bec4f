"""The walk between two forward passes, on samples and on references: DeepLIFT. A rule per operator."""
