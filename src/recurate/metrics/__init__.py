"""Estimators of quantities of rewards, samples and texts, each with a standard error."""
