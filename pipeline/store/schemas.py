"""The tables: where each lies, its columns, what they mean, and how they are stored and compared.

A table is one entry of TABLES, from which all else that has to know of it follows.
"""

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column of a table.

    unit        of numbers; "1": a pure number, "": none
    key         it says what a row is of
    counted_by  column with how many stand near the threshold that decides this count: on another
                processor it may differ by so many
    decided_by  columns with how many stand near what decides this value: where none does, it is
                the same on every processor
    follows     column that it is computed from, over all rows, and by which two runs are compared
    size        column that says from where on values are compared relatively, where that is not 1
    word        it holds words of a corpus, which do not go into git
    repeated    fractions, of which a table holds few over and over
    """

    name: str
    kind: pa.DataType
    meaning: str
    unit: str = ""
    _: KW_ONLY
    nullable: bool = False
    key: bool = False
    counted_by: str = ""
    decided_by: tuple[str, ...] = ()
    follows: str = ""
    size: str = ""
    word: bool = False
    repeated: bool = False

    @property
    def field(self) -> pa.Field:
        """The column in an Arrow schema, whose metadata say its meaning and unit."""
        said = {"meaning": self.meaning} | ({"unit": self.unit} if self.unit else {})
        return pa.field(self.name, self.kind, self.nullable, said)


@dataclass(frozen=True)
class Table:
    """One table.

    path            {model} or {corpus} stands for a name; "": on a shelf only, and not packed
    about           what one row is
    rows_per_group  who writes or reads a row group holds it whole
    sampled         rows that are kept in git
    """

    path: str
    about: str
    columns: tuple[Column, ...]
    _: KW_ONLY
    rows_per_group: int = 65536
    sampled: int = 0

    @property
    def per(self) -> str:
        """What there is one file of each: "model", "corpus", or "": there is one file."""
        return self.path.partition("{")[2].partition("}")[0]


def _table(path: str, about: str, *columns: Column, **how: Any) -> Table:
    return Table(path, about, columns, **how)


_key, _maybe = partial(Column, key=True), partial(Column, nullable=True)
_decided = partial(Column, decided_by=("clusters_near",))
_medoid = partial(Column, decided_by=("clusters_near", "representatives_near"))
_counted = partial(_decided, counted_by="clusters_near")
_string, _int, _float, _flag = pa.string(), pa.int32(), pa.float64(), pa.bool_()
_count = pa.int64()
_scales = pa.list_(pa.field("element", _float, nullable=False))
_positions = pa.list_(pa.field("element", _int, nullable=False))
_map = pa.list_(pa.field("element", pa.float32(), nullable=False))
_lengths = pa.list_(pa.field("element", _int))
_bits = "in bits; null for hidden states"
_rows = f"over the attention rows, {_bits}"
_kl = "mean of the Kullback-Leibler divergence over ordered pairs of rows"
_merges = "merges of two clusters within rounding of the scale: on another processor there"
_medoids = "clusters of which another processor may choose another medoid"
_near = "stand within rounding of the tolerance: on another processor they may count otherwise"
_equal, _unsure = "of these, how many are equal", f"of these, how many {_near}"
_interval = "of the mean; t interval, groups as clusters"
_largest_error = "largest |Y(PX) - P Y(X)|, maps: |A(PX) - P A(X) P^T|"
_largest = "largest |Y(X)|; diagrams: last death that is finite"
_text_id = _key("text_id", _string, "first 16 hex digits of the SHA-256 of the text")
_text_a = _key("text_a", _string, "text_id of the first text")
_text_b = _key("text_b", _string, "text_id of the second text")
_source = _key("source", _string, "file#record, records counted from 0")
_language = _maybe("language", _string, "as the corpus states it")
_corpus = _key("corpus", _string, "name of the corpus in the configuration")
_model = _key("model", _string, "name of the model in the configuration")
_states = "of hidden states, the layer they enter, the last: the output"
_layer = _key("layer", _int, f"counted from 0; {_states}", "1")
_head = _key("head", _int, "counted from 0 within its layer; 0 for hidden states", "1")
_hidden_layer = _key("layer", _int, "0: input of layer 0; k: output of layer k - 1", "1")
_dimension = _key("dimension", _int, "homology dimension", "1")
_points = Column("tokens", _int, "points of the metric space", "tokens")

_null = _key("null", _string, "name of the null in the configuration")
_statistic = _key("statistic", _string, "what is measured: pipeline.head_tests")
_of_dimension = _key("dimension", _int, "homology dimension; null: of none", "1", nullable=True)
_flips = "two-sided, by flipping the signs of clusters of texts"
_tested = (
    Column("texts", _count, "texts that both were measured on", "texts"),
    Column("clusters", _count, "groups of texts, which are resampled", "1"),
    _maybe("observed", _float, "in the trained model, mean over texts; unit of the statistic", "1"),
    _maybe("null_mean", _float, "under the null, mean over texts; unit of the statistic", "1"),
    _maybe(
        "difference", _float, "observed - null_mean; unit of the statistic", "1", size="observed"
    ),
    _maybe(
        "ci_low",
        _float,
        "of the difference; groups as clusters; unit of the statistic",
        "1",
        size="observed",
    ),
    _maybe(
        "ci_high",
        _float,
        "of the difference; groups as clusters; unit of the statistic",
        "1",
        size="observed",
    ),
    _maybe(
        "null_std", _float, "of the null over texts; unit of the statistic", "1", size="null_mean"
    ),
    _maybe("p", _float, _flips, "1", counted_by="p_near"),
    _maybe("p_near", _float, "by how much p may be otherwise on another processor", "1"),
    _maybe("q", _float, "Benjamini-Hochberg, over a null's heads, or pairs", "1", follows="p"),
    _maybe("q_dependent", _float, "by Benjamini-Yekutieli: whatever depends", "1", follows="p"),
)

TABLES: dict[str, Table] = {
    "corpus": _table(
        "data/corpus/{corpus}.parquet",
        "a text with its id",
        _text_id,
        Column("text", _string, "the text itself", word=True),
        _language,
        _maybe("group", _string, "texts of one group are variants of one another"),
        _source,
        rows_per_group=1024,
    ),
    "images": _table(
        "data/corpus/{corpus}.parquet",
        "an image with its id: a corpus with one column more",
        _key("text_id", _string, "first 16 hex digits of the SHA-256 of the file"),
        Column("text", _string, "the file's name, escaped", word=True),
        _language,
        _maybe("group", _string, "images of one group are variants of one another"),
        _source,
        Column("image", pa.large_binary(), "the bytes of the file as they are"),
        rows_per_group=8,
    ),
    "rejects": _table(
        "data/corpus/{corpus}.rejects.parquet",
        "a record of the corpus that could not be used, with the reason",
        _source,
        Column("reason", _string, "why the record was skipped"),
        Column("excerpt", _string, "its beginning, escaped", word=True),
    ),
    "texts": _table(
        "outputs/diagrams/{model}/texts.parquet",
        "a text, with what was cut or skipped and why",
        _model,
        _text_id,
        Column("total_tokens", _int, "before the cut, special tokens included", "tokens"),
        Column("tokens", _int, "points of the metric space; 0 if skipped", "tokens"),
        Column("cut", _flag, "whether the text was longer than the model's limit"),
        _maybe("reason", _string, "why the text was skipped; null: it was used"),
    ),
    "tokens": _table(
        "outputs/diagrams/{model}/tokens.parquet",
        "a token of a text",
        _model,
        _text_id,
        _key("position", _int, "counted from 0, special tokens included", "1"),
        Column("token", _string, "readable", word=True),
        Column("token_id", _count, "in the model's vocabulary", "1"),
        Column("special", _flag, "added by the tokenizer; its name in a text is plain text"),
        _maybe("word", _int, "index of the word it is part of; null: none", "1"),
    ),
    "heads": _table(
        "outputs/diagrams/{model}/heads.parquet",
        "a head on a text: entropy of every token, mean divergence, distances",
        _model,
        _text_id,
        _layer,
        _head,
        _points,
        _maybe("entropy", _scales, f"of each point's attention row, {_bits}", "bits"),
        _maybe("entropy_mean", _float, _rows, "bits"),
        _maybe("entropy_min", _float, _rows, "bits"),
        _maybe("entropy_max", _float, _rows, "bits"),
        _maybe("kl_mean", _float, f"{_kl}, 1e-9 added inside each logarithm, {_bits}", "bits"),
        Column("distance_mean", _float, "over pairs of tokens", "distance"),
        Column("distance_max", _float, "over pairs of tokens", "distance"),
        rows_per_group=8192,
        sampled=32,
    ),
    "clusters": _table(
        "outputs/diagrams/{model}/clusters.parquet",
        "a head on a text at a scale: how many clusters of tokens, their sizes, representatives",
        _model,
        _text_id,
        _layer,
        _head,
        _key("scale", _float, "tokens at most so far apart are joined", "distance", repeated=True),
        _points,
        _counted("clusters", _int, "connected components at this scale", "clusters"),
        _decided("largest", _int, "tokens of the largest", "tokens"),
        _decided("reduction", _float, "clusters / tokens", "1", repeated=True),
        Column(
            "clusters_near", _int, f"{_merges} may be so many clusters more or fewer", "clusters"
        ),
        Column("representatives_near", _int, _medoids, "clusters"),
        _medoid("representatives", _positions, "medoid of each cluster, by first member", "1"),
        _decided("sizes", _positions, "tokens of each cluster, in the same order", "tokens"),
        rows_per_group=8192,
        sampled=128,
    ),
    "diagrams": _table(
        "outputs/diagrams/{model}/diagrams.parquet",
        "a persistence diagram",
        _model,
        _text_id,
        _layer,
        _head,
        _dimension,
        Column("birth", _scales, "sorted by (birth, death)", "distance"),
        Column("death", _scales, "inf: the class never ends", "distance"),
        rows_per_group=4096,
        sampled=32,
    ),
    "attention": _table(
        "outputs/attention/{model}/attention.parquet",
        "the whole map of a head on one of the few texts that the page draws",
        _model,
        _text_id,
        _key("layer", _int, "counted from 0", "1"),
        _key("head", _int, "counted from 0 within its layer", "1"),
        Column("tokens", _int, "rows, and columns, of the map, special tokens included", "tokens"),
        Column("attention", _map, "of each query, from the first, to each key; row by row", "1"),
        rows_per_group=64,
        sampled=4,
    ),
    # For who reads a few heads over all texts.
    "by_head": _table(
        "",
        "a head's diagrams of a run of texts: all heads in dimension 0, then in 1",
        Column("bars", _lengths, "of each text's diagram; null: the text was skipped", "bars"),
        Column("points", pa.binary(), "float64 birth, death, ... of these bars, in order"),
        rows_per_group=8,
    ),
    "head_distances": _table(
        "outputs/tables/head_distances.parquet",
        "a pair of heads, within or across models, in one homology dimension",
        _corpus,
        _dimension,
        _key("model_a", _string, "model of the first head"),
        _key("layer_a", _int, "counted from 0", "1"),
        _key("head_a", _int, "counted from 0", "1"),
        _key("model_b", _string, "model of the second head"),
        _key("layer_b", _int, "counted from 0", "1"),
        _key("head_b", _int, "counted from 0", "1"),
        Column("texts", _int, "texts that both models used", "texts"),
        _maybe("mean", _float, "over texts, exact", "distance"),
        _maybe("std", _float, "over texts, n - 1; null below 2 texts", "distance"),
        _maybe("min", _float, "over texts", "distance"),
        _maybe("median", _float, "over texts, exact", "distance"),
        _maybe("max", _float, "over texts", "distance"),
        _maybe("ci_low", _float, _interval, "distance"),
        _maybe("ci_high", _float, _interval, "distance"),
        sampled=256,
    ),
    "text_distances": _table(
        "outputs/tables/text_distances.parquet",
        "a pair of texts (translations of one sentence) under one head",
        _corpus,
        _dimension,
        _model,
        _layer,
        _head,
        _text_a,
        _text_b,
        Column("distance", _float, "between the head's diagrams on the two texts", "distance"),
        sampled=256,
    ),
    # What head_tests is joined from, beside its rows.
    "test_sums": _table(
        "",
        "what a statistic adds up to over the heads, or pairs, of models on a text",
        _key("statistic", _string, "what is measured"),
        _key("dimension", _int, "homology dimension", "1", nullable=True),
        _key("model_a", _string, "model of the heads, or of the first of a pair"),
        _key("model_b", _string, "of the second; null: heads", nullable=True),
        _key("text", _count, "its place in the corpus", "1"),
        Column("rows", _count, "heads or pairs that are added up", "1"),
        Column("observed", _float, "sum", "1"),
        Column("null", _float, "sum under the null", "1"),
    ),
    "head_tests": _table(
        "outputs/tables/head_tests.parquet",
        "a head, or a pair of heads, against a null by one statistic",
        _corpus,
        _null,
        _statistic,
        _of_dimension,
        _key("model_a", _string, "model of the head, or of the first of a pair"),
        _key("layer_a", _int, "counted from 0", "1"),
        _key("head_a", _int, "counted from 0", "1"),
        _key("model_b", _string, "model of the second head; null: of one head", nullable=True),
        _key("layer_b", _int, "counted from 0; null: of one head", "1", nullable=True),
        _key("head_b", _int, "counted from 0; null: of one head", "1", nullable=True),
        *_tested,
        sampled=256,
    ),
    "model_tests": _table(
        "outputs/tables/model_tests.parquet",
        "all heads of a model, or all pairs of heads of two models, against a null at once",
        _corpus,
        _null,
        _statistic,
        _of_dimension,
        _key("model_a", _string, "model of the heads, or of the first of each pair"),
        _key("model_b", _string, "model of the second of each pair; null: heads", nullable=True),
        Column("rows", _count, "heads or pairs, whose mean on each text is tested", "1"),
        *_tested,
        _maybe(
            "above", _float, "share of these heads or pairs above it at q < .05", "1", follows="p"
        ),
        _maybe(
            "below", _float, "share of these heads or pairs below it at q < .05", "1", follows="p"
        ),
        sampled=256,
    ),
    "context": _table(
        "outputs/context/{model}/context.parquet",
        "a token that two texts share, in a layer: the cosine of its two vectors",
        _model,
        _text_a,
        _text_b,
        Column("token", _string, "readable, as in the first text", word=True),
        Column("special", _flag, "added by the tokenizer, in either text"),
        _key("position_a", _int, "in the first text, counted from 0", "1"),
        Column("position_b", _int, "in the second text: the same occurrence of the token", "1"),
        Column("prefix", _flag, "whether the texts are the same tokens up to this one"),
        _hidden_layer,
        _maybe("cosine", _float, "of its two vectors; null: one is zero", "1"),
        sampled=256,
    ),
    "context_equal": _table(
        "outputs/context/{model}/context_equal.parquet",
        "a layer: how many of its vectors are equal but for rounding, within texts and across",
        _model,
        _hidden_layer,
        _key("tolerance", _float, "u, v equal: ||u - v|| <= tolerance max(||u||, ||v||)", "1"),
        Column("text_pairs", _count, "pairs of different texts compared", "pairs"),
        Column("texts", _count, "texts whose own vectors were compared", "texts"),
        Column("within_pairs", _count, "pairs of vectors of one text, special tokens too", "pairs"),
        Column("within_equal", _count, _equal, "pairs", counted_by="within_near"),
        Column("within_near", _count, _unsure, "pairs"),
        Column(
            "across_pairs", _count, "pairs of vectors of two texts, but for prefix_pairs", "pairs"
        ),
        Column("across_equal", _count, _equal, "pairs", counted_by="across_near"),
        Column("across_near", _count, _unsure, "pairs"),
        Column("prefix_pairs", _count, "one token of the prefix two texts share, in both", "pairs"),
        Column("prefix_equal", _count, _equal, "pairs", counted_by="prefix_near"),
        Column("prefix_near", _count, _unsure, "pairs"),
        sampled=256,
    ),
    "equivariance": _table(
        "outputs/equivariance/{model}.parquet",
        "a part of a model: whether permuting tokens permutes what it gives",
        _model,
        _key("component", _string, "the part of the network that is looked at"),
        _key("layer", _int, "counted from 0; null: the whole network", "1", nullable=True),
        _key("positions", _string, "with; without: every token has the first one's"),
        _key("mask", _string, "causal; none: the model has none, or it was taken out"),
        Column("tokens", _int, "of the text, special tokens included", "tokens"),
        Column("permutations", _int, "orders of the tokens that were tried", "permutations"),
        # A difference of two values moves with the last bits of these.
        _maybe("error_max", _float, _largest_error, "1", size="scale"),
        _maybe("scale", _float, _largest, "1", repeated=True),
        # An error over the largest value of its row moves as much more as that is below 1, and
        # among so many tokens one gets 1 / tokens at least.
        _maybe(
            "relative",
            _float,
            "largest error of a token's row / its largest |Y|",
            "1",
            size="tokens",
        ),
        _maybe(
            "holds",
            _flag,
            "relative <= tolerance; diagrams: equal to the bit",
            decided_by=("near",),
        ),
        _maybe(
            "near",
            _flag,
            "whether relative is within a factor of 4 of the tolerance: on another processor "
            "it may hold, or not",
        ),
        _maybe("reason", _string, "why there are no numbers; null: there are"),
        sampled=256,
    ),
}
SCHEMAS: dict[str, pa.Schema] = {
    name: pa.schema([column.field for column in table.columns]) for name, table in TABLES.items()
}
