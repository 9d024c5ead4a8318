"""The Arrow schema of each table: its columns, their types and what they mean."""

import pyarrow as pa


def _column(name: str, kind: pa.DataType, meaning: str, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable, {"meaning": meaning})


_string, _int, _float, _flag = pa.string(), pa.int32(), pa.float64(), pa.bool_()
_count = pa.int64()
_scales = pa.list_(pa.field("element", _float, nullable=False))
_positions = pa.list_(pa.field("element", _int, nullable=False))
_map = pa.list_(pa.field("element", pa.float32(), nullable=False))
_lengths = pa.list_(pa.field("element", _int))
_bits = "in bits; null for hidden states"
_near = "stand within rounding of the tolerance: on another processor they may count otherwise"
_text_id = _column("text_id", _string, "first 16 hex digits of the SHA-256 of the text")
_source = _column("source", _string, "file#record, records counted from 0")
_model = _column("model", _string, "name of the model in the configuration")
_layer = _column(
    "layer", _int, "counted from 0; of hidden states, the layer they enter, the last: the output"
)
_head = _column("head", _int, "counted from 0 within its layer; 0 for hidden states")
_hidden_layer = _column("layer", _int, "0: input of layer 0; k: output of layer k - 1")
_dimension = _column("dimension", _int, "homology dimension")
_corpus = _column("corpus", _string, "name of the corpus in the configuration")

