"""Goldens of chat templates: the texts that `transformers` renders, and the supervised tokens of the paper's code.

    python tests/reference/chat.py        (writes tests/golden/chat; after tokenization.py, whose vocabularies it uses)

`jinja.json`: templates as the model families publish them (without the parts about tools), each with conversations that
`apply_chat_template`'s own renderer rendered; for a template with `generation` blocks also its loss mask.
`study.json`: conversations in the paper's formats as ids (the image is -200) with their supervised tokens, written from
the behaviour of the published training code (`preprocess_v1`, `preprocess_llama_3`, `preprocess_mpt`, `preprocess_phi3`,
`preprocess_multimodal`, `tokenizer_image_token` of cambrian-mllm/cambrian, HEAD 539ffc3).
Versions: transformers 5.24.0, jinja2 3.1.6, tokenizers 0.23.3, sentencepiece 0.2.3.
"""

import datetime
import json
from pathlib import Path

import jinja2
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from tokenization import OUT as TOKENIZERS, tokenizers

OUT = Path(__file__).resolve().parents[1] / "golden" / "chat"
IMAGE, IGNORE = -200, -100

CHATML_LOOP = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
TEMPLATES = {
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}{% endif %}" + CHATML_LOOP + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "zephyr": "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "llama-3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    "llama-3.2": """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- System message #}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- raise_exception("This model only supports single tool-calls at once!") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "qwen2.5": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "qwen3": """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""",
    "phi-3": "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
    "gemma-3": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\\n'}}
{%- endif -%}
""",
    "mistral-0.2": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "mistral-0.3": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.last and system_message is defined %}
            {{- '[INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- '[INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ' + message['content'] + eos_token}}
    {%- endif %}
{%- endfor %}
""",
    "generation": """{%- for message in messages %}
  {%- if message['role'] == 'assistant' %}
    {{- '<|im_start|>assistant\\n' }}
    {%- generation %}
    {{- message['content'] + '<|im_end|>' }}
    {%- endgeneration %}
    {{- '\\n' }}
  {%- else %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
  {%- endif %}
  {%- if loop.index > 20 %}{% break %}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
""",
}
CONVERSATIONS = [
    ["user:What is this?"],
    ["user: What is this? \n", "assistant: A red cup. "],
    ["user:What is this?", "assistant:A cup.", "user:Its colour?", "assistant:i", "user:Où? 👍", "assistant:Là-bas\n\nsous l'arbre."],
    ["system:Be brief.", "user:What is this?"],
    ["system: Be brief. ", "user:What is this?", "assistant:A cup.", "user:Its colour?", "assistant:Red"],
    ["user:a", "user:b"],
    ["assistant:a", "user:b"],
]


class Day(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


def turn(text: str) -> dict:
    role, content = text.split(":", 1)
    return {"role": role, "content": content}


def jinja() -> list[dict]:
    chat_template_utils.datetime = Day
    all = []
    for name, template in TEMPLATES.items():
        tokens = {"bos_token": "<s>", "eos_token": "</s>"}
        if name.startswith("llama"):
            tokens = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
        cases = []
        for conversation in CONVERSATIONS:
            for opened in (False, True):
                turns = [turn(t) for t in conversation]
                try:
                    text = chat_template_utils.render_jinja_template(
                        [turns], chat_template=template, add_generation_prompt=opened, **tokens)[0][0]
                    case = {"text": text}
                except jinja2.exceptions.TemplateError as e:
                    case = {"error": e.message}
                cases.append({"turns": turns, "open": opened} | case)
        all.append({"name": name, "template": template, "tokens": tokens, "cases": cases})
    return all


def generation() -> list[dict]:
    t = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_file(str(TOKENIZERS / "smollm" / "tokenizer.json")))
    t.chat_template = TEMPLATES["generation"]
    all = []
    for conversation in CONVERSATIONS:
        turns = [turn(x) for x in conversation]
        out = t.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
        all.append({"turns": turns, "ids": out["input_ids"], "mask": out["assistant_masks"]})
    return all


