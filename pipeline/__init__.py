"""The topology of attention, in bulk.

corpus -> attention -> distances -> diagrams -> comparison -> tables -> report

A transformer's attention row is a probability distribution over tokens; the
Jensen-Shannon distance between rows makes every head, on every text, a finite metric
space; its Vietoris-Rips persistence diagram is the head's shape; the bottleneck distance
between two diagrams says how differently two heads see a text.

Axes, by the names used everywhere:

layer      a transformer block, counted from 0
head       an attention head within its layer, counted from 0
query      the token that attends: a row of an attention map
key        the token attended to: a column; each row sums to 1
token      a position of the text, counted from 0; a point of the metric space
dimension  the homology dimension of a diagram
birth, death   the scales at which a class appears and ends (death inf: it never ends)
"""
