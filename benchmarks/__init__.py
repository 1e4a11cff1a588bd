"""What Hearthcast costs: every figure beside what it is compared with and the floor it could reach. `make bench`, or python -m benchmarks."""
