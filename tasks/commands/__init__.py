"""What a user calls beside the graph, a file for each."""
