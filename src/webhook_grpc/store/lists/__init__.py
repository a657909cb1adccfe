"""Pages of long lists with filters: events, deliveries, attempts. Short lists stand with the rows that they list."""
