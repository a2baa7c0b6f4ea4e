"""What customers did, as everything but genomes reads it: the one way from the log to who did what,
when, where, for how much. Deriving, foreseeing, spending and regions all go by it; see `reading`.
"""