SCHEMAS: dict[str, pa.Schema] = {
    "corpus": pa.schema(
        [
            _text_id,
            _column("text", _string, "the text itself"),
            _column("language", _string, "as the corpus states it", nullable=True),
            _column("group", _string, "texts of one group are variants of one another", True),
            _source,
        ]
    ),
    # A corpus of images: the same table with one column more.
    "images": pa.schema(
        [
            _column("text_id", _string, "first 16 hex digits of the SHA-256 of the file"),
            _column("text", _string, "the file's name, escaped"),
            _column("language", _string, "as the corpus states it", nullable=True),
            _column("group", _string, "images of one group are variants of one another", True),
            _source,
            _column("image", pa.large_binary(), "the bytes of the file as they are"),
        ]
    ),
    "rejects": pa.schema(
        [
            _source,
            _column("reason", _string, "why the record was set aside"),
            _column("excerpt", _string, "its beginning, escaped"),
        ]
    ),
    "texts": pa.schema(
        [
            _model,
            _text_id,
            _column("total_tokens", _int, "before the cut, special tokens included"),
            _column("tokens", _int, "points of the metric space; 0 if set aside"),
            _column("cut", _flag, "whether the text was longer than the model's limit"),
            _column("reason", _string, "why the text was set aside; null: it was used", True),
        ]
    ),
    "tokens": pa.schema(
        [
            _model,
            _text_id,
            _column("position", _int, "counted from 0, special tokens included"),
            _column("token", _string, "readable"),
            _column("token_id", pa.int64(), "in the model's vocabulary"),
            _column("special", _flag, "added by the tokenizer; its name in a text is plain text"),
            _column("word", _int, "index of the word it is part of; null: none", nullable=True),
        ]
    ),
    "heads": pa.schema(
        [
            _model,
            _text_id,
            _layer,
            _head,
            _column("tokens", _int, "points of the metric space"),
            _column("entropy", _scales, f"of each point's attention row, {_bits}", True),
            _column("entropy_mean", _float, f"over the attention rows, {_bits}", True),
            _column("entropy_min", _float, f"over the attention rows, {_bits}", True),
            _column("entropy_max", _float, f"over the attention rows, {_bits}", True),
            _column(
                "kl_mean",
                _float,
                "mean of the Kullback-Leibler divergence over ordered pairs of rows, 1e-9 added "
                f"inside each logarithm, {_bits}",
                True,
            ),
            _column("distance_mean", _float, "over pairs of tokens"),
            _column("distance_max", _float, "over pairs of tokens"),
        ]
    ),
    "clusters": pa.schema(
        [
            _model,
            _text_id,
            _layer,
            _head,
            _column("scale", _float, "tokens at most so far apart are joined"),
            _column("tokens", _int, "points of the metric space"),
            _column("clusters", _int, "connected components at this scale"),
            _column("largest", _int, "tokens of the largest"),
            _column("reduction", _float, "clusters / tokens"),
            _column(
                "clusters_near",
                _int,
                "merges of two clusters within rounding of the scale: on another processor there "
                "may be so many clusters more or fewer",
            ),
            _column(
                "representatives_near",
                _int,
                "clusters of which another processor may choose another medoid",
            ),
            _column("representatives", _positions, "medoid of each cluster, by first member"),
            _column("sizes", _positions, "tokens of each cluster, in the same order"),
        ]
    ),
    "diagrams": pa.schema(
        [
            _model,
            _text_id,
            _layer,
            _head,
            _dimension,
            _column("birth", _scales, "sorted by (birth, death)"),
            _column("death", _scales, "inf: the class never ends"),
        ]
    ),
    "attention": pa.schema(
        [
            _model,
            _text_id,
            _column("layer", _int, "counted from 0"),
            _column("head", _int, "counted from 0 within its layer"),
            _column("tokens", _int, "rows, and columns, of the map, special tokens included"),
            _column("attention", _map, "of each query, from the first, to each key; row by row"),
        ]
    ),
    # Diagrams of a run of texts for who reads a few heads over all texts: on a shelf only.
    # A row is a head in one dimension: all heads of a run in dimension 0, then in 1.
    "by_head": pa.schema(
        [
            _column("bars", _lengths, "of each text's diagram; null: the text was set aside"),
            _column("points", pa.binary(), "float64 birth, death, ... of these bars, in order"),
        ]
    ),
    "head_distances": pa.schema(
        [
            _corpus,
            _dimension,
            _column("model_a", _string, "model of the first head"),
            _column("layer_a", _int, "counted from 0"),
            _column("head_a", _int, "counted from 0"),
            _column("model_b", _string, "model of the second head"),
            _column("layer_b", _int, "counted from 0"),
            _column("head_b", _int, "counted from 0"),
            _column("texts", _int, "texts that both models used"),
            _column("mean", _float, "over texts, exact", nullable=True),
            _column("std", _float, "over texts, n - 1; null below 2 texts", nullable=True),
            _column("min", _float, "over texts", nullable=True),
            _column("median", _float, "over texts, exact", nullable=True),
            _column("max", _float, "over texts", nullable=True),
            _column("ci_low", _float, "of the mean; t interval, groups as clusters", True),
            _column("ci_high", _float, "of the mean; t interval, groups as clusters", True),
        ]
    ),
    "text_distances": pa.schema(
        [
            _corpus,
            _dimension,
            _model,
            _layer,
            _head,
            _column("text_a", _string, "text_id of the first text"),
            _column("text_b", _string, "text_id of the second text"),
            _column("distance", _float, "between the head's diagrams on the two texts"),
        ]
    ),
    "context": pa.schema(
        [
            _model,
            _column("text_a", _string, "text_id of the first text"),
            _column("text_b", _string, "text_id of the second text"),
            _column("token", _string, "readable, as in the first text"),
            _column("special", _flag, "added by the tokenizer, in either text"),
            _column("position_a", _int, "in the first text, counted from 0"),
            _column("position_b", _int, "in the second text: the same occurrence of the token"),
            _column("prefix", _flag, "whether the texts are the same tokens up to this one"),
            _hidden_layer,
            _column("cosine", _float, "of its two vectors; null: one is zero", nullable=True),
        ]
    ),
    "context_equal": pa.schema(
        [
            _model,
            _hidden_layer,
            _column("tolerance", _float, "u, v equal: ||u - v|| <= tolerance max(||u||, ||v||)"),
            _column("text_pairs", _count, "pairs of different texts compared"),
            _column("texts", _count, "texts whose own vectors were compared"),
            _column("within_pairs", _count, "pairs of vectors of one text, special tokens too"),
            _column("within_equal", _count, "of these, how many are equal"),
            _column("within_near", _count, f"of these, how many {_near}"),
            _column("across_pairs", _count, "pairs of vectors of two texts, but for prefix_pairs"),
            _column("across_equal", _count, "of these, how many are equal"),
            _column("across_near", _count, f"of these, how many {_near}"),
            _column("prefix_pairs", _count, "one token of the prefix two texts share, in both"),
            _column("prefix_equal", _count, "of these, how many are equal"),
            _column("prefix_near", _count, f"of these, how many {_near}"),
        ]
    ),
    "equivariance": pa.schema(
        [
            _model,
            _column("component", _string, "the part of the network that is looked at"),
            _column("layer", _int, "counted from 0; null: the whole network", nullable=True),
            _column("positions", _string, "with; without: every token has the first one's"),
            _column("mask", _string, "causal; none: the model has none, or it was taken out"),
            _column("tokens", _int, "of the text, special tokens included"),
            _column("permutations", _int, "orders of the tokens that were tried"),
            _column(
                "error_max", _float, "largest |Y(PX) - P Y(X)|, maps: |A(PX) - P A(X) P^T|", True
            ),
            _column("scale", _float, "largest |Y(X)|; diagrams: last death that is finite", True),
            _column("relative", _float, "largest error of a token's row / its largest |Y|", True),
            _column("holds", _flag, "relative <= tolerance; diagrams: equal to the bit", True),
            _column(
                "near",
                _flag,
                "whether relative is within a factor of 4 of the tolerance: on another processor "
                "it may hold, or not",
                True,
            ),
            _column("reason", _string, "why there are no numbers; null: there are", nullable=True),
        ]
    ),
}