# What the paper's code does, from here on.

CAMBRIAN = [
    "You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X.",
    "As a multimodal AI, you have the ability to process and analyze images. Whenever an image is present in the "
    "conversation, very carefully examine it and consider its content when formulating your response.",
    "You should give concise responses to very simple questions, but provide thorough responses to more complex and "
    "open-ended questions.",
]
VICUNA = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
          "and polite answers to the user's questions.")


class Bpe:
    """A tokenizer of the `tokenizers` library, without the BOS that the training variant for Llama 3 assumes away."""

    def __init__(self, name: str):
        self.inner = Tokenizer.from_file(str(TOKENIZERS / name / "tokenizer.json"))
        self.bos_token_id = self.unk_token_id = None

    def __call__(self, text: str) -> list[int]:
        return self.inner.encode(text, add_special_tokens=False).ids


def written(mode: str, turns: list[str]) -> str:
    """The conversation as the paper's `get_prompt` writes it; turns alternate, the first is a question."""
    if mode == "vicuna_v1":
        text = VICUNA + " "
        for i, t in enumerate(turns):
            text += ("USER", "ASSISTANT")[i % 2] + (": " + t + (" ", "</s>")[i % 2] if t else ":")
        return text
    if mode == "llama_3":
        head = "<|start_header_id|>{}<|end_header_id|>"
        text = "<|begin_of_text|>" + head.format("system") + f"{CAMBRIAN[0]} \n    {CAMBRIAN[1]}\n    {CAMBRIAN[2]} <|eot_id|>"
        for i, t in enumerate(turns):
            if t:
                text += head.format(("user", "assistant")[i % 2]) + t + "<|eot_id|>"
        return text
    if mode == "chatml_direct":
        text = "<|im_start|>system\n" + " ".join(CAMBRIAN) + "<|im_end|>"
        roles, sep = ("<|im_start|>user\n", "<|im_start|>assistant\n"), "<|im_end|>"
    else:
        text = "<|system|>\nYou are a helpful AI assistant.<|end|>"
        roles, sep = ("\n<|user|>\n", "\n<|assistant|>\n"), "<|end|>"
    for i, t in enumerate(turns):
        text += roles[i % 2] + (t + sep if t else "")
    return text


def with_image(tokenizer, text: str) -> list[int]:
    pieces = [tokenizer(p) for p in text.split("<image>")]
    bos = pieces[0][:1] == [tokenizer.bos_token_id]
    ids = list(pieces[0])
    for piece in pieces[1:]:
        ids += [IMAGE] + piece[1 if bos else 0:]
    return ids


def labels(mode: str, tokenizer, legacy, pad, text: str, image: bool, longest: int) -> tuple[list[int], list[bool], bool]:
    split = with_image if mode != "llama_3" or image else lambda t, x: t(x)
    ids = with_image(tokenizer, text) if image else tokenizer(text)
    count = (lambda x: len(with_image(tokenizer, x))) if image else (lambda x: len(tokenizer(x)))
    targets = list(ids)
    total = sum(i != pad for i in ids)

    def hide(a: int, b: int | None = None) -> None:
        for k in range(len(targets))[a:b]:
            targets[k] = IGNORE

    if mode == "llama_3":
        at = 0
        for i, part in enumerate(text.split("<|eot_id|>")):
            if part == "":
                break
            part += "<|eot_id|>"
            length = len(split(tokenizer, part)) if i == 1 else len(tokenizer(part))
            hide(at, at + 3 if i and i % 2 == 0 else at + length)
            at += length
    else:
        if mode == "vicuna_v1":
            rounds, sep, trailing = text.split("</s>"), " ASSISTANT: ", 2
            later = 0 if legacy else -1
        else:
            end = "<|im_end|>" if mode == "chatml_direct" else "<|end|>"
            parts = text.split(end)
            rounds = [end.join(parts[:3])] + [end.join(parts[k:k + 2]) for k in range(3, len(parts), 2)]
            sep = end + ("<|im_start|>assistant\n" if mode == "chatml_direct" else "\n<|assistant|>\n")
            trailing = 1
            later = (1 if legacy else 0) if mode == "chatml_direct" else (-1 if legacy else -2)
        at = 1
        hide(0, 1)
        for i, part in enumerate(rounds):
            if part == "" or len(part.split(sep)) != 2:
                break
            change = later if i else 0
            asked = count(part.split(sep)[0] + sep) - trailing + change
            hide(at, at + asked)
            at += count(part) + change
    hide(at)
    mismatch = at < longest and at != total
    if mismatch:
        hide(0)
    return ids, [t != IGNORE for t in targets], mismatch


