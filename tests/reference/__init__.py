"""A decision the plain way: one offer after the other, by name, nothing compiled.

An independent reading of the rules, slow and obvious, for property tests. It shares no code with
`edge_sdk.engine`: cells are taken apart with the H3 library and not with bit operations, local
time comes from `zoneinfo` and not from a table, caps count a list of everything that ever
happened, and chances are fractions.

targeting   whether an offer is for a moment, and every reason why it is not
calendars   local time, and the hours, days, weeks and months that caps count in
caps        what has happened, and what it keeps away
slates      what is drawn into the slots
decisions   all of it: from a catalogue and a call to the slots
devices     decisions one after the other, and what follows them
"""
