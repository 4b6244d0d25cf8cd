"""Goldens of tokenization: small vocabularies of every kind, and a page of difficult text, encoded and decoded.

    python tests/reference/tokenization.py        (writes tests/golden/tokenizers; a few seconds)

The ids of SentencePiece models are those of the `sentencepiece` library itself; around special tokens they are those
of LlamaTokenizer of transformers 4.37 (with which the paper's code was run), with `legacy` and without. The ids
of byte-level BPE are those of the `tokenizers` library. The ids of transformers 5.24 for the same files are printed for comparison.
Versions: sentencepiece 0.2.3, tokenizers 0.23.3, transformers 5.24.0.
"""

import io
import json
import re
import shutil
from pathlib import Path

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2 as pb
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

OUT = Path(__file__).resolve().parents[1] / "golden" / "tokenizers"

CORPUS = """
The picture shows a red cup on a table, and behind it three blue cups stand in a row. How many cups are there?
There are 4 cups. What is written on the sign? It says: "Open 7 days a week, 9:30-17:45". I don't think we've been here.
She'll say they're fine; he'd rather it's over. A dog isn't a cat, and 1234567 is larger than 99.
def area(width, height):
    return width * height  # not 3.14159
for (int i = 0; i < n; i++) { total += values[i]; }
Der Käse schmeckt süß. L'été dernier, où étais-tu ? El niño comió una manzana. Привет, мир! Γειά σου Κόσμε.
今天天气很好，我们去公园吧。東京は日本の首都です。 안녕하세요 세계 مرحبا بالعالم שלום עולם नमस्ते दुनिया
Is the cup left of the plate? yes. Is the plate behind the cup? no. Answer with a single word. a b c d e f g h i j k l
USER: what is this? ASSISTANT: This is a photograph of a street. The answer is blue. You are a helpful assistant.
system user assistant Answer the question using a single word or phrase. Which is larger, the first or the second one?
""" * 6

PAGE = [
    "",
    " ",
    "   ",
    "\n",
    "\n\n\n",
    "\t\tx",
    "Hello world",
    " Hello world",
    "  Hello  world  ",
    "Hello\nworld\r\n\r\n  next",
    "trailing \n",
    "a\u00a0b\u2003c\u200bd",
    "I don't, we've, they'll, SHE'S, it’s, 'tis",
    "1 22 333 4444 55555 3.14159 1,000,000 ½ ² Ⅳ ٣",
    "e\u0301 é n\u0303 ñ a\u030a\u0323 Å",
    "q\u0307\u0323\u0300\u0301\u0302",
    "今天天气很好。東京は日本の首都です。안녕하세요 ﾊﾟﾝ",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 👍🏽 🇩🇪 😀",
    "مرحبا بالعالم \u202eשלום\u202c עולם",
    "नमस्ते ไทย ភាសា",
    "ﬁne ＡＢＣ ① ㎏",
    "def f(x):\n    if x > 0:\n\treturn x ** 2  # ok\n",
    "<div class=\"a\">&amp;</div> {{ x }} {% if %} \\u0041 \\n",
    "https://example.org/a?b=c&d=%20#e x@y.z",
    "antidisestablishmentarianism" * 12,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\u0000\u0001\u001b\u007f\ufffd\ufeff",
    "\ud7ff\ue000\uf8ff\U0010ffff\U0001d4d0",
    "<0x41><0xFF>",
    "▁Hello▁world ▁ x",
    "ſS 'ſ ıI",
    "<s>Hello</s>USER: what</s> is </s>",
    "</s>",
    "<s> a <unk>b",
    "a<|im_end|>\n<|im_start|>user\nb <|im_end|> c",
    "<|eot_id|><|start_header_id|>x<|end_header_id|>\n\n",
    "<sep>a <sep> b<sep><custom>",
    "<image>\nWhat is this?",
    "?!... --- *** (((a))) [b]",
    "ein\u00adsoft\u2011hyphen x\u0335",
]

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")