STUDY = [
    ["human:What is this?", "gpt:A red cup."],
    ["human:<image>\nWhat is this?", "gpt:A red cup."],
    ["human:What is this?\n<image>", "gpt:A cup."],
    ["human:Is <image> a cup <image>?", "gpt:yes"],
    ["human:<image>", "gpt:A cup. "],
    ["human:<image>\nWhat is this?", "gpt:A cup.", "human:Its colour?", "gpt:Red", "human:How many?\nAnswer with a number.", "gpt:3"],
    ["human:What is this?", "gpt:A cup.", "human: Its colour? ", "gpt:\nRed\n"],
    ["human:Hello", "gpt:Hi", "human:What is <image>?", "gpt:A cup"],
    ["gpt:Welcome", "human:<image>\nWhat is this?", "gpt:A cup"],
    ["human:What is this?", "gpt:A cup.", "human:Its colour?"],
    ["human:What is this?", "gpt:"],
    ["human:What does </s> mean, or <|eot_id|>, <|im_end|>, <|end|>?", "gpt:the end"],
    ["human:Say USER: a ASSISTANT: b", "gpt:c ASSISTANT: d"],
    ["human:<unk> what?", "gpt:你好 👍"],
    ["human:<image>\n" + "What is this? " * 40, "gpt:" + "A cup. " * 40, "human:<unk>", "gpt:ok"],
]
PAIRS = [("vicuna_v1", "llama"), ("vicuna_v1", "llama-new"), ("llama_3", "llama-bpe"), ("chatml_direct", "yi"),
         ("chatml_direct", "qwen2"), ("phi3", "phi")]


def study() -> list[dict]:
    spm = tokenizers()
    all = []
    for mode, name in PAIRS:
        tokenizer = spm[name][1] if name in spm else Bpe(name)
        legacy = getattr(tokenizer, "legacy", False)
        pad = tokenizer.unk_token_id
        if mode == "llama_3":
            pad = tokenizer.inner.token_to_id("<|reserved_special_token_0|>")
        for longest in (2048, 400):
            cases = []
            # The limit matters to the last one only.
            for conversation in STUDY if longest == 2048 else STUDY[-1:]:
                turns = [turn(t) for t in conversation]
                said = [t["content"] for t in (turns[1:] if turns[0]["role"] == "gpt" else turns)]
                image = any("<image>" in t for t in said)
                said = [("<image>\n" + t.replace("<image>", "").strip()).strip() if "<image>" in t else t for t in said]
                ids, learned, mismatch = labels(mode, tokenizer, legacy, pad, written(mode, said), image, longest)
                cases.append({"turns": turns, "ids": ids, "learned": "".join(str(int(x)) for x in learned), "mismatch": mismatch})
            all.append({"template": mode, "tokenizer": name, "max_length": longest, "cases": cases})
            print(mode, name, longest, "mismatch:", sum(c["mismatch"] for c in cases), "of", len(cases))
    return all


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, content in {"jinja": jinja(), "generation": generation(), "study": study()}.items():
        (OUT / f"{name}.json").write_text(json.dumps(content, separators=(",", ":"), ensure_ascii=False))


if __name__ == "__main__":
    main()
