"""Side by side with what a user would otherwise pick: `python -m benchmarks`, or `make bench`.

Each part returns rows, one for each input and implementation, on the same inputs: real heads
of the packaged models. A row's ratio is its time over ours.
"""
