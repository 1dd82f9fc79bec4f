"""Layer-wise relevance propagation: a table of rules for the same walk that differentiates."""