def byte_level(pre: str, specials: list[str], bos: str | None) -> Tokenizer:
    """A byte-level BPE with the pre-tokenisation that GGUF calls `pre`."""
    t = Tokenizer(models.BPE(ignore_merges=pre == "llama-bpe"))
    split = lambda regex: pre_tokenizers.Split(Regex(regex), "isolated")
    plain = lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.pre_tokenizer = {
        "gpt-2": lambda: pre_tokenizers.ByteLevel(add_prefix_space=False),
        "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        "llama-bpe": lambda: pre_tokenizers.Sequence([split(LLAMA3), plain()]),
        "qwen2": lambda: pre_tokenizers.Sequence([split(QWEN2), plain()]),
    }[pre]()
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([CORPUS], trainers.BpeTrainer(
        vocab_size=460, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    if bos:
        t.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, t.token_to_id(bos))])
    return t


def sentencepiece(model_type: str, **options) -> bytes:
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()), model_writer=model, model_type=model_type, vocab_size=640,
        byte_fallback=True, minloglevel=2, hard_vocab_limit=False, **options)
    return model.getvalue()


class Llama:
    """LlamaTokenizer of transformers 4.37 (slow), from its behaviour: special tokens are cut out of the text first. With
    `legacy` each piece of text goes to SentencePiece as it is; without, SentencePiece puts no space in front, the whole
    text gets one instead, which is left out again if a special token follows it."""

    def __init__(self, model: bytes, legacy: bool, added: list[dict] = (), add_bos: bool = True):
        proto = pb.ModelProto.FromString(model)
        self.prefix = proto.normalizer_spec.add_dummy_prefix
        if not legacy:
            proto.normalizer_spec.add_dummy_prefix = False
        self.sp = spm.SentencePieceProcessor(model_proto=proto.SerializeToString())
        self.legacy, self.added, self.add_bos = legacy, list(added), add_bos
        control = [(p.piece, i, False) for i, p in enumerate(proto.pieces) if p.type in (2, 3)]
        self.special = {piece: (i, strip) for piece, i, strip in control}
        self.special |= {a["content"]: (a["id"], a.get("rstrip", False)) for a in added}
        self.bos_token_id, self.eos_token_id, self.unk_token_id = self.sp.bos_id(), self.sp.eos_id(), self.sp.unk_id()

    def encode(self, text: str) -> list[int]:
        pattern = "|".join(re.escape(s) for s in sorted(self.special, key=len, reverse=True))
        if not self.legacy and self.prefix and text:
            text = "▁" + text.replace("▁", " ")
        ids, stripped = [], False
        for part in re.split(f"({pattern})", text):
            if part in self.special:
                i, stripped = self.special[part]
                ids.append(i)
                continue
            if stripped:
                part, stripped = part.lstrip(), False
            if part:
                ids += self.sp.encode(part)
        first = self.sp.piece_to_id("▁")
        if not self.legacy and len(ids) > 1 and ids[0] == first and ids[1] in {i for i, _ in self.special.values()}:
            ids = ids[1:]
        return ids

    def __call__(self, text: str) -> list[int]:
        return ([self.bos_token_id] if self.add_bos else []) + self.encode(text)


def write(name: str, files: dict[str, str | bytes], encode, decode) -> None:
    out = OUT / name
    out.mkdir(parents=True)
    for file, content in files.items():
        (out / file).write_bytes(content.encode() if isinstance(content, str) else content)
    ids = [encode(text) for text in PAGE]
    # Decoded: the text's ids, and what begins in the middle of it.
    texts = [[decode(i), decode(i[1:])] for i in ids]
    (out / "expected.json").write_text(json.dumps({"ids": ids, "texts": texts}, separators=(",", ":")))


def spm_decode(sp: spm.SentencePieceProcessor, special: set[int]):
    return lambda ids: sp.decode([i for i in ids if i not in special])


PHI = [{"id": 640, "content": "<|endoftext|>"}, {"id": 641, "content": "<|assistant|>", "rstrip": True},
       {"id": 642, "content": "<|system|>", "rstrip": True}, {"id": 643, "content": "<|end|>", "rstrip": True},
       {"id": 644, "content": "<|user|>", "rstrip": True}]
