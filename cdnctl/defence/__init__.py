"""What is dropped and what never is: the wanted block list, protected prefixes, the busiest sources."""
