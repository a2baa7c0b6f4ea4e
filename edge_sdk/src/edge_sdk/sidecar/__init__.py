"""The engine of this device for apps that cannot embed it: `genome-edge serve`.

One process opens the store like any other app of the device and answers DecisionService and
ReportService on this machine only, as gRPC and as HTTP with JSON. The rooms, in the order in which
a call walks through them: `http` or `rpc` (the doors) → `token` → `service` → `messages`;
`refusals` says how a call that is not answered travels back, `batches` takes what apps with lanes
of their own report, `serving` opens and closes everything.
"""
