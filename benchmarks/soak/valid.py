"""Small files that every door takes, from which hostile ones are made.

Made in a process of its own: Arrow, Pillow and torch start threads.
"""

import json
import shutil
from pathlib import Path

from pipeline import store
from tests import tiny

TEXTS = ("the cat sat on the mat", "שלום עולם", 'a "quoted", word', "line\u2028two", "é" * 90)
MODELS = ("bert", "alephbert", "smollm2", "vit")  # the second one's weights are pickled


def make(valid: Path) -> None:
    """Fill a folder: DOOR/FILE to begin with, and conf/ and models/ to put such a file in."""
    records = [
        {"text": text, "language": "en", "group": number // 2} for number, text in enumerate(TEXTS)
    ]
    _texts(valid, records)
    _parquets(valid / "parquet")
    _images(valid / "images")
    _configurations(valid)
    _models(valid / "models")
    _tables(valid / "table", records)
    shutil.copytree(valid / "models", valid / "model")


def _texts(valid: Path, records: list[dict[str, object]]) -> None:
    for door in ("text", "jsonl", "csv"):
        (valid / door).mkdir(parents=True)
    lines = "\n".join(TEXTS)
    (valid / "text/a.txt").write_text(lines, "utf-8")
    (valid / "text/b.txt").write_text(lines.replace("\n", "\r\n"), "utf-16")
    rows = [json.dumps(record) for record in records]
    (valid / "jsonl/a.jsonl").write_text("\n".join(rows), "utf-8")
    cells = [f'"{str(r["text"]).replace(chr(34), chr(34) * 2)}",en,{r["group"]}' for r in records]
    table = "\n".join(["text,language,group", *cells])
    (valid / "csv/a.csv").write_text(table, "utf-8")
    (valid / "csv/b.csv").write_text(table, "utf-32")


def _parquets(folder: Path) -> None:
    """Columns of every type, packed in every way."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    rows = list(TEXTS)
    text = pa.array(rows)
    kinds = {
        "string": text,
        "large": text.cast(pa.large_string()),
        "bytes": text.cast(pa.binary()),
        "dictionary": text.dictionary_encode(),
        "nulls": pa.nulls(5, pa.string()),
        "fixed": pa.array([row.encode()[:4] for row in rows], pa.binary(4)),
        "integers": pa.array(range(5)),
        "lists": pa.array([[row] for row in rows]),
        "records": pa.array([{"text": row} for row in rows]),
        "times": pa.array(range(5), pa.timestamp("ns", "UTC")),
        "decimals": pa.array(range(5), pa.int32()).cast(pa.decimal128(38, 2)),
    }
    for number, (name, column) in enumerate(kinds.items()):
        table = pa.table({"text": column, "group": pa.array([f"g{n // 2}" for n in range(5)])})
        packed = ("zstd", "snappy", "gzip", "none", "brotli", "lz4")[number % 6]
        pq.write_table(table, folder / f"{name}.parquet", compression=packed, row_group_size=3)
    pq.write_table(pa.table({"text": text, "group": text.dictionary_encode()}), folder / "z.pq")


def _images(folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    picture = Image.linear_gradient("L").resize((24, 16)).convert("RGB")
    for suffix in ("png", "jpg", "gif", "bmp", "tiff", "webp"):
        picture.save(folder / f"a.{suffix}")
    picture.save(folder / "b.gif", save_all=True, append_images=[picture.rotate(90)])
    picture.save(folder / "b.tiff", compression="tiff_lzw")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "b.jpg", exif=exif)
    picture.convert("P").save(folder / "b.png")


def _configurations(valid: Path) -> None:
    shutil.copytree(store.ROOT / "conf", valid / "conf")
    (valid / "params").mkdir()
    shutil.copy(store.ROOT / "params.yaml", valid / "params")
    (valid / "overrides").mkdir()
    words = {
        "values": ["corpus.limit=3", "homology.max_dimension=1", "engine.workers=2"],
        "groups": [
            "corpus=text",
            "corpus.path=x.txt",
            "+model@models.gpt2=gpt2",
            "~models.smollm2",
        ],
        "lists": ["homology.cluster_scales=[0.1,0.2]", "distance.options={base: 2.0}"],
        "quotes": ["corpus.delimiter=';'", "experiment=notebook", "corpus.path='a b'"],
    }
    for name, lines in words.items():
        (valid / "overrides" / name).write_text("\n".join(lines), "utf-8")


def _models(folder: Path) -> None:
    from transformers import AutoTokenizer

    for kind in MODELS:
        tiny.save(kind, folder / kind)
    # The same with a tokenizer.json, its weights named by an index.
    sharded = Path(shutil.copytree(folder / "bert", folder / "sharded"))
    AutoTokenizer.from_pretrained(sharded).save_pretrained(sharded)
    weights = (sharded / "model.safetensors").rename(sharded / "model-00001-of-00001.safetensors")
    header = int.from_bytes(weights.read_bytes()[:8], "little")
    names = [*json.loads(weights.read_bytes()[8 : 8 + header])]
    index = {"metadata": {}, "weight_map": {n: weights.name for n in names if n[:2] != "__"}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    for path in (folder / "gguf", folder.parent / "gguf"):
        path.mkdir()
        tiny.gguf(path / "tiny.gguf")


def _tables(folder: Path, records: list[dict[str, object]]) -> None:
    """One with its seal, one as earlier versions wrote it, and one that is a stranger's."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    columns = {
        "text_id": [f"{number:016x}" for number in range(len(records))],
        **{name: [str(r[name]) for r in records] for name in ("text", "language", "group")},
        "source": [f"a.jsonl#{number}" for number in range(len(records))],
    }
    table = pa.table(columns)
    store.write(folder / "sealed.parquet", "corpus", [table], {"stage": "corpus"})
    old = table.replace_schema_metadata({store.PROVENANCE: b'{"stage": "corpus"}'})
    pq.write_table(old, folder / "unsealed.parquet", write_page_checksum=True)
    pq.write_table(table, folder / "strange.parquet")
