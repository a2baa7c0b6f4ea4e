"""A seeded world with a known truth, in which policies decide: docs/closed-loop.md.

`covariates` are real people, moments and answers; `truth` says how likely every offer is taken in
every moment; `stream` says who comes when, and what becomes of the answers on their way.
"""
