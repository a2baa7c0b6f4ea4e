"""Deciding for a list: an e-mail run, receipts with their basket, a segment.

`run.decide_list` goes through a list part by part: `lists` says who is asked for, `moments` makes
their moments, `crowd` finds what is known of them, `deciding` decides with the engine of every
other decision, under caps and `budgets` that the whole list shares, and `work` keeps what is done,
so that a run that was killed goes on where it was. `results` are the rows that come out.
"""
