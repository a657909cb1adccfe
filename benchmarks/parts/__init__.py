"""What the rows of `make bench` are made of: child processes, servers, CPU time, figures, tables, a chart."""
