"""Where genomes live: demand by region, a stock plan for stores, and a map of both."""