YI = [{"id": 640, "content": "<|im_start|>"}, {"id": 641, "content": "<|im_end|>"}]
SPECIALS = {
    "gpt-2": ["<|endoftext|>"],
    "smollm": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama-bpe": ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>",
                  "<|end_header_id|>", "<|eot_id|>"],
    "qwen2": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
}


def config(**fields) -> str:
    added = fields.pop("added", [])
    if added:
        full = dict(lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
        fields["added_tokens_decoder"] = {str(a["id"]): full | {k: v for k, v in a.items() if k != "id"} for a in added}
    return json.dumps(fields)


def llama_model() -> bytes:
    return sentencepiece("bpe", normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True)


def tokenizers() -> dict:
    """All tokenizers by the name of their directory, as functions from text to ids with and without special tokens."""
    llama = llama_model()
    n = spm.SentencePieceProcessor(model_proto=llama).get_piece_size()
    for added in (PHI, YI):
        for k, token in enumerate(added):
            token["id"] = n + k
    return {
        "llama": ({"tokenizer.model": llama}, Llama(llama, True)),
        "llama-new": ({"tokenizer.model": llama, "tokenizer_config.json": config(
            legacy=False, add_bos_token=True, bos_token="<s>", eos_token={"__type": "AddedToken", "content": "</s>"}, unk_token="<unk>")},
            Llama(llama, False)),
        "phi": ({"tokenizer.model": llama, "tokenizer_config.json": config(
            legacy=False, add_bos_token=True, bos_token="<s>", eos_token="<|endoftext|>", pad_token="<|endoftext|>", added=PHI)},
            Llama(llama, False, PHI)),
        "yi": ({"tokenizer.model": llama, "tokenizer_config.json": config(
            legacy=True, add_bos_token=False, bos_token="<s>", eos_token="<|im_end|>", added=YI)},
            Llama(llama, True, YI, add_bos=False)),
    }


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    (OUT / "page.json").write_text(json.dumps(PAGE))
    for name, (files, reference) in tokenizers().items():
        special = {i for i, _ in reference.special.values()}
        plain = spm.SentencePieceProcessor(model_proto=files["tokenizer.model"])
        write(name, files, reference.encode, spm_decode(plain, special))
        compare(name, reference)

    rules = "\n".join(f"{ord(a):X}\t{' '.join(f'{ord(c):X}' for c in b)}" for a, b in [
        ("ﬁ", "fi"), ("Ａ", "A"), ("Ｂ", "B"), ("Ｃ", "C"), ("①", "1"), ("㎏", "kg"), ("\u00a0", " "), ("\u200b", ""), ("½", "1/2")])
    Path("/tmp/burgess-rules.tsv").write_text(rules)
    unigram = sentencepiece("unigram", normalization_rule_tsv="/tmp/burgess-rules.tsv", user_defined_symbols=["<sep>", "<custom>", "a <"])
    sp = spm.SentencePieceProcessor(model_proto=unigram)
    reference = Llama(unigram, True)
    write("unigram", {"tokenizer.model": unigram}, reference.encode, spm_decode(sp, {0, 1, 2}))

    for pre, specials in SPECIALS.items():
        t = byte_level(pre, specials, "<|begin_of_text|>" if pre == "llama-bpe" else None)
        files = {"tokenizer.json": t.to_str()}
        if pre == "llama-bpe":
            files["tokenizer_config.json"] = config(bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")
            files["generation_config.json"] = json.dumps({"eos_token_id": [t.token_to_id("<|end_of_text|>"), t.token_to_id("<|eot_id|>")]})
        write(pre, files, lambda text: t.encode(text, add_special_tokens=False).ids, lambda ids: t.decode(ids))


def compare(name: str, reference: Llama) -> None:
    from transformers import LlamaTokenizer

    theirs = LlamaTokenizer.from_pretrained(str(OUT / name), legacy=reference.legacy)
    other = [t for t in PAGE if theirs(t, add_special_tokens=False).input_ids != reference.encode(t)]
    print(name, f"{len(other)} of {len(PAGE)} texts are other ids in transformers 5.24:", other)


if __name__ == "__main__":
    main()
