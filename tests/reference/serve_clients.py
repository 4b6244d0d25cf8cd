"""The server's API with the `openai` package as it is, against models without weights.

    cargo build -p burgess-serve --example fake
    python tests/reference/serve_clients.py target/debug/examples/fake        (seconds; prints what each check saw)

Plain, streamed and asynchronous answers, log-probabilities, errors of every class, retries, cancellation, and the
payloads of lmms-eval and VLMEvalKit. Versions: Python 3.11, openai 3.57.0, pillow 12.3.0.
"""

import asyncio
import base64
import io
import json
import re
import subprocess
import sys
import time
import urllib.request

import openai
from PIL import Image

BINARY = sys.argv[1]
failures = 0


def check(name, holds, seen):
    global failures
    failures += not holds
    print(f"{'ok  ' if holds else 'FAIL'} {name}: {seen}")


def start(*arguments):
    process = subprocess.Popen([BINARY, "0", *arguments], stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()


def raised(kind, call):
    """The error that a call raises, and whether it is of this kind."""
    try:
        call()
    except openai.OpenAIError as e:
        return type(e) is kind, e
    return False, None


def about(e):
    return f"{type(e).__name__}, status {getattr(e, 'status_code', None)}, param {e.param}, code {e.code}: {e.message}"


def data_url(kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (32, 24), (200, 40, 40)).save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def user(text, *images):
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def models(client):
    ids = [model.id for model in client.models.list()]
    check("models.list", ids == ["slow", "quick", "fails"], ids)
    one = client.models.retrieve("quick")
    check("models.retrieve", one.id == "quick" and one.burgess["image_tokens"] == 64, one)
    same, e = raised(openai.NotFoundError, lambda: client.models.retrieve("gpt-4o"))
    check("models.retrieve of an absent model", same and e.code == "model_not_found", about(e))


def plain(client):
    create = client.chat.completions.create
    answer = create(model="quick", messages=user("What is it?", data_url()), temperature=0, seed=1)
    text, usage = answer.choices[0].message.content, answer.usage
    check("plain", text == "With 1 image: What is it?" and answer.choices[0].finish_reason == "stop", text)
    check("usage", (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (67, 6, 73), usage)
    check("timings", set(answer.timings) == {"queued", "prompt", "generation"}, answer.timings)
    answer = create(model="quick", messages=user("a b c"), max_tokens=2, stop=["zzz"])
    check("max_tokens", answer.choices[0].finish_reason == "length", answer.choices[0].message.content)
    again = [*user("a"), answer.choices[0].message, *user("b")]
    answer = create(model="quick", messages=again)
    check("an answer sent back", answer.choices[0].message.content.endswith("b"), answer.choices[0].message.content)
    answer = create(model="quick", messages=user("a b"), logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content
    joined = b"".join(bytes(token.bytes) for token in content).decode()
    check("logprobs", joined == answer.choices[0].message.content and len(content[0].top_logprobs) == 2, content[0])


def streamed(client):
    create = client.chat.completions.create
    began, text, first = time.time(), "", None
    for chunk in create(model="slow", messages=user("a b"), stream=True, stream_options={"include_usage": True}):
        if chunk.choices and chunk.choices[0].delta.content:
            first = first or time.time() - began
            text += chunk.choices[0].delta.content
    total = time.time() - began
    check("stream", text == "Without an image: a b" and first < total / 2, f"{text!r}, {first:.2f} of {total:.2f} s")
    check("stream usage", chunk.usage.completion_tokens == 5 and not chunk.choices, chunk.usage)
    with client.chat.completions.stream(model="quick", messages=user("a"), logprobs=True) as stream:
        kinds = sorted({event.type for event in stream})
        final = stream.get_final_completion()
    check("stream helper", final.choices[0].message.content == "Without an image: a", kinds)
    seen = []
    try:
        for chunk in create(model="fails", messages=user("a"), stream=True):
            seen.append(chunk.choices[0].delta.content)
        e = None
    except openai.APIError as error:
        e = error
    check("error within a stream", type(e) is openai.APIError and len(seen) == 4, f"after {seen}: {about(e)}")


def errors(client):
    create = client.chat.completions.create
    ask = {"model": "quick", "messages": user("a")}
    cases = [
        ("n = 2", openai.BadRequestError, {**ask, "n": 2}, "n"),
        ("tools", openai.BadRequestError, {**ask, "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ("json mode", openai.BadRequestError, {**ask, "response_format": {"type": "json_object"}}, "response_format"),
        ("extra_body", openai.BadRequestError, {**ask, "extra_body": {"top_k": 5}}, "top_k"),
        ("no image", openai.BadRequestError, {**ask, "messages": user("a", "data:image/png;base64,QUJD")},
         "messages[0].content[0].image_url.url"),
        ("a path", openai.BadRequestError, {**ask, "messages": user("a", "/etc/passwd")},
         "messages[0].content[0].image_url.url"),
        ("a private address", openai.BadRequestError, {**ask, "messages": user("a", "http://127.0.0.1/a.png")},
         "messages[0].content[0].image_url.url"),
        ("absent model", openai.NotFoundError, {**ask, "model": "gpt-4o"}, "model"),
        ("a prompt that is too long", openai.BadRequestError, {**ask, "messages": user("a " * 5000)}, "messages"),
        ("a failure of the model", openai.InternalServerError, {**ask, "model": "fails"}, None),
    ]
    for name, kind, arguments, param in cases:
        same, e = raised(kind, lambda: create(**arguments))
        check(name, same and e.param == param, about(e))
    large = data_url() + "A" * 30_000_000
    same, e = raised(openai.APIStatusError, lambda: create(**{**ask, "messages": user("a", large)}))
    check("a body of 30 MB", same and e.status_code == 413, about(e))
    # Clients try again by themselves, after the time that the server names.
    retrying = client.with_options(max_retries=2)
    began = time.time()
    raised(openai.InternalServerError, lambda: retrying.chat.completions.create(**{**ask, "model": "fails"}))
    check("retries after 500", time.time() - began > 0.5, f"{time.time() - began:.2f} s")


async def concurrent(url):
    client = openai.AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
    answers = await asyncio.gather(*(client.chat.completions.create(model="quick", messages=user(f"q{i}"))
                                     for i in range(16)))
    texts = [answer.choices[0].message.content for answer in answers]
    check("async, 16 at once", texts == [f"Without an image: q{i}" for i in range(16)], texts[-1])
    text = ""
    async for chunk in await client.chat.completions.create(model="quick", messages=user("a"), stream=True):
        text += chunk.choices[0].delta.content or ""
    check("async stream", text == "Without an image: a", repr(text))
    # The slow model answers 4 requests at once and lets 16 wait; on a busy machine one may end before the last comes.
    ask = [client.chat.completions.create(model="slow", messages=user("a")) for _ in range(26)]
    results = await asyncio.gather(*ask, return_exceptions=True)
    full = [r for r in results if isinstance(r, openai.RateLimitError)]
    rest = [r for r in results if not isinstance(r, Exception)]
    after = full[0].response.headers["retry-after"]
    check("a full queue", 1 <= len(full) <= 6 and len(full) + len(rest) == 26,
          f"{len(rest)} answers, {len(full)} × {about(full[0])}, Retry-After {after}")
    patient = client.with_options(max_retries=8)
    results = await asyncio.gather(*(patient.chat.completions.create(model="slow", messages=user("a"))
                                     for _ in range(26)), return_exceptions=True)
    check("a full queue with retries", all(not isinstance(r, Exception) for r in results), f"{len(results)} answers")
    await client.close()


def metric(url, name):
    text = urllib.request.urlopen(url + "/metrics").read().decode()
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M).group(1))


def cancelled(client, url):
    name = 'burgess_model_cancelled_total{model="slow"}'
    before = metric(url, name)
    stream = client.chat.completions.create(model="slow", messages=user("a " * 100), stream=True)
    next(stream)
    stream.close()
    same, e = raised(openai.APITimeoutError, lambda: client.with_options(timeout=0.5).chat.completions.create(
        model="slow", messages=user("a " * 100)))
    time.sleep(0.5)
    count = metric(url, name) - before
    check("a closed stream and a timeout free the model", same and count == 2, f"{count:.0f} cancelled")


def harnesses(url):
    """Payloads as lmms-eval (chat/async_openai.py, chat/openai.py) and VLMEvalKit (api/gpt.py) build them."""
    image = {"type": "image_url", "image_url": {"url": data_url(), "detail": "low"}}
    # lmms-eval's `openai` model says PNG of what may be a JPEG.
    mislabelled = {"type": "image_url", "image_url": {"url": data_url("JPEG").replace("image/jpeg", "image/png")}}
    text = {"type": "text", "text": "What?"}
    payloads = {
        "lmms-eval async_openai": {
            "messages": [{"role": "user", "content": [image, text]}], "model": "quick", "max_tokens": 1024,
            "temperature": 0,
        },
        "lmms-eval openai": {
            "messages": [{"role": "user", "content": [text, mislabelled]}], "model": "quick", "max_tokens": 16384,
            "temperature": 0, "top_p": 1.0, "seed": 0, "presence_penalty": 0, "frequency_penalty": 0, "n": 1,
        },
        "VLMEvalKit": {
            "model": "quick", "n": 1, "temperature": 0, "max_tokens": 2048,
            "messages": [{"role": "system", "content": "Answer."}, {"role": "user", "content": [image, text]}],
        },
    }
    for name, payload in payloads.items():
        headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-none"}
        request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(payload).encode(), headers)
        answer = json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"].strip()
        check(name, answer == "With 1 image: What?", repr(answer))


def token():
    process, url = start("s3cret")
    try:
        ask = {"model": "quick", "messages": user("a")}
        for key in ["wrong", "s3cret1"]:
            client = openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0)
            same, e = raised(openai.AuthenticationError, lambda: client.chat.completions.create(**ask))
            check(f"token {key}", same and e.code == "invalid_api_key", about(e))
        client = openai.OpenAI(base_url=url + "/v1", api_key="s3cret", max_retries=0)
        check("the right token", client.chat.completions.create(**ask).choices[0].message.content, "an answer")
    finally:
        process.terminate()
        process.wait()


def main():
    print(f"openai {openai.__version__}, Python {sys.version.split()[0]}")
    process, url = start()
    try:
        client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        models(client)
        plain(client)
        streamed(client)
        errors(client)
        asyncio.run(concurrent(url))
        cancelled(client, url)
        harnesses(url)
    finally:
        process.terminate()
        process.wait()
    token()
    print("all checks hold" if failures == 0 else f"{failures} checks fail")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
